"""What passes between a protocol that does no I/O and whoever drives it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from pipeline.consume import streams
from pipeline.consume.entries import Entry, Gap, Lost, Notice, log_notice

Item: TypeAlias = Entry | Gap | Lost
Call: TypeAlias = Callable[[Any], object]  # of a pipeline of redis-py, blocking or asyncio
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a group reads; the same for all of its consumers."""

    start: str = "0"  # of a group that is new: "0" all that Redis has, "$" what comes from now on
    events: bool = True  # the cameras' events too, ends behind their frames
    count: int = 100  # entries of one stream in one answer
    wait: float = streams.BLOCK  # seconds that `take` waits for something new
    min_idle: float = 60.0  # seconds; more than five times what the slowest entries take
    deliveries: int = 5  # after so many an entry is dead
    notice: Callable[[Notice], None] = log_notice


@dataclass(frozen=True, slots=True)
class Batch:
    """Calls of redis-py's pipeline methods, sent together; or nothing, and a pause in seconds."""

    calls: Sequence[Call]
    atomic: bool = False
    pause: float = 0.0


Steps: TypeAlias = Generator[Batch, list[Any], Value]
