"""The fused network as a CPU runs it fastest: what never changes is done once.

oneDNN computes with kernels in an order of its own and brings them into it at every call; here
that is done beforehand. And an activation becomes part of its convolution, which applies it to
what is in the registers, instead of a second way through memory. Both are what TorchInductor does
to a frozen graph, with the same operators, without a compiler (torch/_inductor/mkldnn_ir.py).
In float32 most of the 3x3 convolutions are computed otherwise instead (`winograd.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.winograd import Winograd, forget, suits

_FUSED: dict[Callable[..., Tensor], str] = {
    F.relu: "relu",
    F.silu: "swish",
    F.hardswish: "hardswish",
}
# How far off boxes may be, in parts of the longer side, and logits: in bfloat16 a sum in another
# order is one of 256 steps off, and that of every layer.
_CLOSE = {torch.bfloat16: (0.02, 0.5), torch.float32: (0.001, 0.02)}

_Answer = tuple[Tensor, Tensor]  # boxes, scores


class Packed(nn.Module):
    """A convolution with its activation, of inputs of about `shape` [B, C, H, W] (any will do)."""

    def __init__(self, conv: nn.Conv2d, shape: tuple[int, ...]) -> None:
        super().__init__()
        name, activation = activation_of(conv)
        self.activation = None if name else activation
        self.bias = conv.bias
        place = conv.padding, conv.stride, conv.dilation, conv.groups
        self._weight = _reorder(conv.weight.to_mkldnn(), *place, list(shape))
        self._rest: tuple[Any, ...] = (*place, name or "none", [], "")

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _convolution(x, self._weight, self.bias, *self._rest)
        return self.activation(y) if self.activation else y


def activation_of(conv: nn.Module) -> tuple[str | None, Callable[[Tensor], Tensor] | None]:
    """oneDNN's name of what follows a convolution, None where it has none; and the function."""
    activation = getattr(conv, "activation", None)
    name = _FUSED.get(getattr(activation, "func", activation)) if activation else "none"
    return name, activation


def _reorder(weight: Tensor, *rest: Any) -> Tensor:
    packed: Tensor = torch._C._nn.mkldnn_reorder_conv2d_weight(weight, *rest)
    return packed


def _convolution(x: Tensor, *rest: Any) -> Tensor:
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, *rest)
    return y


@torch.no_grad()
def prepack(network: YOLOv6, image: Tensor, batch: int) -> bool:
    """Replaces all convolutions of `network`, in place, for batches of about `batch` pictures.

    `image` [1, 3, H, W] is one, as the network will get them. Whether it could be done: where this
    torch or this processor cannot, or comes to other results, the network is as it was. Some of
    torch's operators for it are not public, so this is tried and not assumed.
    """
    before = [
        (parent, name, child)
        for parent in network.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.Conv2d)
    ]
    if not before:
        return False
    shapes = shapes_of(network, image)
    images = torch.cat([image.roll(number, 3) for number in range(batch)])
    images = images.contiguous(memory_format=torch.channels_last)
    wanted = network(images)
    try:
        for parent, name, conv in before:
            shape = batch, *shapes[conv][1:]
            setattr(parent, name, Winograd(conv) if suits(conv, shape) else Packed(conv, shape))
        if _are_alike(network(images), wanted, images):
            return True
    except (AttributeError, RuntimeError):
        pass
    finally:
        forget()  # other threads compute
    for parent, name, conv in before:
        setattr(parent, name, conv)
    return False


def _are_alike(found: _Answer, wanted: _Answer, images: Tensor) -> bool:
    boxes, scores = found
    wanted_boxes, wanted_scores = wanted
    logits, wanted_logits = (torch.logit(s.float(), eps=1e-6) for s in (scores, wanted_scores))
    box, logit = _CLOSE[images.dtype]
    longest = max(images.shape[2:])
    is_near = torch.allclose(boxes, wanted_boxes, rtol=box, atol=box * longest)
    return is_near and torch.allclose(logits, wanted_logits, rtol=0, atol=logit)


def shapes_of(network: YOLOv6, image: Tensor) -> dict[nn.Module, tuple[int, ...]]:
    """What each convolution gets of an image."""
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def see(module: nn.Module, inputs: tuple[Tensor]) -> None:
        shapes[module] = tuple(inputs[0].shape)

    with watched(network, see):
        network(image)
    return shapes


def is_convolution(module: nn.Module) -> bool:
    """Whether it is one and no more."""
    return isinstance(module, nn.Conv2d) or type(module) is nn.ConvTranspose2d


@contextlib.contextmanager
def watched(network: nn.Module, see: Callable[..., None]) -> Iterator[None]:
    """Tells `see` of each convolution, and of what it is about to get, as a hook is told."""
    convolutions = filter(is_convolution, network.modules())
    hooks = [module.register_forward_pre_hook(see) for module in convolutions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
