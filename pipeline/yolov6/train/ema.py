"""A running average of the weights, which is what is evaluated and kept."""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Average(Generic[Network]):
    """The exponential moving average of a network, statistics of its BatchNorms included.

    Its memory grows from none to that of `decay` within a few times `ramp` updates, so that the
    random weights of the beginning are soon forgotten.
    """

    def __init__(self, network: Network, *, decay: float = 0.9999, ramp: float = 2000) -> None:
        self.network: Network = deepcopy(network).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay
        self._ramp = ramp

    @torch.no_grad()
    def update(self, network: Network) -> None:
        """To be called behind each step."""
        self.updates += 1
        share = 1 - self._decay * (1 - math.exp(-self.updates / self._ramp))
        averages, values = self.network.state_dict(), network.state_dict()
        floats = [key for key in averages if averages[key].is_floating_point()]
        torch._foreach_lerp_([averages[k] for k in floats], [values[k] for k in floats], share)

    def state(self) -> dict[str, Tensor]:
        return self.network.state_dict()
