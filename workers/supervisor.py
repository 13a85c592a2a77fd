"""Starts processes, hears them, sees them die, ends them; knows nothing of video.

A child is a fresh interpreter (nothing is forked, so nothing is shared by accident), dies with this
process, and has one control socket. Its death is a readable pidfd (pidfd_open(2)), a signal to
this process is a byte on a socket pair: one `select` waits for everything.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.channel import Channel, pair
from pipeline.errors import ChannelClosed
from pipeline.messages import Message, encode
from workers import control
from workers.process import HUNG_UP

_LAST_SECONDS = 2.0  # from a worker's last word to its end
_EXIT_SECONDS = 10.0  # from when it let go of its socket, which is the last thing it does


@dataclass(slots=True, eq=False)
class Worker:
    """One child process, in one generation."""

    role: str
    name: str
    generation: int
    process: subprocess.Popen[bytes]
    channel: Channel
    pidfd: int
    started_at: float = field(default_factory=time.monotonic)
    failure: control.Failed | None = None  # its own last word
    heard: bool = True  # its control socket is still open
    overdue_at: float | None = None  # it has said its last word, and is killed if it stays

    def __str__(self) -> str:
        label = self.role if self.role == self.name else f"{self.role} of {self.name}"
        return f"{label} (process {self.process.pid})"

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> None:
        """Tells a worker something; one that is gone is told nothing, its death comes by itself."""
        if not self.heard:
            return
        deadline = time.monotonic() + _LAST_SECONDS
        with contextlib.suppress(ChannelClosed):
            while not self.channel.send(message, descriptors):
                if time.monotonic() > deadline:  # it is stopped, and has been for long
                    self.process.kill()
                    return
                time.sleep(0.001)


@dataclass(frozen=True, slots=True)
class Said:
    """A worker said something."""

    worker: Worker
    message: Any


@dataclass(frozen=True, slots=True)
class Died:
    """A worker's process has ended; `cause` is None when that was its own, orderly end.

    `hung_up`: only because the process at the other end of a socket was gone.
    """

    worker: Worker
    cause: str | None
    hung_up: bool = False


@dataclass(frozen=True, slots=True)
class Signalled:
    """Somebody asks this process to end, or with SIGHUP, to look at its config again."""

    name: str


Event = Said | Died | Signalled


class Supervisor:
    """The children of this process. Use as a context manager: leaving kills what is left."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self._generations: dict[tuple[str, str], int] = {}
        self._selector = selectors.DefaultSelector()
        self._signals: list[int] = []
        self._restore: dict[int, Any] = {}

    def __enter__(self) -> Supervisor:
        self._wake, self._wake_end = socket.socketpair()
        for end in (self._wake, self._wake_end):
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        signal.set_wakeup_fd(self._wake_end.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._restore[number] = signal.signal(number, lambda n, _: self._signals.append(n))
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        for number, handler in self._restore.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        self._wake.close()
        self._wake_end.close()

    def start(
        self,
        role: str,
        name: str,
        *,
        settings: Message | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Worker:
        """A new worker, in a generation of its own, with its settings on the way to it.

        Raises OSError where this machine has no process or descriptor left for it.
        """
        generation = self._generations.get((role, name), 0) + 1
        self._generations[role, name] = generation
        ours, theirs = pair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            ids = (str(theirs.fileno()), str(os.getpid()))
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "workers.process", role, name, *ids],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                process_group=0,  # a terminal's Ctrl-C is for the supervisor alone
            )
            undo.callback(process.wait)
            undo.callback(process.kill)
            pidfd = os.pidfd_open(process.pid)
            undo.callback(os.close, pidfd)
            channel = Channel(ours, control.to_supervisor[role])
            worker = Worker(role, name, generation, process, channel, pidfd)
            self._selector.register(channel, selectors.EVENT_READ, worker)
            undo.callback(self._selector.unregister, channel)
            self._selector.register(worker.pidfd, selectors.EVENT_READ, worker)
            undo.pop_all()
        self.workers.append(worker)
        worker.send(control.SetUp(encode(settings) if settings else b"", generation))
        return worker

    def events(self, timeout: float) -> Iterator[Event]:
        """What happens within `timeout` seconds; ends early once something has."""
        for key, _ in self._selector.select(timeout):
            worker = key.data
            if worker is None:
                with contextlib.suppress(BlockingIOError):
                    self._wake.recv(64)
            elif worker not in self.workers:
                continue  # buried a moment ago
            elif key.fileobj is worker.channel:
                yield from self._hear(worker)
            else:
                yield from self._bury(worker)
        for worker in self.workers:
            if worker.overdue_at is not None and time.monotonic() > worker.overdue_at:
                worker.process.kill()
        while self._signals:
            yield Signalled(signal.Signals(self._signals.pop(0)).name)

    def kill(self) -> None:
        """Ends every worker that is left, at once."""
        for worker in self.workers:
            worker.process.kill()
        for worker in list(self.workers):
            self._forget(worker)

    def _hear(self, worker: Worker) -> Iterator[Event]:
        try:
            while (message := worker.channel.receive()) is not None:
                if isinstance(message, control.Failed):
                    worker.failure = message
                    worker.overdue_at = time.monotonic() + _LAST_SECONDS
                else:
                    yield Said(worker, message)
        except ChannelClosed:
            self._stop_hearing(worker)

    def _bury(self, worker: Worker) -> Iterator[Event]:
        if worker.heard:
            yield from self._hear(worker)  # its last words
        self._forget(worker)
        yield Died(worker, _cause(worker), worker.process.returncode == HUNG_UP)

    def _stop_hearing(self, worker: Worker) -> None:
        if worker.heard:
            worker.heard = False
            worker.overdue_at = time.monotonic() + _EXIT_SECONDS
            self._selector.unregister(worker.channel)

    def _forget(self, worker: Worker) -> None:
        worker.process.wait()
        self._stop_hearing(worker)
        worker.channel.close()
        self._selector.unregister(worker.pidfd)
        os.close(worker.pidfd)
        self.workers.remove(worker)


def _cause(worker: Worker) -> str | None:
    code = worker.process.returncode
    if code == 0:
        return None
    if worker.failure is not None:
        return f"failed: {worker.failure.text}"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
