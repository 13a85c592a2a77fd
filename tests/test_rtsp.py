"""Cameras that speak RTSP: codecs, transports, logins, certificates, and what they do wrong."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import SourceError, SourceRefused
from pipeline.sources import USUAL, Access, Picture, Source, open_source
from tests import rtsp
from tests.marks import WAYS
from tests.rtsp import Film

slow = pytest.mark.slow


def watch(camera: rtsp.Camera, access: Access = USUAL) -> Source:
    return open_source(camera.url, live=True, loop=False, access=access)


def some(source: Source, pictures: int) -> list[Picture]:
    return list(islice(source, pictures))


@pytest.mark.parametrize(("codec", "transport"), WAYS)
def test_every_codec_comes_over_every_transport(codec: str, transport: str) -> None:
    with rtsp.camera(Film(codec)) as camera, watch(camera, Access(transport)) as source:
        found = some(source, 12)

    assert source.codec == codec
    assert {(picture.width, picture.height) for picture in found} == {(320, 192)}
    steps = [b.media_time - a.media_time for a, b in pairwise(found[2:])]
    assert steps == pytest.approx([0.1] * len(steps), abs=0.002)


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_a_login_with_any_character_in_it(digest: bool) -> None:
    password = "p@ss:w/o%r#d?"
    with rtsp.camera(user="ops", password=password, digest=digest) as camera:
        quoted = camera.url.replace(password, "p%40ss%3Aw%2Fo%25r%23d%3F")
        with open_source(quoted, live=True, loop=False) as source:
            assert len(some(source, 3)) == 3


@pytest.mark.parametrize(
    ("status", "kind", "fault", "said"),
    [
        ("401 Unauthorized", SourceRefused, "camera", "refuses these credentials"),
        ("403 Forbidden", SourceRefused, "camera", "refuses these credentials"),
        ("404 Not Found", SourceError, "camera", "cannot be opened"),
        ("453 Not Enough Bandwidth", SourceError, "camera", "cannot be opened"),
        ("503 Service Unavailable", SourceError, "camera", "cannot be opened"),
    ],
)
def test_what_a_camera_answers_is_told_and_whose_fault_it_is(
    status: str, kind: type[SourceError], fault: str, said: str
) -> None:
    with rtsp.camera(user="ops") as camera:
        camera.faults.status = {"DESCRIBE": status}
        with pytest.raises(SourceError, match=said) as caught:
            watch(camera)

    assert type(caught.value) is kind
    assert caught.value.fault == fault
    assert "hunter2" not in str(caught.value)


def test_a_camera_that_has_no_udp_is_no_camera_over_udp() -> None:
    with rtsp.camera() as camera:
        camera.faults.status = {"SETUP": "461 Unsupported Transport"}
        with pytest.raises(SourceError, match="cannot be opened"):
            watch(camera, Access("udp"))


# ── certificates ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def secure(certificate: Path) -> Iterator[rtsp.Camera]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with rtsp.camera(tls=context) as camera:
        yield camera


def test_a_certificate_that_nobody_vouches_for_is_refused(secure: rtsp.Camera) -> None:
    with pytest.raises(SourceError, match="cannot be opened"):
        watch(secure)
    assert secure.describes == 0


def test_a_certificate_is_good_by_the_authorities_that_are_named(
    secure: rtsp.Camera, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_suffix(".crt")))
    with watch(secure) as source:
        assert len(some(source, 3)) == 3


def test_any_certificate_is_taken_where_the_config_says_so(secure: rtsp.Camera) -> None:
    with watch(secure, Access(tls_verify=False)) as source:
        assert len(some(source, 3)) == 3


# ── what goes wrong while it plays ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", ["fin_after", "rst_after"])
def test_a_connection_that_ends_is_lost(ending: str) -> None:
    with rtsp.camera() as camera:
        setattr(camera.faults, ending, 12)
        with watch(camera) as source:
            found = list(source)

    assert len(found) in (11, 12)  # FFmpeg's parser may hold the last one
    assert (source.complete, source.fault) == (False, "network")


@slow
@pytest.mark.parametrize("drip", ["nothing", "rtcp_while_stalled", "audio_while_stalled"])
def test_video_that_stops_is_noticed_whatever_else_comes(drip: str) -> None:
    with rtsp.camera() as camera:
        camera.faults.stall_after = 10
        if drip != "nothing":
            setattr(camera.faults, drip, True)
        with watch(camera) as source:
            began = time.monotonic()
            found = list(source)
            took = time.monotonic() - began

    assert len(found) in (9, 10)
    assert source.fault == "network"
    assert 4 < took < 12


@slow
def test_a_stream_without_keyframes_shows_nothing_and_is_given_up() -> None:
    with rtsp.camera() as camera:
        camera.faults.skip_keyframes = True
        camera.faults.fin_after = 40
        found = []
        try:
            with watch(camera) as source:
                found = list(source)
        except SourceError:  # by a version of FFmpeg that needs to see one to open it
            pass

    assert [picture for picture in found if not picture.tainted] == []


def test_a_stream_that_is_joined_in_the_middle_begins_with_a_keyframe() -> None:
    with rtsp.camera() as camera:
        camera.faults.start_at = 4
        with watch(camera) as source:
            found = some(source, 8)

    assert [picture.tainted for picture in found] == [False] * 8


def test_another_resolution_is_another_size_from_that_picture_on() -> None:
    with rtsp.camera() as camera:
        camera.faults.film_after = (10, Film(size=(480, 272)))
        with watch(camera) as source:
            sizes = [(picture.width, picture.height) for picture in some(source, 18)]

    assert set(sizes) == {(320, 192), (480, 272)}
    assert sizes == sorted(sizes)


@slow
def test_lost_packets_taint_until_the_next_keyframe() -> None:
    with rtsp.camera(Film(size=(640, 384))) as camera:
        camera.faults.loss = 0.02
        with watch(camera) as source:
            found = some(source, 60)

    tainted = [picture.tainted for picture in found]
    assert any(tainted)
    assert not all(tainted)


@pytest.mark.parametrize("seconds", [3600.0, -10.0])
def test_time_stamps_that_jump_begin_another_segment(seconds: float) -> None:
    with rtsp.camera() as camera:
        camera.faults.jump = (12, seconds)
        with watch(camera) as source:
            found = some(source, 22)

    assert {picture.segment for picture in found} == {0, 1}
    for segment in (0, 1):
        times = [picture.media_time for picture in found if picture.segment == segment]
        assert times == sorted(times)
        assert times[0] == 0
        assert times[-1] < 3


@slow
def test_time_stamps_that_wrap_go_on() -> None:
    with rtsp.camera() as camera:
        camera.faults.ticks = 2**32 - 90_000
        with watch(camera) as source:
            found = some(source, 20)

    assert {picture.segment for picture in found} == {0}
    assert found[-1].media_time == pytest.approx(1.9, abs=0.25)


def test_the_cameras_own_clock_is_told_beside_the_time_of_arrival() -> None:
    with rtsp.camera(Film(rate=20)) as camera:
        camera.faults.clock = -3600.0
        with watch(camera) as source:
            found = some(source, 60)

    first, last = found[1], found[-1]
    assert first.camera_time is not None
    assert first.camera_time.error is None
    assert last.camera_time is not None
    assert last.camera_time.error is not None
    assert last.camera_time.error < 0.001
    assert 3599 < last.arrived_at - last.camera_time.at < 3605  # late on a busy machine
    steps = [b.camera_time.at - a.camera_time.at for a, b in pairwise(found[1:15])]  # type: ignore[union-attr]
    assert steps == pytest.approx([0.05] * len(steps), abs=0.002)


@pytest.mark.slow
def test_a_clock_that_drifts_says_so_and_a_jump_ends_what_it_said() -> None:
    with rtsp.camera(Film(rate=20)) as camera:
        camera.faults.drift, camera.faults.jump = 0.5, (70, 100.0)
        with watch(camera) as source:
            found = some(source, 100)

    before = next(one for one in reversed(found) if one.segment == 0)
    behind = next(one for one in found if one.segment == 1)
    assert before.camera_time is not None
    assert before.camera_time.error is not None
    assert before.camera_time.error > 0.4  # half a second each; late, it reports every other second
    assert behind.camera_time is None
    assert found[-1].camera_time is not None


def decode_all_but(camera: rtsp.Camera, groups: range) -> list[Picture]:
    """Pictures until behind those groups, of which only keyframes are asked for."""
    found, group = [], -1
    with watch(camera) as source:
        for picture in source:
            found.append(picture)
            group += picture.is_key
            source.keys_only = group in groups
            if group > groups.stop:
                break
    return found


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_where_keyframes_are_enough_the_rest_is_not_decoded_and_counted(codec: str) -> None:
    with rtsp.camera(Film(codec, rate=20)) as camera:
        found = decode_all_but(camera, range(2, 4))

    keys = [number for number, picture in enumerate(found) if picture.is_key]
    left_out = [number for number, picture in enumerate(found) if picture.is_left_out]
    assert [b - a for a, b in pairwise(keys)] == [10] * (len(keys) - 1)
    assert left_out == [*range(keys[2] + 1, keys[3]), *range(keys[3] + 1, keys[4])]
    assert not any(picture.tainted for picture in found)
    assert {picture.segment for picture in found} == {0}
    ages = [picture.arrived_ns for picture in found]
    assert ages == sorted(ages)


def test_pictures_that_are_put_into_order_are_all_decoded() -> None:
    with rtsp.camera(Film(rate=20, reordered=True)) as camera:
        found = decode_all_but(camera, range(2, 4))

    assert not any(picture.is_left_out for picture in found)


def test_what_was_left_out_is_decoded_when_it_is_wanted_after_all() -> None:
    """The pictures behind it are those that come out where everything is decoded."""
    seen: dict[bool, list[NDArray[np.uint8]]] = {True: [], False: []}
    with rtsp.camera(Film(rate=20)) as camera:
        for spared, pixels in seen.items():
            with watch(camera) as source:
                for number, picture in enumerate(source):
                    source.keys_only = spared and number in range(39, 46)
                    if number in range(41, 47):
                        assert picture.is_left_out == spared
                    elif number in range(47, 50):
                        assert not picture.tainted
                        pixels.append(np.zeros((96, 160, 3), np.uint8))
                        picture.write(pixels[-1])
                    elif number == 50:
                        break

    assert np.array_equal(seen[True], seen[False])
