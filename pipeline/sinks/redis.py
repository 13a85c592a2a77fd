"""Publishing to Redis Streams: explicit ids, one writer per key, in order, MULTI/EXEC batches.

The protocol, per camera:

    step in   take the lease, and in the same moment read the last id of both streams: what we sent
              and Redis has is confirmed; what it had and lost is sent again, byte for byte
    write     one batch in one MULTI/EXEC under the lease: it is there whole or not at all
    anything  a refusal, a lost answer, a lease or a stream that vanished: step in again

Once a stream exists, NOMKSTREAM turns its vanishing into a nil reply. Stepping in writes the lease,
which voids whatever is still on its way on a connection that was given up (`fence.py`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import cast

import redis

from pipeline.sinks.address import place
from pipeline.sinks.budget import Budget
from pipeline.sinks.connection import Command, Link
from pipeline.sinks.connection import connect as connect
from pipeline.sinks.fence import Fence
from pipeline.sinks.jobs import Job, position, to_fields
from pipeline.sinks.lanes import (
    SLOW_LANE,
    StreamRefused,
    Unavailable,
    code_of,
    is_below_top,
)
from pipeline.sinks.lanes import unavailable as unavailable
from pipeline.sinks.lease import RENEW, Lease, Owner
from pipeline.sinks.remains import Remains, questions, remains
from pipeline.sinks.spool import Spool
from pipeline.sinks.spooled import Spooled
from pipeline.sinks.stream import Stream as Stream
from pipeline.sinks.stream import hash_of, holds, last_entry, last_frame, xadd
from pipeline.sinks.window import NO_ENTRY, EntryId, Keys, Record, Window, format_id

BATCH = 50  # entries in one MULTI
FUTURE = 60.0  # seconds by which a last id may be ahead of the clock before it is said
_TIMEOUT = 2.0  # seconds for one answer
_TRIES = 3  # to take a lease that others reach for as well
_LAST_ID: EntryId = (2**64 - 1, 2**64 - 1)


class RedisSink:
    """One connection, and the streams that are written over it. Not thread-safe.

    `step_in` and `write` raise SinkUnavailable whenever Redis does not take a batch; calling them
    again later is always right. They raise StreamRefused (LeaseTaken is one) where only this
    camera has to stop. `clock` gives seconds since 1970; `notice` takes sentences for a person;
    `tell` hears of each frame that is confirmed for the first time.
    """

    def __init__(  # noqa: PLR0913 — who it is and whom it tells, by keyword only
        self,
        url: str,
        *,
        owner: Owner | None = None,
        clock: Callable[[], float] = time.time,
        notice: Callable[[str], None] = lambda _: None,
        budget: Budget | None = None,
        spool: Spool | None = None,
        tell: Callable[[Record], None] = lambda record: None,
    ) -> None:
        self.place = place(url)
        self._url = url
        self._owner = owner or Owner.here()
        self._clock = clock
        self._notice = notice
        self._budget = budget or Budget()
        self._spool = spool
        self._tell = tell
        self._fence: Fence | None = None
        self._streams: list[Stream] = []
        self._most = BATCH  # fewer while answers do not come in time
        self._login_at = 0.0  # monotonic: not before
        self._has_trimmed = False  # since the last batch that was taken
        self._said: set[str] = set()

    def open(  # noqa: PLR0913 — what a camera's streams are, by keyword only
        self,
        keys: Keys,
        *,
        live: bool,
        maxlen: int | None,
        limit: int | None,
        job: str | None = None,
        again: bool = False,
        incarnation: int = 0,
    ) -> Stream:
        """A camera's streams, not yet looked at; see `step_in`.

        `job` (a file's) is a digest of all that decides its results; None is like no other job.
        `again`: from the start, even if that job has been done; once per run and `incarnation`.
        """
        queue = None
        if live and self._spool is not None:  # a file is decoded again instead
            name = keys.detections.removesuffix(":detections")
            queue = Spooled(self._spool, name, limit, self._clock)
        window = Window(keys, limit=limit, queue=queue, tell=self._tell)
        lease = Lease(keys.owner, keys.camera, self._owner)
        run = f"{self._owner.token}-{incarnation}" if incarnation else self._owner.token
        asked = None if live else Job(job, run, again)
        stream = Stream(window, lease, asked, maxlen)
        self._streams.append(stream)
        self._budget.join(window)
        return stream

    def step_in(self, stream: Stream) -> int:
        """Makes the camera ours and learns what Redis has of it.

        Returns how many unconfirmed frames it turned out to have. A file has its `position` after
        it. Raises LeaseTaken where another process publishes this camera.
        """
        if stream.in_step:
            return 0
        self._budget.settle(None)
        with self._speaking(stream):
            last, line, stored = self._claim(stream)
            self._compare(stream, last)
            if stream.job is not None:
                self._take_position(stream, stream.job, last, stored)
        frames = stream.window.confirm_up_to(last, time.monotonic(), line)
        stream.in_step = stream.met = True
        return frames

    def write(self, stream: Stream) -> int:
        """Sends the next batch of a camera's window; how many frames are newly confirmed.

        0 with a window that is not empty: the lease or a stream has vanished; call it again.
        """
        if not stream.in_step and (frames := self.step_in(stream)):
            return frames
        batch = stream.window.attempt(self._most, int(self._clock() * 1000))
        if not batch:
            return 0
        with self._speaking(stream):
            answers = self._connected().transact(stream.lease, self._commands(stream, batch))
            if answers is None or not self._is_taken(stream, batch, answers):
                stream.in_step = False
                return 0
        stream.lease.renewed = time.monotonic()
        self._most, self._has_trimmed = min(BATCH, self._most * 2), False
        frames = stream.window.confirm(time.monotonic())
        self._budget.settle(time.monotonic())
        return frames

    def renew(self) -> list[Stream]:
        """Signs of life for all leases that need one. To be called every second or so, idle too.

        Returns the streams that must be written (or stepped into) again, because Redis has lost
        something or the lease is gone. Raises SinkUnavailable.
        """
        for stream in self._streams:
            stream.window.queue.sync()
        due = time.monotonic() - RENEW
        streams = [s for s in self._streams if s.in_step and s.lease.renewed <= due]
        if streams:
            existing = [[key for key, there in s.exists.items() if there] for s in streams]
            with self._speaking(None):
                whole = self._connected().renew([s.lease for s in streams], existing)
            for stream, is_whole in zip(streams, whole, strict=True):
                stream.in_step = is_whole
                stream.lease.renewed = time.monotonic()
            self._budget.settle(time.monotonic())
        return [stream for stream in self._streams if stream.met and not stream.in_step]

    def remains(
        self, stream: Stream, sessions: Collection[str], confirmed: EntryId, event: EntryId
    ) -> Remains:
        """What Redis has of `sessions`: `confirmed` is the last entry of them that was counted.

        An end is looked for behind `event`.

        Raises SinkUnavailable.
        """
        with self._speaking(stream):
            answers = self._connected().ask(*questions(stream.window.keys, confirmed, event))
        return remains(sessions, answers)

    def close_stream(self, stream: Stream) -> None:
        """Lets go of a camera: of its lease, where Redis can be told, and of its records."""
        self._streams.remove(stream)
        self._budget.leave(stream.window)
        stream.window.queue.close()
        self._release(stream)

    def close(self) -> None:
        """Lets go of all cameras and of the connection. The spool is the caller's to close."""
        for stream in list(self._streams):
            self.close_stream(stream)
        self._drop()

    # ── stepping in ───────────────────────────────────────────────────────────────────────────

    def _claim(
        self, stream: Stream
    ) -> tuple[dict[str, EntryId], tuple[str, int] | None, dict[str, str]]:
        """Takes the lease; of that very moment the last ids, the last frame, the job's hash."""
        fence, keys, lease = self._connected(), stream.window.keys, stream.lease
        for _ in range(_TRIES):
            lease.judge(*fence.look(lease), time.monotonic())
            answers = fence.take(
                lease,
                ("XINFO", "STREAM", keys.detections),
                ("XINFO", "STREAM", keys.events),
                ("HGETALL", keys.job),
            )
            if answers is not None:
                lease.renewed = time.monotonic()
                names = (keys.detections, keys.events)
                found = {k: last_entry(a) for k, a in zip(names, answers[:2], strict=True)}
                stream.exists = {key: entry is not None for key, entry in found.items()}
                last = {key: entry or NO_ENTRY for key, entry in found.items()}
                return last, last_frame(answers[0]), hash_of(answers[2])
        raise Unavailable(f"Redis at {self.place} gives {lease.key} to others all the time")

    def _compare(self, stream: Stream, last: dict[str, EntryId]) -> None:
        """What it means that a stream is further than we know, or further than the clock."""
        window = stream.window
        soon = int((self._clock() + FUTURE) * 1000)
        for key, entry in last.items():
            counts_time = stream.live or key == window.keys.events
            if entry == _LAST_ID:
                raise StreamRefused(f"{key} has used up its ids: delete it")
            if counts_time and entry[0] > soon:
                self._say_once(
                    key,
                    f"the last entry of {key} is {(entry[0] - soon) / 1000 + FUTURE:.0f} s in the "
                    "future: its time is kept, and counting goes on from it",
                )
            if stream.met and entry > window.last[key]:
                if not counts_time:
                    raise StreamRefused(f"{key} has been published further by another process")
                self._renumber(stream, key, entry)

    def _renumber(self, stream: Stream, key: str, last: EntryId) -> None:
        """Somebody else has written: our unconfirmed records below that are in, or never will be.

        Those that are not get new ids.
        """
        sent = [r for r in stream.window.unconfirmed if r.key == key and r.id <= last]
        ids = [format_id(record.id) for record in sent]
        found = self._connected().ask(*(("XRANGE", key, one, one) for one in ids)) if ids else []
        absent = {r.id for r, entries in zip(sent, found, strict=True) if not holds(entries, r)}
        stream.window.renumber(absent, key)

    def _take_position(
        self, stream: Stream, job: Job, last: dict[str, EntryId], stored: dict[str, str]
    ) -> None:
        window, keys = stream.window, stream.window.keys
        found = stream.position or position(job, stored, last[keys.detections], self._clock())
        if stored.get("epoch") != str(found.epoch) or stored.get("session") != found.session:
            fields: Command = ("HSET", keys.job, *to_fields(job, found))
            if self._connected().transact(stream.lease, [fields]) is None:
                raise Unavailable(f"Redis at {self.place} has let {stream.lease.key} run out")
        stream.position = found
        if window.epoch is None:
            window.epoch, window.job = found.epoch, job.digest
            window.expected = max(window.expected, found.next_seq)

    # ── writing ───────────────────────────────────────────────────────────────────────────────

    def _commands(self, stream: Stream, batch: list[Record]) -> list[Command]:
        commands = [xadd(record, stream) for record in batch]
        if stream.job is not None and any(record.finishes for record in batch):
            commands.append(("HSET", stream.window.keys.job, "finished", "1"))
        return commands

    def _is_taken(self, stream: Stream, batch: list[Record], answers: list[object]) -> bool:
        """Whether Redis has all of it; otherwise stepping in shows what it has."""
        for record, answer in zip(batch, answers, strict=False):
            stream.exists[record.key] = answer is not None
            if isinstance(answer, redis.RedisError) and not is_below_top(answer):
                raise answer
        return not any(a is None or isinstance(a, redis.RedisError) for a in answers)

    def _make_room(self) -> None:
        """Trims our own live streams to the very number, once until a batch is taken again."""
        if self._has_trimmed or self._fence is None:
            return
        self._has_trimmed = True
        trims: list[Command] = [
            ("XTRIM", stream.window.keys.detections, "MAXLEN", stream.maxlen)
            for stream in self._streams
            if stream.live and stream.in_step and stream.maxlen is not None
        ]
        if trims:
            self._fence.ask(*trims)

    # ── the connection ────────────────────────────────────────────────────────────────────────

    def _connected(self) -> Fence:
        if self._fence is None:
            wait = self._login_at - time.monotonic()
            if wait > 0:
                raise Unavailable(
                    f"Redis at {self.place} refuses the login; the next one is in {wait:.0f} s",
                    lane="configuration",
                    retry_after=wait,
                )
            self._fence = Fence(Link(self._url, timeout=_TIMEOUT))
            self._look_at_policy(self._fence)
        return self._fence

    def _look_at_policy(self, fence: Fence) -> None:
        with suppress(redis.exceptions.NoPermissionError):
            (memory,) = fence.ask(("INFO", "memory"))
            policy = re.search(rb"maxmemory_policy:(allkeys-\w+)", cast(bytes, memory))
            if policy is not None:
                self._say_once(
                    "policy",
                    f"Redis at {self.place} has maxmemory-policy {policy[1].decode()}, which may "
                    "throw whole streams away: set noeviction",
                )

    @contextmanager
    def _speaking(self, stream: Stream | None) -> Iterator[None]:
        """Turns redis-py's errors into ours, and drops a connection that is of no more use."""
        try:
            yield
        except (redis.RedisError, OSError) as error:
            if stream is not None and code_of(error) == "WRONGTYPE":
                stream.in_step = False
                keys = stream.window.keys
                raise StreamRefused(f"a key of {keys.camera!r} is no stream: WRONGTYPE") from None
            raise self._failed(error) from None

    def _failed(self, error: BaseException) -> Unavailable:
        said = unavailable(error, self.place)
        if said.lane == "capacity":
            with suppress(redis.RedisError, OSError):
                self._make_room()
                return said
        if isinstance(error, redis.TimeoutError):
            self._most = max(1, self._most // 2)
        if said.lane == "configuration":
            self._login_at = time.monotonic() + SLOW_LANE
        self._drop()
        return said

    def _drop(self) -> None:
        """From here on nobody knows what Redis has."""
        if self._fence is not None:
            self._fence.close()
            self._fence = None
        for stream in self._streams:
            stream.in_step = False

    def _release(self, stream: Stream) -> None:
        if self._fence is None or not stream.in_step:
            return
        try:
            self._fence.transact(stream.lease, [("DEL", stream.lease.key)])
        except (redis.RedisError, OSError):
            self._drop()  # it runs out by itself

    def _say_once(self, about: str, text: str) -> None:
        if about not in self._said:
            self._said.add(about)
            self._notice(text)
