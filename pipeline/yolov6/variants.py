"""The family as a table: one row is one network. Plain values; torch is not needed to read it.

A row names its parts (backbone, stage block, pooling, neck, head) as `network.py` names its
classes, and holds the channel and repeat counts that the scaling rules give, so that a new member
of the family is a new row, and a new kind of part is one class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes one network of the family from another."""

    backbone: str
    stage: str  # the block that a stage of the backbone, and of the neck, repeats
    pooling: str  # the spatial pyramid pooling at the end of the backbone; "" for none
    neck: str
    head: str
    channels: tuple[int, ...]  # of the backbone, stem first
    repeats: tuple[int, ...]  # blocks per stage, as `channels`
    neck_channels: tuple[int, ...]  # in the order of the official configs
    neck_repeats: tuple[int, ...]
    head_channels: tuple[int, ...]  # of the maps that the neck gives, finest first
    strides: tuple[int, ...]  # of those maps
    input_size: tuple[int, int]  # height, width that it was trained for


def scale_channels(base: int, width: float) -> int:
    """Channels of the P5 and P6 networks: base x width, up to the next multiple of 8."""
    return math.ceil(base * width / 8) * 8


def scale_repeats(base: int, depth: float) -> int:
    """Repeats: base x depth, halves to even, at least 1; a single block stays single."""
    return max(round(base * depth), 1) if base > 1 else base


def round_channels(value: float, divisor: int) -> int:
    """Channels of the Lite networks: the nearest multiple, a step up if that loses over 10 %."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest


def _rep(*, width: float, depth: float) -> Variant:
    """Three levels of RepVGG blocks: EfficientRep and Rep-BiFPAN (releases 0.3 and 0.4)."""
    neck = tuple(scale_channels(base, width) for base in (256, 128, 128, 256, 256, 512))
    return Variant(
        backbone="EfficientRep",
        stage="RepBlock",
        pooling="SimCSPSPPF",
        neck="RepBiFPAN",
        head="EfficientDecoupled",
        channels=tuple(scale_channels(base, width) for base in (64, 128, 256, 512, 1024)),
        repeats=tuple(scale_repeats(base, depth) for base in (1, 6, 12, 18, 6)),
        neck_channels=neck,
        neck_repeats=(scale_repeats(12, depth),) * 4,
        head_channels=(neck[1], neck[3], neck[5]),
        strides=(8, 16, 32),
        input_size=(640, 640),
    )


def _lite(*, width: float) -> Variant:
    """Four levels of depthwise blocks for small processors; the stem is 24 wide in all of them."""
    return Variant(
        backbone="LiteBackbone",
        stage="LiteStage",
        pooling="",
        neck="LiteNeck",
        head="LiteDecoupled",
        channels=(24, *(round_channels(base * width, 16) for base in (32, 64, 128, 256))),
        repeats=(1, 1, 3, 7, 3),
        neck_channels=(96,) * 4,
        neck_repeats=(1,) * 4,
        head_channels=(96,) * 4,
        strides=(8, 16, 32, 64),
        input_size=(320, 320),
    )


VARIANTS: dict[str, Variant] = {
    "0.4.x-n": _rep(width=0.25, depth=0.33),
    "0.4.x-s": _rep(width=0.50, depth=0.33),
    "0.4.x-lite_s": _lite(width=0.7),
    "0.4.x-lite_m": _lite(width=1.1),
    "0.4.x-lite_l": _lite(width=1.5),
}
