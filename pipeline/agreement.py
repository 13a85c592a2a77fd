"""Whether what was seen is what was there: detections against the truth about their picture.

Detections, the surest first, each take the free object of their class that they overlap most, by
`IOU` at least. Whoever takes none is wrong; an object that nobody takes is missed. What is ignored
can be taken as well, and whoever takes it does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

from pipeline.comparison import Box, overlap
from pipeline.wire import Detection

IOU = 0.5  # least overlap of a detection and its object

Object = tuple[str, Box]  # its label; x1, y1, x2, y2 in pixels of the picture


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over any number of pictures; `+` joins two."""

    right: int = 0  # pairs of a detection and its object
    found: int = 0  # detections
    there: int = 0  # objects

    @property
    def precision(self) -> float:
        """Share of the detections that are right, 0 to 1; nan of none."""
        return self.right / self.found if self.found else nan

    @property
    def recall(self) -> float:
        """Share of the objects that were found, 0 to 1; nan of none."""
        return self.right / self.there if self.there else nan

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.right + other.right, self.found + other.found, self.there + other.there)


def judge(
    detections: Iterable[Detection],
    objects: Sequence[Object],
    ignored: Sequence[Object] = (),
    least: float = IOU,
) -> Tally:
    """The tally of one picture."""
    free, spare = dict(enumerate(objects)), dict(enumerate(ignored))
    found = 0
    for detection in sorted(detections, key=lambda detection: -detection.confidence):
        is_right = _takes(detection, free, least)
        found += is_right or not _takes(detection, spare, least)
    return Tally(len(objects) - len(free), found, len(objects))


def _takes(detection: Detection, free: dict[int, Object], least: float) -> bool:
    """Whether it takes one of those that are free, which is then no more."""
    shares = [
        (overlap(detection.box, box), number)
        for number, (label, box) in free.items()
        if label == detection.label
    ]
    share, number = max(shares, default=(0.0, -1))
    return share >= least and free.pop(number, None) is not None
