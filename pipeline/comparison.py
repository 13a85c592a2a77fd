"""Whether two recordings saw the same: detections matched by class and overlap, frame by frame.

A frame is known by its camera, its session (the first, the second … of the camera in the recording:
their names differ from run to run) and its `seq`. Within a frame the pairs of the same class are
taken in the order of their overlap (IoU), the greatest first, as detection benchmarks do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipeline.errors import ConfigError
from pipeline.recording import read, split_key
from pipeline.wire import Detection, DetectionsMessage, read_detections

FrameKey = tuple[str, int, int]  # camera, number of its session from 1, seq
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What counts as the same."""

    iou: float = 0.5  # least overlap of two boxes of one object
    confidence: float = 0.05  # most difference of their confidences

    def check(self) -> None:
        """Raises ConfigError for what is no share."""
        for name, value in (("iou", self.iou), ("confidence-tolerance", self.confidence)):
            if not 0 <= value <= 1:
                raise ConfigError(f"--{name}: found {value}, must be from 0 to 1")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison comes to; `differences` are sentences, `frames` how many were compared."""

    frames: int
    differing: int
    differences: list[str]

    def __str__(self) -> str:
        if not self.differences:
            return f"{self.frames:,} frames agree"
        return f"{self.differing:,} of {self.frames:,} frames differ"


def compare(path: Path, golden: Path, tolerance: Tolerance) -> Comparison:
    """`path` against `golden`. Raises ConfigError for what is no recording, or has no frames."""
    tolerance.check()
    found, wanted = _frames(path), _frames(golden)
    differences: list[str] = []
    differing = 0
    for key in sorted(found.keys() | wanted.keys()):
        mine, other = found.get(key), wanted.get(key)
        if mine is None or other is None:
            sentences = [f"is not in {path if mine is None else golden}"]
        else:
            sentences = list(_differences(mine, other, tolerance))
        differing += bool(sentences)
        differences += [f"{_name(key)}: {sentence}" for sentence in sentences]
    return Comparison(len(found.keys() | wanted.keys()), differing, differences)


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2; 0 … 1."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (_area(first) + _area(second) - both)


def _frames(path: Path) -> dict[FrameKey, DetectionsMessage]:
    frames: dict[FrameKey, DetectionsMessage] = {}
    sessions: dict[str, list[str]] = {}
    for entry in read(path):
        camera, kind = split_key(entry.key)[1:]
        if kind != "detections":
            continue
        try:
            message = read_detections(entry.fields.get("data", "").encode())
        except msgspec.MsgspecError as error:
            raise ConfigError(f"{path}: {entry.key} {entry.id} is no message: {error}") from None
        known = sessions.setdefault(camera, [])
        if message.session not in known:
            known.append(message.session)
        frames[camera, known.index(message.session) + 1, message.seq] = message
    if not frames:
        raise ConfigError(f"{path}: there are no frames in it")
    return frames


def _differences(
    mine: DetectionsMessage, golden: DetectionsMessage, tolerance: Tolerance
) -> Iterator[str]:
    if (mine.width, mine.height) != (golden.width, golden.height):
        yield f"is {mine.width} by {mine.height} pixels, was {golden.width} by {golden.height}"
    pairs, new, gone = _match(mine.detections, golden.detections, tolerance.iou)
    for found, wanted, share in pairs:
        if abs(found.confidence - wanted.confidence) > tolerance.confidence:
            yield (
                f"{_describe(wanted)} has the confidence {found.confidence:.2f} now (IoU "
                f"{share:.2f})"
            )
    for detection in gone:
        if not _is_marginal(detection, golden, tolerance):
            nearest = _nearest(detection, mine.detections)
            yield f"{_describe(detection)} is gone{nearest}"
    for detection in new:
        if not _is_marginal(detection, mine, tolerance):
            nearest = _nearest(detection, golden.detections)
            yield f"{_describe(detection)} is new{nearest}"


def _match(
    mine: list[Detection], golden: list[Detection], least: float
) -> tuple[list[tuple[Detection, Detection, float]], list[Detection], list[Detection]]:
    """Pairs with their overlap, and what is left on either side."""
    shares = sorted(
        (
            (overlap(found.box, wanted.box), i, j)
            for i, found in enumerate(mine)
            for j, wanted in enumerate(golden)
            if found.label == wanted.label
        ),
        key=lambda share: (-share[0], share[1:]),
    )
    pairs: dict[int, tuple[int, float]] = {}
    taken: set[int] = set()
    for share, i, j in shares:
        if share >= least and i not in pairs and j not in taken:
            pairs[i] = (j, share)
            taken.add(j)
    matched = [(mine[i], golden[j], share) for i, (j, share) in pairs.items()]
    new = [found for i, found in enumerate(mine) if i not in pairs]
    return matched, new, [wanted for j, wanted in enumerate(golden) if j not in taken]


def _is_marginal(detection: Detection, message: DetectionsMessage, tolerance: Tolerance) -> bool:
    """So near to the threshold that it may be seen once and not another time."""
    return detection.confidence <= message.model.confidence + tolerance.confidence


def _nearest(detection: Detection, others: list[Detection]) -> str:
    """What lies there instead, for the reader of the difference."""
    shares = [(overlap(detection.box, other.box), other) for other in others]
    share, other = max(shares, key=lambda pair: pair[0], default=(0.0, None))
    return f"; nearest is {_describe(other)}, IoU {share:.2f}" if other and share else ""


def _describe(detection: Detection) -> str:
    box = ", ".join(f"{value:.0f}" for value in detection.box)
    return f"{detection.label} {detection.confidence:.2f} at [{box}]"


def _name(key: FrameKey) -> str:
    camera, session, seq = key
    return f"{camera} #{seq}" if session == 1 else f"{camera} (session {session}) #{seq}"


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
