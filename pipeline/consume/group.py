"""One consumer of a group, decided without I/O: what to ask of Redis, and what its answers mean.

A method of `Membership` is a generator of `Batch`es; whoever drives it (`Consumer` with a blocking
client, `AsyncConsumer` with asyncio's) sends each to Redis and hands the answers back. The order:

    done entries are acknowledged
    own pending entries first     what was delivered before a crash, or in an answer that was lost
    then others' pending ones     of consumers that have not touched them for `min_idle`
    then new ones

An entry that was delivered `deliveries` times and never done is moved to the camera's `:dead`
(MULTI), so that one message that kills its reader cannot kill it for ever. No stream is created
here: one that has vanished must look so to its publisher, which then puts back what it still has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from operator import methodcaller
from typing import Any

from pipeline.consume import streams
from pipeline.consume.answers import (
    Found,
    Pending,
    Stream,
    checked,
    dead,
    doubtful,
    gaps_before,
    lag_of,
    newer,
    says,
    standing_of,
    trimmed,
    understood,
)
from pipeline.consume.entries import Entry, Gap, Lag
from pipeline.consume.gaps import drops, seen
from pipeline.consume.steps import Batch, Call, Item, Settings, Steps
from pipeline.consume.streams import Scope
from pipeline.sinks.window import NO_ENTRY, format_id, parse_id

_CLAIMS = 4  # looks for entries of dead consumers within `min_idle`
_LOOKS = ("stream", "groups")
_WORN = 3  # deliveries, from which on an entry may be what kills its reader


class Membership:
    """One consumer of a group. Give its generators to a driver, one after the other."""

    def __init__(
        self,
        scope: Scope,
        group: str,
        name: str,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scope = scope
        self._group = group
        self._name = name
        self._settings = settings
        self._clock = clock
        self._streams: dict[str, Stream] = {}
        self._held: dict[str, list[Item]] = {}  # by camera: ends whose frames are still to come
        self._look_at = 0.0
        self._claim_at = 0.0
        self._met = False

    def done(self, items: Iterable[Item]) -> None:
        """To be acknowledged before the next answer is asked for; a gap has nothing to it."""
        for item in items:
            if not isinstance(item, Gap):
                stream = self._streams[item.key]
                stream.done.append(item.id)
                stream.handed.discard(item.id)

    def detach(self) -> None:
        """The connection is lost, and perhaps an answer: own pending entries come first again."""
        for item in (item for held in self._held.values() for item in held):
            if not isinstance(item, Gap):
                self._streams[item.key].handed.discard(item.id)
        self._held.clear()
        self._look_at = self._claim_at = 0.0
        for stream in self._streams.values():
            stream.cursor = NO_ENTRY

    def take(self) -> Steps[list[Item]]:
        """The next items; [] when nothing new came in time."""
        yield from self.acknowledge()
        yield from self._look_around()
        if not any(stream.attached for stream in self._streams.values()):
            yield Batch([], pause=self._settings.wait)
            return []
        for kind in (self._own, self._claimed, self._new):
            items = yield from kind()
            if items:
                return items
        return []

    def acknowledge(self) -> Steps[None]:
        """XACK of everything that is done."""
        batch = [(stream, len(stream.done)) for stream in self._streams.values() if stream.done]
        if not batch:
            return
        replies = yield Batch([self._ack(stream, stream.done) for stream, _ in batch])
        for (stream, count), reply in zip(batch, replies, strict=True):
            checked(reply)
            del stream.done[:count]

    def lag(self) -> Steps[dict[str, Lag]]:
        """How far the group is behind, by key."""
        yield from self._look_around()
        attached = [stream for stream in self._streams.values() if stream.attached]
        yield from self._stand(attached)
        pending = yield Batch([methodcaller("xpending", s.key, self._group) for s in attached])
        return {
            stream.key: lag_of(stream.standing, checked(reply)["pending"])
            for stream, reply in zip(attached, pending, strict=True)
            if stream.standing is not None
        }

    # ── which streams ─────────────────────────────────────────────────────────────────────────

    def _look_around(self) -> Steps[None]:
        """Takes in new cameras, and sees where each stream and the group stand."""
        if self._clock() < self._look_at:
            return
        cameras = self._scope.cameras
        for camera in (yield from self._discover()) if cameras is None else cameras:
            for key, is_events in self._scope.keys(camera):
                self._streams.setdefault(key, Stream(key, camera, is_events))
        known = list(self._streams.values())
        yield from self._stand(known)
        yield from self._join([stream for stream in known if not stream.attached])
        self._look_at = self._clock() + streams.LOOK
        self._met = True

    def _discover(self) -> Steps[list[str]]:
        found: set[bytes] = set()
        cursor = None
        while cursor != 0:
            scan = methodcaller(
                "scan", cursor or 0, match=self._scope.pattern(), count=1000, _type="stream"
            )
            (reply,) = yield Batch([scan])
            cursor, keys = checked(reply)
            found.update(keys)
        return self._scope.cameras_of(found)

    def _stand(self, known: list[Stream]) -> Steps[None]:
        """Both of each stream at one moment; a stream or a group that has gone is left."""
        if not known:
            return
        calls = [methodcaller(f"xinfo_{what}", s.key) for s in known for what in _LOOKS]
        replies = yield Batch(calls, atomic=True)
        for stream, about, groups in zip(known, replies[::2], replies[1::2], strict=True):
            if says(about, "no such key"):
                stream.attached = False
                continue
            mine = [g for g in checked(groups) if g["name"].decode() == self._group]
            stream.standing = standing_of(checked(about), mine[0]) if mine else None
            stream.attached = bool(mine)

    def _join(self, strangers: list[Stream]) -> Steps[None]:
        """Makes the group where there is none; a stream that comes later is all new."""
        if not strangers:
            return
        start = "0" if self._met else self._settings.start
        calls = [methodcaller("xgroup_create", s.key, self._group, id=start) for s in strangers]
        replies = yield Batch(calls)
        made = []
        for stream, reply in zip(strangers, replies, strict=True):
            if says(reply, "requires the key to exist"):
                continue
            if not says(reply, "BUSYGROUP"):
                checked(reply)
            stream.cursor = NO_ENTRY
            made.append(stream)
        yield from self._stand(made)

    # ── entries ───────────────────────────────────────────────────────────────────────────────

    def _own(self) -> Steps[list[Item]]:
        """What was delivered to a consumer of this name and never done; what it holds is left out.

        One at a time once an entry is worn: where one of them kills its reader again and again,
        the others must not be counted dead with it.
        """
        while waiting := [s for s in self._attached() if s.cursor is not None]:
            rows = yield from self._pending_of(waiting)
            dead = [row for row in rows if row.times >= self._settings.deliveries]
            if dead:
                return (yield from self._bury(dead))
            alive = [row for row in rows if row.id not in row.stream.handed]
            if any(row.times >= _WORN for row in alive):
                rows = alive = alive[:1]
            for row in rows:
                row.stream.cursor = parse_id(row.id)
            if alive:
                return (yield from self._deliver_again(alive))
        return []

    def _pending_of(self, waiting: list[Stream]) -> Steps[list[Pending]]:
        """Behind the cursor of each stream; a stream with no more is over."""
        name, count = self._name, self._settings.count
        replies = yield Batch(
            [
                methodcaller(
                    "xpending_range", s.key, self._group, f"({_cursor(s)}", "+", count, name
                )
                for s in waiting
            ]
        )
        found = []
        for stream, reply in zip(waiting, replies, strict=True):
            rows = [] if self._has_vanished(reply) else checked(reply)
            if not rows:
                stream.cursor = None
            found += [
                Pending(stream, row["message_id"].decode(), row["times_delivered"]) for row in rows
            ]
        return found

    def _deliver_again(self, rows: list[Pending]) -> Steps[list[Item]]:
        """XCLAIM of one's own counts as a delivery, and leaves out what is gone."""
        ids: dict[str, list[str]] = {}
        for row in rows:
            ids.setdefault(row.stream.key, []).append(row.id)
        replies = yield Batch(
            [methodcaller("xclaim", key, self._group, self._name, 0, ids[key]) for key in ids]
        )
        answer = {}
        for (key, asked), reply in zip(ids.items(), replies, strict=True):
            if self._has_vanished(reply):
                continue
            found = {entry_id: fields for entry_id, fields in checked(reply) if entry_id}
            answer[key] = [(each.encode(), found.get(each.encode())) for each in asked]
        return (yield from self._again(answer))

    def _claimed(self) -> Steps[list[Item]]:
        """What was delivered to others that have not touched it for long: they are dead."""
        if self._clock() < self._claim_at:
            return []
        idle, attached = int(self._settings.min_idle * 1000), self._attached()
        count, name = self._settings.count, self._name
        replies = yield Batch(
            [
                methodcaller("xautoclaim", s.key, self._group, name, idle, s.claim, count=count)
                for s in attached
            ]
        )
        items: list[Item] = []
        for stream, reply in zip(attached, replies, strict=True):
            if self._has_vanished(reply):
                continue
            stream.claim, entries, gone = checked(reply)
            items += [trimmed(stream, entry_id.decode()) for entry_id in gone]
            if entries:
                stream.cursor = NO_ENTRY  # they are this consumer's own now
        if all(stream.claim == b"0-0" for stream in attached):
            self._claim_at = self._clock() + self._settings.min_idle / _CLAIMS
        return items or (yield from self._own())

    def _new(self) -> Steps[list[Item]]:
        """What no consumer of the group has had."""
        block = None if self._held else max(1, int(self._settings.wait * 1000))
        answer = yield from self._read({s.key: ">" for s in self._attached()}, block)
        items = yield from self._with_gaps(understood(self._sorted(answer)), is_new=True)
        return self._ends_last(items, answer)

    def _read(self, places: dict[str, str], block: int | None = None) -> Steps[dict[str, Any]]:
        count = self._settings.count
        call = methodcaller("xreadgroup", self._group, self._name, places, count=count, block=block)
        (reply,) = yield Batch([call])
        if self._has_vanished(reply):
            return {}
        return {key.decode(): entries for key, entries in checked(reply) or []}

    def _again(self, answer: dict[str, list[Any]]) -> Steps[list[Item]]:
        """Entries that have been delivered before, and those of them that are gone."""
        lost: list[Item] = []
        alive: list[tuple[Stream, list[Any]]] = []
        for stream, entries in self._sorted(answer):
            gone = [entry_id for entry_id, fields in entries if not fields]
            lost += [trimmed(stream, entry_id.decode()) for entry_id in gone]
            alive.append((stream, [entry for entry in entries if entry[1]]))
        self.done(lost)
        return lost + (yield from self._with_gaps(understood(alive), is_new=False))

    def _bury(self, rows: list[Pending]) -> Steps[list[Item]]:
        """Moves what was delivered too often to `:dead`."""
        replies = yield Batch([methodcaller("xrange", r.stream.key, r.id, r.id) for r in rows])
        lost: list[Item] = []
        for row, reply in zip(rows, replies, strict=True):
            calls = [self._ack(row.stream, [row.id])]
            for _, fields in checked(reply):
                story = {"from": row.stream.key, "id": row.id, "group": self._group}
                copy = {**fields, **story, "deliveries": row.times}
                calls.append(methodcaller("xadd", row.stream.dead, copy))
            for each in (yield Batch(calls, atomic=True)):
                checked(each)
            row.stream.handed.discard(row.id)
            is_there = len(calls) > 1
            lost.append(dead(row) if is_there else trimmed(row.stream, row.id))
        return lost

    def _with_gaps(self, found: Found, *, is_new: bool) -> Steps[list[Item]]:
        """The entries, each behind the gaps that lie before it."""
        doubts = [
            entry for stream, entries in found for entry in doubtful(stream.last, entries, is_new)
        ]
        before: dict[tuple[str, str], list[Any]] = {}
        if doubts:
            replies = yield Batch(
                [methodcaller("xrevrange", e.key, f"({e.id}", "-", count=1) for e in doubts]
            )
            before = {(e.key, e.id): checked(r) for e, r in zip(doubts, replies, strict=True)}
        items: list[Item] = []
        for stream, entries in found:
            for entry in entries:
                if isinstance(entry, Entry):
                    items += drops(entry)
                    items += gaps_before(stream, entry, before.get((entry.key, entry.id)), is_new)
                    stream.last = newer(stream.last, seen(entry))
                stream.handed.add(entry.id)
                items.append(entry)
        return items

    def _ends_last(self, items: list[Item], answer: dict[str, list[Any]]) -> list[Item]:
        """An end comes behind the frames that it ends, however many answers those need."""
        count = self._settings.count
        full = {
            s.camera for s, rows in self._sorted(answer) if not s.is_events and len(rows) == count
        }
        ready = [i for i in items if not (self._streams[i.key].is_events and i.camera in full)]
        for item in items:
            if self._streams[item.key].is_events and item.camera in full:
                self._held.setdefault(item.camera, []).append(item)
        for camera in [camera for camera in self._held if camera not in full]:
            ready += self._held.pop(camera)
        return ready

    # ── small things ──────────────────────────────────────────────────────────────────────────

    def _attached(self) -> list[Stream]:
        return [stream for stream in self._streams.values() if stream.attached]

    def _sorted(self, answer: dict[str, list[Any]]) -> list[tuple[Stream, list[Any]]]:
        """Frames before events, as the streams were taken in."""
        return [(s, answer[key]) for key, s in self._streams.items() if answer.get(key)]

    def _ack(self, stream: Stream, ids: Iterable[str | bytes]) -> Call:
        return methodcaller("xack", stream.key, self._group, *ids)

    def _has_vanished(self, reply: object) -> bool:
        """A stream was deleted, and the group with it: look around before anything else."""
        vanished = says(reply, "NOGROUP") or says(reply, "UNBLOCKED") or says(reply, "no such key")
        if vanished:
            self._look_at = 0.0
        return vanished


def _cursor(stream: Stream) -> str:
    return format_id(stream.cursor or NO_ENTRY)
