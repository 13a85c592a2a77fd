"""YOLOv6 as it runs: every BatchNorm and every parallel branch is folded into one convolution.

Read it from the top: the network, its backbone (EfficientRep), its neck (Rep-BiFPAN), its
decoupled head, then the blocks, then the same for Lite. Papers: "YOLOv6: A Single-Stage Object
Detection Framework for Industrial Applications" (2209.02976) and "YOLOv6 v3.0: A Full-Scale
Reloading" (2301.05586). Parts have the names of the official state dicts, less its wrappers
(`fold.py`). C2 … C5 are feature maps of the backbone at strides 4 … 32, P3 … P6 those of the neck
at strides 8 … 64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.yolov6.variants import Variant, round_channels


class YOLOv6(nn.Module):
    """images [B, 3, H, W], RGB, 0…1 → boxes float32 [B, A, 4], scores float32 [B, A, classes].

    Boxes are x1, y1, x2, y2 in input pixels, not clipped. Anchors run level by level, finest
    first, row by row. `bins` is 1 where the head regresses distances, else the length of the
    distribution over 0, 1 … bins-1 that it predicts for each. H and W are multiples of
    `strides[-1]`. Weights may be of any floating dtype; images are cast to it.
    """

    def __init__(self, variant: Variant, classes: int, bins: int = 1) -> None:
        super().__init__()
        self.strides = variant.strides
        self.classes = classes
        self.backbone = BACKBONES[variant.backbone](variant)
        self.neck = NECKS[variant.neck](variant)
        stem, conv = HEADS[variant.head]
        self.detect = Head(variant, classes, bins, stem, conv)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        dtype = next(self.parameters()).dtype
        levels: Sequence[Tensor] = self.neck(self.backbone(images.to(dtype)))
        boxes, scores = self.detect(levels)
        return boxes, scores


class EfficientRep(nn.Module):
    """images → C2, C3, C4, C5: a stem and four stages, each of stride 2 (2209.02976, 2.1)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        c, n, stage = variant.channels, variant.repeats, STAGES[variant.stage]
        pooling = POOLINGS[variant.pooling](c[4], c[4])
        self.stem = Conv(3, c[0], stride=2)
        self.ERBlock_2 = nn.Sequential(Conv(c[0], c[1], stride=2), stage(c[1], c[1], n[1]))
        self.ERBlock_3 = nn.Sequential(Conv(c[1], c[2], stride=2), stage(c[2], c[2], n[2]))
        self.ERBlock_4 = nn.Sequential(Conv(c[2], c[3], stride=2), stage(c[3], c[3], n[3]))
        self.ERBlock_5 = nn.Sequential(Conv(c[3], c[4], stride=2), stage(c[4], c[4], n[4]), pooling)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c2 = self.ERBlock_2(self.stem(images))
        c3 = self.ERBlock_3(c2)
        c4 = self.ERBlock_4(c3)
        return c2, c3, c4, self.ERBlock_5(c4)


class RepBiFPAN(nn.Module):
    """C2 … C5 → P3, P4, P5: down the pyramid with BiFusion, and up again (2301.05586, 2.1)."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        _, c2, c3, c4, c5 = variant.channels
        t4, t3, d3, p4, d4, p5 = variant.neck_channels
        n, stage = variant.neck_repeats, STAGES[variant.stage]
        self.reduce_layer0 = Conv(c5, t4, 1)
        self.Bifusion0 = BiFusion(c4, c3, t4)
        self.Rep_p4 = stage(t4, t4, n[0])
        self.reduce_layer1 = Conv(t4, t3, 1)
        self.Bifusion1 = BiFusion(c3, c2, t3)
        self.Rep_p3 = stage(t3, t3, n[1])
        self.downsample2 = Conv(t3, d3, stride=2)
        self.Rep_n3 = stage(t3 + d3, p4, n[2])
        self.downsample1 = Conv(p4, d4, stride=2)
        self.Rep_n4 = stage(t4 + d4, p5, n[3])

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        c2, c3, c4, c5 = maps
        f5 = self.reduce_layer0(c5)
        f4 = self.reduce_layer1(self.Rep_p4(self.Bifusion0(f5, c4, c3)))
        p3 = self.Rep_p3(self.Bifusion1(f4, c3, c2))
        p4 = self.Rep_n3(torch.cat((self.downsample2(p3), f4), 1))
        p5 = self.Rep_n4(torch.cat((self.downsample1(p4), f5), 1))
        return p3, p4, p5


class Head(nn.Module):
    """P3, P4 … → boxes and scores: one branch for classes, one for distances (2209.02976, 2.1).

    `stem` and `conv` make the convolutions of a level from its width.
    """

    def __init__(
        self, variant: Variant, classes: int, bins: int, stem: MakeConv, conv: MakeConv
    ) -> None:
        super().__init__()
        widths = variant.head_channels
        self.strides = variant.strides
        self.bins = bins
        self.stems = nn.ModuleList(stem(c) for c in widths)
        self.cls_convs = nn.ModuleList(conv(c) for c in widths)
        self.reg_convs = nn.ModuleList(conv(c) for c in widths)
        self.cls_preds = nn.ModuleList(nn.Conv2d(c, classes, 1) for c in widths)
        self.reg_preds = nn.ModuleList(nn.Conv2d(c, 4 * bins, 1) for c in widths)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        logits, distances = [], []
        for i, level in enumerate(levels):
            x = self.stems[i](level)
            logits.append(_rows(self.cls_preds[i](self.cls_convs[i](x))))
            distances.append(_rows(self.reg_preds[i](self.reg_convs[i](x))))
        sizes = tuple((level.shape[2], level.shape[3]) for level in levels)
        points, strides = anchors(sizes, self.strides, levels[0].device)
        boxes = decode(torch.cat(distances, 1).float(), points, strides, self.bins)
        return boxes, torch.cat(logits, 1).float().sigmoid_()


def decode(distances: Tensor, points: Tensor, strides: Tensor, bins: int) -> Tensor:
    """distances float32 [B, A, 4 * bins] (left, top, right, bottom, in strides) → boxes [B, A, 4].

    In float32 whatever the network ran in: bfloat16 has 8 bits, coordinates need 11 and more.
    With bins, the distance is the expectation of the softmax over them (2006.04388, eq. 3).
    """
    if bins > 1:
        values = torch.arange(bins, dtype=torch.float32, device=distances.device)
        distances = distances.view(*distances.shape[:2], 4, bins).softmax(-1) @ values
    near, far = distances.chunk(2, -1)
    return torch.cat((points - near, points + far), -1) * strides


@lru_cache(maxsize=16)
def anchors(
    sizes: tuple[tuple[int, int], ...], strides: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Cell centres x, y [A, 2] in units of their strides, and those strides [A, 1]; float32."""
    points, scales = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        y = torch.arange(height, dtype=torch.float32, device=device) + 0.5
        x = torch.arange(width, dtype=torch.float32, device=device) + 0.5
        points.append(torch.stack((x.repeat(height), y.repeat_interleave(width)), 1))
        scales.append(torch.full((height * width, 1), float(stride), device=device))
    return torch.cat(points), torch.cat(scales)


def shapes(variant: Variant, classes: int, bins: int = 1) -> dict[str, tuple[int, ...]]:
    """The keys of a network's state dict and what shape each tensor has; allocates nothing."""
    with torch.device("meta"):
        network = YOLOv6(variant, classes, bins)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


# Blocks ------------------------------------------------------------------------------------------


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
        activation: Activation | None = F.relu_,
    ) -> None:
        groups = inputs if depthwise else 1
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return self.activation(x) if self.activation else x


class RepBlock(nn.Module):
    """`repeats` RepVGG blocks in a row (2209.02976, figure 3)."""

    def __init__(self, inputs: int, outputs: int, repeats: int) -> None:
        super().__init__()
        self.conv1 = Conv(inputs, outputs)
        self.block = nn.Sequential(*(Conv(outputs, outputs) for _ in range(repeats - 1)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.conv1(x))
        return y


class SimCSPSPPF(nn.Module):
    """Pooling over 5, 9 and 13 cells, beside a way around it (2301.05586, 2.1)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        c = outputs // 2
        self.cv1 = Conv(inputs, c, 1)
        self.cv2 = Conv(inputs, c, 1)
        self.cv3 = Conv(c, c)
        self.cv4 = Conv(c, c, 1)
        self.cv5 = Conv(4 * c, c, 1)
        self.cv6 = Conv(c, c)
        self.cv7 = Conv(2 * c, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        pyramid = self.cv5(_pyramid(self.cv4(self.cv3(self.cv1(x)))))
        y: Tensor = self.cv7(torch.cat((self.cv2(x), self.cv6(pyramid)), 1))
        return y


class BiFusion(nn.Module):
    """Three neighbouring maps at the size of the middle one (2301.05586, figure 2b)."""

    def __init__(self, middle: int, fine: int, outputs: int) -> None:
        super().__init__()
        self.cv1 = Conv(middle, outputs, 1)
        self.cv2 = Conv(fine, outputs, 1)
        self.cv3 = Conv(3 * outputs, outputs, 1)
        self.upsample = nn.ConvTranspose2d(outputs, outputs, 2, 2)
        self.downsample = Conv(outputs, outputs, stride=2)

    def forward(self, coarse: Tensor, middle: Tensor, fine: Tensor) -> Tensor:
        fine = self.downsample(self.cv2(fine))
        y: Tensor = self.cv3(torch.cat((self.upsample(coarse), self.cv1(middle), fine), 1))
        return y


# Lite --------------------------------------------------------------------------------------------


class LiteBackbone(nn.Module):
    """images → C3, C4, C5, in depthwise convolutions."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        c, n, stage = variant.channels, variant.repeats, STAGES[variant.stage]
        self.conv_0 = hardswish_conv(3, c[0], stride=2)
        self.lite_effiblock_1 = stage(c[0], c[1], n[1])
        self.lite_effiblock_2 = stage(c[1], c[2], n[2])
        self.lite_effiblock_3 = stage(c[2], c[3], n[3])
        self.lite_effiblock_4 = stage(c[3], c[4], n[4])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c3 = self.lite_effiblock_2(self.lite_effiblock_1(self.conv_0(images)))
        c4 = self.lite_effiblock_3(c3)
        return c3, c4, self.lite_effiblock_4(c4)


class LiteNeck(nn.Module):
    """C3, C4, C5 → P3, P4, P5, P6, all of one width."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        *_, c3, c4, c5 = variant.channels
        c = variant.neck_channels[0]
        self.reduce_layer0 = hardswish_conv(c5, c, 1)
        self.reduce_layer1 = hardswish_conv(c4, c, 1)
        self.reduce_layer2 = hardswish_conv(c3, c, 1)
        self.Csp_p4 = CSPBlock(2 * c, c)
        self.Csp_p3 = CSPBlock(2 * c, c)
        self.Csp_n3 = CSPBlock(2 * c, c)
        self.Csp_n4 = CSPBlock(2 * c, c)
        self.downsample2 = DPBlock(c, stride=2)
        self.downsample1 = DPBlock(c, stride=2)
        self.p6_conv_1 = DPBlock(c, stride=2)
        self.p6_conv_2 = DPBlock(c, stride=2)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        c3, c4, c5 = maps
        f5 = self.reduce_layer0(c5)
        f4 = self.Csp_p4(torch.cat((_double(f5), self.reduce_layer1(c4)), 1))
        p3 = self.Csp_p3(torch.cat((_double(f4), self.reduce_layer2(c3)), 1))
        p4 = self.Csp_n3(torch.cat((self.downsample2(p3), f4), 1))
        p5 = self.Csp_n4(torch.cat((self.downsample1(p4), f5), 1))
        return p3, p4, p5, self.p6_conv_1(f5) + self.p6_conv_2(p5)


class LiteStage(nn.Sequential):
    """A block that halves the picture, then blocks that keep it."""

    def __init__(self, inputs: int, outputs: int, repeats: int) -> None:
        middle = round_channels(outputs // 2, 8)
        first = EffiBlockS2(inputs, middle, outputs)
        super().__init__(first, *(EffiBlockS1(outputs, middle) for _ in range(repeats - 1)))


class EffiBlockS2(nn.Module):
    """Two branches of stride 2, mixed by a depthwise-separable convolution."""

    def __init__(self, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        half, narrow = outputs // 2, middle // 2
        self.conv_dw_1 = depthwise_conv(inputs, stride=2)
        self.conv_1 = hardswish_conv(inputs, half, 1)
        self.conv_pw_2 = hardswish_conv(inputs, narrow, 1)
        self.conv_dw_2 = depthwise_conv(narrow, stride=2)
        self.se = SqueezeExcite(narrow)
        self.conv_2 = hardswish_conv(narrow, half, 1)
        self.conv_dw_3 = hardswish_conv(outputs, outputs, depthwise=True)
        self.conv_pw_3 = hardswish_conv(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        left = self.conv_1(self.conv_dw_1(x))
        right = self.conv_2(self.se(self.conv_dw_2(self.conv_pw_2(x))))
        y: Tensor = self.conv_pw_3(self.conv_dw_3(torch.cat((left, right), 1)))
        return y


class EffiBlockS1(nn.Module):
    """Half of the channels pass, half are convolved, then both are shuffled (1807.11164)."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv_pw_1 = hardswish_conv(half, middle, 1)
        self.conv_dw_1 = depthwise_conv(middle)
        self.se = SqueezeExcite(middle)
        self.conv_1 = hardswish_conv(middle, half, 1)

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

    def __init__(self, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv_dw_1 = hardswish_conv(channels, channels, 5, stride=stride, depthwise=True)
        self.conv_pw_1 = hardswish_conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv_pw_1(self.conv_dw_1(x))
        return y


class CSPBlock(nn.Module):
    """A depthwise block on half of the width, beside a way around it (1911.11929)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        c = outputs // 2
        self.conv_1 = hardswish_conv(inputs, c, 1)
        self.conv_2 = hardswish_conv(inputs, c, 1)
        self.conv_3 = hardswish_conv(outputs, outputs, 1)
        self.blocks = nn.ModuleDict({"conv_1": hardswish_conv(c, c, 1), "conv_2": DPBlock(c)})

    def forward(self, x: Tensor) -> Tensor:
        deep = self.blocks["conv_2"](self.blocks["conv_1"](self.conv_1(x)))
        y: Tensor = self.conv_3(torch.cat((deep, self.conv_2(x)), 1))
        return y


# What a row of the table may name ----------------------------------------------------------------

Activation = Callable[[Tensor], Tensor]
MakeConv = Callable[[int], nn.Module]


def hardswish_conv(
    inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, depthwise: bool = False
) -> Conv:
    """A convolution as Lite has it: x * relu6(x + 3) / 6."""
    activation = partial(F.hardswish, inplace=True)
    return Conv(inputs, outputs, kernel, stride=stride, depthwise=depthwise, activation=activation)


def depthwise_conv(channels: int, *, stride: int = 1) -> Conv:
    """A 3x3 convolution of each channel by itself, without activation."""
    return Conv(channels, channels, stride=stride, depthwise=True, activation=None)


def _silu_conv(channels: int, kernel: int) -> Conv:
    return Conv(channels, channels, kernel, activation=partial(F.silu, inplace=True))


BACKBONES = {"EfficientRep": EfficientRep, "LiteBackbone": LiteBackbone}
STAGES = {"RepBlock": RepBlock, "LiteStage": LiteStage}
POOLINGS = {"SimCSPSPPF": SimCSPSPPF}
NECKS = {"RepBiFPAN": RepBiFPAN, "LiteNeck": LiteNeck}
HEADS: dict[str, tuple[MakeConv, MakeConv]] = {
    "EfficientDecoupled": (partial(_silu_conv, kernel=1), partial(_silu_conv, kernel=3)),
    "LiteDecoupled": (DPBlock, DPBlock),
}


def _rows(x: Tensor) -> Tensor:
    """[B, C, H, W] → [B, H * W, C]: a view where memory is channels-last."""
    return x.flatten(2).transpose(1, 2)


def _pyramid(x: Tensor) -> Tensor:
    maps = [x]
    for _ in range(3):
        maps.append(F.max_pool2d(maps[-1], 5, 1, 2))
    return torch.cat(maps, 1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
