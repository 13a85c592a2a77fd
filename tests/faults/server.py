"""A real server with the options that a fault needs, killed and started at will."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import redis

from workers.embedded import find_server

KEEP: dict[str, tuple[str, ...]] = {  # persistence, as options
    "none": ("--save", ""),
    "RDB": ("--save", "1 1"),
    "AOF everysec": ("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
    "AOF always": ("--save", "", "--appendonly", "yes", "--appendfsync", "always"),
}


class Server:
    """On a Unix socket, with its data in `folder`; not started yet."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.socket = str(folder / "redis.sock")
        self.data = folder / "data"
        self.data.mkdir()
        self.options = options or KEEP["none"]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> None:
        """`wait`: until it answers anything at all."""
        command = [
            *(find_server(), "--port", "0", "--unixsocket", self.socket),
            *("--dir", str(self.data), "--logfile", str(self.folder / "log")),
            *("--enable-protected-configs", "yes", "--enable-debug-command", "yes"),
            *self.options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while wait and not self._answers():
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL: what a power cut does to it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A plain connection, past the proxy."""
        one = redis.Redis(unix_socket_path=self.socket, socket_timeout=20)
        try:
            yield one
        finally:
            one.close()

    def do(self, *words: Any) -> Any:
        """One command, as somebody at redis-cli."""
        with self.client() as client:
            return client.execute_command(*words)

    def _answers(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(self.socket)
            probe.sendall(b"PING\r\n")
            return bool(probe.recv(64))
        return False


@contextmanager
def server(*options: str) -> Iterator[Server]:
    """A server for the length of the block; the block starts it."""
    folder = Path(tempfile.mkdtemp(prefix="vedette-"))  # a socket's path is 107 bytes at most
    one = Server(folder, *options)
    try:
        yield one
    finally:
        one.kill()
        shutil.rmtree(folder)
