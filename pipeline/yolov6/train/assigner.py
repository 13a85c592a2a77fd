"""Which anchor answers for which object: task-aligned assignment (TOOD, 2108.07755, 3.2).

An anchor is aligned with an object by t = s^alpha u^beta, where s is its score for the object's
class and u the IoU of its box. Each object takes the anchors inside it that are aligned best; an
anchor that several take goes to the one that its box overlaps most. What an anchor's score should
be is t, scaled per object so that its largest becomes the largest IoU of the object.

Objects of a whole batch lie in one list, so nothing is padded and there is no loop over pictures.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.yolov6.train.boxes import iou

_EPSILON = 1e-24  # small: an IoU of 0.01 to the sixth power is 1e-12


class Truth(NamedTuple):
    """The n objects of a batch."""

    boxes: Tensor  # float32 [n, 4]: x1, y1, x2, y2, input pixels
    labels: Tensor  # int64 [n]
    pictures: Tensor  # int64 [n]: which of the batch
    ignored: Tensor  # bool [n]: need not be found, and no anchor answers for it

    def of(self, rows: Tensor) -> Truth:
        """Some of them; rows: bool [n]."""
        return Truth(*(column[rows] for column in self))


class Anchors(NamedTuple):
    """Where the network predicts: `head.anchors` in pixels."""

    points: Tensor  # float32 [A, 2]: x, y
    strides: Tensor  # float32 [A, 1]


class Assignment(NamedTuple):
    """What each anchor of each picture should say."""

    objects: Tensor  # int64 [B, A]: a row of the truth, -1 for background
    scores: Tensor  # float32 [B, A]: of that object's class, 0…1; 0 for background


@torch.no_grad()
def assign(  # noqa: PLR0913 — the paper's three numbers, by keyword only
    scores: Tensor,
    boxes: Tensor,
    anchors: Anchors,
    truth: Truth,
    *,
    candidates: int = 13,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Assignment:
    """scores [B, A, C] (0…1) and boxes [B, A, 4] (pixels), float32, as predicted → who is who.

    Of a truth without ignored objects.
    """
    batch, count, _ = scores.shape
    if not len(truth.boxes):
        nobody = torch.full((batch, count), -1, device=scores.device)
        return Assignment(nobody, scores.new_zeros(batch, count))
    inside = _inside(anchors, truth.boxes)  # [n, A]
    overlap = iou(truth.boxes[:, None], boxes[truth.pictures]) * inside  # [n, A]
    certainty = scores[truth.pictures, :, truth.labels]  # [n, A]
    alignment = certainty.pow(alpha) * overlap.pow(beta)
    wanted = _best(alignment, inside, candidates)
    objects = _settle(overlap, wanted, truth.pictures, batch)
    taken = objects[truth.pictures] == torch.arange(len(truth.boxes), device=scores.device)[:, None]
    return Assignment(objects, _targets(alignment * taken, overlap * taken, objects, truth))


def inside_of_any(anchors: Anchors, truth: Truth, batch: int) -> Tensor:
    """bool [B, A]: whose centre lies in an object, whichever."""
    count = torch.zeros(batch, len(anchors.points), device=anchors.points.device)
    return count.index_add(0, truth.pictures, _inside(anchors, truth.boxes).float()) > 0


def _inside(anchors: Anchors, boxes: Tensor) -> Tensor:
    """bool [n, A]: whose centre lies in the box, its left and upper edge included.

    A box smaller than a cell of the finest level counts as one cell, or else it might hold no
    centre at all; this is ours, the paper lets such objects go.
    """
    finest = anchors.strides.min()
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=finest / 2)
    from_middle = anchors.points[None] - middle[:, None]  # [n, A, 2]
    return ((from_middle >= -half[:, None]) & (from_middle < half[:, None])).all(-1)


def _best(alignment: Tensor, inside: Tensor, candidates: int) -> Tensor:
    """bool [n, A]: the anchors inside that are among the object's best."""
    ranked = alignment.masked_fill(~inside, -1.0)
    best = ranked.topk(min(candidates, ranked.shape[1]), dim=1).indices
    return torch.zeros_like(inside).scatter_(1, best, True) & inside


def _settle(overlap: Tensor, wanted: Tensor, pictures: Tensor, batch: int) -> Tensor:
    """int64 [B, A]: of the objects that want an anchor, the one that it overlaps most.

    Of equal ones the first; -1 where nobody wants it.
    """
    count, anchors = overlap.shape
    claims = overlap.masked_fill(~wanted, -1.0)
    rows = pictures[:, None].expand(-1, anchors)
    highest = claims.new_full((batch, anchors), -1.0)
    highest = highest.scatter_reduce(0, rows, claims, "amax")
    numbers = torch.arange(count, device=overlap.device)[:, None]
    winners = numbers.where(wanted & (claims == highest[pictures]), count)
    first = torch.full((batch, anchors), count, device=overlap.device)
    first = first.scatter_reduce(0, rows, winners, "amin")
    return first.where(first < count, -1)


def _targets(alignment: Tensor, overlap: Tensor, objects: Tensor, truth: Truth) -> Tensor:
    """float32 [B, A], from alignment and overlap [n, A] of the anchors that each object has."""
    scale = overlap.amax(1, keepdim=True) / (alignment.amax(1, keepdim=True) + _EPSILON)
    # An anchor belongs to one object at most, so of each column of a picture one row is not 0.
    return torch.zeros_like(objects, dtype=alignment.dtype).index_add_(
        0, truth.pictures, alignment * scale
    )
