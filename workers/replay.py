"""`vedette replay`: a recording published again, or compared with another one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.comparison import Tolerance
from pipeline.comparison import compare as compare_recordings
from pipeline.errors import ConfigError
from pipeline.replaying import extent, load, publish
from workers.places import find

_SHOWN = 20  # differences that are printed


@dataclass(frozen=True, slots=True)
class Manner:
    """How a recording is published."""

    speed: float | None  # None: as fast as it goes
    fresh_ids: bool
    prefix: str | None  # None: the recorded one


def replay(file: Path, url: str, manner: Manner) -> int:
    """Publishes it. Raises ConfigError for a wrong call, VedetteError for a stream ahead of it."""
    place = find(None, url, manner.prefix)
    entries = load(file, prefix=manner.prefix and place.prefix)
    what = extent(entries)
    pace = "as fast as it goes" if manner.speed is None else f"at speed {manner.speed:g}"
    amount = f"{what.entries:,} entries of {what.cameras} cameras, {what.seconds:,.1f} s"
    print(f"vedette: {amount}, {pace}", file=sys.stderr)
    publish(entries, place.url, speed=manner.speed, fresh_ids=manner.fresh_ids)
    return 0


def compare(file: Path, golden: Path, tolerance: Tolerance) -> int:
    """1 and the differences where the two did not see the same, else 0."""
    comparison = compare_recordings(file, golden, tolerance)
    for difference in comparison.differences[:_SHOWN]:
        print(difference)
    if len(comparison.differences) > _SHOWN:
        print(f"… and {len(comparison.differences) - _SHOWN:,} more differences")
    print(comparison)
    return 1 if comparison.differences else 0


def speed_of(text: str) -> float | None:
    """None for `max`. Raises ConfigError for what is neither that nor a number above 0."""
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ConfigError(f"--speed: found {text!r}, must be a number above 0, or max")
    return speed
