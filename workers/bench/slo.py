"""How many live cameras a machine holds: the most whose frames are as fresh as is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import ConfigError
from workers.bench.results import Whole

LEAST_SHARE = 0.99  # of the frames that are due: a camera that loses more is not held
_FORM = re.compile(r"p(50|95|99)=(\d+(?:\.\d+)?)(ms|s)")


@dataclass(frozen=True, slots=True)
class Slo:
    """A bound of the latency from a frame's arrival to Redis' confirmation."""

    quantile: str  # p50, p95, p99
    milliseconds: float

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Of `p95=100ms`. Raises ConfigError."""
        found = _FORM.fullmatch(text.replace(" ", ""))
        if found is None or float(found[2]) == 0:
            raise ConfigError(f"--slo: found {text!r}, must be like p95=100ms (p50, p95 or p99)")
        return cls(f"p{found[1]}", float(found[2]) * (1000 if found[3] == "s" else 1))

    def __str__(self) -> str:
        return f"{self.quantile} {self.milliseconds:g} ms"

    def latency(self, whole: Whole) -> float:
        """Milliseconds; infinite where nothing came through."""
        found = whole.latency.get("whole")
        return float(getattr(found, self.quantile)) if found else float("inf")

    def is_met(self, whole: Whole, due: float) -> bool:
        """`due`: frames/s that all cameras together have."""
        return self.latency(whole) <= self.milliseconds and whole.rate >= LEAST_SHARE * due


def most_held(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` for which `holds`, if what holds for n does for less.

    Asks for 1, 2, 4 … and then between, so about twice as often as the number has binary digits.
    """
    held, fails = 0, most + 1
    while fails - held > 1:
        doubled = max(1, held * 2)
        has_failed = fails <= most
        number = (held + fails) // 2 if has_failed or doubled > most else doubled
        if holds(number):
            held = number
        else:
            fails = number
    return held
