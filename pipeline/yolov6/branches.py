"""The training form: every convolution with its BatchNorm, every block with its branches.

The network is the same drawing, from another kit: `YOLOv6(variant, classes, bins, kit(variant))`.
Its state dict has the names of `names.py`, so that an official one, brought under these names, is
loaded as it is; `fold.py` turns it into the fused form, and its docstring has the algebra.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.yolov6.blocks import ACTIVATIONS, Activation, Kit, relu
from pipeline.yolov6.fold import EPSILON
from pipeline.yolov6.variants import Variant

_MOMENTUM = 0.03  # of every BatchNorm of YOLOv6


def kit(variant: Variant) -> Kit:
    """The kit of the training form; `MODES` says what a block of the variant's mode is."""
    activation = ACTIVATIONS[variant.activation]
    block = MODES[variant.mode] if variant.mode else ConvBatchNorm
    return Kit(ConvBatchNorm, partial(block, activation=activation), activation)


def plain(variant: Variant) -> Kit:
    """The kit of the same network without branches: what those of training are compared with."""
    return kit(replace(variant, mode=f"conv_{variant.activation}"))


class ConvBatchNorm(nn.Module):
    """A convolution, its BatchNorm, its activation."""

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
        super().__init__()
        groups = inputs if depthwise else 1
        make = Pointwise if kernel == 1 else nn.Conv2d
        self.conv = make(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = _batch_norm(outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return self.activation(y) if self.activation else y


class Pointwise(nn.Conv2d):
    """A 1x1 convolution; with a stride, of the pixels that it takes, which are the same numbers.

    Strided by oneDNN, over channels-last memory with fewer than 16 channels, its gradient writes
    beyond its memory, and the process dies (uxlfoundation/oneDNN issue 6035; seen with torch 2.13).
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias, groups=self.groups)


class RepVGGBlock(nn.Module):
    """BN(conv 3x3) + BN(conv 1x1) + BN(x), the last only where the sizes allow it (2101.03697)."""

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, activation: Activation = relu
    ) -> None:
        super().__init__()
        self.rbr_dense = ConvBatchNorm(inputs, outputs, stride=stride, activation=None)
        self.rbr_1x1 = _pointwise_batch_norm(inputs, outputs, stride)
        self.rbr_identity = _batch_norm(outputs) if inputs == outputs and stride == 1 else None
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        return self.activation(y if self.rbr_identity is None else y + self.rbr_identity(x))


class QARepVGGBlockV2(nn.Module):
    """BN(BN(conv 3x3) + conv 1x1 + x + average 3x3 of x), made to be quantised (2212.01593)."""

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, activation: Activation = relu
    ) -> None:
        super().__init__()
        self.rbr_dense = ConvBatchNorm(inputs, outputs, stride=stride, activation=None)
        self.rbr_1x1 = Pointwise(inputs, outputs, 1, stride, bias=False)
        self.bn = _batch_norm(outputs)
        self.passes = inputs == outputs and stride == 1
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        if self.passes:
            y = y + x + F.avg_pool2d(x, 3, 1, 1)
        return self.activation(self.bn(y))


class LinearAddBlock(nn.Module):
    """BN(a conv 3x3 + b conv 1x1 + c x), a, b, c learned per channel: RepOpt (2205.15242)."""

    def __init__(
        self, inputs: int, outputs: int, *, stride: int = 1, activation: Activation = relu
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.scale_conv = Scale(outputs)
        self.conv_1x1 = Pointwise(inputs, outputs, 1, stride, bias=False)
        self.scale_1x1 = Scale(outputs)
        self.scale_identity = Scale(outputs) if inputs == outputs and stride == 1 else None
        self.bn = _batch_norm(outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale_conv(self.conv(x)) + self.scale_1x1(self.conv_1x1(x))
        if self.scale_identity is not None:
            y = y + self.scale_identity(x)
        return self.activation(self.bn(y))


class Scale(nn.Module):
    """Each channel times a number of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight.view(1, -1, 1, 1)


MODES: dict[str, type[nn.Module]] = {
    "repvgg": RepVGGBlock,
    "qarepvggv2": QARepVGGBlockV2,
    "hyper_search": LinearAddBlock,
    "repopt": ConvBatchNorm,
    "conv_relu": ConvBatchNorm,
    "conv_silu": ConvBatchNorm,
}


def _pointwise_batch_norm(inputs: int, outputs: int, stride: int) -> ConvBatchNorm:
    return ConvBatchNorm(inputs, outputs, 1, stride=stride, activation=None)


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=_MOMENTUM)
