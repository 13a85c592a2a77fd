"""The network in bytes finds what it finds in floats, and runs only where it may."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.device import Plan, as_run, multiplies, plan
from pipeline.errors import ConfigError, VedetteError, WeightsError
from pipeline.scenes import Scenes
from pipeline.yolov6 import load
from pipeline.yolov6.calibrate import _nearest, measure, worst_first
from pipeline.yolov6.int8 import Bytes, Conv8, Int8, as_int8
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.prepack import watched
from pipeline.yolov6.variants import VARIANTS
from pipeline.yolov6.weights import OURS, inspect, read, save
from tests import media, runs
from tests.marks import first_now, first_row_now
from tests.servers import RedisServer
from workers import quantize as command
from workers.bench import made
from workers.quantize import Options, quantize

needs_vnni = pytest.mark.skipif(not multiplies("int8"), reason="no VNNI here")
SIZE = (64, 96)


def pictures(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    """uint8 [count, 3, H, W], smooth, as pictures are."""
    random = torch.Generator().manual_seed(count)
    coarse = torch.rand((count, 3, size[0] // 8, size[1] // 8), generator=random)
    images = nn.functional.interpolate(coarse, size=size, mode="bilinear") * 255
    return images.to(torch.uint8).contiguous(memory_format=torch.channels_last)


def network_of(variant: str) -> YOLOv6:
    """Random, and layer by layer so scaled that what comes out depends on what goes in."""
    torch.manual_seed(1)
    network = YOLOv6(VARIANTS[variant], 3).eval().requires_grad_(False)
    for key, tensor in network.state_dict().items():
        if tensor.ndim == 4:
            tensor.normal_()
        elif key.endswith("bias"):
            tensor.normal_(0, 0.1)
    with watched(network, scale):
        network(pictures(4).float() / 255)
    return network


def scale(module: nn.Module, inputs: tuple[Tensor]) -> None:
    """To a deviation of 1 behind the convolution."""
    bare: Any = nn.Conv2d if isinstance(module, nn.Conv2d) else nn.ConvTranspose2d
    given = bare.forward(module, inputs[0])
    module.weight.div_(given.std().clamp(min=1e-3))  # type: ignore[operator, union-attr]


def calibrated(network: YOLOv6, images: Tensor) -> YOLOv6:
    network.ranges = measure(network, [images.float() / 255])
    return network


def in_bytes(network: YOLOv6, size: tuple[int, int] = SIZE) -> Callable[[Tensor], Sequence[Tensor]]:
    ready = as_run(network, Plan(torch.device("cpu"), "int8", 4, 1), size)
    assert isinstance(ready.network, Int8), ready.complaint
    return ready.network


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.375, 5), (-7, 0.001), (-90, 100), (0, 1e-6)])
def test_bytes_hold_their_range_to_a_step_and_0_exactly(low: float, high: float) -> None:
    held = Bytes.of(low, high)
    values = torch.linspace(low, high, 1001)

    found = held.unpack(held.pack(values), torch.float32)

    off = (found - values).abs()
    assert off[1:-1].max() <= held.scale * 0.51 or low < 0 < high  # then 0 is no whole step away
    assert off.max() <= held.scale * 1.01
    assert held.unpack(held.pack(torch.zeros(1)), torch.float32) == 0


def test_what_is_beyond_the_range_becomes_its_end() -> None:
    held = Bytes.of(-1, 3)
    assert held.pack(torch.tensor([-50.0, 50.0])).tolist() == [0, 255]


def test_a_range_is_cut_where_few_values_cost_all_others_their_precision() -> None:
    counts = torch.zeros(2048)
    counts[:20] = 1e6  # almost everything is below 1
    counts[-1] = 1  # and one value at 100
    low, high = _nearest(counts, 0.0, 100.0)
    assert (low, high < 30) == (0.0, True)
    even = torch.ones(2048)
    assert _nearest(even, 0.0, 100.0)[1] > 95


# ── convolutions and networks ─────────────────────────────────────────────────────────────────


@needs_vnni
@pytest.mark.parametrize("gives", [None, Bytes.of(-1, 4)], ids=["floats", "bytes"])
@pytest.mark.parametrize("groups", [1, 8])
def test_a_convolution_of_bytes_computes_what_one_of_floats_does(
    gives: Bytes | None, groups: int
) -> None:
    torch.manual_seed(3)
    conv = nn.Conv2d(8, 8, 3, 2, 1, groups=groups).requires_grad_(False)
    takes = Bytes.of(-0.5, 2)
    made = Conv8(conv, takes, gives, torch.float32, (4, 8, 16, 16))
    x = torch.rand(2, 8, 16, 16).contiguous(memory_format=torch.channels_last) * 2.5 - 0.5

    found = made(takes.pack(x))

    wanted = conv(x)
    if gives:
        assert found.dtype == torch.uint8
        found = gives.unpack(found, torch.float32)
        wanted = wanted.clamp(-1, 4)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


def off(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> list[float]:
    """Of boxes and of scores: the mean difference, by how much they differ among anchors."""
    pairs = zip(found, wanted, strict=True)
    return [
        ((one - other).abs().mean() / (other - other.mean((0, 1))).abs().mean()).item()
        for one, other in pairs
    ]


@needs_vnni
@pytest.mark.parametrize(
    "variant",
    ["0.4.x-n", *first_now(["0.4.x-lite_s", "vedette-p", "0.4.x-m", "0.4.x-s_mbla", "0.1.0-n"])],
)
def test_a_network_of_bytes_answers_as_one_of_floats(variant: str) -> None:
    network = calibrated(network_of(variant), pictures(4))
    images = pictures(3)
    wanted = [answer.clone() for answer in network(images.float() / 255)]
    others = off(network(1 - images.float() / 255), wanted)  # what another picture would give
    assert len(network.ranges) > 40

    found = off(in_bytes(network)(images), wanted)

    assert max(found) < 0.6, found
    assert all(one < other / 3 for one, other in zip(found, others, strict=True)), (found, others)


@needs_vnni
def test_convolutions_without_a_range_stay_in_floats(  # and where the two meet, values convert
) -> None:
    network = calibrated(network_of("0.4.x-n"), pictures(4))
    images = pictures(2)
    wanted = [answer.clone() for answer in network(images.float() / 255)]
    names = list(network.ranges)
    network.ranges = {name: network.ranges[name] for name in names[::2]}

    mixed = in_bytes(network)

    kinds = [type(module).__name__ for module in mixed.modules()]  # type: ignore[attr-defined]
    assert kinds.count("Conv8") == len(names[::2])
    assert kinds.count("Packed") == len(names) - len(names[::2]) - kinds.count("ConvTranspose2d")
    others = off(network_of("0.4.x-n")(1 - images.float() / 255), wanted)
    found = off(mixed(images), wanted)
    assert all(one < other / 3 for one, other in zip(found, others, strict=True)), (found, others)


@needs_vnni
def test_what_alone_changes_most_comes_first() -> None:
    network = calibrated(load(OURS), pictures(4))
    spoilt = "backbone.ERBlock_3.0"
    ranges = {**network.ranges, spoilt: (0.0, 1e-3)}

    order = worst_first(network, ranges, [pictures(2).float() / 255])

    assert order[0] == spoilt
    assert sorted(order) == sorted(ranges)


@needs_vnni
def test_a_torch_that_cannot_or_computes_something_else_leaves_the_network_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = calibrated(network_of("0.4.x-n"), pictures(4))
    network.take_bytes()
    images = pictures(1)
    wanted = network(images.float())
    real, packed = torch.ops.onednn.qconv2d_pointwise, dict(network.ranges)
    del packed["detect.cls_preds.0"]  # stays in floats, and is packed

    def halved(*arguments: object) -> Tensor:
        answer: Tensor = real(*arguments)
        return (answer.float() / 2).to(answer.dtype)

    def missing(*_: object) -> Tensor:
        raise AttributeError("no such operator")

    places = ("int8._convolution", "int8._convolution", "prepack._reorder")
    for place, wrong in zip(places, (missing, halved, missing), strict=True):
        monkeypatch.undo()
        monkeypatch.setattr(f"pipeline.yolov6.{place}", wrong)
        assert as_int8(network, packed, images, 4, torch.bfloat16) is None
        for one, other in zip(network(images.float()), wanted, strict=True):
            assert torch.equal(one, other)

    monkeypatch.undo()
    monkeypatch.setattr("pipeline.yolov6.int8._convolution", missing)
    network = calibrated(network_of("0.4.x-n"), pictures(4))
    ready = as_run(network, Plan(torch.device("cpu"), "int8", 4, 1), SIZE)
    assert ready.complaint == "it could not be run in int8"
    assert ready.plan.precision == ("bf16" if multiplies("bf16") else "fp32")
    assert ready.network is network


@needs_vnni
def test_ranges_of_nothing_that_can_be_int8_leave_a_network_in_floats() -> None:
    network = network_of("0.4.x-lite_s")
    (odd,) = [name for name, _ in network.named_modules() if name.endswith("se.conv2")][:1]
    network.ranges = {odd: (0.0, 1.0)}

    ready = as_run(network, Plan(torch.device("cpu"), "int8", 4, 1), SIZE)

    assert (ready.complaint or "").startswith("it could not be run in int8")
    assert ready.network is network


# ── where it may run ──────────────────────────────────────────────────────────────────────────


def test_auto_takes_int8_only_with_ranges_and_a_processor_for_it() -> None:
    with_ranges = plan(device="cpu", precision="auto", max_batch=4, has_ranges=True).precision
    without = plan(device="cpu", precision="auto", max_batch=4).precision
    assert (with_ranges == "int8") == multiplies("int8")
    assert without != "int8"
    with pytest.raises(ConfigError, match="vedette weights quantize"):
        plan(device="cpu", precision="int8", max_batch=4)


def test_int8_on_a_processor_without_vnni_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.device.multiplies", lambda precision: False)
    with pytest.raises(ConfigError, match=r"needs a processor with VNNI; this one takes fp32"):
        plan(device="cpu", precision="int8", max_batch=4, has_ranges=True)
    assert plan(device="cpu", precision="auto", max_batch=4, has_ranges=True).precision == "fp32"


@needs_vnni
def test_a_run_takes_int8_by_itself(tmp_path: Path, ours: Path, redis_server: RedisServer) -> None:
    clip = tmp_path / "clip.mp4"
    media.encode(clip, frames=10, size=(320, 192), rate=25)
    cameras = [{"id": "yard", "url": str(clip)}]
    config = runs.write_config(tmp_path, cameras, weights=ours, redis_url=redis_server.url)

    done = runs.vedette(tmp_path, "run", config)

    assert done.returncode == 0, done.stderr
    assert re.search(r"network: vedette-p on cpu, int8, \d+ × \d+ frames\n", done.stderr)  # noqa: RUF001


@needs_vnni
def test_random_weights_of_the_bench_run_in_int8_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "random.safetensors"
    made.random_weights(path, "0.4.x-n", SIZE)
    assert not inspect(path).ranges
    made.random_weights(path, "0.4.x-n", SIZE, ranges=True)
    in_bytes(load(path))


# ── files ─────────────────────────────────────────────────────────────────────────────────────


def saved(path: Path, ranges: object) -> Path:
    info, (_, state) = inspect(OURS), read(OURS)
    description = {
        **{"variant": info.variant, "classes": info.classes, "input_size": info.input_size},
        **{"source": "", "ranges": ranges},
    }
    save(path, state, description, half=True)
    return path


def test_ranges_are_kept_in_the_file(tmp_path: Path) -> None:
    ranges = {"backbone.stem": (0.0, 1.0), "neck.reduce_layer0": (-0.25, 7.5)}
    path = saved(tmp_path / "ranges.safetensors", ranges)
    assert inspect(path).ranges == ranges
    assert load(path).ranges == ranges


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"backbone.stm": [0, 1]}, "a range of 'backbone.stm', which is no part of it"),
        ({"backbone.stem": [0]}, "ranges that are no pairs of numbers"),
        ({"backbone.stem": [0, "x"]}, "ranges that are no pairs of numbers"),
        ({"backbone.stem": [1, 2]}, "a range of backbone.stem that cannot be: 1.0, 2.0"),
        ({"backbone.stem": [0, float("nan")]}, "cannot be: 0.0, nan"),
        ({"backbone.stem": [0, float("inf")]}, "cannot be: 0.0, inf"),
        ({"backbone.stem": [0, 1e39]}, "cannot be: 0.0, 1e+39"),
        ({"backbone.stem": [0, 10**400]}, "ranges that are no pairs of numbers"),
        ({"backbone.stem": "01"}, "ranges that are no pairs of numbers"),
        ({"backbone.stem": [0, True]}, "ranges that are no pairs of numbers"),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_a_file_with_ranges_that_cannot_be_is_one_sentence(
    tmp_path: Path, ranges: object, said: str
) -> None:
    path = saved(tmp_path / "wrong.safetensors", ranges)
    with pytest.raises(WeightsError, match=re.escape(said)):
        inspect(path)


# ── the command ───────────────────────────────────────────────────────────────────────────────


DATA = "scenes?seed=4&length=10&per_scene=5"


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Ours, changed."""

    def write(name: str) -> Path:
        info, (_, state) = inspect(OURS), read(OURS)
        state = {key: array.astype(np.float32) for key, array in state.items()}
        if name == "spread":
            spread(state)
        elif name == "shuffled":
            random = np.random.default_rng(0)
            state = {key: random.permuted(array, axis=0) for key, array in state.items()}
        elif name == "broken":  # what is no number cannot be saved, but comes of it
            state["backbone.stem.weight"] *= 1e37
        path = tmp_path_factory.mktemp(name) / f"{name}.safetensors"
        description = {
            **{"variant": info.variant, "classes": info.classes, "input_size": info.input_size},
            "source": "",
        }
        save(path, state, description)
        return path

    return write


def spread(state: dict[str, np.ndarray]) -> None:
    """Channels between two layers as different as bytes cannot be: the same network in floats."""
    first, second = "backbone.ERBlock_3.0", "backbone.ERBlock_3.1.conv1"
    random = np.random.default_rng(0)
    channels = state[f"{first}.bias"].shape[0]
    factors = (10.0 ** random.uniform(-2, 2, channels)).astype(np.float32)
    state[f"{first}.weight"] *= factors[:, None, None, None]
    state[f"{first}.bias"] *= factors
    state[f"{second}.weight"] /= factors[None, :, None, None]


@needs_vnni
def test_quantized_weights_find_the_same_and_run_in_int8(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "ours8.safetensors"

    quantize(Options(OURS, DATA, output, validate=DATA))

    printed = dict(line.split(": ", 1) for line in capfd.readouterr().out.splitlines())
    in_int8, in_fp32 = map(float, re.findall(r"0\.\d+", printed["mAP50-95"]))
    assert in_int8 >= in_fp32 - 0.005 > 0.4
    after, before = map(float, re.findall(r"\d+\.\d", printed["frames/s"]))
    assert after > 1.05 * before
    info, original = inspect(output), inspect(OURS)
    assert printed["convolutions"] == f"{len(info.ranges)} of {len(info.ranges)} in int8"
    assert printed["worst class"].partition(",")[0] in info.classes
    assert (info.variant, info.classes) == (original.variant, original.classes)
    assert output.stat().st_size < OURS.stat().st_size + 10_000
    sample = Scenes(9, 2, codec="h264")[1]
    image = torch.from_numpy(np.ascontiguousarray(sample.image))[None].permute(0, 3, 1, 2)
    scores = in_bytes(load(output), (384, 640))(image)[1]
    assert (scores - load(OURS)(image.float() / 255)[1]).abs().max() < 0.2


@pytest.mark.slow
@needs_vnni
def test_where_few_convolutions_cost_too_much_they_stay_in_floats(
    tmp_path: Path, rewritten: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.safetensors"

    quantize(Options(rewritten("spread"), DATA, output, validate=DATA))

    (kept,) = re.findall(r"convolutions: (\d+) of 71 in int8", capfd.readouterr().out)
    assert 60 <= int(kept) < 71
    assert "backbone.ERBlock_3.1.conv1" not in inspect(output).ranges


@needs_vnni
@pytest.mark.parametrize(
    ("name", "setting", "said"),
    first_row_now(
        [
            ("spread", {"_KEPT": (0.0,)}, r"int8 costs \d+\.\d\d mAP at least, of \d+"),
            ("", {"LEAST": 9.0, "_SECONDS": 0.2}, r"int8 brings too little here, [\d.]+ frames"),
            ("", {"FEWEST": 999}, r"found \d+ labelled objects to compare on, must be 999"),
            ("shuffled", {}, "the weights find next to nothing there, mAP50-95 0.0"),
            ("broken", {}, r"is given what is no number"),
        ]
    ),
)
def test_int8_that_is_no_good_is_refused_and_nothing_written(
    tmp_path: Path, rewritten: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str,
    setting: dict[str, Any], said: str,
) -> None:  # fmt: skip
    for key, value in setting.items():
        monkeypatch.setattr(command, key, value)
    output = tmp_path / "out.safetensors"

    with pytest.raises(VedetteError, match=said):
        quantize(Options(rewritten(name) if name else OURS, DATA, output, validate=DATA))
    assert not output.exists()


@needs_vnni
def test_pictures_of_other_classes_and_odd_sizes_are_refused(tmp_path: Path, lite_s: Path) -> None:
    output = tmp_path / "out.safetensors"
    with pytest.raises(ConfigError, match="other classes than the weights"):
        quantize(Options(lite_s, DATA, output))
    with pytest.raises(ConfigError, match="--input-size: found 100 96, must be multiples of 32"):
        quantize(Options(OURS, DATA, output, input_size=(100, 96)))
    with pytest.raises(WeightsError, match="cannot be written"):
        quantize(Options(OURS, DATA, Path("/proc/none/out.safetensors")))
