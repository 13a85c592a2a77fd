"""The curves of a training as a PNG: losses, mAP and learning rate over the epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.charts import Panel, Point, png
from pipeline.yolov6.weights import write_whole

PANELS = (
    ("losses", ("classes", "boxes", "distributions")),
    ("mAP", ("map50", "map50_95")),
    ("learning rate", ("learning_rate",)),
)


def draw(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """`history`: a row for each epoch; what a row does not hold, or holds as None, is left out.

    Raises WeightsError where the place cannot be written.
    """
    panels = [
        Panel(title, {name: _points(history, name) for name in columns})
        for title, columns in PANELS
    ]
    write_whole(path, png(panels))


def _points(history: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    rows = [(row["epoch"], row.get(name)) for row in history]
    return [(x, y) for x, y in rows if y is not None and math.isfinite(y)]
