"""YOLOv6: the network, its backbone (EfficientRep), its neck (Rep-PAN, Rep-BiFPAN), its head.

Read it from the top. Papers: "YOLOv6: A Single-Stage Object Detection Framework for Industrial
Applications" (2209.02976) and "YOLOv6 v3.0: A Full-Scale Reloading" (2301.05586). Which parts of
which size make up a member of the family is a row of `variants.py`; what the parts are made of is
in `blocks.py`; Lite has parts of its own in `lite.py`.

C2, C3 … are feature maps of the backbone at strides 4, 8 …, P3, P4 … those of the neck at strides
8, 16 …; the small members have three levels (P3 … P5), the large ones four (… P6).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from pipeline.yolov6.blocks import (
    CSPSPPF,
    SPPF,
    BepC3,
    BiFusion,
    Conv,
    Kit,
    MBLABlock,
    RepBlock,
    Upsample,
    fused,
)
from pipeline.yolov6.head import Head, ObjectnessHead, anchors, decode
from pipeline.yolov6.lite import LiteBackbone, LiteHead, LiteNeck
from pipeline.yolov6.variants import Variant
from pipeline.yolov6.weights import Ranges

__all__ = ["YOLOv6", "anchors", "decode", "shapes"]


class YOLOv6(nn.Module):
    """images [B, 3, H, W], RGB, 0…1 → boxes float32 [B, A, 4], scores float32 [B, A, classes].

    Boxes are x1, y1, x2, y2 in input pixels, not clipped. Anchors run level by level, finest
    first, row by row. `bins` is 1 where the head regresses distances, else the length of the
    distribution over 0, 1 … bins-1 that it predicts for each. H and W are multiples of
    `strides[-1]`. Weights may be of any floating dtype; images are cast to it. The network is
    fused, unless the `kit` says how else its convolutions are made.
    """

    def __init__(
        self, variant: Variant, classes: int, bins: int = 1, kit: Kit | None = None
    ) -> None:
        super().__init__()
        kit = kit or fused(variant)
        self.ranges: Ranges = {}  # of a weights file that has been quantised
        self.strides = variant.strides
        self.classes = classes
        self.backbone = BACKBONES[variant.backbone](variant, kit)
        self.neck = NECKS[variant.neck](variant, kit)
        self.detect = HEADS[variant.head](variant, classes, bins, kit)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        dtype = next(self.parameters()).dtype
        levels: Sequence[Tensor] = self.neck(self.backbone(images.to(dtype)))
        boxes, scores = self.detect(levels)
        return boxes, scores

    def take_bytes(self) -> None:
        """From now on images are 0…255: the division by 255 moves into the first kernel.

        To be called once, on a fused network, before it is cast: whole numbers up to 256 are exact
        in bfloat16, their 255ths are not.
        """
        first = next(self.backbone.children())
        if not isinstance(first, Conv):
            raise TypeError("only a fused network begins with one convolution")
        first.weight.data.div_(255)


class EfficientRep(nn.Module):
    """images → C2, C3 …: a stem and then stages, each of stride 2 (2209.02976, 2.1).

    ERBlock_k gives C_k: a block that halves, a stage that keeps, and in the last one the pooling.
    """

    def __init__(self, variant: Variant, kit: Kit) -> None:
        super().__init__()
        stage, pooling = STAGES[variant.stage], POOLINGS[variant.pooling]
        width, *widths = variant.channels
        self.stem = kit.block(3, width, stride=2)
        self.stages = range(2, 2 + len(widths))
        for k, outputs, repeats in zip(self.stages, widths, variant.repeats[1:], strict=True):
            parts = [
                kit.block(width, outputs, stride=2),
                stage(outputs, outputs, repeats, kit, variant.ratio),
            ]
            if k == self.stages[-1]:
                parts.append(pooling(outputs, outputs, kit))
            self.add_module(f"ERBlock_{k}", nn.Sequential(*parts))
            width = outputs

    def forward(self, images: Tensor) -> list[Tensor]:
        x, maps = self.stem(images), []
        for k in self.stages:
            x = self.get_submodule(f"ERBlock_{k}")(x)
            maps.append(x)
        return maps


class RepPAN(nn.Module):
    """C2, C3 … → P3, P4 …: down the pyramid, and up again (2209.02976, figure 2).

        C5 ─ reduce ─ F5 ──────────────────────────────────────── join ─ Rep_n4 ─ P5
                      └─ joint with C4 ─ Rep_p4 ─ reduce ─ F4 ─── join ─ Rep_n3 ─ P4
                                                           └─ joint with C3 ─ Rep_p3 ─ P3

    drawn for three levels; from P3 on each result is halved and joined with the F above it.
    """

    joint, joint_name = Upsample, "upsample"

    def __init__(self, variant: Variant, kit: Kit) -> None:
        super().__init__()
        stage, repeats, ratio = STAGES[variant.stage], variant.neck_repeats, variant.ratio
        levels = len(variant.strides)
        *maps, width = variant.channels
        down, up = variant.neck_channels[: levels - 1], variant.neck_channels[levels - 1 :]
        self.levels = levels
        for i, outputs in enumerate(down):
            self.add_module(f"reduce_layer{i}", kit.conv(width, outputs, 1))
            joint = self.joint(outputs, maps[-1 - i], maps[-2 - i], kit)
            self.add_module(f"{self.joint_name}{i}", joint)
            rep = stage(joint.outputs, outputs, repeats, kit, ratio)
            self.add_module(f"Rep_p{levels + 1 - i}", rep)
            width = outputs
        for i, outputs in enumerate(up):
            self.add_module(f"downsample{2 - i}", kit.conv(width, width, stride=2))
            rep = stage(width + down[-1 - i], outputs, repeats, kit, ratio)
            self.add_module(f"Rep_n{levels + i}", rep)
            width = outputs

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        part = self.get_submodule
        x, reduced = maps[-1], []
        for i in range(self.levels - 1):
            x = part(f"reduce_layer{i}")(x)
            reduced.append(x)
            x = part(f"{self.joint_name}{i}")(x, maps[-2 - i], maps[-3 - i])
            x = part(f"Rep_p{self.levels + 1 - i}")(x)
        outputs = [x]
        for i in range(self.levels - 1):
            x = torch.cat((part(f"downsample{2 - i}")(x), reduced[-1 - i]), 1)
            x = part(f"Rep_n{self.levels + i}")(x)
            outputs.append(x)
        return outputs


class RepBiFPAN(RepPAN):
    """The same, where on the way down also the next finer map is joined in (2301.05586, 2.1)."""

    joint, joint_name = BiFusion, "Bifusion"  # type: ignore[assignment]


@lru_cache(maxsize=256)
def shapes(variant: Variant, classes: int, bins: int = 1) -> dict[str, tuple[int, ...]]:
    """The keys of a fused network's state dict and each tensor's shape; allocates nothing.

    The same dict each time, so that trying a file against the whole table is cheap.
    """
    with torch.device("meta"):
        network = YOLOv6(variant, classes, bins)
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


# What a row of the table may name.
BACKBONES = {"EfficientRep": EfficientRep, "LiteBackbone": LiteBackbone}
STAGES = {"RepBlock": RepBlock, "BepC3": BepC3, "MBLABlock": MBLABlock}
POOLINGS = {"SPPF": SPPF, "CSPSPPF": CSPSPPF}
NECKS = {"RepPAN": RepPAN, "RepBiFPAN": RepBiFPAN, "LiteNeck": LiteNeck}
HEADS = {"Head": Head, "ObjectnessHead": ObjectnessHead, "LiteHead": LiteHead}
