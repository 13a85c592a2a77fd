"""A model as the camera sees it at one place: its pixels, how much they cover, and its shadow.

Everything is drawn several times larger and averaged down, which gives soft edges and, since
nothing but black lies around it, colours that are already multiplied by their coverage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipeline.scenes.light import Light
from pipeline.scenes.model import Model
from pipeline.scenes.view import View

Floats = NDArray[np.float64]
LARGEST = 1.4  # of the picture's width: the longer side; what would be larger has no sprite
_PLAIN = "CMYK"  # four channels that Pillow averages as they are, unlike RGBA; ours are R G B A
_COVERED = 80  # of 255, from which a pixel counts: spokes and far limbs cover none whole
_MARGIN = 2  # pixels around it, for soft edges
_CONTACT = 120  # of 255: the shadow right below a body, whatever the light


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """Where and what is drawn; `left`, `top` belong to the place that it was made for."""

    left: int
    top: int
    pixels: NDArray[np.uint8]  # [height, width, 3], times coverage
    clear: NDArray[np.uint8]  # [height, width, 1]: 255 minus the coverage
    mask: NDArray[np.bool_]  # [height, width]: covered, before any blur
    box: tuple[int, int, int, int]  # of the mask, inside the sprite: x1 y1 x2 y2
    area: int  # pixels of the mask


@dataclass(frozen=True, slots=True, eq=False)
class Shadow:
    """Darkness on the ground, 0 to 255, [height, width]."""

    left: int
    top: int
    dark: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a model stands."""

    x: float  # on the ground's axes, metres
    y: float
    heading: float  # radians from the x axis, counter-clockwise
    level: float  # how much of the main light arrives, 0 to 1

    def turn(self, points: Floats) -> Floats:
        """Points on the model's axes → on the ground's."""
        turned = points @ _turning(self.heading).T
        turned[:, 0] += self.x
        turned[:, 1] += self.y
        return turned


def bounds(model: Model, pose: Pose, view: View) -> tuple[float, float, float, float, float]:
    """x1 y1 x2 y2 in the picture around all of it, and the least depth of its box's corners."""
    corners = view.project(pose.turn(model.corners))
    low, high = corners.min(axis=0), corners.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1]), float(low[2])


def draw(model: Model, pose: Pose, view: View, light: Light) -> Sprite | None:
    """The model's sprite, None where nothing of it would be seen."""
    seen = view.project(pose.turn(model.vertices))
    pad = max(model.radii) * view.focal / float(seen[:, 2].min()) + _MARGIN
    left, top = (math.floor(value - pad) for value in seen[:, :2].min(axis=0))
    right, bottom = (math.ceil(value + pad) for value in seen[:, :2].max(axis=0))
    width, height = right - left, bottom - top
    if max(width, height) > LARGEST * view.width:
        return None
    finer = _finer(max(width, height))
    image = Image.new(_PLAIN, (width * finer, height * finer))
    flat = (seen[:, :2] - (left, top)) * finer
    sizes = [end - start for start, end in model.spans]
    girth = np.repeat(model.radii, sizes) * (view.focal * finer) / seen[:, 2]
    colours = _colours(model, pose, view, light)
    looks = [(part, colours[part]) for part in _order(model, pose, view, seen[:, 2])]
    _paint(ImageDraw.Draw(image), model, flat, girth, looks)
    return _sprite(image, finer, (left, top), light, view)


def draw_shadow(model: Model, pose: Pose, view: View, light: Light) -> Shadow | None:
    """What the model takes of the main light on the ground, and of the sky's right below it."""
    below = view.project(pose.turn(model.corners[:4]))[:, :2]
    cast = light.casts and pose.level > 0.5
    outlines = [below, *(_cast(model, pose, view, light) if cast else ())]
    corners = np.concatenate(outlines)
    left, top = (math.floor(value) - 3 for value in corners.min(axis=0))
    right, bottom = (math.ceil(value) + 3 for value in corners.max(axis=0))
    if max(right - left, bottom - top) > LARGEST * view.width:
        return None
    image = Image.new("L", (right - left, bottom - top))
    canvas = ImageDraw.Draw(image)
    for outline in outlines:
        dark = _CONTACT if outline is below else 255
        canvas.polygon((outline - (left, top)).ravel().tolist(), fill=dark)
    softness = 0.8 if cast else min(4.0, (right - left) / 14)
    image = image.filter(ImageFilter.BoxBlur(softness))
    return Shadow(left, top, np.asarray(image))


def _cast(model: Model, pose: Pose, view: View, light: Light) -> list[Floats]:
    """The outlines on the ground of its groups' shadows."""
    towards = np.asarray(light.towards)
    points = pose.turn(model.extremes.reshape(-1, 3))
    fallen = points - (np.maximum(points[:, 2:3], 0) / towards[2]) * towards
    flat = view.project(fallen)[:, :2].round(1).reshape(len(model.extremes), -1, 2)
    outlines = [_hull(group) for group in flat.tolist()]
    return [outline for outline in outlines if len(outline) > 2]


def _hull(points: list[list[float]]) -> Floats:
    """The convex hull (Andrew's monotone chain)."""
    ordered = sorted(set(map(tuple, points)))
    hull: list[tuple[float, ...]] = []
    for run in (ordered, ordered[::-1]):
        begin = len(hull)
        for x, y in run:
            while len(hull) - begin > 1:
                (x1, y1), (x2, y2) = hull[-2:]
                if (x2 - x1) * (y - y1) > (y2 - y1) * (x - x1):
                    break
                hull.pop()
            hull.append((x, y))
        hull.pop()
    return np.array(hull).reshape(-1, 2)


def _finer(side: int) -> int:
    if side < 40:
        return 4
    return 3 if side < 110 else 2


def _colours(model: Model, pose: Pose, view: View, light: Light) -> list[tuple[int, ...]]:
    """One for each part, as the sensor sees it."""
    normals = model.normals @ _turning(pose.heading).T
    lit = light.shade(model.albedo, normals, pose.level)
    lit += model.gloss * np.asarray(light.horizon) * (0.25 + 0.75 * np.maximum(normals[:, 2:3], 0))
    if light.lamps:
        lit[model.glows] = model.albedo[model.glows] * 1.3
    metres = math.hypot(pose.x, pose.y, view.above)
    return [tuple(colour) for colour in light.exposed(light.through_air(lit, metres)).tolist()]


def _order(model: Model, pose: Pose, view: View, depth: Floats) -> list[int]:
    """The parts that can be seen, in the order of drawing."""
    starts = [start for start, _ in model.spans]
    sizes = np.array([end - start for start, end in model.spans])
    sums = np.bincount(model.groups, np.add.reduceat(depth, starts) / sizes)
    distance = sums / np.maximum(np.bincount(model.groups), 1)
    order = np.lexsort((np.arange(len(starts)), -distance[model.groups]))
    looks = (0.0, 0.0, view.above) - pose.turn(model.centres)
    facing = ((model.normals @ _turning(pose.heading).T) * looks).sum(axis=1) > 0
    seen = facing | ~model.one_sided
    return [part for part in order.tolist() if seen[part]]


def _paint(
    canvas: ImageDraw.ImageDraw,
    model: Model,
    flat: Floats,
    girth: Floats,
    looks: list[tuple[int, tuple[int, ...]]],
) -> None:
    """Each part of `looks` with its colour; `girth` is the radius of strokes there, pixels."""
    points = list(map(tuple, flat.tolist()))
    radii = girth.tolist()
    for part, colour in looks:
        start, end = model.spans[part]
        fill = (*colour, 255)
        if model.radii[part]:
            _bar(canvas, points[start:end], radii[start:end], fill)
        else:
            canvas.polygon(points[start:end], fill=fill)


def _bar(
    canvas: ImageDraw.ImageDraw,
    points: list[tuple[float, ...]],
    radii: list[float],
    fill: tuple[int, ...],
) -> None:
    """A line with round ends that grows and shrinks from point to point."""
    for (x, y), radius in zip(points, radii, strict=True):
        if radius >= 1:
            canvas.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    for index in range(len(points) - 1):
        (x1, y1), (x2, y2) = points[index], points[index + 1]
        length = math.hypot(x2 - x1, y2 - y1) or 1.0
        across, along = (y2 - y1) / length, (x2 - x1) / length
        a, b = max(radii[index], 0.6), max(radii[index + 1], 0.6)
        canvas.polygon(
            (
                (x1 + across * a, y1 - along * a),
                (x2 + across * b, y2 - along * b),
                (x2 - across * b, y2 + along * b),
                (x1 - across * a, y1 + along * a),
            ),
            fill=fill,
        )


def _sprite(
    image: Image.Image, finer: int, corner: tuple[int, int], light: Light, view: View
) -> Sprite | None:
    small = image.reduce(finer)
    mask = np.asarray(small)[:, :, 3] >= _COVERED
    blur = light.blur * view.width / 640
    if blur > 0.1:
        small = small.filter(ImageFilter.BoxBlur(blur))
    pixels = np.asarray(small)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return Sprite(
        left=corner[0],
        top=corner[1],
        pixels=_rounded(np.ascontiguousarray(pixels[:, :, :3])),
        clear=255 - pixels[:, :, 3:],
        mask=mask,
        box=(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
        area=int(np.count_nonzero(mask)),
    )


def _rounded(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A little darker towards the ground and to the right: flat colours look like cardboard."""
    height, width = pixels.shape[:2]
    down = 256 - np.arange(height) * 51 // height
    across = 256 - np.arange(width) * 26 // width
    share = (down[:, None] * across >> 8).astype(np.uint16)
    rounded: NDArray[np.uint8] = (pixels * share[:, :, None] >> 8).astype(np.uint8)
    return rounded


def _turning(heading: float) -> Floats:
    cos, sin = math.cos(heading), math.sin(heading)
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
