"""Who may publish a camera: one owner, whose key says which process it is and runs out by itself.

The key `<prefix>:{<camera>}:owner` holds one JSON object (`Owner`) for `LEASE` seconds and is
renewed every `RENEW`. Whoever finds it taken by another decides:

    same run                     take it: the run's publisher was started again
    same machine, process gone   take it at once
    same machine, process there  LeaseTaken
    another machine              watch it: renewed → LeaseTaken; run out → take it

Taking always writes the key, so everything that its last owner has under WATCH is void.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

from pipeline.sinks.lanes import StreamRefused

LEASE = 10.0  # seconds that a key outlives the last sign of its owner
RENEW = 3.0  # seconds between signs
_SLACK = 1.0  # seconds by which a renewed key must outlive what was expected of it


class LeaseTaken(StreamRefused):
    """Another process publishes this camera. One sentence that names it.

    `retry_after` in seconds where that process may turn out to be dead, None where it lives.
    """


class Owner(msgspec.Struct, frozen=True):
    """One process of one machine: a pid means something only within its boot and namespace."""

    host: str
    boot: str
    space: str  # the pid namespace: containers of one machine share a boot, not their pids
    pid: int
    start: int  # clock ticks after boot: a pid that is used again is another process
    token: str  # of the run
    writer: str = ""  # of the publisher within the run

    @classmethod
    def of(cls, pid: int, token: str) -> Owner:
        """The running process `pid`, which stands for the run `token`."""
        return cls(
            host=socket.gethostname(),
            boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            space=os.readlink("/proc/self/ns/pid"),
            pid=pid,
            start=_start_of(pid) or 0,
            token=token,
            writer=os.urandom(4).hex(),
        )

    @classmethod
    def here(cls) -> Owner:
        """This process, as a run of its own."""
        return cls.of(os.getpid(), os.urandom(8).hex())

    def sees(self, other: Owner) -> bool:
        """Whether the other's pid can be looked up here."""
        return (self.host, self.boot, self.space) == (other.host, other.boot, other.space)

    def is_alive(self) -> bool:
        """Of an owner that is seen from here."""
        return _start_of(self.pid) == self.start


class Lease:
    """One camera's key as this publisher sees it. Decides; speaks to nobody."""

    def __init__(self, key: str, camera: str, owner: Owner) -> None:
        self.key = key
        self.value = msgspec.json.encode(owner)
        self.renewed = float("-inf")  # monotonic seconds
        self._camera = camera
        self._owner = owner
        self._stranger: tuple[bytes, float] = (b"", 0.0)  # its value, and when it should run out

    def judge(self, value: bytes | None, left: float, now: float) -> None:
        """Returns where the key may be taken, raises LeaseTaken where it may not.

        `left`: seconds that the key still has (below 0: it never runs out); `now`: monotonic.
        """
        if value is None or value == self.value:
            return
        try:
            other = msgspec.json.decode(value, type=Owner)
        except msgspec.DecodeError:
            raise LeaseTaken(
                f"camera {self._camera!r} cannot be published: {self.key} holds no lease of ours"
            ) from None
        if other.token == self._owner.token:
            return
        if not self._owner.sees(other):
            self._watch(other, value, left, now)
        elif other.is_alive():
            raise LeaseTaken(self._taken_by(other))

    def _watch(self, other: Owner, value: bytes, left: float, now: float) -> None:
        seen, until = self._stranger
        if left < 0 or (seen == value and now + left > until + _SLACK):
            raise LeaseTaken(self._taken_by(other))
        if seen != value:
            self._stranger = (value, now + left)
        raise LeaseTaken(
            f"{self._taken_by(other)}; waiting for a sign of life from it",
            retry_after=min(left, RENEW + _SLACK) + 0.1,
        )

    def _taken_by(self, other: Owner) -> str:
        return (
            f"camera {self._camera!r} is already published by process {other.pid} on {other.host}"
        )


def _start_of(pid: int) -> int | None:
    """When a process began (proc(5): field 22 of stat); None for one that is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # a process' name may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])
