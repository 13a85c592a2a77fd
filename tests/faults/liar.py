"""The server of `conversation`: who asks for `/17` is told the 17th."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from typing import Self

from tests.faults.conversation import Conversation, conversation

_IDLE = 0.3  # seconds without a request behind which the connection is closed
_LINE = re.compile(rb"(\w+) (\S+) RTSP/1\.0\r\n")


class Liar:
    """A server on the loopback for any number of conversations. Close it."""

    def __init__(self, seed: int, canary_port: int) -> None:
        self._seed = seed
        self._canary_port = canary_port
        self.played = 0  # conversations that came as far as PLAY
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def url(self, number: int) -> str:
        return f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/{number}"

    def conversation(self, number: int) -> Conversation:
        return conversation(number, self._seed, self._canary_port)

    def _start(self, target: object, *arguments: object) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(_IDLE)
            one, heard, client = None, b"", None
            while (request := self._request(connection, heard)) is not None:
                method, path, head, heard = request
                if one is None:
                    one = self.conversation(int(path.rstrip("/").split("/")[3]))
                if method == one.mute:
                    break
                sequence = re.search(r"CSeq: *(\S+)", head)
                transport, peer = _set_up(head)
                said = one.answer(method, sequence[1] if sequence else "", transport)
                connection.sendall(said)
                if method == "SETUP":
                    client = peer
                if method == "PLAY":
                    self.played += 1
                    _play(connection, one, client)
                    break
            if one is not None:
                self._part(connection, one)

    def _request(
        self, connection: socket.socket, heard: bytes
    ) -> tuple[str, str, str, bytes] | None:
        """Method, URL and head of the next request, and what was heard behind it."""
        while b"\r\n\r\n" not in heard:
            data = connection.recv(4096)
            if not data:
                return None
            heard += data
        head, _, rest = heard.partition(b"\r\n\r\n")
        line = _LINE.search(head + b"\r\n")
        if line is None:
            return None
        return line[1].decode(), line[2].decode(), head.decode(), rest

    def _part(self, connection: socket.socket, one: Conversation) -> None:
        """What was sent is to be read before the connection is gone."""
        until = time.monotonic() + (one.stays or 2.0)
        if not one.stays:
            connection.shutdown(socket.SHUT_WR)
        while not self._closing.is_set() and time.monotonic() < until:
            with suppress(TimeoutError):
                if not connection.recv(4096):
                    return
            if one.stays:
                connection.sendall(one.drips)


def _set_up(head: str) -> tuple[str, int | None]:
    """What a whole answer says of the transport, and the port of the client, if it is of UDP."""
    ports = re.search(r"client_port=(\d+)-(\d+)", head)
    if ports is None:
        return "RTP/AVP/TCP;unicast;interleaved=0-1", None
    return f"RTP/AVP;unicast;client_port={ports[1]}-{ports[2]};server_port=9-10", int(ports[1])


def _play(connection: socket.socket, one: Conversation, client: int | None) -> None:
    if client is None:
        connection.sendall(one.stream)
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for channel, packet in one.frames:
            sender.sendto(packet, ("127.0.0.1", client + channel % 2))
