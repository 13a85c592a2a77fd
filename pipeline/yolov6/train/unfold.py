"""Folded weights → the network with branches that computes the same, to learn on from there.

What folding has added up cannot be told apart again, so the 3x3 branch begins with all of it and
the others with a gain of 0, from which they learn (as a residual block may: 1706.02677, 5.1). Each
BatchNorm is given the mean and variance that its input has on some pictures, and the gain and bias
that undo them. As a BatchNorm takes any scale away, a kernel gets the norm that a new one has, so
that a learning rate means what it means for a new network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.yolov6.branches import ConvBatchNorm, RepVGGBlock
from pipeline.yolov6.network import YOLOv6

_Hook = Callable[[nn.Module, tuple[Tensor]], None]


@torch.no_grad()
def unfold(network: YOLOv6, folded: Mapping[str, Tensor], images: Tensor) -> None:
    """Gives `network` (see `build`) the weights `folded`; images float32 [B, 3, H, W], 0…1.

    A layer that `folded` lacks keeps its own weights. Raises ConfigError for weights without a
    place: of a block that is folded by other rules.
    """
    check_unfolding(network, folded)
    left, hooks = dict(folded), []
    for name, module in network.named_modules():
        if f"{name}.weight" not in left or not isinstance(module, RepVGGBlock | ConvBatchNorm):
            continue
        kernel, bias = left.pop(f"{name}.weight"), left.pop(f"{name}.bias")
        dense = module.rbr_dense if isinstance(module, RepVGGBlock) else module
        scale = dense.conv.weight.norm() / kernel.norm().clamp(min=1e-12)
        dense.conv.weight.copy_(kernel * scale)
        hooks.append(dense.bn.register_forward_pre_hook(_undoing(1 / scale, bias)))
        if isinstance(module, RepVGGBlock):
            silent = [norm for norm in (module.rbr_1x1.bn, module.rbr_identity) if norm is not None]
            hooks += [n.register_forward_pre_hook(_undoing(0.0, 0.0)) for n in silent]
    own = network.state_dict()
    for key, tensor in left.items():
        own[key].copy_(tensor)
    network.eval()(images)
    network.train()
    for hook in hooks:
        hook.remove()


def check_unfolding(network: YOLOv6, folded: Iterable[str]) -> None:
    """Raises ConfigError where a layer of `folded` has no place: its block folds by other rules."""
    places = set(network.state_dict())
    for name, module in network.named_modules():
        if isinstance(module, RepVGGBlock | ConvBatchNorm):
            places |= {f"{name}.weight", f"{name}.bias"}
    if strange := [key for key in folded if key not in places]:
        raise ConfigError(f"--start: {strange[0]} of a folded block cannot be unfolded")


def _undoing(scale: Tensor | float, bias: Tensor | float) -> _Hook:
    """Makes a BatchNorm give scale x + bias of its input x, at its first."""

    def begin(module: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        assert module.running_mean is not None
        assert module.running_var is not None
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)  # as it learns
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)
        module.weight.copy_((variance + module.eps).sqrt() * scale)
        module.bias.copy_(mean * scale + bias)

    return begin
