"""What moves the weights: SGD, as the original has it, or Muon, which needs half the steps.

Muon (Jordan and others, 2024, https://kellerjordan.github.io/posts/muon/) takes the momentum of a
kernel as a matrix, first axis x all others, and moves along the nearest orthogonal one: every
direction is learned equally fast, not only those with large gradients. Biases, gains, kernels of
single channels, and the last layers of the head, of which each row is a quantity of its own, go by
SGD in both. Beside Muon decay is apart from the gradient (1711.05101), and so without its momentum.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.yolov6.train.recipe import Recipe

# Of x -> a x + b x^3 + c x^5, which drives all singular values towards 1 in five rounds.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ROUNDS = 5
_LAST_LAYERS = ("detect.cls_preds.", "detect.reg_preds.", "detect.obj_preds.")


def build_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Groups have `is_bias`; each parameter's state is its `momentum_buffer`. Kernels decay."""
    named = list(network.named_parameters())
    kernels = [(name, p) for name, p in named if not name.endswith("bias") and p.ndim > 1]
    is_matrix = [not name.startswith(_LAST_LAYERS) and p.shape[1] > 1 for name, p in kernels]
    inner = [p for (_, p), one in zip(kernels, is_matrix, strict=True) if one]
    last = [p for (_, p), one in zip(kernels, is_matrix, strict=True) if not one]
    gains = [p for name, p in named if not name.endswith("bias") and p.ndim <= 1]
    biases = [p for name, p in named if name.endswith("bias")]
    decay = {"weight_decay": recipe.weight_decay, "is_bias": False}
    still = {"weight_decay": 0.0, "is_bias": False}
    groups: list[dict[str, Any]] = [
        {"params": last, **decay},
        {"params": gains, **still},
        {"params": biases, **still, "is_bias": True},
    ]
    if recipe.optimiser == "muon":
        return Muon([{"params": inner, **decay, "is_matrix": True}, *groups], recipe.learning_rate)
    groups[0]["params"] = last + inner
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True)


class Muon(torch.optim.Optimizer):
    """Muon for the groups with `is_matrix`, Nesterov's SGD for the others."""

    def __init__(self, groups: list[dict[str, Any]], rate: float) -> None:
        defaults = {"lr": rate, "momentum": 0.9, "weight_decay": 0.0, "is_matrix": False}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Moves every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            updates = [self._momentum(p, group["momentum"]) for p in parameters]
            if group["is_matrix"]:
                updates = _orthogonal(updates)
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"])

    def _momentum(self, parameter: Tensor, share: float) -> Tensor:
        """What Nesterov's momentum makes of the gradient."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        buffer.mul_(share).add_(gradient)
        return gradient.add(buffer, alpha=share)


def _orthogonal(updates: list[Tensor]) -> list[Tensor]:
    """Each with singular values of about 1, times the root of outputs / inputs where that is more.

    Those of one shape together: there are a hundred small ones.
    """
    alike = defaultdict(list)
    for index, update in enumerate(updates):
        alike[update.shape].append(index)
    result = list(updates)
    for shape, indices in alike.items():
        matrices = torch.stack([updates[i].reshape(shape[0], -1) for i in indices])
        for i, matrix in zip(indices, orthogonalised(matrices), strict=True):
            result[i] = matrix.reshape(shape)
    return result


def orthogonalised(matrices: Tensor) -> Tensor:
    """[N, rows, columns] → the same with singular values of 0.7 to 1.2, scaled as above.

    But for those below about 1/500 of the matrix's norm, which stay smaller.
    """
    rows, columns = matrices.shape[1:]
    x = matrices.mT if rows > columns else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    x = x.mT if rows > columns else x
    scaled: Tensor = x * max(1.0, rows / columns) ** 0.5
    return scaled
