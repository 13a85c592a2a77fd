"""A 3x3 convolution in a quarter of the multiplications: Winograd's F(4x4, 3x3), in float32.

Sixteen neighbouring outputs take 16 · 9 multiplications for each pair of channels. Here the 6x6
inputs that they come from are transformed to 36 points, each is multiplied once, and what comes
out is transformed back (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
1509.09308, section 4.3). Over tiles and channels these are products of matrices and nothing else:
one for either transform, with its Kronecker square, and 36 in between. So no compiler is needed;
where channels are few, the transforms cost what they save.

It rounds more than a direct convolution (by some 2e-5 where outputs are about 1), which float32
can spare and bfloat16 could not.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.yolov6.blocks import Activation

_OUT, _IN = 4, 6  # side of a tile of outputs, and of the inputs that it comes from
_OUTPUTS, _POINTS = _OUT * _OUT, _IN * _IN
_STRIP = 60  # tiles at a time: a core's own cache holds what lies between two products
# Times fewer multiplications. Those here take half as long again (measured with AVX2 and AVX-512,
# by MKL), and kernels of four times the size are to be worth it.
_WORTH = 2.0

_Matrix = list[list[float]]

# Of the points 0, 1, -1, 2, -2 and infinity.
_FORTH: _Matrix = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_KERNEL: _Matrix = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_BACK: _Matrix = [
    [1, 1, 1, 1, 1, 0],
    [0, 1, -1, 2, -2, 0],
    [0, 1, 1, 4, 4, 0],
    [0, 1, -1, 8, -8, 1],
]
_EVERYWHERE = 1 * _IN + 1  # the point (1, 1): the way back adds it to each of the outputs, once


def suits(conv: nn.Conv2d, shape: tuple[int, ...]) -> bool:
    """Whether `conv` is of this kind, and faster so for inputs of about `shape` [B, C, H, W].

    Never without MKL, as on Arm: it was measured with no other library.
    """
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return False
    place = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    if place != ((3, 3), (1, 1), (1, 1), (1, 1), 1) or conv.weight.dtype != torch.float32:
        return False
    (height, width), inputs, outputs = shape[2:], conv.in_channels, conv.out_channels
    direct = height * width * 9 * inputs * outputs
    per_point = inputs * outputs + _POINTS * inputs + _OUTPUTS * outputs
    return direct >= _WORTH * _tiles(height) * _tiles(width) * _POINTS * per_point


class Winograd(nn.Module):
    """A convolution that `suits`, with its activation: float32 [B, C, H, W], channels last.

    Threads may share it; each has a workspace of its own.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.activation: Activation | None = getattr(conv, "activation", None)
        self._forth, kernel, self._back = map(_squared, (_FORTH, _KERNEL, _BACK))
        taps = conv.weight.detach().permute(2, 3, 1, 0).flatten(0, 1)  # [9, inputs, outputs]
        self._weight = (kernel @ taps.flatten(1)).view(_POINTS, *taps.shape[1:])
        self._bias = None if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        frames, _, height, width = x.shape
        down, across, outputs = _tiles(height), _tiles(width), self._weight.shape[2]
        x = x.permute(0, 2, 3, 1)
        y = x.new_empty(frames, down, _OUT, across, _OUT, outputs)
        together = max(1, _STRIP // (down * across))
        for first in range(0, frames, together):
            taken, given = x[first : first + together], y[first : first + together]
            workspace = _workspace(*taken.shape, outputs)
            workspace.picture.copy_(taken)
            for strip in workspace.strips:
                self._convolve(strip)
                given[:, strip.rows].copy_(strip.outputs)
        y = y.view(frames, _OUT * down, _OUT * across, outputs)
        y = y[:, :height, :width].contiguous()
        return y.permute(0, 3, 1, 2)

    def _convolve(self, strip: _Strip) -> None:
        strip.inputs.copy_(strip.tiles)
        inputs, points = strip.forth
        torch.mm(self._forth, inputs, out=points)
        points, products = strip.between
        torch.bmm(points, self._weight, out=products)
        if self._bias is not None:
            strip.everywhere.add_(self._bias)
        products, outputs = strip.back
        torch.mm(self._back, products, out=outputs)
        if self.activation and (found := self.activation(outputs)) is not outputs:
            outputs.copy_(found)


def _squared(matrix: _Matrix) -> Tensor:
    """What does both ways of a tile at once: the Kronecker product with itself."""
    one = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(one, one).float()


def _tiles(side: int) -> int:
    return -(-side // _OUT)


def _rows(down: int, across: int) -> int:
    """Of tiles, in a strip."""
    return min(down, max(1, _STRIP // across))


@dataclass(frozen=True, slots=True)
class _Strip:
    """N = F · D · A tiles of F frames, D rows and A columns; what each step takes and gives.

    All are views of a workspace, made once: some twenty for each strip would take Python as long
    as a small product takes.
    """

    rows: slice  # of tiles
    tiles: Tensor  # [6, 6, F, D, A, inputs], which overlap
    inputs: Tensor  # the same, which do not
    forth: tuple[Tensor, Tensor]  # inputs and points, [36, N · inputs]
    between: tuple[Tensor, Tensor]  # points [36, N, inputs], products [36, N, outputs]
    everywhere: Tensor  # products [N, outputs] of one point
    back: tuple[Tensor, Tensor]  # products [36, N · outputs], outputs [16, N · outputs]
    outputs: Tensor  # the same [F, D, 4, A, 4, outputs]


class _Workspace:
    """Views of memory for frames of one size; the memory between two products is the thread's."""

    def __init__(self, shape: tuple[int, ...], halves: Tensor) -> None:
        frames, height, width, inputs, outputs = shape
        down, across = _tiles(height), _tiles(width)
        padded = torch.zeros(frames, _OUT * down + 2, _OUT * across + 2, inputs)
        self.picture = padded[:, 1 : 1 + height, 1 : 1 + width]  # [F, H, W, inputs]
        tiles = padded.unfold(1, _IN, _OUT).unfold(2, _IN, _OUT).permute(4, 5, 0, 1, 2, 3)
        rows = _rows(down, across)
        self.strips = [
            _strip(slice(first, min(first + rows, down)), tiles, halves, outputs)
            for first in range(0, down, rows)
        ]


def _strip(rows: slice, tiles: Tensor, halves: Tensor, channels: int) -> _Strip:
    """What a step takes lies in one half, what it gives in the other."""
    tiles = tiles[:, :, :, rows]
    *_, frames, down, across, inputs = tiles.shape
    count = frames * down * across
    one, other = halves
    taken, products = _part(one, _POINTS, count, inputs), _part(one, _POINTS, count, channels)
    points, outputs = _part(other, _POINTS, count, inputs), _part(other, _OUTPUTS, count * channels)
    apart = outputs.view(_OUT, _OUT, frames, down, across, channels)
    return _Strip(
        rows=rows,
        tiles=tiles,
        inputs=taken.view(tiles.shape),
        forth=(taken.flatten(1), points.flatten(1)),
        between=(points, products),
        everywhere=products[_EVERYWHERE],
        back=(products.flatten(1), outputs),
        outputs=apart.permute(2, 3, 0, 4, 1, 5),
    )


def _part(memory: Tensor, *shape: int) -> Tensor:
    return memory[: math.prod(shape)].view(shape)


class _Thread(threading.local):
    """What a thread keeps for as long as it lives: new memory would be cleared every time."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.halves = torch.empty(2, 0)
        self.workspaces: dict[tuple[int, ...], _Workspace] = {}


_mine = _Thread()


def _workspace(*shape: int) -> _Workspace:
    """This thread's for `shape`: frames, height, width, inputs, outputs."""
    if shape not in _mine.workspaces:
        frames, height, width, *channels = shape
        down, across = _tiles(height), _tiles(width)
        size = _POINTS * frames * _rows(down, across) * across * max(channels)
        with torch.inference_mode(False):  # what is made in that mode can be changed only in it
            if size > _mine.halves.shape[1]:
                _mine.clear()
                _mine.halves = torch.empty(2, size)
            _mine.workspaces[shape] = _Workspace(shape, _mine.halves)
    return _mine.workspaces[shape]


def forget() -> None:
    """Frees what this thread keeps."""
    _mine.clear()
