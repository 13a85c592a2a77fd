from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.yolov6.fold import fold
from pipeline.yolov6.network import YOLOv6, anchors, shapes
from pipeline.yolov6.variants import VARIANTS, Variant, round_channels, scale_repeats
from pipeline.yolov6.weights import bins
from tests import reference

GOLDENS = [
    *VARIANTS,
    "0.4.x-n.dfl",
    "0.4.x-n.distill_ns",
    "0.4.x-n.fuse_ab",
]


@cache
def network_of(folder: Path, golden: str) -> tuple[YOLOv6, reference.Golden]:
    """The network of a golden file, from its training form through folding."""
    data = reference.Golden(folder, golden)
    state = fold(data.training_state())
    head = golden.rpartition(".")[2]
    variant = (
        golden.removesuffix(f".{head}") if head in ("dfl", "distill_ns", "fuse_ab") else golden
    )
    network = YOLOv6(VARIANTS[variant], 80, bins(state))
    network.load_state_dict({key: torch.from_numpy(array) for key, array in state.items()})
    return network.eval().requires_grad_(False), data


@pytest.mark.parametrize("golden", GOLDENS)
@torch.inference_mode()
def test_folded_weights_give_the_numbers_of_the_original(shared: Path, golden: str) -> None:
    network, data = network_of(shared / "yolov6", golden)
    lite = "lite" in golden

    boxes, scores = network(data.images())

    rows, expected = data.arrays["rows"], data.arrays["pred"]
    assert boxes.shape[1] == scores.shape[1]
    assert np.abs(boxes[:, rows].numpy() - reference.to_corners(expected)).max() <= (
        5e-3 if lite else 2e-3
    )
    assert np.abs(scores[:, rows].numpy() - expected[..., 5:]).max() <= (5e-5 if lite else 2e-5)
    assert_sums(boxes, scores, data, lite)


def assert_sums(
    boxes: torch.Tensor, scores: torch.Tensor, data: reference.Golden, lite: bool
) -> None:
    """Over all anchors: the mean of every column is the original's, within the same bounds."""
    near, far = boxes.double().chunk(2, -1)
    columns = torch.cat(((near + far) / 2, far - near, scores.double()), -1)
    expected = np.delete(data.arrays["pred_sum"], 4, axis=1)  # objectness, a constant 1
    difference = np.abs(columns.sum(1).numpy() - expected) / boxes.shape[1]
    assert difference[:, :4].max() <= (5e-3 if lite else 2e-3)
    assert difference[:, 4:].max() <= (5e-5 if lite else 2e-5)


@torch.inference_mode()
def test_bfloat16_stays_close_to_float32(shared: Path) -> None:
    network, data = network_of(shared / "yolov6", "0.4.x-n")
    images = data.images()
    boxes, scores = network(images)
    half = YOLOv6(VARIANTS["0.4.x-n"], 80)
    half.load_state_dict(network.state_dict())
    half = half.eval().to(torch.bfloat16).to(memory_format=torch.channels_last)

    found_boxes, found_scores = half(images)

    assert found_boxes.dtype == found_scores.dtype == torch.float32
    assert float((found_boxes - boxes).abs().median()) < 0.5  # pixels; untrained weights
    assert float((found_scores - scores).abs().mean()) < 0.01


@torch.inference_mode()
def test_a_picture_gives_the_same_alone_and_in_a_batch(shared: Path) -> None:
    network, data = network_of(shared / "yolov6", "0.4.x-lite_s")
    images = data.images()

    together = network(images)
    alone = [network(image[None]) for image in images]

    for i, (boxes, scores) in enumerate(alone):
        torch.testing.assert_close(together[0][i], boxes[0], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(together[1][i], scores[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["0.4.x-n", "0.4.x-lite_l"])
@torch.inference_mode()
def test_memory_format_does_not_change_the_answer(shared: Path, name: str) -> None:
    network, data = network_of(shared / "yolov6", name)
    images = data.images()
    other = YOLOv6(VARIANTS[name], 80)
    other.load_state_dict(network.state_dict())
    other = other.eval().to(memory_format=torch.channels_last)

    expected, found = network(images), other(images.to(memory_format=torch.channels_last))

    torch.testing.assert_close(found[0], expected[0], atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(found[1], expected[1], atol=5e-5, rtol=0)


def test_anchors_are_cell_centres_row_by_row_finest_first() -> None:
    points, strides = anchors(((1, 2), (2, 1)), (8, 16), torch.device("cpu"))

    assert points.tolist() == [[0.5, 0.5], [1.5, 0.5], [0.5, 0.5], [0.5, 1.5]]
    assert strides[:, 0].tolist() == [8, 8, 16, 16]


@pytest.mark.parametrize(
    ("name", "millions"),
    [("0.4.x-n", 4.647), ("0.4.x-s", 18.537), ("0.4.x-lite_s", 0.547), ("0.4.x-lite_l", 1.085)],
)
def test_a_fused_network_is_as_large_as_the_original_says(name: str, millions: float) -> None:
    sizes = shapes(VARIANTS[name], 80).values()

    assert sum(int(np.prod(size)) for size in sizes) / 1e6 == pytest.approx(millions, abs=1e-3)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@torch.inference_mode()
def test_every_variant_takes_other_class_counts_and_sizes(variant: Variant) -> None:
    network = YOLOv6(variant, 3).eval()
    stride = variant.strides[-1]

    boxes, scores = network(torch.rand(1, 3, 2 * stride, 3 * stride))

    anchors = sum(6 * (stride // s) ** 2 for s in variant.strides)
    assert boxes.shape == (1, anchors, 4)
    assert scores.shape == (1, anchors, 3)


def test_repeats_round_halves_to_even_and_a_single_block_stays_single() -> None:
    assert [scale_repeats(base, 0.25) for base in (1, 6, 12, 18)] == [1, 2, 3, 4]


def test_lite_channels_step_up_where_rounding_would_lose_a_tenth() -> None:
    assert [round_channels(value, 16) for value in (22.4, 89.6, 179.2, 3.0)] == [32, 96, 176, 16]


def test_reading_a_weights_header_needs_no_torch() -> None:
    code = (
        "import sys, pipeline.yolov6, pipeline.yolov6.weights, pipeline.yolov6.importer;"
        "sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
