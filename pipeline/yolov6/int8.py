"""The network in whole numbers of 8 bits, which a CPU with VNNI multiplies four at a time.

A byte b stands for scale * (b - zero) (1712.05877, 2.1). Kernels have one scale for each channel
that comes out, and what flows between layers has one in all, from the ranges that `calibrate.py`
has measured. oneDNN takes bytes, adds up in 32 bits and gives bytes, activation included, by the
operators that TorchInductor has for a quantised graph (torch/_inductor/fx_passes/quantization.py);
they are called here without a compiler, as in `prepack.py`.

What is joined, or only moved, has one scale, so that nothing is converted there. A convolution
without a range, and whatever else computes (a sum, a mean), does so in floating point;
conversions stand where the two meet.
"""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, fx, nn

from pipeline.yolov6.head import Head
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.prepack import Packed, activation_of, is_convolution, shapes_of
from pipeline.yolov6.weights import Ranges

_STEPS = 255  # from the least byte to the largest
_LARGEST_KERNEL = 127
_CLOSE = 0.02  # of the largest value: what an operator may be off, in whichever order it adds up
# What gives the values that it gets, and so bytes of bytes.
_MOVES = {torch.cat, F.max_pool2d, F.channel_shuffle, F.interpolate, operator.getitem, "chunk"}


@dataclass(frozen=True, slots=True)
class Bytes:
    """What bytes stand for."""

    scale: float
    zero: int  # the byte that stands for 0

    @classmethod
    def of(cls, low: float, high: float) -> Bytes:
        """That take in low … high, and 0."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / _STEPS or 1.0
        return cls(scale, round(-low / scale))

    def pack(self, x: Tensor) -> Tensor:
        """Floating point → uint8, to the nearest; what is beyond becomes the last."""
        steps = (x.float() * (1 / self.scale)).round_().add_(self.zero)
        return steps.clamp_(0, _STEPS).to(torch.uint8)

    def unpack(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """uint8 → floating point."""
        return x.to(dtype).sub_(self.zero).mul_(self.scale)


_IMAGE = Bytes(1.0, 0)  # pixels are bytes already, and stand for themselves


class Int8(nn.Module):
    """images uint8 [B, 3, H, W], channels last → boxes and scores, as those of `YOLOv6`."""

    def __init__(self, maps: fx.GraphModule, head: Head) -> None:
        super().__init__()
        self._maps = maps
        self._head = (head,)  # not a part of this: of it only what computes in float32 is used

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        (head,) = self._head
        return head.decode(*head.rows_of(self._maps(images)))


class Conv8(nn.Module):
    """A convolution with its activation: uint8 → uint8, or → `dtype` where nobody takes bytes."""

    def __init__(
        self, conv: nn.Conv2d, takes: Bytes, gives: Bytes | None, dtype: torch.dtype,
        shape: tuple[int, ...],
    ) -> None:  # fmt: skip
        """`shape` [B, C, H, W]: of the inputs, about.

        Raises RuntimeError where torch has no such operator, or one that computes something else.
        """
        super().__init__()
        name, _ = activation_of(conv)
        if name is None or not isinstance(conv.padding, tuple):
            raise RuntimeError("a convolution of another kind")
        self._takes = takes.scale, takes.zero
        scales = conv.weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / _LARGEST_KERNEL
        kernel = (conv.weight / scales[:, None, None, None]).round().to(torch.int8)
        place = list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups
        packed = _packed(kernel, scales, *self._takes, *place, list(shape))
        bias = None if conv.bias is None else conv.bias.detach().float().clone()
        self._kernel = packed, scales, torch.zeros(len(scales), dtype=torch.int8), bias
        given = (gives.scale, gives.zero, torch.uint8) if gives else (1.0, 0, dtype)
        self._rest: tuple[Any, ...] = (*place, *given, name, [], "")
        rounded = kernel.float() * scales[:, None, None, None]
        self._check(conv, rounded, takes, gives, shape)

    def forward(self, x: Tensor) -> Tensor:
        return _convolution(x, *self._takes, *self._kernel, *self._rest)

    def _check(
        self, conv: nn.Conv2d, kernel: Tensor, takes: Bytes, gives: Bytes | None,
        shape: tuple[int, ...],
    ) -> None:  # fmt: skip
        random = torch.Generator().manual_seed(0)
        x = torch.randint(_STEPS + 1, (1, *shape[1:]), generator=random, dtype=torch.uint8)
        x = x.contiguous(memory_format=torch.channels_last)
        place: Any = conv.stride, conv.padding, conv.dilation, conv.groups
        wanted = F.conv2d(takes.unpack(x, torch.float32), kernel, conv.bias, *place)
        _, activation = activation_of(conv)
        wanted = activation(wanted) if activation else wanted
        found, off = self(x), wanted.abs().max().item() * _CLOSE
        if gives:
            found, off = gives.unpack(found, torch.float32), off + gives.scale
            wanted = gives.unpack(gives.pack(wanted), torch.float32)
        if not torch.allclose(found.float(), wanted, rtol=0, atol=off):
            raise RuntimeError("an operator computes something else")


def _packed(*arguments: Any) -> Tensor:
    packed: Tensor = torch.ops.onednn.qconv_prepack(*arguments)
    return packed


def _convolution(*arguments: Any) -> Tensor:
    y: Tensor = torch.ops.onednn.qconv2d_pointwise(*arguments)
    return y


class Doubled8(nn.Module):
    """The transposed convolution 2x2 of stride 2: one 1x1, whose channels are four pixels."""

    def __init__(
        self, conv: nn.ConvTranspose2d, takes: Bytes, gives: Bytes | None, dtype: torch.dtype,
        shape: tuple[int, ...],
    ) -> None:  # fmt: skip
        super().__init__()
        inputs, outputs = conv.weight.shape[:2]
        flat = nn.Conv2d(inputs, 4 * outputs, 1, bias=conv.bias is not None)
        flat.weight.data = conv.weight.detach().flatten(1).t().reshape(4 * outputs, inputs, 1, 1)
        if conv.bias is not None:
            flat.bias.data = conv.bias.detach().repeat_interleave(4)  # type: ignore[union-attr]
        self._flat = Conv8(flat, takes, gives, dtype, shape)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self._flat(x), 2)


class Pool8(nn.Module):
    """A maximum of bytes. torch's own counts places in bytes too, so this is by way of floats."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """What `max_pool2d` takes besides the values."""
        super().__init__()
        self._args, self._kwargs = args, kwargs

    def forward(self, x: Tensor) -> Tensor:
        # Whole numbers up to 256 are exact in bfloat16.
        y: Tensor = F.max_pool2d(x.to(torch.bfloat16), *self._args, **self._kwargs)
        return y.to(torch.uint8)


class _Pack(nn.Module):
    def __init__(self, bytes_: Bytes) -> None:
        super().__init__()
        self._bytes = bytes_

    def forward(self, x: Tensor) -> Tensor:
        return self._bytes.pack(x)


class _Unpack(nn.Module):
    def __init__(self, bytes_: Bytes, dtype: torch.dtype) -> None:
        super().__init__()
        self._bytes, self._dtype = bytes_, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self._bytes.unpack(x, self._dtype)


def convolution8(
    conv: nn.Module, takes: Bytes, shape: tuple[int, ...]
) -> Callable[[Tensor], Tensor]:
    """One convolution in int8, from floats to floats."""
    kind: Any = Doubled8 if isinstance(conv, nn.ConvTranspose2d) else Conv8
    made = kind(conv, takes, None, torch.float32, shape)
    return lambda x: made(takes.pack(x))


class _Maps(nn.Module):
    """What a network computes layer by layer: images → for each level what its head predicts."""

    def __init__(self, network: YOLOv6) -> None:
        super().__init__()
        self.backbone, self.neck, self.detect = network.backbone, network.neck, network.detect

    def forward(self, images: Tensor) -> list[tuple[Tensor, ...]]:
        levels = self.neck(self.backbone(images))
        return [self.detect.predict(i, level) for i, level in enumerate(levels)]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, _: str) -> bool:
        return is_convolution(module)


@torch.no_grad()
def as_int8(
    network: YOLOv6, ranges: Ranges, image: Tensor, batch: int, dtype: torch.dtype
) -> Int8 | None:
    """`network`, float32 and of bytes (`take_bytes`), with the convolutions of `ranges` in int8.

    For batches of about `batch` pictures; `image` uint8 [1, 3, H, W] is one. What is not in int8
    is in `dtype`. None where this torch cannot, or comes to other results: the network is as it
    was then. Otherwise it is used up.
    """
    shapes = shapes_of(network, image.float())
    maps = _Maps(network)
    try:
        graph = fx.GraphModule(maps, _Tracer().trace(maps))
        _Rewriting(graph, ranges, {m: (batch, *s[1:]) for m, s in shapes.items()}, dtype).run()
    except (AttributeError, RuntimeError, fx.proxy.TraceError):
        return None
    return Int8(graph, network.detect)


class _Groups:
    """The values of a graph that have one scale: those between which there are only moves."""

    def __init__(self, graph: fx.Graph) -> None:
        self._parents: dict[fx.Node, fx.Node] = {}
        for node in filter(moves, graph.nodes):
            for value in node.all_input_nodes:
                self.join(value, node)

    def join(self, one: fx.Node, other: fx.Node) -> None:
        if (first := self.find(one)) is not (second := self.find(other)):
            self._parents[first] = second

    def find(self, node: fx.Node) -> fx.Node:
        while node in self._parents:
            node = self._parents[node]
        return node


def moves(node: fx.Node) -> bool:
    """Whether a node only hands on what it gets."""
    return node.target in _MOVES and node.op in ("call_function", "call_method")


class _Rewriting:
    """One traced network, from floats to bytes."""

    def __init__(
        self, module: fx.GraphModule, ranges: Ranges, shapes: Mapping[nn.Module, tuple[int, ...]],
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        self._module, self._graph = module, module.graph
        self._ranges, self._shapes, self._dtype = ranges, shapes, dtype
        self._groups = _Groups(self._graph)
        self._bytes = dict(self._scales())
        self._unpacked: dict[fx.Node, fx.Node] = {}
        self._numbers = itertools.count()

    def run(self) -> None:
        """Raises RuntimeError, before anything is changed, where torch cannot."""
        nodes = list(self._graph.nodes)
        made = {node: self._convolution(node) for node in nodes if self._is_int8(node)}
        if not made:
            raise RuntimeError("no convolution has a range")
        made |= {node: self._packed(node) for node in nodes if self._is_left(node)}
        self._module.to(self._dtype)
        for node in nodes:
            if self._is_int8(node):
                self._call(node, made[node])
            elif moves(node):
                if node.target is F.max_pool2d and self._of(node):
                    self._call(node, Pool8(*node.args[1:], **node.kwargs))
            elif node.op not in ("placeholder", "get_attr"):
                self._float(node)
                if node in made:
                    self._call(node, made[node])
        self._module.delete_all_unused_submodules()
        self._graph.lint()
        self._module.recompile()

    def _is_int8(self, node: fx.Node) -> bool:
        if node.op != "call_module" or node.target not in self._ranges:
            return False
        name, _ = activation_of(self._module.get_submodule(str(node.target)))
        return name is not None

    def _is_left(self, node: fx.Node) -> bool:
        """Whether it is a convolution that stays in floating point."""
        if node.op != "call_module" or self._is_int8(node):
            return False
        return isinstance(self._module.get_submodule(str(node.target)), nn.Conv2d)

    def _packed(self, node: fx.Node) -> nn.Module:
        conv = self._module.get_submodule(str(node.target))
        return Packed(copy.deepcopy(conv).to(self._dtype), self._shapes[conv])  # type: ignore[arg-type]

    def _scales(self) -> Iterator[tuple[fx.Node, Bytes]]:
        """Of each group that somebody takes as bytes: wide enough for all who do."""
        wide: dict[fx.Node, tuple[float, float]] = {}
        for node in filter(self._is_int8, self._graph.nodes):
            group = self._groups.find(node.all_input_nodes[0])
            low, high = self._ranges[str(node.target)]
            lowest, highest = wide.get(group, (0.0, 0.0))
            wide[group] = min(low, lowest), max(high, highest)
        yield from ((group, Bytes.of(*limits)) for group, limits in wide.items())
        yield self._groups.find(next(iter(self._graph.nodes))), _IMAGE

    def _of(self, node: fx.Node) -> Bytes | None:
        """What a value's bytes stand for; None: it is in floating point."""
        return self._bytes.get(self._groups.find(node))

    def _convolution(self, node: fx.Node) -> nn.Module:
        conv: Any = self._module.get_submodule(str(node.target))
        takes = self._of(node.all_input_nodes[0])
        kind = Doubled8 if isinstance(conv, nn.ConvTranspose2d) else Conv8
        if takes is None:
            raise RuntimeError("a convolution of nothing")
        return kind(conv, takes, self._of(node), self._dtype, self._shapes[conv])

    def _float(self, node: fx.Node) -> None:
        """Bytes become floats before it, and floats bytes behind it."""
        for value in node.all_input_nodes:
            if (taken := self._of(value)) is not None:
                if value not in self._unpacked:
                    with self._graph.inserting_after(value):
                        unpacked = self._insert(_Unpack(taken, self._dtype), value)
                    self._unpacked[value] = unpacked
                node.replace_input_with(value, self._unpacked[value])
        if node.op != "output" and (given := self._of(node)) is not None:
            with self._graph.inserting_after(node):
                packed = self._insert(_Pack(given), node)
            self._groups.join(packed, node)
            node.replace_all_uses_with(packed, delete_user_cb=lambda user: user is not packed)

    def _insert(self, module: nn.Module, value: fx.Node) -> fx.Node:
        return self._graph.call_module(self._add(module), (value,))

    def _call(self, node: fx.Node, module: nn.Module) -> None:
        """Has a node call this module, on what was its first argument."""
        node.op, node.target = "call_module", self._add(module)
        node.args, node.kwargs = node.args[:1], {}

    def _add(self, module: nn.Module) -> str:
        name = f"{type(module).__name__.strip('_').lower()}_{next(self._numbers)}"
        self._module.add_submodule(name, module)
        return name
