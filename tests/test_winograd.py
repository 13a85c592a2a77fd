"""A convolution by Winograd's algorithm gives what a direct one does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.yolov6 import load, winograd
from pipeline.yolov6.blocks import ACTIVATIONS, Conv
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.prepack import Packed, prepack
from pipeline.yolov6.variants import VARIANTS
from pipeline.yolov6.weights import OURS
from pipeline.yolov6.winograd import Winograd, suits

# Of values about 1: the algorithm rounds some 2e-5 off, and what is wrong is wrong by much more.
CLOSE = 1e-4

# Frames, height and width: whole tiles and none, some strips a frame and some frames a strip, a
# side of less than one tile, a last strip with fewer rows, a last one with fewer frames.
SIZES = [(1, 8, 12), (1, 24, 40), (2, 48, 80), (7, 12, 20), (3, 13, 17), (1, 1, 1), (2, 2, 333)]


def convolution(inputs: int, outputs: int, activation: str | None = None, seed: int = 0) -> Conv:
    torch.manual_seed(seed)
    made = Conv(inputs, outputs, activation=ACTIVATIONS[activation] if activation else None)
    return made.eval().requires_grad_(False)


def pictures(frames: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(frames, channels, height, width, generator=random)
    return x.contiguous(memory_format=torch.channels_last)


def assert_same(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=CLOSE)


@pytest.mark.parametrize(("frames", "height", "width"), SIZES)
def test_it_gives_what_the_convolution_gives(frames: int, height: int, width: int) -> None:
    for inputs, outputs, activation in ((64, 64, "relu"), (48, 96, "silu"), (96, 32, None)):
        conv = convolution(inputs, outputs, activation)
        x = pictures(frames, inputs, height, width)
        wanted = conv(x)

        found = Winograd(conv)(x)

        assert_same(found, wanted)
        assert found.is_contiguous(memory_format=torch.channels_last)


def test_it_takes_any_layout_and_leaves_its_input_alone() -> None:
    conv = convolution(64, 64, "relu")
    x = torch.randn(2, 64, 9, 11)
    before = x.clone()

    assert_same(Winograd(conv)(x), conv(before))
    assert torch.equal(x, before)


def test_what_it_gave_stays_when_it_is_called_again() -> None:
    made = Winograd(convolution(64, 64))
    first, second = (pictures(1, 64, 24, 40, seed) for seed in (1, 2))
    found = made(first)
    kept = found.clone()

    made(second)

    assert torch.equal(found, kept)
    assert torch.equal(made(first), kept)


def test_a_convolution_need_not_have_a_bias() -> None:
    conv = nn.Conv2d(64, 64, 3, padding=1, bias=False).requires_grad_(False)
    x = pictures(1, 64, 16, 16)
    assert_same(Winograd(conv)(x), conv(x))


def test_an_activation_need_not_work_in_place() -> None:
    conv = Conv(64, 64, activation=F.silu).requires_grad_(False)
    x = pictures(1, 64, 16, 20)
    assert_same(Winograd(conv)(x), conv(x))


def test_a_thread_has_one_memory_for_all_sizes_and_can_forget_it() -> None:
    small, large = convolution(64, 64, "relu"), convolution(128, 96, "silu")
    calls = [
        (conv, pictures(n, conv.in_channels, 24, 40)) for conv in (small, large) for n in (1, 3)
    ]
    winograds = {conv: Winograd(conv) for conv in (small, large)}
    for conv, x in (*calls, *reversed(calls)):
        assert_same(winograds[conv](x), conv(x))

    strips = [strip for one in winograd._mine.workspaces.values() for strip in one.strips]
    memories = {strip.back[1].untyped_storage().data_ptr() for strip in strips}
    winograd.forget()

    assert len(memories) == 1 < len(strips)
    assert not winograd._mine.workspaces
    assert_same(winograds[small](calls[0][1]), small(calls[0][1]))


def test_without_mkl_it_suits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert suits(convolution(64, 64), (1, 64, 48, 80))
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    assert not suits(convolution(64, 64), (1, 64, 48, 80))


def test_it_works_in_either_mode_of_torch_after_the_other() -> None:
    conv = convolution(64, 64, "relu")
    made, x = Winograd(conv), pictures(1, 64, 20, 28)
    with torch.inference_mode():
        found = made(x)
    with torch.no_grad():
        assert_same(made(x), found)
    with torch.inference_mode():
        assert_same(made(x), conv(x))


def test_threads_that_share_it_do_not_share_their_workspace() -> None:
    conv = convolution(64, 64, "relu")
    made, start = Winograd(conv), threading.Barrier(2)

    def work(seed: int) -> float:
        torch.set_num_threads(1)
        x = pictures(2, 64, 24, 40, seed)
        wanted = conv(x)
        start.wait()
        return max(float((made(x) - wanted).abs().max()) for _ in range(50))

    with ThreadPoolExecutor(2) as pool:
        assert max(pool.map(work, (1, 2))) < CLOSE


@dataclass
class Case:
    conv: nn.Conv2d
    shape: tuple[int, int, int, int]
    expected: bool


CASES = {
    "large enough": Case(convolution(64, 64), (1, 64, 48, 80), True),
    "more channels": Case(convolution(256, 128), (4, 256, 12, 20), True),
    "too few channels": Case(convolution(32, 32), (1, 32, 96, 160), False),
    "tiles mostly empty": Case(convolution(128, 128), (1, 128, 5, 5), False),
    "a stride": Case(Conv(64, 64, stride=2), (1, 64, 48, 80), False),
    "1x1": Case(Conv(256, 256, 1), (1, 256, 48, 80), False),
    "5x5": Case(Conv(256, 256, 5), (1, 256, 48, 80), False),
    "depthwise": Case(Conv(256, 256, depthwise=True), (1, 256, 48, 80), False),
    "dilated": Case(nn.Conv2d(64, 64, 3, padding=1, dilation=2), (1, 64, 48, 80), False),
    "without a margin": Case(nn.Conv2d(64, 64, 3), (1, 64, 48, 80), False),
    "bfloat16": Case(Conv(64, 64).bfloat16(), (1, 64, 48, 80), False),
}


@pytest.mark.parametrize("name", CASES)
def test_which_convolutions_it_suits(name: str) -> None:
    case = CASES[name]
    assert suits(case.conv, case.shape) is case.expected


def test_a_network_in_float32_has_it_where_it_suits_and_finds_the_same() -> None:
    torch.manual_seed(1)
    network = YOLOv6(VARIANTS["0.4.x-n"], 3).eval().requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = pictures(2, 3, 192, 320).sigmoid()
    with torch.inference_mode():
        wanted = network(images)
        assert prepack(network, images[:1], batch=4)
        kinds = [type(module) for module in network.modules()]
        assert kinds.count(Winograd) >= 10 < kinds.count(Packed)
        for found, other in zip(network(images), wanted, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-4)


def test_our_weights_find_the_same() -> None:
    network = load(OURS)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = pictures(1, 3, 384, 640).sigmoid()
    with torch.inference_mode():
        wanted = network(images)
        assert prepack(network, images, batch=4)
        for found, other in zip(network(images), wanted, strict=True):
            torch.testing.assert_close(found, other, rtol=1e-4, atol=1e-3)
