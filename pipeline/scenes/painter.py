"""Puts sprites onto a backdrop, the farthest first, and says what can be seen of each.

All arithmetic is in whole numbers, so that a scene has the same bytes wherever it is drawn from
the same sprites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.backdrop import Backdrop
from pipeline.scenes.cast import Drawn

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Glow:
    """Light that is added to the picture around a point."""

    x: int  # of its middle, pixels
    y: int
    light: Bytes  # [side, side, 3]


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One thing in the picture."""

    depth: float
    drawn: Drawn
    class_id: int | None  # None: no target
    glows: tuple[Glow, ...] = ()
    rides: bool = False  # sits on the item before it, which does not count as hidden by that


@dataclass(frozen=True, slots=True)
class Seen:
    """What the picture shows of one target.

    `box` (x1 y1 x2 y2) is around what is seen of it, as COCO's are.
    """

    class_id: int
    box: tuple[int, ...]
    visible: float  # share of its pixels, those outside of the picture among them


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """All that one frame shows of targets; rows as in `pipeline.samples.Sample`."""

    boxes: NDArray[np.float32]  # [objects, 4]
    class_ids: NDArray[np.int64]  # [objects]
    visible: NDArray[np.float32]  # [objects]
    ignored: NDArray[np.bool_]  # [objects]: too little of it shows, it need not be found

    def of(self, rows: NDArray[np.bool_]) -> Truth:
        """Some of them; `rows`: bool [objects]."""
        return Truth(self.boxes[rows], self.class_ids[rows], self.visible[rows], self.ignored[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Floor:
    """A backdrop under the shadows of what never moves."""

    backdrop: Backdrop
    frame: Bytes  # [height, width, 3]
    dark: Bytes  # [height, width]: how much of the main light is taken


def lay(backdrop: Backdrop, things: Sequence[Item]) -> Floor:
    """The floor that `things` stand on."""
    frame = backdrop.lit.copy()
    dark = np.zeros(frame.shape[:2], np.uint8)
    _darken(frame, dark, backdrop, things)
    return Floor(backdrop, frame, dark)


def paint(floor: Floor, items: Sequence[Item]) -> Bytes:
    """The picture of `items`, things among them, which are sorted: the farthest first."""
    frame = floor.frame.copy()
    targets = [item for item in items if item.class_id is not None]
    _darken(frame, floor.dark.copy(), floor.backdrop, targets)
    for item in items:
        _put(frame, item.drawn)
        for glow in item.glows:
            add(frame, glow)
    return frame


def observe(items: Sequence[Item], size: tuple[int, int]) -> list[Seen]:
    """What is seen of the targets among `items` (the farthest first); `size`: height, width."""
    covered = np.zeros(size, np.bool_)
    found: list[Seen] = []
    riders: list[Item] = []
    for item in reversed(items):
        if item.class_id is not None:
            found += _seen(item, item.class_id, covered)
        for other in (*riders, item):
            if other is item and item.rides:
                riders = [item]
                break
            _cover(covered, other.drawn)
        else:
            riders = []
    return found[::-1]


def add(frame: Bytes, glow: Glow) -> None:
    """Adds light, up to white."""
    side = glow.light.shape[0]
    left, top = glow.x - side // 2, glow.y - side // 2
    window = _window((left, top, left + side, top + side), frame.shape[:2])
    if window is not None:
        inside, own = window
        region, light = frame[inside], glow.light[own]
        np.minimum(region, 255 - light, out=region)
        region += light


def _darken(frame: Bytes, dark: Bytes, backdrop: Backdrop, items: Sequence[Item]) -> None:
    """Adds shadows to `frame` and to `dark`: where two fall on each other it gets no darker."""
    windows = []
    for item in items:
        shadow, (dx, dy) = item.drawn.shadow, item.drawn.shift
        if shadow is None:
            continue
        left, top = shadow.left + dx, shadow.top + dy
        height, width = shadow.dark.shape
        window = _window((left, top, left + width, top + height), dark.shape)
        if window is not None:
            inside, own = window
            np.maximum(dark[inside], shadow.dark[own], out=dark[inside])
            windows.append(inside)
    for inside in windows:
        share = dark[inside][:, :, None].astype(np.uint16)
        lit = backdrop.lit[inside] * (255 - share)
        frame[inside] = (lit + backdrop.shadow[inside] * share + 255) >> 8


def _put(frame: Bytes, drawn: Drawn) -> None:
    sprite = drawn.sprite
    window = _window((*_corner(drawn), *_end(drawn)), frame.shape[:2])
    if window is None:
        return
    inside, own = window
    region = frame[inside]
    behind = region * sprite.clear[own].astype(np.uint16)
    behind += 255
    behind >>= 8
    behind += sprite.pixels[own]
    np.minimum(behind, 255, out=behind)
    region[:] = behind


def _seen(item: Item, class_id: int, covered: NDArray[np.bool_]) -> list[Seen]:
    window = _window((*_corner(item.drawn), *_end(item.drawn)), covered.shape)
    if window is None:
        return []
    inside, own = window
    sprite = item.drawn.sprite
    mask = sprite.mask[own]
    shown = mask & ~covered[inside]
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if not len(rows):
        return []
    x, y = inside[1].start, inside[0].start
    box = x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1
    share = np.count_nonzero(shown) / sprite.area
    return [Seen(class_id, tuple(map(int, box)), share)]


def _cover(covered: NDArray[np.bool_], drawn: Drawn) -> None:
    window = _window((*_corner(drawn), *_end(drawn)), covered.shape)
    if window is not None:
        covered[window[0]] |= drawn.sprite.mask[window[1]]


def _end(drawn: Drawn) -> tuple[int, int]:
    left, top = _corner(drawn)
    height, width = drawn.sprite.mask.shape
    return left + width, top + height


def _corner(drawn: Drawn) -> tuple[int, int]:
    return drawn.sprite.left + drawn.shift[0], drawn.sprite.top + drawn.shift[1]


def _window(
    box: tuple[int, int, int, int], size: Sequence[int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]] | None:
    """The part of a box (x1 y1 x2 y2) inside the picture: slices of the picture, and of the box."""
    x1, y1, x2, y2 = box
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, size[1]), min(y2, size[0])
    if left >= right or top >= bottom:
        return None
    inside = slice(top, bottom), slice(left, right)
    return inside, (slice(top - y1, bottom - y1), slice(left - x1, right - x1))
