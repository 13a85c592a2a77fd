from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.yolov6 import branches
from pipeline.yolov6.blocks import branch_lengths
from pipeline.yolov6.fold import fold
from pipeline.yolov6.names import canonical, canonical_names, fused_name, without_biases
from pipeline.yolov6.network import YOLOv6, anchors, shapes
from pipeline.yolov6.variants import VARIANTS, Variant, round_channels, scale_repeats
from pipeline.yolov6.weights import head_size, shapes_of
from tests import reference


def size_of(state: dict[str, np.ndarray]) -> tuple[int, int]:
    return head_size(shapes_of(state))


def loaded(network: YOLOv6, state: dict[str, np.ndarray]) -> YOLOv6:
    """A network that was built without memory, with its weights, as it runs."""
    counters = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    tensors = {key: torch.from_numpy(np.ascontiguousarray(a)) for key, a in state.items()}
    tensors |= dict.fromkeys(counters, torch.zeros((), dtype=torch.int64))
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def fused_network(data: reference.Golden, state: dict[str, np.ndarray]) -> YOLOv6:
    with torch.device("meta"):
        network = YOLOv6(data.variant, *size_of(state))
    return loaded(network, state)


def training_network(data: reference.Golden) -> YOLOv6:
    """The network with all its branches, with the original's own state dict."""
    state = without_biases(canonical(data.training_state()))
    with torch.device("meta"):
        network = YOLOv6(data.variant, *size_of(state), branches.kit(data.variant))
    return loaded(network, state)


@cache
def network_of(folder: Path, golden: str) -> tuple[YOLOv6, reference.Golden]:
    """The network of a golden file, from its training form through folding; for small ones."""
    data = reference.Golden(folder, golden)
    return fused_network(data, fold(data.training_state())), data


@pytest.mark.parametrize("golden", reference.goldens())
@torch.inference_mode()
def test_folded_weights_give_the_numbers_of_the_original(shared: Path, golden: str) -> None:
    data = reference.Golden(shared / "yolov6", golden)
    state = fold(data.training_state())
    network = fused_network(data, state)
    raw = keep_raw(network)

    boxes, scores = network(data.images())

    assert_rows(boxes, scores, data)
    assert_sums(boxes, raw, data)
    assert_deployed(state, data)


@pytest.mark.parametrize(
    "golden",
    ["0.1.0-n", "0.2.x-n_hs", "0.2.x-n_opt", "0.4.x-n_qa", "0.4.x-s_mbla", "0.4.x-lite_s"],
)
@torch.inference_mode()
def test_the_training_form_gives_the_numbers_of_the_original(shared: Path, golden: str) -> None:
    data = reference.Golden(shared / "yolov6", golden)

    boxes, scores = training_network(data)(data.images())

    assert_rows(boxes, scores, data)


def assert_rows(boxes: Tensor, scores: Tensor, data: reference.Golden) -> None:
    rows, expected = data.arrays["rows"], data.arrays["pred"]
    pixels, probability = data.tolerances
    assert np.abs(boxes[:, rows].numpy() - reference.to_corners(expected)).max() <= pixels
    wanted = expected[..., 5:] * expected[..., 4:5]
    assert np.abs(scores[:, rows].numpy() - wanted).max() <= probability


def keep_raw(network: YOLOv6) -> list[Tensor]:
    """Fills with what the head predicts of every kind, once the network runs."""
    raw: list[Tensor] = []
    decode = network.detect.decode

    def keep(rows: list[Tensor], *others: Tensor) -> tuple[Tensor, Tensor]:
        raw.extend(tensor.clone() for tensor in rows)
        return decode(rows, *others)

    network.detect.decode = keep  # type: ignore[method-assign]
    return raw


def assert_sums(boxes: Tensor, raw: list[Tensor], data: reference.Golden) -> None:
    """Over all anchors: the mean of every column is the original's, within the same bounds."""
    logits, _, *objectness = (tensor.double() for tensor in raw)
    certainty = objectness[0].sigmoid() if objectness else torch.ones_like(logits[..., :1])
    near, far = boxes.double().chunk(2, -1)
    columns = torch.cat(((near + far) / 2, far - near, certainty, logits.sigmoid()), -1)
    pixels, probability = data.tolerances
    for name, found in (("pred_sum", columns), ("pred_abs_sum", columns.abs())):
        difference = np.abs(found.sum(1).numpy() - data.arrays[name]) / boxes.shape[1]
        assert difference[:, :4].max() <= pixels
        assert difference[:, 4:].max() <= probability


def assert_deployed(state: dict[str, np.ndarray], data: reference.Golden) -> None:
    """What the original folds has the sums that ours has; some BatchNorms it leaves."""
    sums = dict(zip(data.manifest["deploy"], data.arrays["deploy_sum"], strict=True))
    names = canonical_names(sums)
    blocks = {name: fused_name(name).rpartition(".")[0] for name in names.values()}
    left = {block for name, block in blocks.items() if ".bn." in name or ".scale_" in name}
    checked = 0
    for key, name in names.items():
        if blocks[name] not in left:
            total, magnitude = sums[key]
            difference = state[fused_name(name)].sum(dtype=np.float64) - total
            assert abs(difference) <= 1e-5 * magnitude, key
            checked += 1
    assert checked > len(state) / 5


@pytest.mark.parametrize("golden", reference.goldens())
def test_the_form_that_the_original_deploys_is_known(shared: Path, golden: str) -> None:
    data = reference.Golden(shared / "yolov6", golden)

    names = {fused_name(name) for name in canonical_names(data.manifest["deploy"]).values()}

    expected = shapes(data.variant, *size_of(canonical(data.outline())))
    assert {key for key in names if not key.endswith(".bias")} == {
        key for key in expected if not key.endswith(".bias")
    }


@pytest.mark.parametrize("golden", reference.goldens())
def test_a_network_is_as_large_and_as_costly_as_the_original(shared: Path, golden: str) -> None:
    data = reference.Golden(shared / "yolov6", golden)
    with torch.device("meta"), torch.inference_mode():
        kept = data.variant.mode == "hyper_search"  # the original never folds this one
        kit = branches.kit(data.variant) if kept else None
        network = YOLOv6(data.variant, *size_of(canonical(data.outline())), kit).eval()
        side = data.manifest["nominal_size"]
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, side, side))
    parameters = sum(parameter.numel() for parameter in network.parameters())

    # (Where it predicts distributions, the original counts their expectation: 1.1 MFLOP at 640.)
    assert counter.get_total_flops() / 1e9 == pytest.approx(
        data.manifest["gflops_conv"], rel=2e-4, abs=1e-3
    )
    assert parameters == pytest.approx(data.manifest["params_deploy"], rel=0.02)


def test_release_0_1_0_s_has_the_shapes_that_the_first_articles_draw() -> None:
    seen = {}
    with torch.device("meta"), torch.inference_mode():
        network = YOLOv6(VARIANTS["0.1.0-s"], 80).eval()
        for name, module in network.named_modules():
            module.register_forward_hook(
                lambda _, __, output, name=name: seen.__setitem__(name, output)
            )
        network(torch.empty(1, 3, 640, 640))

    def shape(output: Tensor) -> tuple[int, ...]:
        """Height, width, channels."""
        return *output.shape[2:], output.shape[1]

    assert shape(seen["backbone.ERBlock_5"]) == (20, 20, 512)
    assert shape(seen["neck.reduce_layer0"]) == (20, 20, 128)
    assert shape(seen["neck.upsample0"]) == (40, 40, 384)  # joined with C4
    assert shape(seen["neck.Rep_p4"]) == (40, 40, 128)
    assert shape(seen["neck.upsample1"]) == (80, 80, 192)  # joined with C3
    assert [shape(x) for x in seen["neck"]] == [(80, 80, 64), (40, 40, 128), (20, 20, 256)]


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


@pytest.mark.parametrize("name", ["0.4.x-n", "0.4.x-lite_s"])
@torch.inference_mode()
def test_bytes_go_in_as_they_are_where_the_first_kernel_is_divided(name: str) -> None:
    torch.manual_seed(0)
    network = YOLOv6(VARIANTS[name], 3).eval()
    pixels = torch.randint(0, 256, (1, 3, 64, 128)).float()
    expected = network(pixels / 255)

    network.take_bytes()

    for found, wanted in zip(network(pixels), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-4)


def test_the_training_form_takes_no_bytes() -> None:
    variant = VARIANTS["0.4.x-n"]

    with torch.device("meta"), pytest.raises(TypeError, match="fused"):
        YOLOv6(variant, 3, 1, branches.kit(variant)).take_bytes()


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
    [
        *(("0.4.x-n", 4.647), ("0.4.x-s", 18.537), ("0.4.x-lite_s", 0.547)),
        *(("0.4.x-lite_l", 1.085), ("0.2.x-t", 9.70), ("0.1.0-t", 14.97), ("0.4.x-l6", 140.36)),
    ],
)
def test_a_fused_network_is_as_large_as_the_original_says(name: str, millions: float) -> None:
    sizes = shapes(VARIANTS[name], 80, 17 if name.endswith("l6") else 1).values()

    assert sum(int(np.prod(size)) for size in sizes) / 1e6 == pytest.approx(millions, abs=5e-3)


@pytest.mark.parametrize("form", ["fused", "training"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_takes_other_class_counts_and_sizes(variant: Variant, form: str) -> None:
    stride = variant.strides[-1]

    with torch.device("meta"), torch.inference_mode():
        kit = branches.kit(variant) if form == "training" else None
        network = YOLOv6(variant, 3, 1, kit).eval()
        boxes, scores = network(torch.empty(1, 3, 2 * stride, 3 * stride))

    anchors = sum(6 * (stride // s) ** 2 for s in variant.strides)
    assert boxes.shape == (1, anchors, 4)
    assert scores.shape == (1, anchors, 3)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_the_training_form_folds_to_exactly_the_keys_of_the_fused_one(variant: Variant) -> None:
    with torch.device("meta"):
        training = YOLOv6(variant, 3, 17, branches.kit(variant)).state_dict()

    found = {fused_name(name) for name in canonical_names(training).values()}

    convolutions = {key for key in shapes(variant, 3, 17) if not key.endswith(".bias")}
    assert {key for key in found if not key.endswith(".bias")} == convolutions


def test_rows_that_differ_in_training_alone_are_one_network() -> None:
    networks = [VARIANTS[f"0.2.x-n{kind}"].network for kind in ("", "_base", "_hs", "_opt")]

    assert networks == networks[:1] * 4
    assert VARIANTS["0.4.x-l"].network != VARIANTS["0.4.x-l_base"].network


def test_branches_of_mbla_double_up_to_half_of_the_longest() -> None:
    assert [branch_lengths(k) for k in (1, 2, 3, 4, 8)] == [
        *((0, 1), (0, 1, 2), (0, 2, 3), (0, 2, 4), (0, 4, 8)),
    ]


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


def test_anchors_that_were_made_for_inference_serve_training_too() -> None:
    with torch.inference_mode():
        anchors.cache_clear()
        points, strides = anchors(((4, 4),), (8,), torch.device("cpu"))

    assert not points.is_inference()
    assert not strides.is_inference()
