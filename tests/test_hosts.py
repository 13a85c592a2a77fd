"""Cameras that send their readers elsewhere: to another host, and to where they may."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice

import pytest

from pipeline.errors import SourceError, SourceRefused
from pipeline.sources import Access, open_source
from pipeline.sources.hosts import host_of
from tests import rtsp


@pytest.fixture
def there() -> Iterator[rtsp.Camera]:
    """Where the readers are sent."""
    with rtsp.camera() as camera:
        yield camera


def pictures(url: str, transport: str = "tcp") -> int:
    with open_source(url, live=True, loop=False, access=Access(transport)) as source:
        return len(list(islice(source, 3)))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_another_host_than_the_configured_one_is_not_read(
    there: rtsp.Camera, transport: str
) -> None:
    with rtsp.camera(user="ops", address=("127.0.0.2", 0)) as here:
        here.faults.redirect = there.url
        with pytest.raises(SourceRefused) as refusal:
            pictures(here.url, transport)

    shown = f"rtsp://***@127.0.0.2:{here.port}/…"
    assert str(refusal.value) == (
        f"{shown} sends its readers to another host, 127.0.0.1; only the one in its URL is read"
    )
    assert refusal.value.fault == "camera"
    assert there.connections == 1  # FFmpeg has asked it before anybody could know


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_another_place_on_the_same_host_is_followed(there: rtsp.Camera, transport: str) -> None:
    with rtsp.camera() as here:
        here.faults.redirect = there.url
        assert pictures(here.url, transport) == 3

    assert there.connections == 1


_SHORT = """
import os, resource, sys
from pipeline.errors import SourceError
from pipeline.sources import Access, open_source

def pictures():
    with open_source(sys.argv[1], live=True, loop=False, access=Access("tcp")) as source:
        return next(iter(source))

pictures()  # what is loaded on the way is loaded
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, most))
taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(64 - len(os.listdir("/proc/self/fd")) + 1)]
for _ in range(int(sys.argv[2])):
    os.close(taken.pop())
try:
    pictures()
except SourceError as error:
    print(f"{type(error).__name__}, {error.fault}: {error}")
"""


@pytest.mark.parametrize("spare", [0, 1])
def test_without_a_descriptor_left_it_is_our_fault(there: rtsp.Camera, spare: int) -> None:
    command = [sys.executable, "-c", _SHORT, there.url, str(spare)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    words = f"rtsp://127.0.0.1:{there.port}/… cannot be opened: Too many open files"
    assert done.stdout == f"SourceError, us: {words}\n"


@pytest.mark.parametrize("name", ["localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1"])
def test_a_host_has_many_names(there: rtsp.Camera, name: str) -> None:
    assert pictures(there.url.replace("127.0.0.1", name)) == 3


@pytest.mark.parametrize("looked_up", [["192.0.2.1", "127.0.0.1"], ["127.0.0.1", "192.0.2.1"]])
def test_a_name_may_lead_to_one_address_after_the_other(
    there: rtsp.Camera, monkeypatch: pytest.MonkeyPatch, looked_up: list[str]
) -> None:
    answers = iter(looked_up)

    def resolve(*_: object, **__: object) -> list[object]:
        address = (next(answers), 0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert pictures(there.url) == 3


def test_a_name_that_leads_nowhere_is_the_networks_fault() -> None:
    with pytest.raises(SourceError, match="cannot be opened") as failure:
        pictures("rtsp://ops:hunter2@no-such-camera.invalid/stream")

    assert failure.value.fault == "network"
    assert "hunter2" not in str(failure.value)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("rtsp://10.0.0.5/stream1", "10.0.0.5"),
        ("rtsp://ops:p@ss@gate.example:554/stream", "gate.example"),
        ("rtsps://ops:p[ss@gate?user=a@b", "gate"),
        ("rtsp://[fe80::1]:8554/x", "fe80::1"),
    ],
)
def test_the_host_is_found_whatever_stands_around_it(url: str, host: str) -> None:
    assert host_of(url) == host
