"""Cameras that speak HTTP: Motion JPEG and transport streams, logins, certificates, ends."""

from __future__ import annotations

import base64
import hashlib
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler
from itertools import islice, pairwise
from pathlib import Path

import cv2
import pytest

from pipeline.errors import SourceError, SourceRefused
from pipeline.sources import USUAL, Access, Picture, open_source
from tests import rtsp, runs
from tests.faults.cameras import account
from tests.media import noise, web_server
from tests.rtsp import Film
from tests.servers import RedisServer

slow = pytest.mark.slow

Answer = Callable[[BaseHTTPRequestHandler], None]
PASSWORD = "p@ss:w/o%r#d?"
QUOTED = "p%40ss%3Aw%2Fo%25r%23d%3F"
ANY = Access(tls_verify=False)


class Show:
    """What is sent: a kind of stream, `pictures` of it, and its end once `then` comes back."""

    def __init__(self, kind: str, pictures: int = 12, then: Callable[[], object] = int) -> None:
        self.kind, self.pictures, self.then = kind, pictures, then
        self.requests = 0

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        request.send_response(200)
        with suppress(OSError):
            if self.kind == "mpjpeg":
                self._motion_jpeg(request)
            else:
                self._transport_stream(request)
            self.then()

    def _motion_jpeg(self, request: BaseHTTPRequestHandler) -> None:
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        request.end_headers()
        for index in range(self.pictures):
            jpeg = cv2.imencode(".jpg", noise(index, 160, 96))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            request.wfile.write(head.encode() + jpeg + b"\r\n")
            time.sleep(0.05)

    def _transport_stream(self, request: BaseHTTPRequestHandler) -> None:
        request.send_header("Content-Type", "video/mp2t")
        request.end_headers()
        request.wfile.write(transport_stream(self.pictures))


@cache
def transport_stream(pictures: int) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".ts") as file:
        film = Film(rate=20, frames=pictures, size=(160, 96))
        rtsp.encode(film, Path(file.name), "mpegts")
        return Path(file.name).read_bytes()


def some(url: str, pictures: int = 12, access: Access = USUAL) -> list[Picture]:
    with open_source(url, live=True, loop=False, access=access) as source:
        return list(islice(source, pictures))


@pytest.mark.parametrize("kind", ["mpjpeg", "mpegts"])
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_both_kinds_come_over_both_schemes(kind: str, secure: bool, certificate: Path) -> None:
    with web_server(Show(kind), certificate=certificate if secure else None) as url:
        found = some(url, access=ANY)

    assert len(found) == 12
    assert {(picture.width, picture.height) for picture in found} == {(160, 96)}
    assert not any(picture.tainted for picture in found)
    assert {picture.segment for picture in found} == {0}
    assert all(a.media_time < b.media_time for a, b in pairwise(found))


@pytest.mark.parametrize("kind", ["mpjpeg", "mpegts"])
def test_a_certificate_must_be_a_good_one(
    kind: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = Show(kind)
    with web_server(show, certificate=certificate) as url:
        with pytest.raises(SourceError, match="cannot be opened"):
            some(url)
        assert show.requests == 0  # not even asked
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
        assert len(some(url, 3)) == 3
        with pytest.raises(SourceError, match="cannot be opened"):
            some(url.replace("127.0.0.1", "localhost"), 3)  # it is another's


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_a_login_with_any_character_in_it(digest: bool) -> None:
    show = Show("mpjpeg")
    with web_server(locked(show, digest)) as url:
        who = url.replace("://", f"://ops:{QUOTED}@")
        assert len(some(who, 3)) == 3
        for wrong in (url, url.replace("://", "://ops:hunter3@")):
            with pytest.raises(SourceRefused, match="refuses these credentials") as refusal:
                some(wrong)
            assert "hunter3" not in str(refusal.value)
    assert show.requests == 1


def locked(answer: Answer, digest: bool) -> Answer:
    """The same behind a login."""

    def admit(request: BaseHTTPRequestHandler) -> None:
        given = request.headers.get("Authorization", "")
        fields = dict(re.findall(r'(\w+)="([^"]*)"', given))
        first = md5(f"ops:camera:{PASSWORD}")
        second = md5(f"GET:{request.path}")
        right = base64.b64encode(f"ops:{PASSWORD}".encode()).decode()
        if fields.get("response") == md5(f"{first}:0123:{second}") or given == f"Basic {right}":
            answer(request)
            return
        request.send_response(401)
        how = 'Digest realm="camera", nonce="0123"' if digest else 'Basic realm="camera"'
        request.send_header("WWW-Authenticate", how)
        request.end_headers()

    return admit


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


@pytest.fixture
def hold() -> Iterator[threading.Event]:
    """What a camera waits for that has stalled; let go at the end."""
    event = threading.Event()
    yield event
    event.set()


@slow
@pytest.mark.parametrize("kind", ["mpjpeg", "mpegts"])
def test_a_stream_that_stalls_is_given_up(kind: str, hold: threading.Event) -> None:
    with web_server(Show(kind, then=hold.wait)) as url:
        began = time.monotonic()
        with open_source(url, live=True, loop=False) as source:
            found = list(source)
            took = time.monotonic() - began
        hold.set()

    assert len(found) >= 10
    assert (source.complete, source.fault) == (False, "network")
    assert 4 < took < 12


@slow
@pytest.mark.parametrize("kind", ["mpjpeg", "mpegts"])
def test_a_run_connects_again_to_a_camera_that_hangs_up(
    kind: str, tmp_path: Path, ours: Path, redis_server: RedisServer, certificate: Path
) -> None:
    redis = redis_server.url
    with web_server(locked(Show(kind, 20), digest=True), certificate=certificate) as url:
        who = url.replace("://", f"://ops:{QUOTED}@")
        file = runs.write_config(
            tmp_path,
            [{"id": "gate", "url": who, "tls_verify": False}],
            weights=ours,
            redis_url=redis,
            input_size=[96, 160],
        )
        with runs.running(tmp_path, file) as run:
            runs.eventually(lambda: ended(redis) >= 2, within=60)
            assert run.terminate() == 0, run.said

    account(redis, "gate")
    assert runs.length(redis, "gate") > 0
    assert "p@ss" not in run.said
    assert QUOTED not in run.said


def ended(url: str) -> int:
    """How many sessions have."""
    events = runs.entries(url, "gate", "events")
    return sum(entry.data["state"] == "ended" for entry in events)
