"""What Winograd's algorithm is worth in float32: a network's 3x3 convolutions directly and by it.

    python -m benchmarks.winograd [--variants 0.4.x-n 0.4.x-s] [--rounds 5] [--seconds 2]

First whole networks, random weights, at the size that `vedette bench` takes: batches of 4, one on
each core, the two forms in turn; medians of all rounds. Then each kind of convolution that it suits
or nearly does, one batch on one thread; what is told as GFLOP/s is what the direct one takes in
that time, so a number above the processor's own limit is no mistake. Both tables are Markdown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

from pipeline.device import Network, Plan, as_run, plan
from pipeline.yolov6 import load
from pipeline.yolov6.blocks import Conv
from pipeline.yolov6.prepack import Packed
from pipeline.yolov6.variants import VARIANTS
from pipeline.yolov6.winograd import Winograd, suits
from workers.bench.made import random_weights
from workers.bench.network import rate
from workers.bench.yardstick import Subject

SIZE = (384, 640)
# Channels, height and width, as N, S and M have them at 384x640.
KINDS = [
    *((32, 96, 160), (32, 48, 80), (64, 96, 160), (64, 48, 80), (64, 24, 40)),
    *((128, 48, 80), (128, 24, 40), (128, 12, 20), (256, 24, 40), (256, 12, 20), (512, 12, 20)),
]
_BATCH = 4


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--variants", nargs="+", default=["0.4.x-n", "0.4.x-s"], choices=VARIANTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args(arguments)
    chosen = plan(device="cpu", precision="fp32", max_batch=_BATCH)
    print(f"{chosen}, {SIZE[0]}x{SIZE[1]}, torch {torch.__version__}\n")
    print("| network | direct, frames/s | Winograd, frames/s | ratio |\n|---|---|---|---|")
    for name in options.variants:
        direct, winograd = whole(name, chosen, options.rounds, options.seconds)
        ratio = median(other / one for one, other in zip(direct, winograd, strict=True))
        print(
            f"| {name} | {median(direct):.2f} | {median(winograd):.2f} | {ratio:.2f} |", flush=True
        )
    print("\n| channels | size | taken | direct, GFLOP/s | Winograd, as GFLOP/s | ratio |")
    print("|---|---|---|---|---|---|")
    torch.set_num_threads(1)
    for channels, height, width in KINDS:
        is_taken, direct, winograd = one(channels, height, width, options.seconds / 2)
        print(
            f"| {channels} | {height}x{width} | {'yes' if is_taken else 'no'} | {direct:.0f}"
            f" | {winograd:.0f} | {winograd / direct:.2f} |",
            flush=True,
        )
    return 0


def whole(name: str, chosen: Plan, rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    """Frames/s of each round: direct, and by Winograd's algorithm."""
    subject = Subject("", "", SIZE, "fp32", "cpu", seconds=seconds)
    with patch("pipeline.yolov6.prepack.suits", lambda *_: False):
        direct = _network(name, chosen)
    both = direct, _network(name, chosen)
    found: tuple[list[float], list[float]] = [], []
    for number in range(rounds):
        print(f"round {number + 1}: {name}", file=sys.stderr)
        for network, rates in zip(both, found, strict=True):
            rates.append(rate(network, chosen, subject, chosen.threads))
    return found


@torch.inference_mode()
def one(channels: int, height: int, width: int, seconds: float) -> tuple[bool, float, float]:
    """Whether it is taken, and the GFLOP/s of a direct convolution that both come up to."""
    conv = Conv(channels, channels).requires_grad_(False)
    x = torch.randn(_BATCH, channels, height, width).contiguous(memory_format=torch.channels_last)
    shape = tuple(x.shape)
    spent = _in_turn((Packed(conv, shape), Winograd(conv)), x, seconds)
    operations = 2 * 9 * channels**2 * height * width * _BATCH
    direct, winograd = (operations / median(times) / 1e9 for times in spent)
    return suits(conv, shape), direct, winograd


def _in_turn(
    ways: Sequence[Callable[[torch.Tensor], object]], x: torch.Tensor, seconds: float
) -> Iterator[list[float]]:
    """Seconds that each call took."""
    found: list[list[float]] = [[] for _ in ways]
    ends = time.monotonic() + seconds
    while not found[0] or time.monotonic() < ends:
        for way, times in zip(ways, found, strict=True):
            began = time.perf_counter()
            way(x)
            times.append(time.perf_counter() - began)
    return iter(found)


def _network(name: str, chosen: Plan) -> Network:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        random_weights(path, name, SIZE)
        ready = as_run(load(path), chosen, SIZE)
    if ready.complaint:
        raise SystemExit(f"{name}: {ready.complaint}")
    return ready.network


if __name__ == "__main__":
    sys.exit(main())
