"""Real Redis servers for tests, and a proxy in front of one that loses replies."""

from __future__ import annotations

import select
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import redis

from pipeline.sinks.redis import connect
from workers.embedded import find_server


class RedisServer:
    """One server on a Unix socket (or a loopback port), nothing kept on disk unless asked for."""

    def __init__(self, folder: Path, *, password: str | None, port: int, keep: bool) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"redis://127.0.0.1:{port}/0" if port else f"unix://{self.socket}"
        self.password = password
        self._command = [
            *(find_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
            *("--unixsocket", str(self.socket), "--save", "", "--logfile", str(folder / "log")),
            *("--appendonly", "yes" if keep else "no", "--appendfsync", "always"),
            *(("--requirepass", password) if password else ()),
        ]
        self.start()

    def start(self) -> None:
        """Starts it (again, at the same address) and waits until it answers."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                if probe.recv(64)[:5] in (b"+PONG", b"-NOAU"):
                    return
            time.sleep(0.005)
        self.kill()
        raise TimeoutError("the test's Redis server did not start")

    def kill(self) -> None:
        """SIGKILL: what a power cut does to it."""
        self.process.kill()
        self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped in its tracks: it takes connections and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A connection of the test's own."""
        client = connect(f"unix://{self.socket}", timeout=5)
        if self.password:
            client.connection_pool.connection_kwargs["password"] = self.password
        try:
            yield client
        finally:
            client.close()


@contextmanager
def redis_server(
    *, password: str | None = None, port: int = 0, keep: bool = False
) -> Iterator[RedisServer]:
    """A server for the length of the block; `port` 0: only its socket; `keep`: data on disk."""
    folder = Path(tempfile.mkdtemp(prefix="vedette-"))  # a socket's path is 107 bytes at most
    server = RedisServer(folder, password=password, port=port, keep=keep)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """In front of a server: while `lose` is above 0, answers to EXEC never reach the client.

    The server has done what it was asked, and nobody who asked can know it. `executed` counts
    the EXECs, `connections` the connections.
    """

    def __init__(self, server: RedisServer) -> None:
        self.lose = 0
        self.executed = 0
        self.connections = 0
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._forward, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(str(self._server.socket))
            losing = False
            while True:
                for end in select.select([client, server], [], [], 10)[0]:
                    data = end.recv(1 << 20)
                    if not data:
                        return
                    if end is client:
                        executed = data.count(b"EXEC\r\n")
                        self.executed += executed
                        losing = losing or (executed > 0 and self.lose > 0)
                        server.sendall(data)
                    elif losing:
                        self.lose -= 1
                        return
                    else:
                        client.sendall(data)
