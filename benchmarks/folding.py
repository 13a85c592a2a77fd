"""What folding is worth: every variant with all its branches against the same one folded.

    python benchmarks/folding.py [--variants 0.4.x-n 0.4.x-s …] [--rounds 3] [--seconds 1]

One picture at a time, float32, channels-last, on all cores this process has; the two forms take
turns, and all variants do so in every round. The fastest run of each is told, since whatever else
the machine does only slows. Both compute the same boxes, which is checked. The table is Markdown.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.yolov6 import branches
from pipeline.yolov6.fold import fold
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.train.build import bins_of
from pipeline.yolov6.variants import VARIANTS, Variant

CLASSES = 80
_AT_LEAST = 5  # runs of each form

# AP 50:95 on COCO val2017, per cent, as the README of meituan/YOLOv6 gives it with each release:
# trained weights of the original, at 640x640 (P6 at 1280, Lite at 320). 0.3 and 0.4 share weights.
PUBLISHED = {
    **{"0.1.0-n": 35.0, "0.1.0-t": 41.3, "0.1.0-s": 43.1},
    **{"0.2.x-n": 36.3, "0.2.x-t": 41.1, "0.2.x-s": 43.8, "0.2.x-m": 49.5, "0.2.x-l": 52.5},
    **{"0.2.x-l_relu": 51.7, "0.2.x-n_base": 35.6, "0.2.x-s_base": 43.8, "0.2.x-m_base": 48.8},
    **{"0.2.x-l_base": 51.0},
    **{"0.4.x-n": 37.5, "0.4.x-s": 45.0, "0.4.x-m": 50.0, "0.4.x-l": 52.8},
    **{"0.4.x-n6": 44.9, "0.4.x-s6": 50.3, "0.4.x-m6": 55.2, "0.4.x-l6": 57.2},
    **{"0.4.x-n_base": 36.6, "0.4.x-s_base": 45.3, "0.4.x-m_base": 49.4, "0.4.x-l_base": 51.1},
    **{"0.4.x-s_mbla": 47.0, "0.4.x-m_mbla": 50.3, "0.4.x-l_mbla": 52.0, "0.4.x-x_mbla": 53.5},
    **{"0.4.x-n_qa": 37.1, "0.4.x-m_qa": 49.7},
    **{"0.4.x-lite_s": 22.4, "0.4.x-lite_m": 25.1, "0.4.x-lite_l": 28.0},
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What one variant costs; parameters and operations of the fused form."""

    side: int  # of the square picture, pixels
    parameters: int
    flops: int
    training: float  # frames/s
    fused: float  # frames/s

    def faster(self, other: Figures) -> Figures:
        """The better rates of two measurements of one variant."""
        training, fused = max(self.training, other.training), max(self.fused, other.fused)
        return replace(self, training=training, fused=fused)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_flush_denormal(True)
    best: dict[str, Figures] = {}
    for turn in range(options.rounds):
        for name in options.variants:
            print(f"round {turn + 1}: {name}", file=sys.stderr)
            found = measure(name, options.seconds)
            best[name] = found.faster(best.get(name, found))
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, float32, one picture\n\n"
        "| variant | parameters | GFLOPs | mAP val, published |"
        " multi-branch, frames/s | fused, frames/s | ratio |\n|---|---|---|---|---|---|---|"
    )
    for name, figures in best.items():
        print(_row(name, figures))
    return 0


@torch.inference_mode()
def measure(name: str, seconds: float) -> Figures:
    """Both forms of one variant, with the same random weights, in turns."""
    variant = VARIANTS[name]
    side = 320 if variant.head == "LiteHead" else 640
    images = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    training, fused = _both(variant, bins_of(name), images)
    _check(training(images), fused(images))
    with FlopCounterMode(display=False) as counter:
        fused(images)
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[1]) < _AT_LEAST or sum(times[0]) + sum(times[1]) < seconds:
        for network, spent in zip((training, fused), times, strict=True):
            started = time.perf_counter()
            network(images)
            spent.append(time.perf_counter() - started)
    return Figures(
        side=side,
        parameters=sum(parameter.numel() for parameter in fused.parameters()),
        flops=counter.get_total_flops(),
        training=1 / min(times[0]),
        fused=1 / min(times[1]),
    )


def _both(variant: Variant, bins: int, images: Tensor) -> tuple[YOLOv6, YOLOv6]:
    size = CLASSES, bins
    training = YOLOv6(variant, *size, branches.kit(variant))
    _settle(training, images)
    state = fold({key: tensor.numpy() for key, tensor in training.state_dict().items()})
    with torch.device("meta"):
        fused = YOLOv6(variant, *size)
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    fused.load_state_dict(tensors, assign=True)
    for network in (training, fused):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return training, fused.eval()


def _settle(network: YOLOv6, images: Tensor) -> None:
    """Statistics of these images, so that random weights give numbers of an ordinary size."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.train()
    network(images)
    network.eval()


def _check(training: tuple[Tensor, Tensor], fused: tuple[Tensor, Tensor]) -> None:
    """On the average to a thousandth; random weights make single boxes sensitive."""
    for expected, found in zip(training, fused, strict=True):
        error = (found - expected).abs().mean() / expected.abs().mean()
        if error > 1e-3:
            raise AssertionError(f"the two forms differ by {error:.1e} of their values")


def _row(name: str, figures: Figures) -> str:
    size = "" if figures.side == 640 else f" @{figures.side}"
    published = PUBLISHED.get(name)
    return (
        f"| {name} | {figures.parameters / 1e6:.2f} M | {figures.flops / 1e9:.2f}{size}"
        f" | {'' if published is None else published} | {figures.training:.2f}"
        f" | {figures.fused:.2f} | {figures.fused / figures.training:.2f} |"
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    distinct = [name for name in VARIANTS if not name.startswith("0.3")]  # 0.3 is in 0.4
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=distinct, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each variant, each round")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
