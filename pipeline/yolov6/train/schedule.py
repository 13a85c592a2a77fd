"""The learning rate and the momentum of each step: a linear warm-up, then half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

_FINAL = 0.01  # of the learning rate, at the end
_MOMENTUM = 0.937
_WARM_MOMENTUM = 0.8  # to begin with
_WARM_BIAS = 5.0  # times the learning rate, to begin with, for biases
_WARM_EPOCHS = 3
_WARM_STEPS = 100  # at least
_WARM_SHARE = 0.1  # of all steps, at most


@dataclass(frozen=True, slots=True)
class Schedule:
    """`steps` in each of `epochs`; the `rate` is reached after the warm-up and falls from there."""

    rate: float
    epochs: int
    steps: int

    @property
    def warm_steps(self) -> int:
        """Three epochs or 100 steps, but no more than a tenth of the training."""
        wanted = max(_WARM_EPOCHS * self.steps, _WARM_STEPS)
        return min(wanted, int(self.epochs * self.steps * _WARM_SHARE))

    def rates(self, step: int) -> tuple[float, float]:
        """Of step 0, 1, 2 …: the learning rate of weights, and that of biases."""
        progress = step / (self.epochs * self.steps)
        cosine = (1 + math.cos(math.pi * progress)) / 2
        rate = self.rate * (_FINAL + (1 - _FINAL) * cosine)
        warm = self._warmth(step)
        return warm * rate, (warm + (1 - warm) * _WARM_BIAS) * rate

    def momentum(self, step: int) -> float:
        return _WARM_MOMENTUM + (_MOMENTUM - _WARM_MOMENTUM) * self._warmth(step)

    def _warmth(self, step: int) -> float:
        return min(1.0, (step + 1) / (self.warm_steps + 1))
