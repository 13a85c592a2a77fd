"""How well boxes agree. Boxes are x1, y1, x2, y2 in the last dimension; the others broadcast."""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-9  # square pixels


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union, 0…1; a box that is inside out has no area."""
    shared, union = _shared_and_union(first, second)
    return shared / union.clamp(min=_EPSILON)


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU, -1…1: it also falls with the gap between boxes apart (1902.09630)."""
    shared, union = _shared_and_union(first, second)
    near = torch.minimum(first[..., :2], second[..., :2])
    far = torch.maximum(first[..., 2:], second[..., 2:])
    hull = (far - near).clamp(min=0).prod(-1).clamp(min=_EPSILON)
    return shared / union.clamp(min=_EPSILON) - (hull - union) / hull


def _shared_and_union(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    near = torch.maximum(first[..., :2], second[..., :2])
    far = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (far - near).clamp(min=0).prod(-1)
    return shared, _area(first) + _area(second) - shared


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
