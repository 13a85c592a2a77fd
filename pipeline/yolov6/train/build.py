"""The network to train: every row of the table with all its branches, or without, at random."""

from __future__ import annotations

import math

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.yolov6 import branches
from pipeline.yolov6.fold import fold
from pipeline.yolov6.head import ObjectnessHead
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.variants import VARIANTS

_PRIOR = 0.01  # the score that everything has to begin with (1708.02002, 3.3)
_DISTANCE = 1.0  # strides from the centre to each side, to begin with
_BINS = 17  # distances 0 … 16


def bins_of(name: str) -> int:
    """How the original trains a row: cross-stage partial ones predict distributions, 17 bins.

    With two exceptions, of which one has bins and one has none.
    """
    has_bins = VARIANTS[name].stage in ("BepC3", "MBLABlock")
    return _BINS if has_bins != (name in ("0.4.x-n_base", "0.2.x-s_base")) else 1


def build(name: str, classes: int, *, plain: bool, seed: int) -> YOLOv6:
    """Float32, on the CPU, in train mode; `plain` has one 3x3 in place of the branches.

    Raises ConfigError for what cannot be trained here.
    """
    if name not in VARIANTS:
        raise ConfigError(f"no variant {name!r} to train; known are {', '.join(VARIANTS)}")
    variant = VARIANTS[name]
    kit = (branches.plain if plain else branches.kit)(variant)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = YOLOv6(variant, classes, bins_of(name), kit)
    _begin(network)
    return network.train()


@torch.no_grad()
def _begin(network: YOLOv6) -> None:
    """The head says at first of everything that it is small and hardly there.

    Where distances are distributions, all bins weigh the same, as their equal biases have it.
    """
    head = network.detect
    distances = torch.tensor(_DISTANCE)
    kinds = [(head.cls_preds, torch.tensor(-math.log((1 - _PRIOR) / _PRIOR)))]
    if isinstance(head, ObjectnessHead):
        side = math.log(2 * _DISTANCE)
        distances = torch.tensor((0.5, 0.5, side, side))  # the same box: its centre, its sides
        kinds.append((head.obj_preds, torch.tensor(0.0)))
    for preds, bias in (*kinds, (head.reg_preds, distances)):
        for pred in preds:
            assert isinstance(pred, nn.Conv2d)
            assert pred.bias is not None
            pred.weight.zero_()
            pred.bias.copy_(bias)


def folded(network: YOLOv6, name: str) -> YOLOv6:
    """The network as it runs, from one with branches: eval mode, float32, on the same device."""
    device = next(network.parameters()).device
    state = fold({key: tensor.cpu().numpy() for key, tensor in network.state_dict().items()})
    with torch.device("meta"):
        fused = YOLOv6(VARIANTS[name], network.classes, network.detect.bins)
    tensors = {key: torch.from_numpy(array) for key, array in state.items()}
    fused.load_state_dict(tensors, assign=True)
    return fused.eval().requires_grad_(False).to(device)
