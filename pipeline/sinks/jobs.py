"""Where a file's stream goes on: in the epoch of its last entry, or in the next one.

The hash `<prefix>:{<camera>}:job` stands beside the stream: `epoch`, `job` (a digest of all that
decides the results), `session`, `started_at` (seconds since 1970: what captured_at counts from),
`finished` (0 or 1), `run` (whose epoch it is, so that `again` means once per run).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from pipeline.sinks.window import EntryId


@dataclass(frozen=True, slots=True)
class Position:
    """Of a file in its stream: what it publishes next, and under which name."""

    epoch: int
    session: str
    next_seq: int
    started_at: float
    finished: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for: `digest` None is a job that is never the same as another."""

    digest: str | None
    run: str
    again: bool = False


def position(job: Job, stored: dict[str, str], last: EntryId, now: float) -> Position:
    """Where `job` stands, given the hash and the last id of the stream of frames.

    An epoch that has been named and has no entry yet is taken up as well.
    """
    known = _read(stored)
    if known is None or not _is_same(job, stored):
        epoch = max(last[0], 0 if known is None else known.epoch) + 1
        return Position(epoch, f"{epoch}-{os.urandom(4).hex()}", 0, round(now, 6))
    if known.epoch == last[0]:
        return replace(known, next_seq=last[1])
    if known.epoch > last[0] and not known.finished:
        return known
    epoch = max(known.epoch, last[0]) + 1
    return Position(epoch, f"{epoch}-{os.urandom(4).hex()}", 0, round(now, 6))


def to_fields(job: Job, position: Position) -> tuple[str, ...]:
    """The arguments of HSET."""
    return (
        *("epoch", str(position.epoch), "job", job.digest or "", "session", position.session),
        *("started_at", repr(position.started_at), "run", job.run),
        *("finished", str(int(position.finished))),
    )


def _is_same(job: Job, stored: dict[str, str]) -> bool:
    same_run = stored.get("run") == job.run
    if job.digest is None or job.again:
        return same_run and stored.get("job") == (job.digest or "")
    return stored.get("job") == job.digest


def _read(stored: dict[str, str]) -> Position | None:
    """None for a hash that is not there, or is not one of ours."""
    try:
        return Position(
            int(stored["epoch"]),
            stored["session"],
            0,
            float(stored["started_at"]),
            stored["finished"] == "1",
        )
    except (KeyError, ValueError):
        return None
