"""`decoder: gpu`: where NVDEC cannot be had, nothing is lost but the GPU, and it is said once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from pipeline.errors import SourceError
from pipeline.sources import Access, open_source
from pipeline.sources.decoder import Decoder
from pipeline.sources.gpu import Nvdec, nvdec
from pipeline.sources.opening import another_decoder
from tests import media, runs
from tests.servers import RedisServer

FRAMES = 30
HAS_NVDEC = nvdec().failure() is None

another = partial(another_decoder, max_pixels=1 << 20)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    media.encode(path, frames=FRAMES, size=(320, 192), rate=25)
    return path


def pixels(url: Path, decoder: str) -> tuple[list[np.ndarray], str | None]:
    found, slot = [], np.empty((96, 160, 3), np.uint8)
    with open_source(str(url), live=False, loop=False, access=Access(decoder=decoder)) as source:
        for picture in source:
            picture.write(slot)
            found.append(slot.copy())
        assert source.complete
        return found, source.excuse


def test_pictures_are_the_same_wherever_they_are_decoded(clip: Path) -> None:
    wanted, nothing = pixels(clip, "cpu")
    found, excuse = pixels(clip, "gpu")

    assert nothing is None
    assert len(found) == len(wanted) == FRAMES
    # What NVDEC gives is bit by bit H.264's own, but in another layout, which is scaled otherwise.
    most = 8 if HAS_NVDEC else 0
    assert all(np.abs(a.astype(int) - b).max() <= most for a, b in zip(found, wanted, strict=True))
    if HAS_NVDEC:
        assert excuse is None
    else:
        assert excuse is not None
        assert excuse.startswith("NVDEC cannot be had: ")


@pytest.mark.skipif(HAS_NVDEC, reason="NVDEC is here")
def test_a_run_says_once_that_it_decodes_on_the_cpu_and_loses_no_frame(
    clip: Path, lite_s: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    cameras = [{"id": "yard", "url": str(clip), "decoder": "gpu"}]
    config = runs.write_config(tmp_path, cameras, weights=lite_s, redis_url=redis_server.url)

    done = runs.vedette(tmp_path, "run", config)

    assert done.returncode == 0, done.stderr
    assert len(runs.entries(redis_server.url, "yard")) == FRAMES
    said = "yard: is decoded on the CPU: NVDEC cannot be had: "
    assert done.stderr.count(said) == 1


def outcomes(*found: str | None) -> Callable[[Nvdec], str | None]:
    """What a GPU says of itself, one after the other."""
    told = iter(found)
    return lambda nvdec: next(told)


@pytest.mark.skipif(HAS_NVDEC, reason="NVDEC is here")
def test_a_gpu_that_fails_as_a_stream_is_opened_is_no_fault_of_the_stream(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg's own failure: it was there when it was looked for."""
    monkeypatch.setattr(Nvdec, "failure", outcomes(None, "NVDEC cannot be had: gone"))

    found, excuse = pixels(clip, "gpu")

    assert len(found) == FRAMES
    assert excuse == "NVDEC cannot be had: gone"


def test_a_camera_that_does_not_answer_is_not_asked_twice_because_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Nvdec, "failure", outcomes(None, None))
    with socket.create_server(("127.0.0.1", 0)) as camera:
        url = f"rtsp://127.0.0.1:{camera.getsockname()[1]}/"
        asked: list[int] = []

        def answer() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = camera.accept()
                    asked.append(1)
                    connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(SourceError, match="cannot be opened"):
            open_source(url, live=True, loop=False, access=Access(decoder="gpu"))
        camera.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert len(asked) == 1


def test_what_ffmpeg_decodes_on_the_cpu_after_all_is_told_by_its_decoder(clip: Path) -> None:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        decoder = Decoder(stream.codec_context, partial(another, stream), on_gpu=True)
        found = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]

    assert len(found) == FRAMES
    assert decoder.excuse == "NVDEC does not decode this h264"


class Failing:
    """A decoder that FFmpeg has on a GPU: twelve pictures behind, and failing from `last` on.

    It takes packet `refused` for damaged.
    """

    pix_fmt = "cuda"
    name = "h264"

    def __init__(self, context: VideoCodecContext, last: int, refused: int | None) -> None:
        self._context = context
        self._last = last
        self._refused = refused
        self._number = -1
        self._held: list[VideoFrame] = []

    def decode(self, packet: Any) -> list[VideoFrame]:
        self._number += 1
        if self._number >= self._last:
            raise av.error.ExternalError(0, "Generic error in an external library")
        if self._number == self._refused:
            raise av.error.InvalidDataError(0, "Invalid data found when processing input")
        self._held += self._context.decode(packet)
        count = len(self._held) if packet is None else max(0, len(self._held) - 12)
        ready, self._held = self._held[:count], self._held[count:]
        return ready


def decoded(
    path: Path, fails_at: int | None, refused: int | None = None
) -> tuple[list[tuple[object, bytes]], str | None]:
    """Of each picture what names it, and its pixels; and the excuse."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.copy_opaque = True
        context: Any = stream.codec_context
        if fails_at is not None:
            context = Failing(context, fails_at, refused)
        decoder = Decoder(context, partial(another, stream), on_gpu=fails_at is not None)
        found = []
        for number, packet in enumerate(container.demux(stream)):
            if packet.size:
                packet.opaque = number
            with suppress(av.error.InvalidDataError):
                found += decoder.decode(packet if packet.size else None)
    return [(frame.opaque, frame.to_ndarray().tobytes()) for frame in found], decoder.excuse


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mp4", "libx264", {"bf": "3", "g": "8"}),
        ("clip.mp4", "libx264", {"bf": "2", "g": "8", "x264-params": "open-gop=1"}),
        ("clip.ts", "libx264", {"bf": "0", "g": "12"}),
        ("clip.mkv", "libx265", {"x265-params": "log-level=none:keyint=8:bframes=2"}),
        ("clip.avi", "mpeg4", {"g": "6"}),
        ("clip.mkv", "libvpx-vp9", {"g": "9"}),
    ],
)
def test_a_gpu_that_fails_in_mid_stream_costs_no_picture(
    name: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / name
    media.encode(path, frames=70, size=(64, 48), rate=25, codec=codec, options=options)
    wanted, _ = decoded(path, None)

    for last in (*range(0, 70, 3), 70):
        found, excuse = decoded(path, last)
        assert found == wanted, last
        assert excuse == "NVDEC failed: Generic error in an external library"


def evenly(folder: Path, *, frames: int, keyframes: int) -> Path:
    """A clip with keyframes at that distance and nowhere else."""
    path = folder / "clip.mp4"
    options = {"bf": "0", "sc_threshold": "0"}
    media.encode(path, frames=frames, size=(64, 48), options=options, keyframes=keyframes)
    return path


def test_what_a_failing_gpu_took_for_damaged_is_decoded_again_with_the_rest(
    tmp_path: Path,
) -> None:
    path = evenly(tmp_path, frames=40, keyframes=8)
    wanted, _ = decoded(path, None)

    assert media.packets(path)[16][2]
    assert decoded(path, 20, refused=16)[0] == wanted


def test_with_keyframes_too_far_apart_to_keep_all_the_cpu_begins_at_the_next(
    tmp_path: Path,
) -> None:
    path = evenly(tmp_path, frames=400, keyframes=330)
    wanted, _ = decoded(path, None)

    assert decoded(path, 299)[0] == wanted
    found, _ = decoded(path, 320)
    assert found == wanted[: 320 - 12] + wanted[330:]
