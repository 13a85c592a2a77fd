"""The family as a table: one row is one network. Plain values; torch is not needed to read it.

A row names its parts (backbone, stage, pooling, neck, head) as `network.py` names its classes, and
its mode: the block of training that its convolutions were (`branches.py`). It holds the channel and
repeat counts that the scaling rules give. A new member of the family is a new row, and a new kind
of part is one class.

Rows whose fields but the mode are equal are one network once folded, where their modes have the
same activation: 0.2.x-n, 0.2.x-n_base, 0.2.x-n_hs and 0.2.x-n_opt differ only in how they train.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Variant:
    """What distinguishes one network of the family from another."""

    backbone: str
    stage: str  # the block that a stage of the backbone, and of the neck, repeats; "" in Lite
    ratio: float  # the width inside of such a stage, by that of its output
    mode: str  # repvgg | qarepvggv2 | hyper_search | repopt | conv_relu | conv_silu; "" in Lite
    pooling: str  # the spatial pyramid pooling at the end of the backbone; "" for none
    neck: str
    head: str
    channels: tuple[int, ...]  # of the backbone, stem first
    repeats: tuple[int, ...]  # blocks per stage, as `channels`
    neck_channels: tuple[int, ...]  # down the pyramid, then up
    neck_repeats: int  # blocks per stage of the neck
    strides: tuple[int, ...]  # of the maps that the neck gives, finest first
    input_size: tuple[int, int]  # height, width that it was trained for

    @property
    def head_channels(self) -> tuple[int, ...]:
        """Of the maps that the neck gives, finest first."""
        return self.neck_channels[-len(self.strides) :]

    @property
    def activation(self) -> str:
        """What follows the convolutions that the mode decides over: relu or silu."""
        return activation_of(self.mode)

    @property
    def network(self) -> Variant:
        """The row without what does not matter once folded; equal for equal networks."""
        return replace(self, mode=self.activation)


def activation_of(mode: str) -> str:
    """All blocks with branches have ReLU, and so has RepOpt's."""
    return "silu" if mode == "conv_silu" else "relu"


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


@dataclass(frozen=True, slots=True)
class _Base:
    """The counts that width and depth scale: channels and repeats as in `Variant`."""

    channels: tuple[int, ...]
    repeats: tuple[int, ...]
    neck_channels: tuple[int, ...]
    neck_repeats: int
    strides: tuple[int, ...]
    input_size: int


_P5 = _Base(
    channels=(64, 128, 256, 512, 1024),
    repeats=(1, 6, 12, 18, 6),
    neck_channels=(256, 128, 256, 512),
    neck_repeats=12,
    strides=(8, 16, 32),
    input_size=640,
)
_P6 = _Base(
    channels=(64, 128, 256, 512, 768, 1024),
    repeats=(1, 6, 12, 18, 6, 6),
    neck_channels=(512, 256, 128, 256, 512, 1024),
    neck_repeats=12,
    strides=(8, 16, 32, 64),
    input_size=1280,
)
_P5_MBLA = replace(_P5, repeats=(1, 4, 8, 8, 4), neck_repeats=8)


def _rep(depth: float, width: float, base: _Base = _P5, **parts: Any) -> Variant:
    """Stages of blocks in a row (2209.02976); by default with the BiFPAN of 2301.05586."""
    defaults: dict[str, Any] = {
        "backbone": "EfficientRep",
        "stage": "RepBlock",
        "ratio": 1.0,
        "mode": "repvgg",
        "pooling": "CSPSPPF",
        "neck": "RepBiFPAN",
        "head": "Head",
    }
    return Variant(
        **(defaults | parts),
        channels=tuple(scale_channels(c, width) for c in base.channels),
        repeats=tuple(scale_repeats(n, depth) for n in base.repeats),
        neck_channels=tuple(scale_channels(c, width) for c in base.neck_channels),
        neck_repeats=scale_repeats(base.neck_repeats, depth),
        strides=base.strides,
        input_size=(base.input_size, base.input_size),
    )


def _csp(depth: float, width: float, base: _Base = _P5, **parts: Any) -> Variant:
    """Cross-stage partial stages: half of the width goes around them, unless `ratio` says so."""
    return _rep(
        depth, width, base, **({"stage": "BepC3", "ratio": 1 / 2, "pooling": "SPPF"} | parts)
    )


def _mbla(depth: float, width: float) -> Variant:
    return _csp(depth, width, _P5_MBLA, stage="MBLABlock", mode="conv_silu")


def _lite(width: float) -> Variant:
    """Four levels of depthwise blocks for small processors; the stem is 24 wide in all of them."""
    return Variant(
        backbone="LiteBackbone",
        stage="",
        ratio=1.0,
        mode="",
        pooling="",
        neck="LiteNeck",
        head="LiteHead",
        channels=(24, *(round_channels(base * width, 16) for base in (32, 64, 128, 256))),
        repeats=(1, 1, 3, 7, 3),
        neck_channels=(96,) * 6,
        neck_repeats=1,
        strides=(8, 16, 32, 64),
        input_size=(320, 320),
    )


_PAN: dict[str, Any] = {"neck": "RepPAN", "pooling": "SPPF"}  # of releases 0.1 and 0.2

# Depth and width.
_N, _T, _S, _M, _L = (
    *((0.33, 0.25), (0.33, 0.375), (0.33, 0.50)),
    *((0.60, 0.75), (1.0, 1.0)),
)

_RELOADED = {  # alike in 0.3 and 0.4
    "n": _rep(*_N),
    "s": _rep(*_S),
    "m": _csp(*_M, ratio=2 / 3),
    "l": _csp(*_L, mode="conv_silu"),
    "n6": _rep(*_N, _P6),
    "s6": _rep(*_S, _P6),
    "m6": _csp(*_M, _P6, ratio=2 / 3),
    "l6": _csp(*_L, _P6, mode="conv_silu"),
}

VARIANTS: dict[str, Variant] = {
    **{f"0.4.x-{size}": row for size, row in _RELOADED.items()},
    "0.4.x-lite_s": _lite(0.7),
    "0.4.x-lite_m": _lite(1.1),
    "0.4.x-lite_l": _lite(1.5),
    "0.4.x-s_mbla": _mbla(0.5, 0.50),
    "0.4.x-m_mbla": _mbla(0.5, 0.75),
    "0.4.x-l_mbla": _mbla(0.5, 1.0),
    "0.4.x-x_mbla": _mbla(1.0, 1.0),
    "0.4.x-n_base": _rep(*_N, mode="conv_relu"),
    "0.4.x-s_base": _csp(0.70, 0.50, mode="conv_relu", pooling="CSPSPPF"),
    "0.4.x-m_base": _csp(0.80, 0.75, mode="conv_relu"),
    "0.4.x-l_base": _csp(*_L, mode="conv_relu"),
    "0.4.x-n_qa": _rep(*_N, mode="qarepvggv2"),
    "0.4.x-s_qa": _rep(*_S, mode="qarepvggv2"),
    "0.4.x-m_qa": _csp(*_M, ratio=2 / 3, mode="qarepvggv2"),
    **{f"0.3.x-{size}": row for size, row in _RELOADED.items()},
    "0.2.x-n": _rep(*_N, **_PAN),
    "0.2.x-t": _rep(*_T, **_PAN),
    "0.2.x-s": _rep(*_S, **_PAN),
    "0.2.x-m": _csp(*_M, ratio=2 / 3, **_PAN),
    "0.2.x-l": _csp(*_L, mode="conv_silu", **_PAN),
    "0.2.x-l_relu": _csp(*_L, **_PAN),
    "0.2.x-n_base": _rep(*_N, mode="conv_relu", **_PAN),
    "0.2.x-s_base": _csp(0.70, 0.50, mode="conv_relu", **_PAN),
    "0.2.x-m_base": _csp(0.80, 0.75, mode="conv_relu", **_PAN),
    "0.2.x-l_base": _csp(*_L, mode="conv_relu", **_PAN),
    "0.2.x-n_hs": _rep(*_N, mode="hyper_search", **_PAN),
    "0.2.x-t_hs": _rep(*_T, mode="hyper_search", **_PAN),
    "0.2.x-s_hs": _rep(*_S, mode="hyper_search", **_PAN),
    "0.2.x-n_opt": _rep(*_N, mode="repopt", **_PAN),
    "0.2.x-t_opt": _rep(*_T, mode="repopt", **_PAN),
    "0.2.x-s_opt": _rep(*_S, mode="repopt", **_PAN),
    "0.1.0-n": _rep(*_N, head="ObjectnessHead", **_PAN),
    "0.1.0-t": _rep(0.25, 0.50, head="ObjectnessHead", **_PAN),
    "0.1.0-s": _rep(*_S, head="ObjectnessHead", **_PAN),
    # Ours: as wide as n at strides 2 and 4, where small things are, and narrower from 8 on.
    "vedette-p": replace(_rep(*_N), channels=(16, 32, 48, 64, 112), neck_channels=(48, 32, 48, 64)),
}
