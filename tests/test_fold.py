from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import WeightsError
from pipeline.yolov6.fold import fold, fold_batch_norm, identity_1x1, pad_to_3x3
from pipeline.yolov6.network import Conv, DPBlock, RepBlock
from tests import reference


@torch.inference_mode()
def assert_folds(training: nn.Module, fused: nn.Module, channels: int) -> None:
    """The fused module, given the folded weights, answers as the training form does."""
    training = reference.with_random_statistics(training)
    state = {f"x.{key}": array for key, array in reference.state_of(training).items()}
    folded = {key.removeprefix("x."): torch.from_numpy(a) for key, a in fold(state).items()}
    fused.load_state_dict(folded)
    images = torch.randn(2, channels, 16, 24, generator=torch.Generator().manual_seed(1))

    expected, found = training(images), fused.eval()(images)

    scale = expected.abs().max()
    assert float((found - expected).abs().max() / scale) < 1e-5


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride"),
    [
        pytest.param(16, 16, 1, id="with identity"),
        pytest.param(16, 24, 1, id="without identity, wider"),
        pytest.param(16, 16, 2, id="without identity, stride 2"),
    ],
)
def test_a_rep_vgg_block_folds_to_one_convolution(inputs: int, outputs: int, stride: int) -> None:
    training = reference.RepVGGBlock(inputs, outputs, stride)

    assert_folds(training, Conv(inputs, outputs, stride=stride), inputs)


@pytest.mark.parametrize("repeats", [1, 4])
def test_a_stage_folds_block_by_block(repeats: int) -> None:
    assert_folds(reference.RepBlock(16, 32, repeats), RepBlock(16, 32, repeats), 16)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_with_a_bias_of_their_own_fold(stride: int) -> None:
    assert_folds(reference.DPBlock(16, stride), DPBlock(16, stride=stride), 16)


def test_folding_what_is_folded_changes_nothing() -> None:
    state = reference.state_of(reference.with_random_statistics(reference.RepBlock(8, 8, 2)))
    once = fold({f"x.{key}": array for key, array in state.items()})

    twice = fold(once)

    assert twice.keys() == once.keys()
    assert all(np.array_equal(twice[key], once[key]) for key in once)


def test_the_branches_of_training_alone_are_dropped() -> None:
    branches = ("cls_preds_ab.0", "reg_preds_ab.0", "reg_preds_dist.0")
    state = {f"detect.{branch}.weight": np.ones((4, 8, 1, 1)) for branch in branches}
    state["detect.proj"] = np.arange(17.0)
    state["detect.proj_conv.weight"] = np.ones((1, 17, 1, 1))
    state["detect.reg_preds.0.weight"] = np.ones((4, 8, 1, 1))
    state["x.bn.num_batches_tracked"] = np.zeros((), np.int64)

    assert list(fold(state)) == ["detect.reg_preds.0.weight"]


def test_the_identity_is_a_3x3_with_one_in_its_centre() -> None:
    images = torch.randn(1, 4, 5, 6)

    kernel = torch.from_numpy(pad_to_3x3(identity_1x1(4))).float()

    assert torch.equal(torch.nn.functional.conv2d(images, kernel, padding=1), images)


def test_epsilon_is_a_thousandth() -> None:
    norm = {
        key: np.array([value])
        for key, value in (
            ("weight", 1.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 0.0),
        )
    }

    folded = fold_batch_norm({"weight": np.ones((1, 1, 1, 1))}, norm, "x.bn")

    assert folded["weight"].item() == pytest.approx(1e-3**-0.5)


@pytest.mark.parametrize(
    ("missing", "phrase"),
    [
        ("x.rbr_dense.bn.running_mean", "lacks x.rbr_dense.bn.running_mean"),
        ("x.rbr_dense.conv.weight", "x.rbr_dense.bn but no convolution"),
        ("x.rbr_1x1.", "lacks x.rbr_1x1.conv.weight"),
    ],
)
def test_an_incomplete_block_is_refused_with_the_key_it_lacks(missing: str, phrase: str) -> None:
    state = reference.state_of(reference.RepVGGBlock(8, 8))
    state = {f"x.{key}": array for key, array in state.items()}
    state = {key: array for key, array in state.items() if not key.startswith(missing)}

    with pytest.raises(WeightsError, match=phrase):
        fold(state)
