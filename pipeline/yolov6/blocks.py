"""What stages and necks are made of, in either form of the network.

A network is one drawing (`network.py`) and two kits. The fused kit, here, makes every convolution
a `Conv`; the kit of training (`branches.py`) makes it with its BatchNorm, and the block of the
variant's mode with its parallel branches. So a block below is written once, and its parts have
the same names in both forms: those of the official state dicts, less the wrappers (`names.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.yolov6.variants import Variant

Activation = Callable[[Tensor], Tensor]
Make = Callable[..., nn.Module]

relu: Activation = partial(F.relu, inplace=True)
silu: Activation = partial(F.silu, inplace=True)
hardswish: Activation = partial(F.hardswish, inplace=True)
ACTIVATIONS = {"relu": relu, "silu": silu}


@dataclass(frozen=True, slots=True)
class Kit:
    """How one form of the network makes its convolutions; both makers take what `Conv` takes.

    `block` is the 3x3 of the variant's mode, which stem, stages and downsampling are made of; it
    comes with the mode's activation, which the 1x1 of the stages have too.
    """

    conv: Make
    block: Make
    activation: Activation


def fused(variant: Variant) -> Kit:
    """The kit of the network as it runs: whatever the mode was, its block is one convolution."""
    activation = ACTIVATIONS[variant.activation]
    return Kit(Conv, partial(Conv, activation=activation), activation)


class Conv(nn.Conv2d):
    """A convolution that keeps the size (or divides it by `stride`), then its activation.

    A RepVGG block (2101.03697) is this once its branches are folded: ReLU(conv 3x3).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        depthwise: bool = False,
        activation: Activation | None = relu,
    ) -> None:
        groups = inputs if depthwise else 1
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return self.activation(x) if self.activation else x


# Stages: `stage(inputs, outputs, repeats, kit, ratio)` -------------------------------------------


class Row(nn.Module):
    """`repeats` blocks one after another; the first may change the width."""

    def __init__(self, inputs: int, outputs: int, repeats: int, make: Make) -> None:
        super().__init__()
        self.conv1 = make(inputs, outputs)
        self.block = nn.Sequential(*(make(outputs, outputs) for _ in range(repeats - 1)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.conv1(x))
        return y


class RepBlock(Row):
    """Blocks of the mode in a row (2209.02976, figure 3)."""

    def __init__(self, inputs: int, outputs: int, repeats: int, kit: Kit, _: float = 1.0) -> None:
        super().__init__(inputs, outputs, repeats, kit.block)


class BottleRep(nn.Module):
    """`depth` blocks and a way around them, weighted by alpha, which was learned.

    Alpha stays: in front of the sum is the last block's activation, which nothing folds through.
    """

    def __init__(self, channels: int, kit: Kit, depth: int = 2) -> None:
        super().__init__()
        self.depth = depth
        for i in range(depth):
            self.add_module(f"conv{i + 1}", kit.block(channels, channels))
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i in range(self.depth):
            y = self.get_submodule(f"conv{i + 1}")(y)
        return y + self.alpha * x


class BepC3(nn.Module):
    """CSPStackRep: a row of BottleReps, beside a way around it (2209.02976, figure 3)."""

    def __init__(self, inputs: int, outputs: int, repeats: int, kit: Kit, ratio: float) -> None:
        super().__init__()
        c = int(outputs * ratio)
        self.cv1 = kit.conv(inputs, c, 1, activation=kit.activation)
        self.cv2 = kit.conv(inputs, c, 1, activation=kit.activation)
        self.cv3 = kit.conv(2 * c, outputs, 1, activation=kit.activation)
        self.m = Row(c, c, max(1, repeats // 2), lambda width, _: BottleRep(width, kit))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))
        return y


class MBLABlock(nn.Module):
    """Branches of different lengths, of all of which every step goes into the sum of parts."""

    def __init__(self, inputs: int, outputs: int, repeats: int, kit: Kit, ratio: float) -> None:
        super().__init__()
        lengths = branch_lengths(max(1, repeats // 2))
        c = int(outputs * ratio)
        parts = len(lengths)
        self.cv1 = kit.conv(inputs, parts * c, 1, activation=kit.activation)
        steps = sum(lengths) + parts
        self.cv2 = kit.conv(steps * c, outputs, 1, activation=kit.activation)
        self.m = nn.ModuleList(
            nn.ModuleList(BottleRep(c, kit, depth=3) for _ in range(length))
            for length in lengths[1:]
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.cv1(x).chunk(len(self.m) + 1, 1)
        steps = [parts[0]]
        for i, branch in enumerate(self.m, 1):
            steps.append(parts[i])
            for block in branch:  # type: ignore[attr-defined]
                steps.append(block(steps[-1]))
        y: Tensor = self.cv2(torch.cat(steps, 1))
        return y


def branch_lengths(longest: int) -> tuple[int, ...]:
    """Of an MBLA block: 0, then (if there is one) the largest power of two below, then `longest`.

    1 → 0, 1; 2 → 0, 1, 2; 3 → 0, 2, 3; 4 → 0, 2, 4.
    """
    if longest == 1:
        return 0, 1
    return 0, 1 << (longest - 1).bit_length() - 1, longest


# Pooling: `pooling(inputs, outputs, kit)` --------------------------------------------------------


class SPPF(nn.Module):
    """Pooling over 5, 9 and 13 cells, joined (2209.02976, 2.1)."""

    def __init__(self, inputs: int, outputs: int, kit: Kit) -> None:
        super().__init__()
        c = inputs // 2
        self.cv1 = kit.conv(inputs, c, 1, activation=kit.activation)
        self.cv2 = kit.conv(4 * c, outputs, 1, activation=kit.activation)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cv2(_pyramid(self.cv1(x)))
        return y


class CSPSPPF(nn.Module):
    """The same pooling, beside a way around it (2301.05586, 2.1)."""

    def __init__(self, inputs: int, outputs: int, kit: Kit) -> None:
        super().__init__()
        c = outputs // 2
        conv = partial(kit.conv, activation=kit.activation)
        self.cv1 = conv(inputs, c, 1)
        self.cv2 = conv(inputs, c, 1)
        self.cv3 = conv(c, c)
        self.cv4 = conv(c, c, 1)
        self.cv5 = conv(4 * c, c, 1)
        self.cv6 = conv(c, c)
        self.cv7 = conv(2 * c, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        pyramid = self.cv5(_pyramid(self.cv4(self.cv3(self.cv1(x)))))
        y: Tensor = self.cv7(torch.cat((self.cv2(x), self.cv6(pyramid)), 1))
        return y


def _pyramid(x: Tensor) -> Tensor:
    maps = [x]
    for _ in range(3):
        maps.append(F.max_pool2d(maps[-1], 5, 1, 2))
    return torch.cat(maps, 1)


# Joints of the neck: `joint(width, middle, fine, kit)`, with the width they give in `outputs` ----


class Upsample(nn.ConvTranspose2d):
    """The coarse map doubled, beside the middle one (2209.02976, figure 2)."""

    def __init__(self, width: int, middle: int, _: int, kit: Kit) -> None:
        super().__init__(width, width, 2, 2)
        self.outputs = width + middle

    def forward(self, coarse: Tensor, middle: Tensor, _: Tensor) -> Tensor:  # type: ignore[override]
        return torch.cat((super().forward(coarse), middle), 1)


class BiFusion(nn.Module):
    """Three neighbouring maps at the size of the middle one (2301.05586, figure 2b)."""

    def __init__(self, width: int, middle: int, fine: int, kit: Kit) -> None:
        super().__init__()
        self.outputs = width
        self.cv1 = kit.conv(middle, width, 1)
        self.cv2 = kit.conv(fine, width, 1)
        self.cv3 = kit.conv(3 * width, width, 1)
        self.upsample = nn.ConvTranspose2d(width, width, 2, 2)
        self.downsample = kit.conv(width, width, stride=2)

    def forward(self, coarse: Tensor, middle: Tensor, fine: Tensor) -> Tensor:
        fine = self.downsample(self.cv2(fine))
        y: Tensor = self.cv3(torch.cat((self.upsample(coarse), self.cv1(middle), fine), 1))
        return y
