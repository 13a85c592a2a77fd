"""`decoder: gpu`: where NVDEC cannot be had, nothing is lost but the GPU, and it is said once."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.hwaccel import HWAccel

from pipeline.sources import Access, open_source
from pipeline.sources.gpu import accelerator, excuse_of
from tests import media, runs
from tests.servers import RedisServer

FRAMES = 30
HAS_NVDEC = not isinstance(accelerator(), str)


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


def test_a_gpu_that_fails_as_a_camera_is_opened_is_no_fault_of_the_camera(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An accelerator that was there when it was looked for."""
    monkeypatch.setattr("pipeline.sources.reel.accelerator", lambda: HWAccel("cuda"))
    if HAS_NVDEC:
        pytest.skip("NVDEC is here")

    found, excuse = pixels(clip, "gpu")

    assert len(found) == FRAMES
    assert excuse is not None
    assert excuse.startswith("NVDEC cannot be had: ")


def test_what_ffmpeg_decodes_on_the_cpu_after_all_is_told_by_its_pictures(clip: Path) -> None:
    with av.open(str(clip)) as container:
        frame = next(container.decode(video=0))

    assert excuse_of(frame, "h264") == "NVDEC does not decode this h264"
    assert excuse_of(frame.reformat(format="nv12"), "h264") is None
