"""Boxes and labels on a picture, for eyes. Needs Pillow (the `draw` extra).

Decided here: a class has the same colour in every picture; a box has a dark and a coloured line,
and a label stands black or white on a plate of that colour, so that both can be read on any
background; plates avoid each other, the surest detection choosing first.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import VedetteError
from pipeline.wire import Detection

Colour = tuple[int, int, int]
Plate = tuple[float, float, float, float]  # x1, y1, x2, y2 of a label, pixels

_GOLDEN_ANGLE = 0.61803398875  # of the hue circle: neighbours in class number differ most
_SHADOW = (0, 0, 0)
_QUALITY = 90  # of the JPEG


def save(path: Path, pixels: NDArray[np.uint8], detections: Sequence[Detection]) -> None:
    """Writes a JPEG of `pixels` (uint8 RGB [height, width, 3]) with what was found in it.

    Raises `VedetteError` where the place cannot be written.
    """
    try:
        draw(pixels, detections).save(path, "JPEG", quality=_QUALITY)
    except OSError as error:
        raise VedetteError(f"{path} cannot be written: {error.strerror or error}") from None


def draw(pixels: NDArray[np.uint8], detections: Sequence[Detection]) -> Image.Image:
    """The picture with a box and a label for each detection; boxes in pixels of the picture."""
    image = Image.fromarray(pixels)
    canvas = ImageDraw.Draw(image)
    shorter = min(image.size)
    line = max(2, round(shorter / 300))
    font = ImageFont.load_default(max(12, round(shorter / 36)))
    for found in reversed(detections):  # the surest on top
        _outline(canvas, found, line)
    texts = [_label(found) for found in detections]
    plates: list[Plate] = []
    for found, text in zip(detections, texts, strict=True):
        _, _, right, bottom = font.getbbox(text)
        size = right + 2 * line, bottom + 2 * line
        plates.append(place(found.box, size, image.size, plates))
    for found, text, plate in reversed(list(zip(detections, texts, plates, strict=True))):
        fill = colour(found.class_id)
        canvas.rectangle(plate, fill=fill)
        canvas.text((plate[0] + line, plate[1] + line), text, fill=ink(fill), font=font)
    return image


def colour(class_id: int) -> Colour:
    """The class's colour, bright enough to be seen beside its dark line."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_ANGLE % 1, 0.8, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def ink(background: Colour) -> Colour:
    """Black or white, whichever has the better contrast (WCAG 2.2, relative luminance)."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in background)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)


def place(
    box: Sequence[float],
    size: tuple[float, float],
    picture: tuple[int, int],
    taken: Sequence[Plate],
) -> Plate:
    """Where a label of `size` (width, height) goes: the first free place at its box's edges.

    Above the box, inside its top, inside its bottom, below it; always inside the `picture`
    (width, height) as far as it fits. Where nothing is free, inside the top.
    """
    x1, y1, _, y2 = box
    width, height = size
    left = max(0.0, min(x1, picture[0] - 1 - width))
    plates = [
        (left, top, left + width, top + height)
        for top in (y1 - height, y1, y2 - height, y2)
        if top >= 0 and top + height < picture[1]
    ]
    for plate in plates:
        if not any(_touch(plate, other) for other in taken):
            return plate
    top = max(0.0, min(y1, picture[1] - 1 - height))
    return left, top, left + width, top + height


def _outline(canvas: ImageDraw.ImageDraw, found: Detection, line: int) -> None:
    x1, y1, x2, y2 = found.box
    right, bottom = max(x1, x2 - 1), max(y1, y2 - 1)  # the last pixel inside
    canvas.rectangle((x1, y1, right, bottom), outline=_SHADOW, width=line + 2)
    inner = (x1 + 1, y1 + 1, max(x1 + 1, right - 1), max(y1 + 1, bottom - 1))
    canvas.rectangle(inner, outline=colour(found.class_id), width=line)


def _label(found: Detection) -> str:
    """`person 0.95`, in one line whatever the class is called."""
    name = "".join(sign if sign.isprintable() else "?" for sign in found.label)
    return f"{name} {found.confidence:.2f}"


def _touch(first: Plate, second: Plate) -> bool:
    return (
        first[0] < second[2]
        and second[0] < first[2]
        and first[1] < second[3]
        and second[1] < first[3]
    )
