"""Line charts side by side, as one PNG. Pillow only."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from pipeline.drawing import colour

_WIDTH, _HEIGHT, _MARGIN = 480, 320, 56  # pixels of a panel, and around its axes
_INK, _GRID, _PAPER = (40, 40, 40), (225, 225, 225), (255, 255, 255)
_TICKS = 4

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. Both axes begin at 0."""

    title: str
    lines: Mapping[str, Sequence[Point]]
    ticks: Sequence[tuple[float, str]] = ()  # of the x axis; without any, even ones


def png(panels: Sequence[Panel]) -> bytes:
    """The file."""
    image = Image.new("RGB", (_WIDTH * len(panels), _HEIGHT), _PAPER)
    canvas = ImageDraw.Draw(image)
    for i, panel in enumerate(panels):
        _Drawing(canvas, _WIDTH * i, panel).draw()
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class _Drawing:
    """A panel on its way onto the picture."""

    def __init__(self, canvas: ImageDraw.ImageDraw, left: int, panel: Panel) -> None:
        self._canvas = canvas
        self._panel = panel
        self._font = ImageFont.load_default(13)
        self._x0, self._x1 = left + _MARGIN, left + _WIDTH - _MARGIN / 2
        self._y0, self._y1 = _HEIGHT - _MARGIN / 1.5, _MARGIN
        points = [point for line in panel.lines.values() for point in line]
        xs = [x for x, _ in (*points, *panel.ticks)]
        self._last = max(xs, default=0.0) or 1.0
        self._top = round_up(max((y for _, y in points), default=1.0))

    def draw(self) -> None:
        self._canvas.text((self._x0, 8), self._panel.title, fill=_INK, font=self._font)
        self._grid()
        label = float(self._x0)
        for number, (name, line) in enumerate(self._panel.lines.items()):
            if line:
                shade = tuple(part * 3 // 4 for part in colour(number))
                path = [self._at(x, y) for x, y in line]
                self._canvas.line(path, fill=shade, width=2)
                for x, y in path if self._panel.ticks else ():
                    self._canvas.ellipse((x - 3, y - 3, x + 3, y + 3), fill=shade)
                self._canvas.text((label, 28), name, fill=shade, font=self._font)
                label += self._canvas.textlength(name, font=self._font) + 16

    def _grid(self) -> None:
        canvas, font = self._canvas, self._font
        for i in range(_TICKS + 1):
            value = self._top * i / _TICKS
            _, y = self._at(0, value)
            canvas.line((self._x0, y, self._x1, y), fill=_GRID)
            canvas.text((self._x0 - 6, y), f"{value:,.4g}", fill=_INK, font=font, anchor="rm")
        even = [
            (self._last * i / _TICKS, f"{self._last * i / _TICKS:.0f}") for i in range(_TICKS + 1)
        ]
        for x, text in self._panel.ticks or even:
            at, _ = self._at(x, 0)
            canvas.text((at, self._y0 + 6), text, fill=_INK, font=font, anchor="ma")

    def _at(self, x: float, y: float) -> Point:
        """Pixels."""
        return (
            self._x0 + (self._x1 - self._x0) * x / self._last,
            self._y0 + (self._y1 - self._y0) * max(0.0, y) / self._top,
        )


def round_up(value: float) -> float:
    """To 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)
