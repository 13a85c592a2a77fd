"""What the network's answers cost, given what they should have been (2209.02976, 2.3).

    class         varifocal: -q (q log p + (1 - q) log(1 - p)) where q > 0,
                  -alpha p^gamma log(1 - p) elsewhere (2008.13367, eq. 2)
    box           1 - GIoU, weighted by q
    distribution  cross entropy with the two bins beside the distance, weighted by q; only where
                  distances are distributions (2006.04388, eq. 6)

q is the score that the assigner asks for. Background inside of an ignored object costs nothing.
Each sum is divided by the sum of q over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pipeline.yolov6.head import decode
from pipeline.yolov6.train.assigner import Anchors, Assignment, Truth, assign, inside_of_any
from pipeline.yolov6.train.boxes import giou

WEIGHTS = {"class": 1.0, "box": 2.5, "distribution": 0.5}
_ALPHA, _GAMMA = 0.75, 2.0


class Losses(NamedTuple):
    """Each a scalar, weighted; their sum is what is learned from."""

    classes: Tensor
    boxes: Tensor
    distributions: Tensor

    @property
    def total(self) -> Tensor:
        return self.classes + self.boxes + self.distributions


def loss(rows: Sequence[Tensor], points: Tensor, strides: Tensor, truth: Truth) -> Losses:
    """rows, points and strides: as `Head.rows` gives them, float32; the distances tell their bins.

    Finite, with finite gradients, whatever the truth is: no objects, a point, beyond the picture.
    """
    logits, distances = rows
    bins = distances.shape[-1] // 4
    boxes = decode(distances, points, strides, bins)
    anchors = Anchors(points * strides, strides)
    silent = inside_of_any(anchors, truth.of(truth.ignored), len(logits))
    truth = truth.of(~truth.ignored)
    given = assign(logits.detach().sigmoid(), boxes.detach(), anchors, truth)
    total = given.scores.sum().clamp(min=1.0)
    classes = varifocal(logits, given, truth.labels, silent) / total
    picture, anchor = (given.objects >= 0).nonzero(as_tuple=True)
    wanted = truth.boxes[given.objects[picture, anchor]]  # [P, 4]
    weights = given.scores[picture, anchor]
    apart = ((1 - giou(boxes[picture, anchor], wanted)) * weights).sum() / total
    spread = distances.new_zeros(())
    if bins > 1:
        scale = strides[anchor]
        centre = points[anchor]
        sides = torch.cat((centre - wanted[:, :2] / scale, wanted[:, 2:] / scale - centre), -1)
        costs = distribution_focal(distances[picture, anchor].view(-1, 4, bins), sides)
        spread = (costs * weights).sum() / total
    return Losses(
        classes * WEIGHTS["class"], apart * WEIGHTS["box"], spread * WEIGHTS["distribution"]
    )


def varifocal(logits: Tensor, given: Assignment, labels: Tensor, silent: Tensor) -> Tensor:
    """logits [B, A, C] → the sum over all but the background among silent [B, A]."""
    wanted = torch.zeros_like(logits)
    picture, anchor = (given.objects >= 0).nonzero(as_tuple=True)
    label = labels[given.objects[picture, anchor]]
    wanted[picture, anchor, label] = given.scores[picture, anchor]
    background = torch.ones_like(logits, dtype=torch.bool)
    background[picture, anchor, label] = False
    weights = (_ALPHA * logits.sigmoid().pow(_GAMMA)).where(background, wanted)
    weights = weights.masked_fill((silent & (given.objects < 0))[..., None], 0.0)
    costs = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (weights * costs).sum()


def distribution_focal(logits: Tensor, sides: Tensor) -> Tensor:
    """logits [P, 4, bins], distances [P, 4] in strides → the mean over the sides, [P]."""
    last = logits.shape[-1] - 1
    sides = sides.clamp(0, last - 0.01)
    lower = sides.floor()
    costs = -logits.log_softmax(-1)  # [P, 4, bins]
    below = costs.gather(-1, lower.long()[..., None])[..., 0]
    above = costs.gather(-1, lower.long()[..., None] + 1)[..., 0]
    upper_share = sides - lower
    return (below * (1 - upper_share) + above * upper_share).mean(-1)
