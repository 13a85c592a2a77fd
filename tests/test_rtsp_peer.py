"""Cameras of a server that is not ours: gst-rtsp-server's RTSP, RTP, logins, TLS and reports."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SourceError, SourceRefused
from pipeline.sources import USUAL, Access, Picture, open_source
from tests import rtsp, runs
from tests.conftest import absent
from tests.faults.cameras import account
from tests.marks import WAYS
from tests.rtsp import Film
from tests.servers import RedisServer

slow = pytest.mark.slow

PYTHON = "/usr/bin/python3"  # the system's: Debian's packages are for no other
SCRIPT = Path(__file__).with_name("gst_server.py")
RATE, FRAMES = 20, 20  # a second, which is then shown again
LOGIN = {"user": "ops", "password": "hunter2"}


class Peer:
    """The server's process; each film is a camera at `url`."""

    def __init__(self, **order: Any) -> None:
        self._order = {"port": 0} | order
        self.start()

    def start(self) -> None:
        """Starts it (again, on the same port)."""
        command = [PYTHON, SCRIPT, json.dumps(self._order)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self._order["port"] = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def url(self, password: str | None = None) -> str:
        scheme = "rtsps" if "certificate" in self._order else "rtsp"
        who = f"ops:{password}@" if password else ""
        return f"{scheme}://{who}127.0.0.1:{self._order['port']}/gate"


@pytest.fixture(scope="module", autouse=True)
def _there_is_one() -> None:
    needed = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0');"
        " from gi.repository import Gst, GstRtspServer; Gst.init(None);"
        " assert all(map(Gst.ElementFactory.find, ('appsrc', 'rtph264pay', 'h264parse')))"
    )
    try:
        done = subprocess.run([PYTHON, "-c", needed], capture_output=True, timeout=60).returncode
    except OSError:
        done = 1
    if done != 0:
        absent("no gst-rtsp-server here: make debs")


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """Starts it with a film of a codec and what else it is to be told."""
    started = []

    def start(codec: str = "h264", **order: Any) -> Peer:
        path = tmp_path / "gate.mov"
        rtsp.encode(Film(codec, rate=RATE, frames=FRAMES), path, "mov")
        started.append(Peer(codec=codec, rate=RATE, films={"gate": str(path)}, **order))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def some(url: str, pictures: int, access: Access = USUAL) -> list[Picture]:
    with open_source(url, live=True, loop=False, access=access) as source:
        return list(islice(source, pictures))


@pytest.mark.parametrize(("codec", "transport"), WAYS)
def test_its_pictures_come_whole_and_in_step(
    peer: Callable[..., Peer], codec: str, transport: str
) -> None:
    url = peer(codec).url()
    with open_source(url, live=True, loop=False, access=Access(transport)) as source:
        found = list(islice(source, 2 * FRAMES))

    assert source.codec == codec
    assert {(picture.width, picture.height) for picture in found} == {(320, 192)}
    assert not any(picture.tainted for picture in found)
    assert {picture.segment for picture in found} == {0}
    steps = [b.media_time - a.media_time for a, b in pairwise(found)]
    assert steps == pytest.approx([1 / RATE] * len(steps), abs=0.002)


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_a_login_is_taken_and_another_is_refused(peer: Callable[..., Peer], digest: bool) -> None:
    one = peer(digest=digest, **LOGIN)

    assert len(some(one.url("hunter2"), 3)) == 3
    for wrong in ("hunter3", None):
        with pytest.raises(SourceRefused, match="refuses these credentials") as refusal:
            some(one.url(wrong), 1)
        assert "hunter" not in str(refusal.value)


def test_its_certificate_must_be_a_good_one_unless_the_config_says_otherwise(
    peer: Callable[..., Peer], certificate: Path
) -> None:
    url = peer(certificate=str(certificate), **LOGIN).url("hunter2")

    with pytest.raises(SourceError, match="cannot be opened"):
        some(url, 1)
    assert len(some(url, 3, Access(tls_verify=False))) == 3


@slow
def test_its_clock_is_told(peer: Callable[..., Peer]) -> None:
    found = some(peer().url(), 6 * RATE)

    told = [p.arrived_at - p.camera_time.at for p in found if p.camera_time is not None]
    assert len(told) > RATE
    assert max(map(abs, told)) < 0.5


@slow
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_run_outlives_a_server_that_is_killed(
    peer: Callable[..., Peer],
    transport: str,
    tmp_path: Path,
    ours: Path,
    redis_server: RedisServer,
) -> None:
    one, redis = peer(digest=True, **LOGIN), redis_server.url
    camera = {"id": "gate", "url": one.url("hunter2"), "transport": transport}
    file = runs.write_config(
        tmp_path, [camera], weights=ours, redis_url=redis, input_size=[96, 160]
    )
    with runs.running(tmp_path, file) as run:
        runs.eventually(lambda: runs.length(redis, "gate") >= 10, within=60)
        one.kill()
        runs.eventually(lambda: "backoff" in states(redis), within=20)
        had = runs.length(redis, "gate")
        one.start()
        runs.eventually(lambda: runs.length(redis, "gate") >= had + 10, within=60)
        assert run.terminate() == 0, run.said

    _, _, sessions = account(redis, "gate")
    assert sessions == 2
    told = states(redis)
    assert told[told.index("backoff") + 1 :].count("live") == 1
    assert "hunter2" not in run.said


def states(url: str) -> list[str]:
    return [entry.data["state"] for entry in runs.entries(url, "gate", "events")]
