"""Comparing two lists of detections as detectors are compared: same class, and overlap."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[float]  # class, confidence, x1, y1, x2, y2


def overlap(first: Row, second: Row) -> float:
    """IoU of two rows' boxes."""
    width = min(first[4], second[4]) - max(first[2], second[2])
    height = min(first[5], second[5]) - max(first[3], second[3])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(row[4] - row[2]) * (row[5] - row[3]) for row in (first, second)]
    return shared / (sum(areas) - shared)


def matches(
    wanted: Sequence[Sequence[Row]],
    given: Sequence[Sequence[Row]],
    *,
    confidence: float = 0.4,
    iou: float = 0.6,
) -> tuple[int, list[float]]:
    """Of the boxes in `wanted` above `confidence`: how many there are, and the IoU of those found.

    Both are lists of frames. A box is found where one of its class overlaps it by `iou`.
    """
    count, found = 0, []
    for want, give in zip(wanted, given, strict=True):
        for row in want:
            if row[1] < confidence:
                continue
            count += 1
            best = max((overlap(row, other) for other in give if other[0] == row[0]), default=0.0)
            if best >= iou:
                found.append(best)
    return count, found
