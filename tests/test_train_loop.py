from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks import plain, trained
from pipeline.errors import ConfigError, VedetteError, WeightsError
from pipeline.samples import Sample
from pipeline.yolov6 import load
from pipeline.yolov6.network import YOLOv6, anchors, decode, shapes
from pipeline.yolov6.train import checkpoint, curves
from pipeline.yolov6.train.build import bins_of, build, folded
from pipeline.yolov6.train.ema import Average
from pipeline.yolov6.train.evaluate import evaluate
from pipeline.yolov6.train.loading import collate
from pipeline.yolov6.train.loop import Training
from pipeline.yolov6.train.optimiser import build_optimiser, orthogonalised
from pipeline.yolov6.train.recipe import Recipe
from pipeline.yolov6.train.schedule import Schedule
from pipeline.yolov6.variants import VARIANTS
from pipeline.yolov6.weights import head_size, inspect
from tests import reference
from tests.marks import first_row_now
from workers.cli import main

CPU = torch.device("cpu")
TINY = Recipe(epochs=3, batch=4, input_size=(64, 64), augment="mild", calm_epochs=1)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """A sum's order, and so its last digit, may depend on how many threads make it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Blocks:
    """Grey pictures with one or two coloured blocks."""

    names = ("red", "blue")
    identity = "blocks"

    def __init__(self, length: int = 8) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng(index)
        image = np.full((64, 96, 3), 120, np.uint8)
        boxes, class_ids = [], []
        for left in (0, 48)[: 1 + index % 2]:
            x1, y1 = left + int(random.integers(2, 16)), int(random.integers(2, 24))
            x2, y2 = x1 + int(random.integers(14, 28)), y1 + int(random.integers(14, 36))
            label = int(random.integers(2))
            image[y1:y2, x1:x2] = ((220, 30, 30), (30, 30, 220))[label]
            boxes.append([x1, y1, x2, y2])
            class_ids.append(label)
        return Sample(image, np.array(boxes, np.float32), np.array(class_ids))


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a data set on disk."""
    root = tmp_path_factory.mktemp("blocks")
    for part in ("images", "labels"):
        (root / part).mkdir()
    (root / "data.yaml").write_text("train: images\nnames: [red, blue]\n")
    pictures = Blocks()
    for i in range(len(pictures)):
        sample = pictures[i]
        Image.fromarray(sample.image).save(root / "images" / f"{i}.png")
        height, width = sample.image.shape[:2]
        lines = ""
        for (x1, y1, x2, y2), label in zip(
            sample.boxes.tolist(), sample.class_ids.tolist(), strict=True
        ):
            middle = f"{(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height}"
            lines += f"{label} {middle} {(x2 - x1) / width} {(y2 - y1) / height}\n"
        (root / "labels" / f"{i}.txt").write_text(lines)
    return root


# Its parts ----------------------------------------------------------------------------------


def test_the_rate_rises_to_its_height_and_falls_to_a_hundredth() -> None:
    schedule = Schedule(rate=0.02, epochs=100, steps=10)

    rates = [schedule.rates(step)[0] for step in range(1000)]

    peak = rates.index(max(rates))
    assert peak == schedule.warm_steps == 100
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0.019 < max(rates) <= 0.02
    assert rates[-1] == pytest.approx(0.0002, rel=0.01)


def test_biases_warm_up_from_above_and_momentum_from_below() -> None:
    schedule = Schedule(rate=0.02, epochs=100, steps=10)

    assert schedule.rates(0)[1] > 0.09
    assert schedule.rates(500)[0] == schedule.rates(500)[1]
    assert schedule.momentum(0) < schedule.momentum(50) < schedule.momentum(100) == 0.937


def test_a_short_training_warms_up_for_a_tenth_of_it() -> None:
    assert Schedule(rate=0.02, epochs=5, steps=10).warm_steps == 5


def test_the_average_is_the_weighted_mean_of_what_it_has_seen() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = Average(module, decay=0.9, ramp=10)
    expected = module.weight.item()

    for update in range(1, 50):
        module.weight.data.fill_(update)
        average.update(module)
        kept = 0.9 * (1 - math.exp(-update / 10))
        expected = kept * expected + (1 - kept) * update

    assert average.network.weight.item() == pytest.approx(expected, rel=1e-5)
    assert average.updates == 49


def test_the_average_of_the_same_is_the_same() -> None:
    network = build("vedette-p", 2, plain=False, seed=0)
    average = Average(network)

    for _ in range(3):
        average.update(network)

    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(average.state()[key], tensor)


@pytest.mark.parametrize("name", ["vedette-p", "0.4.x-n", "0.4.x-n_qa", "0.2.x-n_hs"])
@pytest.mark.parametrize("plain", [False, True])
def test_folding_gives_what_the_branches_give(name: str, plain: bool) -> None:
    network = build(name, 3, plain=plain, seed=1)
    reference.with_random_statistics(network)
    for preds in (network.detect.cls_preds, network.detect.reg_preds):
        for pred in preds:
            nn.init.normal_(pred.weight, std=0.05)  # type: ignore[arg-type]
    images = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        boxes, scores = network(images)
        folded_boxes, folded_scores = folded(network, name)(images)

    assert (folded_boxes - boxes).abs().max() <= 1e-4 * boxes.abs().max()
    assert (folded_scores - scores).abs().max() <= 1e-4


def test_the_plain_form_folds_into_the_same_network() -> None:
    plain = folded(build("vedette-p", 3, plain=True, seed=0), "vedette-p")

    found = {key: tuple(tensor.shape) for key, tensor in plain.state_dict().items()}

    assert found == shapes(VARIANTS["vedette-p"], 3)


def test_at_first_everything_is_hardly_there_and_small() -> None:
    network = build("vedette-p", 3, plain=False, seed=0).eval()

    with torch.inference_mode():
        boxes, scores = network(torch.rand(1, 3, 64, 64))

    torch.testing.assert_close(scores, torch.full_like(scores, 0.01))
    assert set((boxes[0, :, 2] - boxes[0, :, 0]).tolist()) == {16.0, 32.0, 64.0}


def test_objectness_is_trained_as_what_it_runs_as() -> None:
    network = YOLOv6(VARIANTS["0.1.0-n"], 3, 1)
    random = torch.Generator().manual_seed(0)
    points, strides = anchors(((4, 4),), (8,), CPU)
    rows = [torch.randn(2, 16, columns, generator=random) * 3 for columns in (3, 4, 1)]

    logits, distances = network.detect.as_distances(rows)

    boxes, scores = network.detect.decode([row.clone() for row in rows], points, strides)
    torch.testing.assert_close(logits.sigmoid(), scores)
    torch.testing.assert_close(decode(distances, points, strides, 1), boxes)


@pytest.mark.parametrize("name", ["0.1.0-n", "vedette-p"])
def test_every_head_begins_with_boxes_of_two_cells(name: str) -> None:
    network = folded(build(name, 3, plain=False, seed=0), name)

    boxes, scores = network(torch.rand(1, 3, 64, 64))

    sides = (boxes[..., 2:] - boxes[..., :2])[0]
    torch.testing.assert_close(sides[:64], torch.full((64, 2), 16.0))
    torch.testing.assert_close(sides[-4:], torch.full((4, 2), 64.0))
    assert 0.004 < scores.min() <= scores.max() < 0.011


def test_the_same_seed_begins_alike_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()

    first, same, other = (build("vedette-p", 2, plain=False, seed=s) for s in (0, 0, 1))

    key = "backbone.stem.rbr_dense.conv.weight"
    assert torch.equal(first.state_dict()[key], same.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])
    assert torch.equal(torch.random.get_rng_state(), before)


def plain_heads() -> list[str]:
    """The goldens without the training aids of some heads."""
    names = [name for name in reference.golden_names() if name in VARIANTS]
    return [name for name in names if VARIANTS[name].head != "ObjectnessHead"]


@pytest.mark.parametrize("name", plain_heads())
def test_a_row_has_the_bins_that_the_original_trains_it_with(shared: Path, name: str) -> None:
    data = reference.Golden(shared / "yolov6", name)

    found = {key: tuple(shape) for key, (_, shape) in data.manifest["training"].items()}

    assert bins_of(data.variant_name) == head_size(found)[1]


def test_our_own_variant_is_small() -> None:
    sizes = shapes(VARIANTS["vedette-p"], 6).values()

    assert sum(math.prod(shape) for shape in sizes) * 2 < 3_000_000  # bytes, in float16


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 64, 16), (2, 16, 576), (1, 8, 8)])
def test_muon_moves_along_every_direction_alike(shape: tuple[int, int, int]) -> None:
    random = torch.Generator().manual_seed(0)
    sides = min(shape[1:])
    # Directions of which the strongest is learned from a hundred times as much as the weakest.
    left = torch.linalg.qr(torch.randn(shape[0], shape[1], sides, generator=random)).Q
    right = torch.linalg.qr(torch.randn(shape[0], shape[2], sides, generator=random)).Q
    strengths = torch.logspace(-1, 1, sides)
    matrices = (left * strengths) @ right.mT

    moved = orthogonalised(matrices)

    scale = max(1.0, shape[1] / shape[2]) ** 0.5
    found = torch.linalg.svdvals(moved) / scale
    assert found.min() > 0.3
    assert found.max() < 1.3
    signs = torch.einsum("nri,nrc,nci->ni", left, moved, right)
    assert (signs > 0.3 * scale).all()  # along them, and not against


def test_muon_has_the_kernels_but_for_the_last_ones() -> None:
    network = build("vedette-p", 6, plain=False, seed=0)
    names = {parameter: name for name, parameter in network.named_parameters()}

    groups = build_optimiser(network, replace(TINY, optimiser="muon")).param_groups

    matrices = [names[p] for group in groups if group["is_matrix"] for p in group["params"]]
    assert len(matrices) > 50
    assert not [name for name in matrices if "preds" in name or name.endswith("bias")]
    assert sorted(names.values()) == sorted(names[p] for g in groups for p in g["params"])


@pytest.mark.parametrize("name", ["0.4.x-lite_s", "0.4.x-n"])
def test_muon_leaves_kernels_of_single_channels_alone(name: str) -> None:
    network = build(name, 3, plain=False, seed=0)

    groups = build_optimiser(network, replace(TINY, optimiser="muon")).param_groups

    matrices = [p for group in groups if group["is_matrix"] for p in group["params"]]
    assert matrices
    assert all(p.shape[1] > 1 for p in matrices)


@pytest.mark.parametrize("by", ["sgd", "muon"])
def test_a_step_moves_every_kind_of_weight_as_its_formula_says(by: str) -> None:
    network = build("vedette-p", 3, plain=False, seed=0)
    recipe = replace(TINY, optimiser=by, weight_decay=0.01)
    moved = build_optimiser(network, recipe)
    for group in moved.param_groups:
        group["lr"], group["momentum"] = 0.1, 0.5
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    random = torch.Generator().manual_seed(0)
    first, second = (
        {n: torch.randn(p.shape, generator=random) for n, p in before.items()} for _ in range(2)
    )
    for gradients in (first, second):
        for name, parameter in network.named_parameters():
            parameter.grad = gradients[name].clone()
        moved.step()

    def expected(name: str, decays: bool) -> torch.Tensor:
        """Nesterov's momentum, with decay in the gradient (sgd) or beside it (muon)."""
        value, buffer = before[name], torch.zeros_like(before[name])
        for gradients in (first, second):
            gradient = gradients[name] + (0.01 * value if decays and by == "sgd" else 0)
            buffer = 0.5 * buffer + gradient
            update = gradient + 0.5 * buffer
            if by == "muon" and decays:
                if "preds" not in name:
                    update = orthogonalised(update.flatten(1)[None])[0].view_as(update)
                value = value * (1 - 0.1 * 0.01)
            value = value - 0.1 * update
        return value

    for name, parameter in network.named_parameters():
        decays = parameter.ndim > 1 and not name.endswith("bias")
        torch.testing.assert_close(parameter, expected(name, decays), rtol=1e-4, atol=1e-5)


# The loop ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("optimiser", "rate"), first_row_now([("sgd", 0.05), ("muon", 0.03)]))
def test_it_learns_what_it_is_shown(optimiser: str, rate: float) -> None:
    recipe = replace(TINY, epochs=140, batch=8, augment="none", learning_rate=rate)
    recipe = replace(recipe, input_size=(64, 96), optimiser=optimiser)
    training = Training(recipe, Blocks(), device=CPU)

    first = training.run_epoch()
    while not training.is_done:
        last = training.run_epoch()

    assert last.classes + last.boxes < 0.3 * (first.classes + first.boxes)
    found = evaluate(training.folded(), Blocks(), (64, 96))["all"]
    assert found.recall50 == 1
    assert found.map50 > 0.5  # 0.5 to 1 by seed and rate: twelve objects


class Unseen(Blocks):
    """The same, and every second block of a picture is ignored, or all of them are."""

    identity = "unseen"

    def __init__(self, *, entirely: bool = False) -> None:
        super().__init__()
        self._first = entirely

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(index)
        return replace(sample, ignored=np.array([self._first, True][: len(sample.boxes)]))


def test_a_batch_knows_whom_of_which_picture_it_ignores() -> None:
    pictures = Unseen()

    batch = collate([pictures[1], pictures[0], Blocks()[1]])

    assert batch.pictures.tolist() == [0, 0, 1, 2, 2]
    assert batch.ignored.tolist() == [False, True, False, False, False]


def test_nothing_is_learned_of_what_is_ignored() -> None:
    some, nothing = (
        Training(TINY, Unseen(entirely=entirely), device=CPU).run_epoch()
        for entirely in (False, True)
    )

    assert some.boxes > 0
    assert nothing.boxes == 0


def test_what_is_ignored_is_not_evaluated() -> None:
    network = folded(build("vedette-p", 2, plain=False, seed=0), "vedette-p")

    scores = evaluate(network, Unseen(), (64, 96))

    assert scores["all"].objects == len(Blocks())


@pytest.mark.parametrize("optimiser", ["sgd", "muon"])
@pytest.mark.parametrize("name", ["0.1.0-n", "0.4.x-lite_s", "0.4.x-n_base", "0.4.x-s_mbla"])
def test_other_members_of_the_family_can_be_trained(name: str, optimiser: str) -> None:
    recipe = replace(TINY, variant=name, epochs=1, batch=2, optimiser=optimiser)

    training = Training(recipe, Blocks(2), device=CPU)
    losses = training.run_epoch()

    assert math.isfinite(losses.classes + losses.boxes)
    assert (losses.distributions > 0) == (bins_of(name) > 1)


def test_bfloat16_trains_too() -> None:
    training = Training(replace(TINY, precision="bf16", epochs=1), Blocks(), device=CPU)

    assert math.isfinite(training.run_epoch().classes)
    assert all(p.dtype == torch.float32 for p in training.averaged().parameters())


@pytest.mark.parametrize("optimiser", ["sgd", "muon"])
def test_a_training_goes_on_from_its_checkpoint_as_if_nothing_had_been(
    tmp_path: Path, optimiser: str
) -> None:
    recipe = replace(TINY, optimiser=optimiser)
    whole = Training(recipe, Blocks(), device=CPU)
    for _ in range(3):
        whole.run_epoch()

    first = Training(recipe, Blocks(), device=CPU)
    first.run_epoch()
    checkpoint.save(tmp_path / "last.safetensors", first.progress([{"epoch": 1}]))
    second = Training(recipe, Blocks(), device=CPU)
    second.resume(checkpoint.load(tmp_path / "last.safetensors"))
    while not second.is_done:
        second.run_epoch()

    assert second.digest() == whole.digest()


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    training = Training(TINY, Blocks(), device=CPU)
    checkpoint.save(tmp_path / "last.safetensors", training.progress([]))
    progress = checkpoint.load(tmp_path / "last.safetensors")

    with pytest.raises(ConfigError, match="another training: it differs in seed"):
        Training(replace(TINY, seed=1), Blocks(), device=CPU).resume(progress)
    with pytest.raises(ConfigError, match="on other pictures"):
        Training(TINY, Blocks(6), device=CPU).resume(progress)
    others = Blocks()
    others.identity = "other blocks"
    with pytest.raises(ConfigError, match="on other pictures"):
        Training(TINY, others, device=CPU).resume(progress)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.safetensors"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"last.safetensors is not the checkpoint of a training"):
        checkpoint.load(path)


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    training = Training(TINY, Blocks(), device=CPU)
    progress = training.progress([])
    checkpoint.save(tmp_path / "x.safetensors", replace(progress, network={}))

    with pytest.raises(ConfigError, match="the checkpoint does not hold its network"):
        training.resume(checkpoint.load(tmp_path / "x.safetensors"))
    with pytest.raises(ConfigError, match="does not hold its network: 'momentum'"):
        training.resume(replace(progress, epoch=1))
    name = "backbone.stem.rbr_dense.conv.weight"
    assert name in dict(training.averaged().named_parameters())
    with pytest.raises(ConfigError, match=r"does not hold its network: 'backbone\.stem"):
        training.resume(replace(progress, epoch=1, momentum={name: torch.zeros(1)}))


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    training = Training(replace(TINY, learning_rate=1e30), Blocks(), device=CPU)

    with pytest.raises(VedetteError, match="the loss is not finite in epoch"):
        training.run_epoch()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"variant": "x"}, "no variant 'x' to train"),
        ({"batch": 1, "input_size": (32, 32)}, "nothing to normalise by"),
        ({"input_size": (64, 70)}, "found 64 70, must be multiples of 32 for vedette-p"),
    ],
)
def test_what_cannot_be_trained_is_said(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Training(replace(TINY, **changes), Blocks(), device=CPU)


def test_curves_are_drawn_of_whatever_there_is(tmp_path: Path) -> None:
    rows = [{"epoch": i, "classes": 1 / i, "map50": None, "learning_rate": 0.0} for i in (1, 2, 3)]

    for number, history in enumerate(([], rows[:1], rows)):
        curves.draw(tmp_path / f"{number}.png", history)

    drawn = [(tmp_path / f"{number}.png").read_bytes() for number in range(3)]
    assert len(set(drawn)) == 3


# The command ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    code: int | str | None
    stdout: str
    stderr: str


Vedette = Callable[..., Outcome]


@pytest.fixture
def vedette(capsys: pytest.CaptureFixture[str]) -> Vedette:
    """Calls the command in this process."""

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        outcome = Outcome(ended.value.code or 0, *capsys.readouterr())
        assert "Traceback" not in outcome.stderr
        return outcome

    return call


OPTIONS = (
    *("--epochs", "3", "--batch", "4", "--input-size", "64", "64", "--augment", "mild"),
    *("--calm-epochs", "1"),
)


def test_the_command_leaves_weights_that_detect_takes(
    vedette: Vedette, blocks: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"

    outcome = vedette("train", "--data", blocks, "-o", run, *OPTIONS, "--half")

    assert outcome.code == 0, outcome.stderr
    header, *rows = outcome.stdout.splitlines()
    assert header.split()[:2] == ["epoch", "class"]
    assert [row.split()[0] for row in rows[:3]] == ["1", "2", "3"]
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert {"classes", "boxes", "map50", "map50_95", "learning_rate", "seconds"} <= set(history[0])
    with Image.open(run / "curves.png") as picture:
        assert picture.size == (1440, 320)
    assert history[-1]["scores"]["all"]["objects"] == 12
    weights = run / "weights.safetensors"
    info = inspect(weights)
    assert (info.variant, info.classes, info.input_size) == ("vedette-p", ("red", "blue"), (64, 64))
    assert weights.stat().st_size < 3_000_000
    assert load(weights).backbone.stem.weight.dtype == torch.float32
    detected = vedette("detect", blocks / "images" / "0.png", "--weights", weights)
    assert (detected.code, len(detected.stdout.splitlines())) == (0, 1)


@pytest.mark.slow
def test_both_forms_of_a_trained_network_are_compared(
    vedette: Vedette, blocks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vedette("train", "--data", blocks, "-o", tmp_path, *OPTIONS)

    code = trained.main([str(tmp_path), "--pictures", "1", "--rounds", "1"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    forms = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "MB" in line]
    assert [form[0] for form in forms] == ["branches", "folded"]
    branches, folded_form = ([float(cell.split()[0]) for cell in form[1:]] for form in forms)
    assert branches[0] > folded_form[0] > 1
    assert branches[1] > folded_form[1]
    assert min(branches[2], folded_form[2]) > 0.1
    assert "boxes differ by" in lines[-1]


def test_branches_and_plain_blocks_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--pictures", "4", "--epochs", "1", "--validation", "1", "--seeds", "3")

    assert plain.main([*options, "--precision", "fp32"]) == 0

    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[1:]] == ["three branches", "plain 3x3"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_damaged_is_one_sentence(
    blocks: Path, tmp_path: Path, workers: int
) -> None:
    data = tmp_path / "data"
    shutil.copytree(blocks, data)
    (data / "images" / "3.png").write_bytes((blocks / "images" / "3.png").read_bytes()[:100])
    call = ("--data", data, "-o", tmp_path / "run", *OPTIONS, "--workers", workers)

    training = start(*call)
    _, errors = training.communicate()

    assert training.returncode == 2
    said = [line for line in errors.splitlines() if "3.png" in line]
    assert len(said) == 1
    assert "images/3.png cannot be read as a picture: " in said[0]
    assert "Traceback" not in errors


def test_a_training_begins_with_what_another_has_learned(
    vedette: Vedette, blocks: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    vedette("train", "--data", blocks, "-o", first, *OPTIONS)
    still = ("--learning-rate", "1e-30")

    outcome = vedette("train", "--data", blocks, "-o", second, *OPTIONS, *still, "--start", first)

    assert outcome.code == 0, outcome.stderr
    trained, kept = (checkpoint.load(run / "last.safetensors") for run in (first, second))
    name = "backbone.stem.rbr_dense.conv.weight"
    torch.testing.assert_close(kept.network[name], trained.average[name])
    assert kept.recipe != trained.recipe

    other = ("--data", blocks, "-o", tmp_path / "third", *OPTIONS, "--start", first)
    refused = vedette("train", *other, "--variant", "0.4.x-n")
    assert refused.code == 2
    assert "--start: found variant vedette-p, must be 0.4.x-n as here" in refused.stderr


def test_a_finished_training_only_writes_its_weights_again(
    vedette: Vedette, blocks: Path, tmp_path: Path
) -> None:
    call = ("train", "--data", blocks, "-o", tmp_path, *OPTIONS)
    vedette(*call)
    weights = tmp_path / "weights.safetensors"
    before = weights.read_bytes()
    weights.unlink()

    outcome = vedette(*call, "--resume")

    assert outcome.code == 0
    assert weights.read_bytes() == before
    assert "all: 12 objects" in outcome.stdout


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [Path(sys.executable).with_name("vedette"), "train", *map(str, arguments)],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_training_ends_as_if_it_had_not_been(blocks: Path, tmp_path: Path) -> None:
    options = ("--data", blocks, "--epochs", "6", *OPTIONS[2:])
    whole = start(*options, "-o", tmp_path / "whole")
    run = tmp_path / "killed"
    killed = start(*options, "-o", run)
    deadline = time.monotonic() + 60
    while not (run / "last.safetensors").exists() and killed.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)

    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = checkpoint.load(run / "last.safetensors").epoch
    resumed = start(*options, "-o", run, "--resume")
    _, errors = resumed.communicate()
    whole.communicate()

    assert (killed.returncode, resumed.returncode, whole.returncode) == (-9, 0, 0), errors
    assert 1 <= done < 6
    weights = [folder / "weights.safetensors" for folder in (run, tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    histories = [
        [json.loads(line) for line in (file.parent / "history.jsonl").read_text().splitlines()]
        for file in weights
    ]
    for rows in histories:
        for row in rows:
            del row["seconds"], row["images_per_second"]
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_processes_that_load_change_nothing(blocks: Path, tmp_path: Path) -> None:
    options = ("--data", blocks, *OPTIONS)
    trainings = [
        start(*options, "-o", tmp_path / str(workers), "--workers", workers) for workers in (0, 2)
    ]

    for training in trainings:
        _, errors = training.communicate()
        assert training.returncode == 0, errors

    files = [tmp_path / str(workers) / "weights.safetensors" for workers in (0, 2)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--resume",), "last.safetensors is not there to go on from"),
        (("--names", "/nowhere"), "--names: /nowhere cannot be read"),
        (("--input-size", "60", "60"), "must be multiples of 32"),
        (("--variant", "0.5.0-s"), "no variant '0.5.0-s' to train; known are"),
        (("--epochs", "0"), "--epochs"),
        (("--device", "tpu"), "no device 'tpu'"),
        (("--validate", "/nowhere"), "nowhere is not there"),
    ],
)
def test_a_mistaken_call_is_one_sentence(
    vedette: Vedette, blocks: Path, tmp_path: Path, options: tuple[str, ...], sentence: str
) -> None:
    call = ("train", "--data", blocks, "-o", tmp_path / "run", *options)

    outcome = vedette(*call)

    assert outcome.code == 2
    assert sentence in outcome.stderr
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_a_training_is_not_begun_over_another(
    vedette: Vedette, blocks: Path, tmp_path: Path
) -> None:
    (tmp_path / "last.safetensors").write_bytes(b"precious")

    outcome = vedette("train", "--data", blocks, "-o", tmp_path, *OPTIONS)

    assert outcome.code == 2
    assert "holds a training already: go on with it by --resume" in outcome.stderr
    assert (tmp_path / "last.safetensors").read_bytes() == b"precious"


def test_a_place_that_cannot_be_written_is_said(blocks: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    training = Training(TINY, Blocks(), device=CPU)

    with pytest.raises(WeightsError, match="cannot be written"):
        checkpoint.save(tmp_path / "file" / "last.safetensors", training.progress([]))
