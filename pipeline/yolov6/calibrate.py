"""What flows between the layers of a network, looked at on pictures: what int8 needs to know.

A range is what a convolution's inputs are cut to before they become bytes. The widest would lose
nothing and round everything coarsely; so of some narrower ones that is taken whose bytes are
nearest to the values by mean square, over a histogram of them (2004.09602, 3.2).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from pipeline.errors import VedetteError
from pipeline.yolov6.int8 import Bytes, convolution8
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.prepack import watched
from pipeline.yolov6.train.boxes import iou
from pipeline.yolov6.weights import Ranges

_BINS = 2048
_SHARES = torch.linspace(0.1, 1, 46)  # of the widest range that are tried, on either side of 0
_LOOKED_AT = 1 << 18  # values of one input, at most

Images = Sequence[Tensor]  # each float32 [B, 3, H, W], 0 … 1


@torch.inference_mode()
def measure(network: YOLOv6, images: Images) -> Ranges:
    """For each convolution that sees more than one place, the range of its inputs.

    `network`: fused, float32, on a CPU.
    """
    names = {module: name for name, module in network.named_modules()}
    widest = _widest(network, images)
    counts = {module: torch.zeros(_BINS) for module in widest}

    def count(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if module in counts:
            values, limits = _some(inputs[0]), widest[module]
            counts[module] += torch.histc(values, _BINS, *limits)

    with watched(network, count):
        for batch in images:
            network(batch)
    return {names[module]: _nearest(counts[module], *widest[module]) for module in widest}


def _widest(network: YOLOv6, images: Images) -> dict[nn.Module, tuple[float, float]]:
    names = {module: name for name, module in network.named_modules()}
    found: dict[nn.Module, tuple[float, float]] = {}

    def widen(module: nn.Module, inputs: tuple[Tensor]) -> None:
        (x,) = inputs
        if x.shape[2] * x.shape[3] > 1:
            low, high = (value.item() for value in x.aminmax())
            lowest, highest = found.get(module, (0.0, 1e-6))
            if not math.isfinite(low + high):
                raise VedetteError(f"{names[module]} is given what is no number: {low}, {high}")
            found[module] = min(low, lowest), max(high, highest)

    with watched(network, widen):
        for batch in images:
            network(batch)
    return found


def _some(x: Tensor) -> Tensor:
    """At steps that meet every column in turn."""
    step = max(1, x.numel() // _LOOKED_AT)
    while math.gcd(step, x.shape[-1]) > 1:
        step += 1
    return x.flatten()[::step]


def _nearest(counts: Tensor, low: float, high: float) -> tuple[float, float]:
    """The range, within low … high, whose bytes are nearest to values that are counted so."""
    edges = torch.linspace(low, high, _BINS + 1)
    values = (edges[1:] + edges[:-1]) / 2
    best, least = (low, high), torch.inf
    for narrow in _candidates(low, high):
        held = Bytes.of(*narrow)
        off = held.unpack(held.pack(values), torch.float32) - values
        if (cost := (off.square() * counts).sum().item()) < least:
            best, least = narrow, cost
    return best


def _candidates(low: float, high: float) -> Iterator[tuple[float, float]]:
    for share in _SHARES.tolist():
        yield low, high * share
        if low < 0:
            yield low * share, high * share


@torch.inference_mode()
def worst_first(
    network: YOLOv6,
    ranges: Ranges,
    images: Images,
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """The convolutions of `ranges`: those first which alone in int8 change most of what is found.

    As many runs of the network as there are; `progress` is told how many are done.
    """
    modules = dict(network.named_modules())
    wanted = [network(batch) for batch in images]
    changes: dict[str, float] = {}
    for name, limits in ranges.items():
        with _in_int8(modules[name], Bytes.of(*limits)):
            pairs = zip((network(batch) for batch in images), wanted, strict=True)
            changes[name] = sum(_change(*found, *before) for found, before in pairs)
        progress(len(changes))
    return sorted(changes, key=lambda name: -changes[name])


@contextlib.contextmanager
def _in_int8(module: nn.Module, takes: Bytes) -> Iterator[None]:
    made: list[Callable[[Tensor], Tensor]] = []

    def replace(_: nn.Module, inputs: tuple[Tensor], __: Tensor) -> Tensor:
        if not made:
            made.append(convolution8(module, takes, tuple(inputs[0].shape)))
        return made[0](inputs[0])

    hook = module.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def _change(boxes: Tensor, scores: Tensor, boxes_before: Tensor, before: Tensor) -> float:
    """Of scores, and of boxes as far as anything is in them; summed over all anchors."""
    moved = (1 - iou(boxes, boxes_before)) * before.amax(-1)
    return ((scores - before).abs().sum() + moved.sum()).item()
