from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import WeightsError
from pipeline.yolov6.blocks import BepC3, Conv, Kit, MBLABlock, RepBlock, relu
from pipeline.yolov6.branches import (
    MODES,
    ConvBatchNorm,
    LinearAddBlock,
    QARepVGGBlockV2,
    RepVGGBlock,
)
from pipeline.yolov6.fold import average_3x3, fold, fold_batch_norm, identity_1x1, pad_to_3x3
from pipeline.yolov6.lite import DPBlock
from pipeline.yolov6.names import canonical, canonical_names, fused_name, without_biases
from tests import reference

FUSED = Kit(Conv, Conv, relu)
TRAINING = Kit(ConvBatchNorm, RepVGGBlock, relu)


def prefixed(module: nn.Module) -> dict[str, np.ndarray]:
    """The state of a module of a network."""
    state = reference.state_of(reference.with_random_statistics(module))
    return {f"x.{key}": array for key, array in state.items()}


@torch.inference_mode()
def assert_folds(training: nn.Module, fused: nn.Module, channels: int) -> None:
    """The fused module, given the folded weights, answers as the training form does."""
    folded = fold(prefixed(training))
    fused.load_state_dict({k.removeprefix("x."): torch.from_numpy(a) for k, a in folded.items()})
    images = torch.randn(2, channels, 16, 24, generator=torch.Generator().manual_seed(1))

    expected, found = training(images), fused.eval()(images)

    scale = expected.abs().max()
    assert float((found - expected).abs().max() / scale) < 1e-5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("inputs", "outputs", "stride"),
    [
        pytest.param(16, 16, 1, id="with identity"),
        pytest.param(16, 24, 1, id="without identity, wider"),
        pytest.param(16, 24, 2, id="without identity, stride 2"),
    ],
)
def test_a_block_of_every_mode_folds_to_one_convolution(
    mode: str, inputs: int, outputs: int, stride: int
) -> None:
    training = MODES[mode](inputs, outputs, stride=stride)

    assert_folds(training, Conv(inputs, outputs, stride=stride), inputs)


@pytest.mark.parametrize("block", [RepVGGBlock, LinearAddBlock])
def test_a_block_that_halves_has_no_identity_whatever_its_width(block: type[nn.Module]) -> None:
    assert_folds(block(16, 16, stride=2), Conv(16, 16, stride=2), 16)


@pytest.mark.parametrize("repeats", [1, 4])
@pytest.mark.parametrize("stage", [RepBlock, BepC3, MBLABlock])
def test_a_stage_folds_block_by_block(stage: type[nn.Module], repeats: int) -> None:
    assert_folds(stage(16, 32, repeats, TRAINING, 0.5), stage(16, 32, repeats, FUSED, 0.5), 16)


def test_what_stands_behind_an_activation_stays() -> None:
    state = fold(prefixed(BepC3(16, 32, 4, TRAINING, 0.5)))

    alphas = [key for key in state if key.endswith("alpha")]
    assert alphas == ["x.m.conv1.alpha", "x.m.block.0.alpha"]


@pytest.mark.parametrize("stride", [1, 2])
def test_lite_names_its_batch_norms_otherwise_and_has_biases_before_them(stride: int) -> None:
    training = reference.with_random_statistics(DPBlock(16, 16, TRAINING, stride=stride))
    state = {f"x.{key}": array for key, array in reference.state_of(training).items()}
    official = {}
    for key, array in state.items():
        key = key.replace("conv_dw_1.bn", "bn_1").replace("conv_pw_1.bn", "bn_2")
        official[key.replace("_1.conv.", "_1.")] = array
    bias = np.linspace(-1, 1, 16, dtype=np.float32)
    official["x.conv_dw_1.bias"] = bias
    official["x.bn_1.running_mean"] = official["x.bn_1.running_mean"] + bias

    folded, expected = fold(official), fold(state)

    assert folded.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_allclose(folded[key], array, atol=1e-6)
    brought = without_biases(canonical(official))
    assert brought.keys() == {key for key in state if "num_batches" not in key}
    np.testing.assert_allclose(
        brought["x.conv_dw_1.bn.running_mean"], state["x.conv_dw_1.bn.running_mean"], atol=1e-6
    )


def test_folding_what_is_folded_changes_nothing() -> None:
    once = fold(prefixed(RepBlock(8, 8, 2, TRAINING)))

    twice = fold(once)

    assert twice.keys() == once.keys()
    assert all(np.array_equal(twice[key], once[key]) for key in once)


def test_what_the_original_fused_in_part_is_folded_further() -> None:
    state = prefixed(QARepVGGBlockV2(8, 8))
    whole = fold(state)
    outer = {key: array for key, array in state.items() if key.startswith("x.bn.")}
    inner = {key: array for key, array in state.items() if not key.startswith("x.bn.")}
    deployed = {key.replace("x.", "x.rbr_reparam."): a for key, a in fold(inner).items()}

    folded = fold(deployed | outer)

    assert folded.keys() == whole.keys()
    for key, array in whole.items():
        np.testing.assert_allclose(folded[key], array, atol=1e-6)


def test_the_branches_of_training_alone_are_dropped() -> None:
    branches = ("cls_preds_ab.0", "reg_preds_ab.0", "reg_preds_dist.0")
    state = {f"detect.{branch}.weight": np.ones((4, 8, 1, 1)) for branch in branches}
    state["detect.proj"] = np.arange(17.0)
    state["detect.proj_conv.weight"] = np.ones((1, 17, 1, 1))
    state["detect.reg_preds.0.weight"] = np.ones((4, 8, 1, 1))
    state["x.bn.num_batches_tracked"] = np.zeros((), np.int64)

    assert list(fold(state)) == ["detect.reg_preds.0.weight"]


@pytest.mark.parametrize(
    ("keys", "decoded"),
    [
        (("reg_preds", "reg_preds_lrtb"), "reg_preds_lrtb"),  # self-distilled, 0.3
        (("reg_preds", "reg_preds_dist"), "reg_preds"),  # self-distilled, 0.4
        (("reg_preds_af", "reg_preds_ab"), "reg_preds_af"),  # anchor-aided, 0.3
        (("reg_preds", "reg_preds_ab"), "reg_preds"),  # anchor-aided, 0.4
    ],
)
def test_of_several_branches_the_one_that_is_decoded_is_kept(
    keys: tuple[str, str], decoded: str
) -> None:
    names = canonical_names(f"detect.{key}.0.weight" for key in keys)

    assert names == {f"detect.{decoded}.0.weight": "detect.reg_preds.0.weight"}


def test_two_names_of_one_tensor_are_refused() -> None:
    state = {"x.block.conv.weight": np.ones((4, 4, 1, 1)), "x.conv.weight": np.ones((4, 4, 1, 1))}

    with pytest.raises(WeightsError, match=r"both x\.block\.conv\.weight and x\.conv\.weight"):
        fold(state)


def test_every_part_of_a_block_is_known_to_become_part_of_its_convolution() -> None:
    parts = ("rbr_dense.conv.weight", "rbr_1x1.bn.weight", "rbr_1x1.weight", "scale_1x1.weight")
    names = {fused_name(f"neck.x.{part}") for part in (*parts, "conv.weight", "weight")}

    assert names == {"neck.x.weight"}
    assert fused_name("neck.x.alpha") == "neck.x.alpha"


def test_the_identity_is_a_3x3_with_one_in_its_centre() -> None:
    images = torch.randn(1, 4, 5, 6)

    kernel = torch.from_numpy(pad_to_3x3(identity_1x1(4))).float()

    assert torch.equal(torch.nn.functional.conv2d(images, kernel, padding=1), images)


def test_the_average_counts_the_padding() -> None:
    images = torch.randn(1, 4, 5, 6)

    found = torch.nn.functional.conv2d(images, torch.from_numpy(average_3x3(4)).float(), padding=1)

    expected = torch.nn.functional.avg_pool2d(images, 3, 1, 1, count_include_pad=True)
    torch.testing.assert_close(found, expected)


def test_epsilon_is_a_thousandth() -> None:
    values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 0.0}
    norm = {key: np.array([value]) for key, value in values.items()}

    folded = fold_batch_norm({"weight": np.ones((1, 1, 1, 1))}, norm, "x.bn")

    assert folded["weight"].item() == pytest.approx(1e-3**-0.5)


@pytest.mark.parametrize(
    ("block", "missing", "phrase"),
    [
        (RepVGGBlock, "rbr_dense.bn.running_mean", "lacks x.rbr_dense.bn.running_mean"),
        (RepVGGBlock, "rbr_dense.conv.weight", "x.rbr_dense.bn but no convolution"),
        (RepVGGBlock, "rbr_1x1.", "lacks x.rbr_1x1.conv.weight"),
        (LinearAddBlock, "conv.weight", "lacks x.conv.weight"),
        (LinearAddBlock, "scale_1x1.", "lacks x.scale_1x1.weight"),
        (ConvBatchNorm, "conv.", "x.bn but no convolution"),
        (ConvBatchNorm, "bn.bias", "lacks x.bn.bias"),
    ],
)
def test_an_incomplete_block_is_refused_with_the_key_it_lacks(
    block: type[nn.Module], missing: str, phrase: str
) -> None:
    state = prefixed(block(8, 8))
    state = {key: array for key, array in state.items() if not key.startswith(f"x.{missing}")}

    with pytest.raises(WeightsError, match=phrase):
        fold(state)


@pytest.mark.parametrize(
    ("block", "key", "shape", "phrase"),
    [
        (RepVGGBlock, "rbr_dense.conv.weight", (8, 8), "rbr_dense.conv has a kernel"),
        (RepVGGBlock, "rbr_dense.conv.weight", (8, 8, 5, 5), "branches of x differ"),
        (RepVGGBlock, "rbr_1x1.conv.weight", (8, 8, 3, 1), "branches of x differ"),
        (RepVGGBlock, "rbr_dense.conv.weight", (8, 1, 3, 3), "1 channels become 8"),
        (RepVGGBlock, "rbr_dense.bn.bias", (4,), "differ in channels"),
        (RepVGGBlock, "rbr_1x1.conv.bias", (3,), "rbr_1x1.conv has a kernel or a bias"),
        (LinearAddBlock, "scale_identity.weight", (1 << 20,), "x.scale_identity and"),
        (LinearAddBlock, "scale_conv.weight", (8, 8, 1, 1), "x.scale_conv and"),
    ],
)
def test_a_tensor_of_another_shape_is_refused(
    block: type[nn.Module], key: str, shape: tuple[int, ...], phrase: str
) -> None:
    state = prefixed(block(8, 8))
    state[f"x.{key}"] = np.zeros(shape, np.float32)

    with pytest.raises(WeightsError, match=phrase):
        fold(state)
