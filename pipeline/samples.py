"""What a data set is: pictures with what is in them, for training and for evaluation.

    pictures: Pictures = Scenes(seed=7, length=1000)
    for sample in map(pictures.__getitem__, range(len(pictures))):
        sample.image, sample.boxes, sample.class_ids

Numpy only: whoever trains brings torch, whoever draws brings Pillow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One picture and the truth of it. The rows of `boxes`, `class_ids` and the others agree."""

    image: NDArray[np.uint8]  # [height, width, 3], RGB
    boxes: NDArray[np.float32]  # [objects, 4]: x1 y1 x2 y2, pixels, inside the picture
    class_ids: NDArray[np.int64]  # [objects]: into the `names` of its data set
    visible: NDArray[np.float32] | None = None  # [objects]: share not hidden, 0 to 1; None: unknown
    ignored: NDArray[np.bool_] | None = None  # [objects]: need not be found; None: all must be

    @property
    def is_ignored(self) -> NDArray[np.bool_]:
        """bool [objects]: to find it is neither right nor wrong, not to find it no miss."""
        return np.zeros(len(self.boxes), np.bool_) if self.ignored is None else self.ignored


class Pictures(Protocol):
    """A data set: the same number gives the same sample, in whatever order they are asked for."""

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in the order of their numbers."""

    @property
    def identity(self) -> str:
        """What the set is known by: another set has another."""

    def __len__(self) -> int:
        """How many samples there are."""

    def __getitem__(self, index: int) -> Sample:
        """The sample of that number, 0 to len - 1; `IndexError` beyond."""
