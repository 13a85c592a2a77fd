from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from pipeline.device import plan
from pipeline.errors import ConfigError
from pipeline.letterbox import Letterbox
from pipeline.runner import Found, Runner, Thresholds, open_runner
from pipeline.yolov6 import load
from pipeline.yolov6.weights import OURS
from tests import boxes

INPUT = (192, 320)
FAST = ["fast", *(["replayed"] if torch.cuda.is_available() else [])]  # on a GPU in fp16
CLIPS = ("car-detection", "one-by-one-person-detection")


@pytest.fixture(scope="module")
def pictures(shared: Path) -> list[tuple[str, int, np.ndarray]]:
    """Every 40th frame of both clips, resized as the original does: (clip, frame, RGB pixels)."""
    found = []
    for clip in CLIPS:
        with av.open(str(shared / "media" / f"{clip}.mp4")) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index % 40 == 0:
                    found.append((clip, index, letterboxed(frame.to_ndarray(format="rgb24"))))
    return found


def letterboxed(picture: np.ndarray) -> np.ndarray:
    box = Letterbox.of(picture.shape[1], picture.shape[0], INPUT)
    slot = np.empty((*INPUT, 3), np.uint8)
    box.paint(slot)
    height, width = box.resized
    slot[box.region] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return slot


@contextmanager
def runner_of(weights: Path, precision: str, device: str = "cpu") -> Iterator[Runner]:
    chosen = plan(device=device, precision=precision, max_batch=4)
    runner = open_runner(load(weights), chosen, input_size=INPUT, iou=0.45, max_detections=300)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def exact(lite_l: Path) -> Iterator[Runner]:
    with runner_of(lite_l, "fp32") as runner:
        yield runner


@pytest.fixture(scope="module")
def fast(lite_l: Path) -> Iterator[Runner]:
    with runner_of(lite_l, "bf16") as runner:
        yield runner


@pytest.fixture(scope="module")
def replayed(lite_l: Path) -> Iterator[Runner]:
    with runner_of(lite_l, "fp16", "auto") as runner:
        assert runner.complaint is None  # every bucket was recorded, on both streams
        yield runner


@pytest.fixture(scope="module", params=FAST)
def halved(request: pytest.FixtureRequest) -> Runner:
    chosen: Runner = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(scope="module", params=["exact", *FAST])
def runner(request: pytest.FixtureRequest) -> Runner:
    chosen: Runner = request.getfixturevalue(request.param)
    return chosen


def run(runner: Runner, pixels: list[np.ndarray], confidence: float = 0.25) -> list[Found]:
    """All pictures, in batches, through the runner."""
    found = []
    for start in range(0, len(pixels), runner.plan.batch):
        batch = pixels[start : start + runner.plan.batch]
        staging = runner.staging()
        assert staging is not None
        for row, picture in enumerate(batch):
            staging.pixels[row] = picture
        found += runner.submit(staging, [Thresholds(confidence)] * len(batch)).result(30)
    return found


def rows(found: Found) -> list[tuple[float, ...]]:
    """Boxes of a 768 × 432 picture."""
    camera = Letterbox.of(768, 432, INPUT).to_camera(found.xyxy)
    return [
        (int(kind), float(confidence), *map(float, box))
        for kind, confidence, box in zip(found.class_id, found.confidence, camera, strict=True)
    ]


def test_on_the_same_pixels_the_original_network_says_the_same(
    shared: Path, exact: Runner, pictures: list[tuple[str, int, np.ndarray]]
) -> None:
    expected = {
        clip: json.loads((shared / "media" / "expected" / f"{clip}.lite_l.json").read_text())
        for clip in CLIPS
    }

    found = run(exact, [pixels for _, _, pixels in pictures])

    compared = 0
    for (clip, frame, _), ours in zip(pictures, found, strict=True):
        theirs = expected[clip]["detections"][frame]
        for row in [row for row in theirs if row[1] > 0.26]:  # not at the threshold itself
            same = [r for r in rows(ours) if r[0] == row[0]]
            assert min(np.abs(np.subtract(r[2:], row[2:])).max() for r in same) <= 1.0
            assert min(abs(r[1] - row[1]) for r in same) <= 0.01
            compared += 1
        assert abs(len(rows(ours)) - len(theirs)) <= 1
    assert compared > 40


def test_halved_numbers_see_what_float32_sees(
    exact: Runner, halved: Runner, pictures: list[tuple[str, int, np.ndarray]]
) -> None:
    pixels = [picture for _, _, picture in pictures]

    wanted = [rows(found) for found in run(exact, pixels)]
    given = [rows(found) for found in run(halved, pixels)]

    for first, second in ((wanted, given), (given, wanted)):
        count, found = boxes.matches(first, second)
        assert count > 30
        assert len(found) / count >= 0.92
        assert np.mean(found) >= 0.98


def test_a_picture_is_seen_the_same_alone_and_in_a_batch(
    runner: Runner, pictures: list[tuple[str, int, np.ndarray]]
) -> None:
    pixels = [picture for _, _, picture in pictures[-3:]]

    together = run(runner, pixels)
    alone = [run(runner, [picture])[0] for picture in pixels]

    for first, second in zip(together, alone, strict=True):
        assert len(first.xyxy) == len(second.xyxy) > 0
        np.testing.assert_allclose(first.xyxy, second.xyxy, atol=1.5)


def test_each_picture_of_a_batch_has_its_own_threshold_and_classes(
    runner: Runner, pictures: list[tuple[str, int, np.ndarray]]
) -> None:
    staging = runner.staging()
    assert staging is not None
    (somebody,) = [pixels for clip, frame, pixels in pictures if (clip, frame) == (CLIPS[1], 120)]
    staging.pixels[:4] = somebody
    asks = [Thresholds(0.25), Thresholds(0.8), Thresholds(0.25, (0,)), Thresholds(0.25, (79,))]

    everything, sure, persons, brushes = runner.submit(staging, asks).result(30)

    assert (sure.confidence > 0.8).all()
    assert set(persons.class_id) == {0}
    assert len(brushes.class_id) == 0
    assert len(everything.class_id) >= len(persons.class_id) >= len(sure.class_id) > 0


def test_a_runner_on_a_cpu_packs_its_kernels_and_says_where_it_cannot(
    exact: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(exact) == str(exact.plan)

    monkeypatch.delattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    with runner_of(OURS, "fp32") as without:
        assert str(without) == f"{without.plan}; its kernels could not be packed"


def test_what_a_runner_needs_is_said_before_it_starts() -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        plan(device="cpu", precision="fp16", max_batch=4)


def test_batches_side_by_side_come_back_through_their_own_futures(runner: Runner) -> None:
    blocks = [runner.staging() for _ in range(runner.plan.threads)]
    assert all(blocks)
    assert runner.staging() is None

    futures = [runner.submit(block, [Thresholds(0.25)]) for block in blocks if block]

    assert [len(future.result(30)) for future in futures] == [1] * runner.plan.threads
    assert runner.has_room


def test_a_box_that_is_inside_out_or_outside_the_picture_is_left_out() -> None:
    letterbox = Letterbox.of(768, 432, INPUT)
    xyxy = np.array([[10, 50, 20, 40], [10, 40, 20, 50], [-9, 40, -2, 50]], np.float32)
    found = Found(xyxy, np.array([0.9, 0.8, 0.7], np.float32), np.array([1, 2, 3], np.int16))

    detections = found.in_camera(letterbox)

    assert detections.class_id.tolist() == [2]
    assert detections.confidence.tolist() == [np.float32(0.8)]
