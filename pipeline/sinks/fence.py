"""Transactions that happen only while a lease is ours, without a round trip more than they need.

    MULTI … EXEC  WATCH owner  GET owner      one packet: this batch, and the guard of the next

WATCH (redis.io, "Transactions", optimistic locking) makes EXEC answer nil when the key has been
written, deleted or has run out since. So a process that was stopped for longer than its lease, or
a batch that is still on its way on a connection that we gave up, writes nothing any more once
somebody (we ourselves too) has taken the lease.
"""

from __future__ import annotations

from typing import cast

import redis

from pipeline.sinks.connection import Command, Link
from pipeline.sinks.lease import LEASE, Lease


class Fence:
    """One connection. Raises redis.RedisError and OSError; refusals of a command, too."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._armed: Lease | None = None

    def look(self, lease: Lease) -> tuple[bytes | None, float]:
        """Who owns it now, and for how many seconds more; from here on it is watched."""
        self._armed = None
        _, _, value, left = self._ask(
            ("UNWATCH",), ("WATCH", lease.key), ("GET", lease.key), ("PTTL", lease.key)
        )
        return cast("bytes | None", value), cast(int, left) / 1000

    def take(self, lease: Lease, *commands: Command) -> list[object] | None:
        """Makes a lease that was looked at ours, and does `commands` in the same moment.

        None where somebody else was faster.
        """
        taking: Command = ("SET", lease.key, lease.value, "PX", int(LEASE * 1000))
        answers = self._transact(lease, [taking, *commands])
        return None if answers is None else answers[1:]

    def transact(self, lease: Lease, commands: list[Command]) -> list[object] | None:
        """The answers to `commands`, done all or none; None where the lease is not ours (now).

        Renews the lease.
        """
        if self._armed is not lease:
            self._armed = None
            _, _, value = self._ask(("UNWATCH",), ("WATCH", lease.key), ("GET", lease.key))
            if value != lease.value:
                return None
        renewing: Command = ("PEXPIRE", lease.key, int(LEASE * 1000))
        answers = self._transact(lease, [*commands, renewing])
        return None if answers is None else answers[:-1]

    def renew(self, leases: list[Lease], existing: list[list[str]]) -> list[bool]:
        """For each whether it is still ours, and all its `existing` keys are still there."""
        self._armed = None
        keys = [lease.key for lease in leases]
        _, _, values, *there = self._ask(
            ("UNWATCH",),
            ("WATCH", *keys),
            ("MGET", *keys),
            *(("EXISTS", lease.key, *names) for lease, names in zip(leases, existing, strict=True)),
        )
        ours = [
            value == lease.value
            for lease, value in zip(leases, cast(list[bytes], values), strict=True)
        ]
        signs: list[Command] = [
            ("PEXPIRE", lease.key, int(LEASE * 1000))
            for lease, is_ours in zip(leases, ours, strict=True)
            if is_ours
        ]
        if not signs or self._link.ask(("MULTI",), *signs, ("EXEC",))[-1] is None:
            return [False] * len(leases)
        whole = [count == 1 + len(names) for count, names in zip(there, existing, strict=True)]
        return [a and b for a, b in zip(ours, whole, strict=True)]

    def ask(self, *commands: Command) -> list[object]:
        """The answers outside of any transaction; the first refusal raises."""
        return self._ask(*commands)

    def close(self) -> None:
        self._link.close()

    def _ask(self, *commands: Command) -> list[object]:
        answers = self._link.ask(*commands)
        for answer in answers:
            if isinstance(answer, redis.RedisError):
                raise answer
        return answers

    def _transact(self, lease: Lease, commands: list[Command]) -> list[object] | None:
        self._armed = None
        *answers, _, value = self._link.ask(
            ("MULTI",), *commands, ("EXEC",), ("WATCH", lease.key), ("GET", lease.key)
        )
        if value == lease.value:
            self._armed = lease
        done = answers[-1]
        if isinstance(done, redis.RedisError):
            refusals = [answer for answer in answers if isinstance(answer, redis.RedisError)]
            raise refusals[0]
        return cast("list[object] | None", done)
