"""What the peers have in common: what they are given, one XADD a frame, and the clock."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import redis

_WARM = 2.0  # seconds that do not count


@dataclass(frozen=True)
class Given:
    """The command line, one JSON object."""

    clip: str
    weights: str
    input_size: tuple[int, int]  # height, width
    cameras: int
    precision: str  # fp32 | bf16
    redis: str  # its URL
    seconds: float

    @classmethod
    def read(cls) -> Given:
        given = json.loads(sys.argv[1])
        return cls(**{**given, "input_size": tuple(given["input_size"])})


def measured(given: Given, frames: Iterator[tuple[str, list[list[float]]]]) -> dict[str, float]:
    """Frames/s until Redis has them, behind some seconds of warming up."""
    client = redis.Redis.from_url(given.redis)
    count, began = 0, 0.0
    started = time.monotonic()
    for source, boxes in frames:
        client.xadd("peer", {"source": source, "boxes": json.dumps(boxes)}, maxlen=1000)
        now = time.monotonic()
        if began:
            count += 1
            if now >= began + given.seconds:
                break
        elif now >= started + _WARM:
            began = now
    return {"rate": count / (time.monotonic() - began)}
