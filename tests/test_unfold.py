"""Folded weights get branches again, and compute what they did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.yolov6 import load
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.train.build import build, folded
from pipeline.yolov6.train.loop import Training
from pipeline.yolov6.train.recipe import Recipe
from pipeline.yolov6.train.unfold import unfold
from pipeline.yolov6.weights import OURS
from tests.marks import first_now
from tests.test_train_loop import OPTIONS, Blocks, Vedette, blocks, vedette

__all__ = ["blocks", "vedette"]
RECIPE = Recipe(variant="vedette-p", epochs=1, batch=4, input_size=(64, 96), augment="none")
CPU = torch.device("cpu")


def looked_at() -> torch.Tensor:
    return torch.rand(4, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def folded_at_random(variant: str, images: torch.Tensor) -> YOLOv6:
    """As a training might have left it: no statistic and no bias is what it began with."""
    network = build(variant, 2, plain=False, seed=3)
    random = torch.Generator().manual_seed(4)
    for name, tensor in network.state_dict().items():
        if "_preds." in name and tensor.ndim > 1:  # begins with nothing, and says nothing then
            tensor.normal_(0, 0.1, generator=random)
        if tensor.is_floating_point() and tensor.ndim == 1:
            low = 0.5 if name.endswith(("running_var", "bn.weight")) else -0.2
            tensor.uniform_(low, low + 0.7, generator=random)
    return folded(network, variant)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("variant", first_now(["vedette-p", "0.4.x-lite_s", "0.4.x-s"]))
def test_what_is_unfolded_computes_the_same_and_folds_back(variant: str, plain: bool) -> None:
    images = looked_at()
    network = folded_at_random(variant, images)
    branches = build(variant, 2, plain=plain, seed=0)

    unfold(branches, network.state_dict(), images)

    assert branches.training
    assert all(not module._forward_pre_hooks for module in branches.modules())
    wanted, again = network(images), folded(branches, variant)(images)
    whole = branches.eval()(images)
    # Whose statistics are of these very pictures computes the same where it learns from them.
    learning = branches.train()
    rows = learning.detect(learning.neck(learning.backbone(images)))
    for found in (whole, again, rows):
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_every_branch_of_what_is_unfolded_learns() -> None:
    network = load(OURS)
    branches = build("vedette-p", network.classes, plain=False, seed=0)
    unfold(branches, network.state_dict(), looked_at())

    boxes, scores = branches(looked_at())
    (boxes.sum() / 1000 + scores.sum()).backward()

    gains = [p for name, p in branches.named_parameters() if ".rbr_" in name and "bn" in name]
    assert gains
    assert all(gain.grad is not None and gain.grad.abs().sum() > 0 for gain in gains)


@pytest.mark.parametrize("variant", first_now(["0.4.x-n_qa", "0.2.x-n_hs"]))
def test_blocks_that_fold_by_other_rules_are_refused(variant: str) -> None:
    branches = build(variant, 2, plain=False, seed=0)

    with pytest.raises(ConfigError, match="of a folded block cannot be unfolded"):
        unfold(branches, folded(branches, variant).state_dict(), looked_at())


def test_other_classes_begin_anew_and_everything_else_does_not() -> None:
    training = Training(replace(RECIPE), Blocks(), device=CPU)
    began = training.averaged().state_dict()
    bias = began["detect.cls_preds.0.bias"].clone()

    training.begin_folded(training.read_folded(OURS), Blocks())

    ours, found = load(OURS).state_dict(), training.folded().state_dict()
    assert torch.equal(found["detect.cls_preds.0.bias"], bias)  # of two classes, not of six
    for key, tensor in ours.items():
        if not key.startswith("detect.cls_preds."):
            torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=1e-3)


def test_a_training_begins_with_a_weights_file(
    vedette: Vedette, blocks: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    vedette("train", "--data", blocks, "-o", first, *OPTIONS)
    file, still = first / "weights.safetensors", ("--learning-rate", "1e-30")

    outcome = vedette("train", "--data", blocks, "-o", second, *OPTIONS, *still, "--start", file)

    assert outcome.code == 0, outcome.stderr
    trained, kept = (load(run / "weights.safetensors").state_dict() for run in (first, second))
    name = "detect.cls_preds.0.weight"
    torch.testing.assert_close(kept[name], trained[name])


@pytest.mark.parametrize(
    ("start", "variant", "said"),
    [
        (OURS, "0.4.x-n", "--start: found variant vedette-p, must be 0.4.x-n as here"),
        (OURS.parent / "none.safetensors", "vedette-p", "--start: "),
        (Path(__file__), "vedette-p", "is not a safetensors file"),
    ],
)
def test_what_is_no_beginning_is_refused(
    vedette: Vedette, blocks: Path, tmp_path: Path, start: Path, variant: str, said: str
) -> None:
    call = ("--data", blocks, "-o", tmp_path / "run", *OPTIONS, "--start", start)

    outcome = vedette("train", *call, "--variant", variant)

    assert outcome.code == 2
    assert said in outcome.stderr
    assert "Traceback" not in outcome.stderr
