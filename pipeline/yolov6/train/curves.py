"""The curves of a training as a PNG: losses, mAP and learning rate over the epochs. Pillow only."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipeline.drawing import colour
from pipeline.yolov6.weights import write_whole

PANELS = (
    ("losses", ("classes", "boxes", "distributions")),
    ("mAP", ("map50", "map50_95")),
    ("learning rate", ("learning_rate",)),
)
_WIDTH, _HEIGHT, _MARGIN = 480, 320, 56  # pixels of a panel, and around its axes
_INK, _GRID, _PAPER = (40, 40, 40), (225, 225, 225), (255, 255, 255)
_TICKS = 4

Point = tuple[float, float]


def draw(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """`history`: a row for each epoch; what a row does not hold, or holds as None, is left out.

    Raises WeightsError where the place cannot be written.
    """
    image = Image.new("RGB", (_WIDTH * len(PANELS), _HEIGHT), _PAPER)
    canvas = ImageDraw.Draw(image)
    for i, (title, columns) in enumerate(PANELS):
        _panel(canvas, _WIDTH * i, title, {name: _points(history, name) for name in columns})
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_whole(path, buffer.getbuffer())


def _points(history: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    rows = [(row["epoch"], row.get(name)) for row in history]
    return [(x, y) for x, y in rows if y is not None and math.isfinite(y)]


def _panel(
    canvas: ImageDraw.ImageDraw, left: int, title: str, lines: Mapping[str, list[Point]]
) -> None:
    font = ImageFont.load_default(13)
    everything = [point for points in lines.values() for point in points]
    last = max((x for x, _ in everything), default=1.0)
    top = _round_up(max((y for _, y in everything), default=1.0))
    x0, x1 = left + _MARGIN, left + _WIDTH - _MARGIN / 2
    y0, y1 = _HEIGHT - _MARGIN / 1.5, _MARGIN
    canvas.text((x0, 8), title, fill=_INK, font=font)
    for i in range(_TICKS + 1):
        share = i / _TICKS
        y = y0 + (y1 - y0) * share
        canvas.line((x0, y, x1, y), fill=_GRID)
        canvas.text((x0 - 6, y), f"{top * share:.3g}", fill=_INK, font=font, anchor="rm")
        x = x0 + (x1 - x0) * share
        canvas.text((x, y0 + 6), f"{last * share:.0f}", fill=_INK, font=font, anchor="ma")
    label = float(x0)
    for number, (name, points) in enumerate(lines.items()):
        if points:
            shade = tuple(part * 3 // 4 for part in colour(number))
            path = [
                (x0 + (x1 - x0) * x / last, y0 + (y1 - y0) * max(0.0, y) / top) for x, y in points
            ]
            canvas.line(path, fill=shade, width=2)
            canvas.text((label, 28), name, fill=shade, font=font)
            label += canvas.textlength(name, font=font) + 16


def _round_up(value: float) -> float:
    """To 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)
