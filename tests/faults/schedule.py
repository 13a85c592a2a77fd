"""When a fault strikes: from a seed, so that a run that failed can be had again.

`VEDETTE_FAULT_SEED` picks the seed, 5 by default. A row's moments depend on its name and the seed
only, not on which rows run before it.
"""

from __future__ import annotations

import os
from random import Random

SEED = int(os.environ.get("VEDETTE_FAULT_SEED", "5"))


class Schedule:
    """The moments of one row."""

    def __init__(self, row: str, seed: int = SEED) -> None:
        self.random = Random(f"{seed}:{row}")

    def entries(self, least: int = 5, most: int = 30) -> int:
        """How many entries both streams have when it strikes: the file must not be done by then."""
        return self.random.randint(least, most)

    def seconds(self, least: float, most: float) -> float:
        """How long it lasts, or how long after the last step it strikes."""
        return self.random.uniform(least, most)
