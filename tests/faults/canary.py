"""What nobody may touch: files that are not to be opened, and ports that are not to be called.

The kernel is asked, not FFmpeg: inotify(7) tells every open(2) in a folder, whoever does it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Self

HOST = "127.0.0.2"  # of the loopback, and not the one that any test serves on
_IN_OPEN = 0x20  # inotify(7)
_IN_Q_OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name behind it


class Canary:
    """Watches folders and two ports of the loopback. Close it."""

    def __init__(self, *folders: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._inotify >= 0, os.strerror(ctypes.get_errno())
        for folder in folders:
            watch = libc.inotify_add_watch(self._inotify, os.fsencode(folder), _IN_OPEN)
            assert watch > 0, os.strerror(ctypes.get_errno())
        self._tcp = socket.create_server((HOST, 0))
        self._tcp.setblocking(False)
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((HOST, self.port))
        self._udp.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._inotify)
        self._tcp.close()
        self._udp.close()

    @property
    def port(self) -> int:
        """Of TCP and of UDP: a server that nobody may call."""
        return int(self._tcp.getsockname()[1])

    def opened(self) -> set[str]:
        """Names of the files in the folders that were opened since the last question."""
        found = set()
        with suppress(BlockingIOError):
            while data := os.read(self._inotify, 1 << 16):
                while data:
                    _, mask, _, length = _EVENT.unpack_from(data)
                    name = data[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
                    assert not mask & _IN_Q_OVERFLOW
                    if name:  # without one, it is the folder itself
                        found.add(os.fsdecode(name))
                    data = data[_EVENT.size + length :]
        return found

    def called(self) -> list[str]:
        """What has come in at the ports since the last question."""
        found = []
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._tcp.accept()
                connection.close()
                found.append("a connection")
        with suppress(BlockingIOError):
            while True:
                self._udp.recv(2048)
                found.append("a datagram")
        return found
