"""Where an opened stream really comes from: the config says which host is read, not the host.

FFmpeg follows RTSP's redirections (RFC 2326, 11.3), has no option against it, and tells nobody
where it went. The sockets that it opened do. By then the other host was asked, with the
credentials: what is prevented is that it is read.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address, ip_address

_THIS_MACHINE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # who connects there is connected here
_LOOKUPS = 8
_OF_TCP = (socket.AF_INET, socket.AF_INET6)


class Destination:
    """The host of a URL, to be made before it is opened, and asked after it was."""

    def __init__(self, url: str) -> None:
        """Raises `socket.gaierror` or `UnicodeError` where the name leads nowhere."""
        self._host = host_of(url)
        self._addresses = _addresses(self._host)
        self._before = dict(_sockets())

    def other(self) -> str | None:
        """The address that it was connected to instead; None if one leads where it should.

        Sockets that other threads opened meanwhile can hide another host. They make one up only
        if this connection is gone already.
        """
        new = (number for socket_, number in _sockets() if socket_ not in self._before)
        peers = {peer for number in new if (peer := _peer(number)) is not None}
        if not peers or peers & self._addresses:
            return None
        with suppress(socket.gaierror):
            # A name may lead to one address after the other.
            if any(peers & _addresses(self._host) for _ in range(_LOOKUPS)):
                return None
        return min(peers)


def host_of(url: str) -> str:
    """The host as FFmpeg reads it, whatever stands in the password."""
    place = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    return place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]


def _addresses(host: str) -> set[str]:
    found = socket.getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM)
    return {_plain(str(address[0])) for *_, address in found}


def _plain(address: str) -> str:
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return _THIS_MACHINE.get(str(parsed), str(mapped or parsed))


def _sockets() -> Iterator[tuple[str, int]]:
    """Every open socket: its name, which no other gets again, and its descriptor."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{number}")
            if name.startswith("socket:"):
                yield name, int(number)


def _peer(number: int) -> str | None:
    """The address at the other end of a TCP connection; None of any other descriptor."""
    with suppress(OSError):
        connection = socket.socket(fileno=number)
        try:
            if connection.type == socket.SOCK_STREAM and connection.family in _OF_TCP:
                return _plain(connection.getpeername()[0])
        finally:
            connection.detach()
    return None
