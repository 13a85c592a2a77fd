"""Which of many overlapping boxes remain: exact greedy suppression for a whole batch at once.

Decided here: a box is suppressed by a better-scored one of its picture (and class, unless
`agnostic`) whose IoU with it is above the threshold and that itself remains. The classes are told
apart by their number, not by an offset added to float32 coordinates, which would round them.

A picture's result does not depend on what else is in its batch, and there is no loop over boxes:
candidates are taken in blocks of falling score, and within a block the rule is applied to all
pairs until nothing changes (as often as the longest chain of suppressions, a handful).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_CANDIDATES = 30_000  # per picture, the best ones; the original's limit
_ROWS = 32  # anchors at most that are looked at in one
_BLOCK = 1024  # candidates compared with each other at once: 4 MB of IoU


class Selection(NamedTuple):
    """n boxes of one picture, in falling confidence."""

    xyxy: Tensor  # float32 [n, 4], input pixels
    confidence: Tensor  # float32 [n], 0…1
    class_id: Tensor  # int64 [n]


class _Candidates(NamedTuple):
    """n boxes of the whole batch."""

    image: Tensor  # int64 [n]
    boxes: Tensor  # float32 [n, 4]
    scores: Tensor  # float32 [n]
    labels: Tensor  # int64 [n]
    groups: Tensor  # int64 [n]: only boxes of one group suppress each other

    def take(self, index: Tensor) -> _Candidates:
        return _Candidates(*(tensor[index] for tensor in self))


def select(  # noqa: PLR0913 — the official function's options, by keyword only
    boxes: Tensor,
    scores: Tensor,
    *,
    confidence: float | Sequence[float] | Tensor,
    iou: float,
    max_detections: int,
    multi_label: bool = False,
    agnostic: bool = False,
    class_ids: Sequence[Collection[int] | None] | None = None,
) -> list[Selection]:
    """boxes [B, A, 4] (x1, y1, x2, y2), scores [B, A, C] → one `Selection` per picture.

    Scores must be above `confidence` (one number, or one per picture); boxes with an IoU above
    `iou` are one object; at most `max_detections` remain per picture. `multi_label` takes every
    class above `confidence`, not only a box's best. With `agnostic`, boxes of different classes
    suppress each other. `class_ids` says for each picture which classes are wanted; None is all.

    Works on any device; the result stays there. No candidates, no boxes.
    """
    pictures, _, count = scores.shape
    thresholds = torch.as_tensor(confidence, dtype=torch.float32, device=scores.device)
    found = _candidates(boxes, scores, thresholds.expand(pictures), multi_label)
    if class_ids is not None and any(ids is not None for ids in class_ids):
        wanted = _mask(class_ids, count).to(scores.device)
        found = found.take(wanted[found.image, found.labels].nonzero()[:, 0])
    groups = found.image if agnostic else found.image * count + found.labels
    found = _best_first(found._replace(groups=groups), pictures)
    kept = _suppress(found, pictures, iou, max_detections)
    kept = kept.take(torch.argsort(kept.image, stable=True))
    counts = torch.bincount(kept.image, minlength=pictures).tolist()
    parts = (torch.split(tensor, counts) for tensor in (kept.boxes, kept.scores, kept.labels))
    return [Selection(*(t[:max_detections] for t in part)) for part in zip(*parts, strict=True)]


def _candidates(
    boxes: Tensor, scores: Tensor, thresholds: Tensor, multi_label: bool
) -> _Candidates:
    """Everything above its picture's threshold [B]. One pass alone reads all anchors x classes."""
    image, anchor = _above(scores, thresholds)
    rows = scores[image, anchor].float()
    if multi_label:
        row, labels = (rows > thresholds[image, None]).nonzero(as_tuple=True)
        image, anchor, best = image[row], anchor[row], rows[row, labels]
    else:
        best, labels = rows.max(-1)
    return _Candidates(image, boxes[image, anchor].float(), best, labels, groups=image)


def _above(scores: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures and anchors of which any class is above the picture's threshold.

    By blocks of anchors first, hardly any of which remain: on a CPU the maximum of a thousand
    numbers that lie in a row is eight times as fast as as many maxima of 80.
    """
    pictures, anchors, count = scores.shape
    size = next(n for n in range(_ROWS, 0, -1) if anchors % n == 0)
    blocks = scores.reshape(pictures, anchors // size, size * count)
    # Not `>`: a block with one number that is none has others.
    image, block = (~(blocks.amax(-1) <= thresholds[:, None])).nonzero(as_tuple=True)
    rows = blocks[image, block].view(-1, size, count)
    found, row = (rows.amax(-1) > thresholds[image, None]).nonzero(as_tuple=True)
    return image[found], block[found] * size + row


def _mask(class_ids: Sequence[Collection[int] | None], count: int) -> Tensor:
    """bool [B, count]: which classes are wanted of which picture."""
    mask = torch.zeros(len(class_ids), count, dtype=torch.bool)
    for row, ids in zip(mask, class_ids, strict=True):
        row[slice(None) if ids is None else list(ids)] = True
    return mask


def _best_first(found: _Candidates, pictures: int) -> _Candidates:
    """In falling score, ties in the order of anchors; at most `MAX_CANDIDATES` of each picture."""
    found = found.take(torch.argsort(found.scores, descending=True, stable=True))
    if len(found.scores) <= MAX_CANDIDATES:
        return found
    inside = [(found.image == i).nonzero()[:MAX_CANDIDATES, 0] for i in range(pictures)]
    return found.take(torch.cat(inside).sort().values)


def _suppress(found: _Candidates, pictures: int, iou: float, enough: int) -> _Candidates:
    """The candidates that remain, in falling score: of each picture at least the first `enough`."""
    kept = found.take(found.image[:0])
    for start in range(0, len(found.scores), _BLOCK):
        block = _Candidates(*(tensor[start : start + _BLOCK] for tensor in found))
        if start:  # pictures that have enough take no more; what is suppressed leaves
            full = torch.bincount(kept.image, minlength=pictures) >= enough
            gone = full[block.image] | _overlaps(kept, block, iou).any(0)
            block = block.take((~gone).nonzero()[:, 0])
        block = block.take(_greedy(_overlaps(block, block, iou).triu_(1)).nonzero()[:, 0])
        kept = _Candidates(*(torch.cat(pair) for pair in zip(kept, block, strict=True)))
    return kept


def _overlaps(first: _Candidates, second: _Candidates, iou: float) -> Tensor:
    """bool [n, m]: of one group, and IoU above the threshold."""
    a, b = first.boxes[:, None], second.boxes[None]
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = sides.clamp_(min=0).prod(-1)
    union = _areas(first.boxes)[:, None] + _areas(second.boxes)[None] - shared
    return (shared / union > iou) & (first.groups[:, None] == second.groups[None])


def _greedy(overlaps: Tensor) -> Tensor:
    """bool [n, n], entries above the diagonal → bool [n]: what remains.

    A box remains if no remaining earlier box overlaps it. Starting from all, each application of
    that rule settles one more link of every chain, so the fixed point is the greedy result.
    """
    remain = ~overlaps.any(0)
    while True:
        again = ~(overlaps & remain[:, None]).any(0)
        if torch.equal(again, remain):
            return remain
        remain = again


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
