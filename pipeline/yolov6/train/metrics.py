"""Average precision as COCO counts it, also by size and by occlusion. Numpy only.

A detection, best first, takes the free object of its class that it overlaps most, if by the
threshold at least. Precision is made to fall with recall and read at 0, 0.01 … 1; the mean over
these is the average precision, and over the classes that have objects the mAP. Where only some
objects count (small ones, hidden ones, never the ignored ones), the others are neither missed nor
wrongly found. A detection of none counts against, unless groups are by size and its own size is
another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of IoU
MOST = 100  # detections of a class in a picture

_RECALLS = np.linspace(0, 1, 101)
_SMALL, _LARGE = 32.0**2, 96.0**2  # square pixels
_VISIBLE, _HALF = 0.85, 0.5  # shares: what hides less than 15 % hides nothing

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What is in one picture, and what was found there; boxes in pixels of the picture."""

    boxes: Floats  # [n, 4]
    class_ids: NDArray[np.integer]  # [n]
    visible: Floats | None  # [n]: share not hidden; None: unknown
    found: Floats  # [m, 4], in falling confidence
    confidence: Floats  # [m]
    found_ids: NDArray[np.integer]  # [m]
    ignored: Bools | None = None  # [n]: need not be found; None: all must be

    @property
    def counts(self) -> Bools:
        return np.ones(len(self.boxes), bool) if self.ignored is None else ~self.ignored


@dataclass(frozen=True, slots=True)
class Score:
    """Of one group of objects. All are 0 to 1; nan where it has no objects."""

    objects: int
    map50: float
    map50_95: float
    recall50: float  # share of the objects found at an IoU of 0.5, whatever the confidence


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Which objects count, picture by picture, and which sizes of detections go with them."""

    counts: list[Bools]
    areas: tuple[float, float] = (0.0, np.inf)  # square pixels


def score(pictures: Sequence[Picture]) -> dict[str, Score]:
    """all · small, medium, large · whole, partly, mostly (hidden), where that is known.

    Sizes are COCO's: 32 and 96 pixels squared. Partly hidden is from 15 %, mostly from 50 % on.
    """
    everything = [np.ones(len(picture.boxes), bool) for picture in pictures]
    groups = {"all": Group(everything)} | _sizes(pictures) | _occlusions(pictures)
    return {name: _score(pictures, group) for name, group in groups.items()}


def by_class(pictures: Sequence[Picture]) -> dict[int, Score]:
    """Of each class that has objects."""
    return {
        label: score([_only(picture, label) for picture in pictures])["all"]
        for label in _labels(pictures)
    }


def _only(picture: Picture, label: int) -> Picture:
    """With the objects of one class: mAP is over the classes that are there."""
    own = picture.class_ids == label
    return replace(
        picture,
        boxes=picture.boxes[own],
        class_ids=picture.class_ids[own],
        visible=None if picture.visible is None else picture.visible[own],
        ignored=~picture.counts[own],
    )


def _sizes(pictures: Sequence[Picture]) -> dict[str, Group]:
    areas = [_areas(picture.boxes) for picture in pictures]
    limits = {"small": (0, _SMALL), "medium": (_SMALL, _LARGE), "large": (_LARGE, np.inf)}
    return {
        name: Group([(low <= area) & (area < high) for area in areas], (low, high))
        for name, (low, high) in limits.items()
    }


def _occlusions(pictures: Sequence[Picture]) -> dict[str, Group]:
    shares = [picture.visible for picture in pictures if picture.visible is not None]
    if len(shares) < len(pictures):
        return {}
    return {
        "whole": Group([share > _VISIBLE for share in shares]),
        "partly": Group([(share > _HALF) & (share <= _VISIBLE) for share in shares]),
        "mostly": Group([share <= _HALF for share in shares]),
    }


def _score(pictures: Sequence[Picture], group: Group) -> Score:
    precisions, recalled, objects = [], 0.0, 0
    for label in _labels(pictures):
        rows = [
            _match(picture, label, counts & picture.counts, group.areas)
            for picture, counts in zip(pictures, group.counts, strict=True)
            if label in picture.class_ids or label in picture.found_ids
        ]
        wanted = sum(row.wanted for row in rows)
        if wanted:
            precision, recall = _curve(rows, wanted)
            precisions.append(precision)
            recalled += recall * wanted
            objects += wanted
    if not objects:
        return Score(0, np.nan, np.nan, np.nan)
    mean = np.mean(precisions, axis=0)
    return Score(objects, float(mean[0]), float(mean.mean()), recalled / objects)


def _labels(pictures: Sequence[Picture]) -> Iterator[int]:
    yield from np.unique(np.concatenate([picture.class_ids for picture in pictures])).tolist()


@dataclass(frozen=True, slots=True, eq=False)
class _Matches:
    """One class in one picture, with m detections, at each of T thresholds."""

    wanted: int  # objects that count
    confidence: Floats  # [m]
    right: Bools  # [T, m]
    ignored: Bools  # [T, m]


def _match(picture: Picture, label: int, counts: Bools, areas: tuple[float, float]) -> _Matches:
    objects, found = picture.class_ids == label, picture.found_ids == label
    order = np.argsort(~counts[objects], kind="stable")  # those that count come first
    boxes, counts = picture.boxes[objects][order], counts[objects][order]
    detections, confidence = picture.found[found][:MOST], picture.confidence[found][:MOST]
    right = np.zeros((len(THRESHOLDS), len(detections)), bool)
    ignored = np.zeros_like(right)
    overlaps = _overlaps(detections, boxes)
    largest = overlaps.max(1, initial=0.0)
    for t, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(boxes), bool)
        for d in (largest >= threshold).nonzero()[0]:
            choice = _choose(overlaps[d], free, counts, threshold)
            if choice is not None:
                free[choice] = False
                right[t, d], ignored[t, d] = counts[choice], ~counts[choice]
    sizes = _areas(detections)
    elsewhere = (sizes < areas[0]) | (sizes >= areas[1])
    ignored |= ~right & elsewhere
    return _Matches(int(counts.sum()), confidence, right, ignored)


def _choose(overlaps: Floats, free: Bools, counts: Bools, threshold: float) -> int | None:
    """The free object that is overlapped most; one that does not count only if no other is."""
    for among in (free & counts, free & ~counts):
        candidates = np.where(among, overlaps, -1.0)
        if len(candidates) and candidates.max() >= threshold:
            # COCO's own takes the last of equal ones.
            return len(candidates) - 1 - int(candidates[::-1].argmax())
    return None


def _curve(rows: Sequence[_Matches], wanted: int) -> tuple[Floats, float]:
    """The average precision at each threshold [T], and the recall at the first."""
    order = np.argsort(-np.concatenate([row.confidence for row in rows]), kind="stable")
    right = np.concatenate([row.right for row in rows], axis=1)[:, order]
    ignored = np.concatenate([row.ignored for row in rows], axis=1)[:, order]
    precisions = np.zeros(len(THRESHOLDS))
    for t, (hits, skipped) in enumerate(zip(right, ignored, strict=True)):
        hits = hits[~skipped]
        hit = np.cumsum(hits)
        recall, precision = hit / wanted, hit / np.arange(1, len(hits) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, _RECALLS, side="left")
        precisions[t] = np.append(precision, 0.0)[np.minimum(at, len(hits))].mean()
    return precisions, float(right[0].sum() / wanted)


def _areas(boxes: Floats) -> Floats:
    sides: Floats = boxes[:, 2:] - boxes[:, :2]
    area: Floats = sides.prod(1)
    return area


def _overlaps(first: Floats, second: Floats) -> Floats:
    """IoU [n, m]."""
    near = np.maximum(first[:, None, :2], second[None, :, :2])
    far = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared: Floats = (far - near).clip(0).prod(-1)
    union = _areas(first)[:, None] + _areas(second)[None] - shared
    return shared / np.maximum(union, 1e-9)
