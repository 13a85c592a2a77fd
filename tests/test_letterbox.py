from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.letterbox import GREY, Letterbox

CAMERAS = [(640, 480), (1920, 1080), (768, 432), (427, 640), (333, 500), (101, 37), (3840, 2160)]
INPUTS = [(640, 640), (384, 640), (192, 320), (320, 192)]


def _boxes(width: int, height: int) -> np.ndarray:
    random = np.random.default_rng(width * height)
    corners = random.uniform(0, [width, height] * 2, (200, 4))
    return np.concatenate(
        [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])],
        axis=1,
    ).astype(np.float32)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, list[dict[str, Any]]]:
    cases: dict[str, list[dict[str, Any]]] = json.loads(
        (shared / "yolov6" / "golden" / "letterbox_cases.json").read_text()
    )
    return cases


@pytest.mark.parametrize("input_size", INPUTS)
@pytest.mark.parametrize("camera", CAMERAS)
def test_there_and_back_is_identity(camera: tuple[int, int], input_size: tuple[int, int]) -> None:
    letterbox = Letterbox.of(*camera, input_size)
    boxes = _boxes(*camera)

    back = letterbox.to_camera(letterbox.to_network(boxes))

    np.testing.assert_allclose(back, boxes, atol=max(camera) * 1e-6)
    assert back.dtype == np.float32


@pytest.mark.parametrize("input_size", INPUTS)
@pytest.mark.parametrize("camera", CAMERAS)
def test_the_whole_picture_fills_the_region(
    camera: tuple[int, int], input_size: tuple[int, int]
) -> None:
    letterbox = Letterbox.of(*camera, input_size)
    rows, columns = letterbox.region

    whole = letterbox.to_network(np.array([[0, 0, *camera]], np.float32))

    expected = [[columns.start, rows.start, columns.stop, rows.stop]]
    np.testing.assert_allclose(whole, expected, atol=1e-3)
    assert 0 <= rows.start < rows.stop <= input_size[0]
    assert 0 <= columns.start < columns.stop <= input_size[1]
    assert letterbox.resized[0] == input_size[0] or letterbox.resized[1] == input_size[1]


def test_boxes_are_clipped_to_the_picture() -> None:
    letterbox = Letterbox.of(640, 480, (640, 640))

    clipped = letterbox.to_camera(np.array([[-50, -50, 900, 900]], np.float32))

    assert clipped.tolist() == [[0, 0, 640, 480]]


def test_no_boxes_in_no_boxes_out() -> None:
    letterbox = Letterbox.of(640, 480, (384, 640))

    assert letterbox.to_camera(np.zeros((0, 4), np.float32)).shape == (0, 4)
    assert letterbox.to_network(np.zeros((0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_border_is_grey_and_the_picture_is_left_alone(camera: tuple[int, int]) -> None:
    letterbox = Letterbox.of(*camera, (384, 640))
    slot = np.full((384, 640, 3), 7, np.uint8)

    letterbox.paint(slot)

    assert (slot[letterbox.region] == 7).all()
    slot[letterbox.region] = GREY
    assert (slot == GREY).all()


def test_an_extreme_shape_keeps_a_pixel() -> None:
    assert Letterbox.of(10_000, 1, (64, 64)).resized == (1, 64)


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="0x480"):
        Letterbox.of(0, 480, (64, 64))


def test_sizes_and_pads_are_those_of_the_original(golden: dict[str, list[dict[str, Any]]]) -> None:
    cases = [case for case in golden["letterbox"] if not case["auto"] and case["scaleup"]]
    assert len(cases) > 20
    for case in cases:
        height, width = case["src"]
        letterbox = Letterbox.of(width, height, tuple(case["new_shape"]))
        rows, columns = letterbox.region
        right = letterbox.input_size[1] - columns.stop
        bottom = letterbox.input_size[0] - rows.stop

        assert list(letterbox.resized) == case["resized"], case
        assert [letterbox.left, letterbox.top, right, bottom] == case["pad_ltrb"], case


def test_boxes_come_back_as_in_the_originals_evaluation(
    golden: dict[str, list[dict[str, Any]]],
) -> None:
    for case in golden["eval_rescale"]:
        height, width = case["source"]
        left, top = (int(pad) for pad in case["pad"])
        size = case["img_size"], case["img_size"]
        letterbox = Letterbox(width, height, size, tuple(case["resized"]), top, left)

        boxes = letterbox.to_camera(np.array(case["boxes"], np.float32))

        np.testing.assert_allclose(boxes, case["rescaled"], atol=1e-3)
