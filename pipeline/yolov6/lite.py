"""YOLOv6Lite: the parts that only the networks for small processors have (release 0.4).

Depthwise convolutions everywhere, hard activations, and a fourth level, P6.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.yolov6.blocks import Conv, Kit, Make, hardswish
from pipeline.yolov6.head import Head
from pipeline.yolov6.variants import Variant, round_channels


class LiteBackbone(nn.Module):
    """images → C3, C4, C5, in depthwise convolutions."""

    def __init__(self, variant: Variant, kit: Kit) -> None:
        super().__init__()
        c, n = variant.channels, variant.repeats
        self.conv_0 = kit.conv(3, c[0], stride=2, activation=hardswish)
        self.lite_effiblock_1 = LiteStage(c[0], c[1], n[1], kit)
        self.lite_effiblock_2 = LiteStage(c[1], c[2], n[2], kit)
        self.lite_effiblock_3 = LiteStage(c[2], c[3], n[3], kit)
        self.lite_effiblock_4 = LiteStage(c[3], c[4], n[4], kit)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c3 = self.lite_effiblock_2(self.lite_effiblock_1(self.conv_0(images)))
        c4 = self.lite_effiblock_3(c3)
        return c3, c4, self.lite_effiblock_4(c4)


class LiteNeck(nn.Module):
    """C3, C4, C5 → P3, P4, P5, P6, all of one width."""

    def __init__(self, variant: Variant, kit: Kit) -> None:
        super().__init__()
        *_, c3, c4, c5 = variant.channels
        c = variant.neck_channels[0]
        self.reduce_layer0 = kit.conv(c5, c, 1, activation=hardswish)
        self.reduce_layer1 = kit.conv(c4, c, 1, activation=hardswish)
        self.reduce_layer2 = kit.conv(c3, c, 1, activation=hardswish)
        self.Csp_p4 = CSPBlock(2 * c, c, kit)
        self.Csp_p3 = CSPBlock(2 * c, c, kit)
        self.Csp_n3 = CSPBlock(2 * c, c, kit)
        self.Csp_n4 = CSPBlock(2 * c, c, kit)
        self.downsample2 = DPBlock(c, c, kit, stride=2)
        self.downsample1 = DPBlock(c, c, kit, stride=2)
        self.p6_conv_1 = DPBlock(c, c, kit, stride=2)
        self.p6_conv_2 = DPBlock(c, c, kit, stride=2)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c3, c4, c5 = maps
        f5 = self.reduce_layer0(c5)
        f4 = self.Csp_p4(torch.cat((_double(f5), self.reduce_layer1(c4)), 1))
        p3 = self.Csp_p3(torch.cat((_double(f4), self.reduce_layer2(c3)), 1))
        p4 = self.Csp_n3(torch.cat((self.downsample2(p3), f4), 1))
        p5 = self.Csp_n4(torch.cat((self.downsample1(p4), f5), 1))
        return p3, p4, p5, self.p6_conv_1(f5) + self.p6_conv_2(p5)


class LiteHead(Head):
    """The head with depthwise-separable convolutions."""

    @staticmethod
    def _makers(kit: Kit) -> tuple[Make, Make]:
        return partial(DPBlock, kit=kit), partial(DPBlock, kit=kit)


class LiteStage(nn.Sequential):
    """A block that halves the picture, then blocks that keep it."""

    def __init__(self, inputs: int, outputs: int, repeats: int, kit: Kit) -> None:
        middle = round_channels(outputs // 2, 8)
        first = EffiBlockS2(inputs, middle, outputs, kit)
        super().__init__(first, *(EffiBlockS1(outputs, middle, kit) for _ in range(repeats - 1)))


class EffiBlockS2(nn.Module):
    """Two branches of stride 2, mixed by a depthwise-separable convolution."""

    def __init__(self, inputs: int, middle: int, outputs: int, kit: Kit) -> None:
        super().__init__()
        half, narrow = outputs // 2, middle // 2
        pointwise = partial(kit.conv, kernel=1, activation=hardswish)
        depthwise = partial(kit.conv, depthwise=True, activation=None)
        self.conv_dw_1 = depthwise(inputs, inputs, stride=2)
        self.conv_1 = pointwise(inputs, half)
        self.conv_pw_2 = pointwise(inputs, narrow)
        self.conv_dw_2 = depthwise(narrow, narrow, stride=2)
        self.se = SqueezeExcite(narrow)
        self.conv_2 = pointwise(narrow, half)
        self.conv_dw_3 = depthwise(outputs, outputs, activation=hardswish)
        self.conv_pw_3 = pointwise(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        left = self.conv_1(self.conv_dw_1(x))
        right = self.conv_2(self.se(self.conv_dw_2(self.conv_pw_2(x))))
        y: Tensor = self.conv_pw_3(self.conv_dw_3(torch.cat((left, right), 1)))
        return y


class EffiBlockS1(nn.Module):
    """Half of the channels pass, half are convolved, then both are shuffled (1807.11164)."""

    def __init__(self, channels: int, middle: int, kit: Kit) -> None:
        super().__init__()
        half = channels // 2
        self.conv_pw_1 = kit.conv(half, middle, 1, activation=hardswish)
        self.conv_dw_1 = kit.conv(middle, middle, depthwise=True, activation=None)
        self.se = SqueezeExcite(middle)
        self.conv_1 = kit.conv(middle, half, 1, activation=hardswish)

    def forward(self, x: Tensor) -> Tensor:
        passed, x = x.chunk(2, 1)
        x = self.conv_1(self.se(self.conv_dw_1(self.conv_pw_1(x))))
        return F.channel_shuffle(torch.cat((passed, x), 1), 2)


class SqueezeExcite(nn.Module):
    """Channels weighted by what the whole picture holds (1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, channels // 4, 1)
        self.conv2 = Conv(channels // 4, channels, 1, activation=F.hardsigmoid)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.conv2(self.conv1(x.mean((2, 3), keepdim=True)))
        return y


class DPBlock(nn.Module):
    """A depthwise-separable convolution, 5x5."""

    def __init__(self, inputs: int, outputs: int, kit: Kit, *, stride: int = 1) -> None:
        super().__init__()
        depthwise = partial(kit.conv, depthwise=True, activation=hardswish)
        self.conv_dw_1 = depthwise(inputs, inputs, 5, stride=stride)
        self.conv_pw_1 = kit.conv(inputs, outputs, 1, activation=hardswish)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_pw_1(self.conv_dw_1(x))
        return y


class CSPBlock(nn.Module):
    """A depthwise block on half of the width, beside a way around it (1911.11929)."""

    def __init__(self, inputs: int, outputs: int, kit: Kit) -> None:
        super().__init__()
        c = outputs // 2
        pointwise = partial(kit.conv, kernel=1, activation=hardswish)
        self.conv_1 = pointwise(inputs, c)
        self.conv_2 = pointwise(inputs, c)
        self.conv_3 = pointwise(outputs, outputs)
        self.blocks = nn.ModuleDict({"conv_1": pointwise(c, c), "conv_2": DPBlock(c, c, kit)})

    def forward(self, x: Tensor) -> Tensor:
        deep = self.blocks["conv_2"](self.blocks["conv_1"](self.conv_1(x)))
        y: Tensor = self.conv_3(torch.cat((deep, self.conv_2(x)), 1))
        return y


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
