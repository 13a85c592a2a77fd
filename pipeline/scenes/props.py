"""What stands around and is no target: trees, poles, signs, bins, and other things in the way."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pipeline.scenes.model import Builder, Colour, Model, Point
from pipeline.scenes.street import Street
from pipeline.scenes.traffic import CAR, stretch
from pipeline.scenes.vehicles import Hull
from pipeline.scenes.view import View

_POST: Colour = (0.30, 0.31, 0.32)
_BARK: Colour = (0.24, 0.18, 0.13)
_WOOD: Colour = (0.40, 0.28, 0.17)
_BINS: tuple[Colour, ...] = (
    (0.10, 0.25, 0.14),
    (0.14, 0.14, 0.15),
    (0.12, 0.22, 0.42),
    (0.5, 0.4, 0.08),
)


def lamp(rng: np.random.Generator) -> Model:
    """A street lamp whose arm reaches ahead (towards x)."""
    build = Builder()
    high = float(rng.uniform(5.5, 7.5))
    build.begin()
    build.stroke([(0, 0, 0), (0, 0, 1.0)], 0.11, _POST)
    build.stroke(
        [(0, 0, 1.0), (0, 0, high), (0.5, 0, high + 0.35), (1.4, 0, high + 0.4)], 0.06, _POST
    )
    build.stroke([(1.2, 0, high + 0.38), (1.7, 0, high + 0.36)], 0.09, (0.7, 0.7, 0.65))
    build.headlights.append((1.5, 0.0, high + 0.3))
    return build.build()


def tree(rng: np.random.Generator) -> Model:
    """A trunk under a crown of leaves, green or, now and then, yellow."""
    build = Builder()
    base, wide = float(rng.uniform(2.0, 3.2)), float(rng.uniform(1.1, 2.3))
    tone = np.array((0.17, 0.27, 0.09)) * rng.uniform(0.75, 1.25)
    if rng.random() < 0.2:
        tone = np.array((0.42, 0.32, 0.09)) * rng.uniform(0.8, 1.1)
    build.begin()
    build.stroke([(0, 0, 0), (0, 0, base + 0.6)], float(rng.uniform(0.09, 0.2)), _BARK)
    middle = base + wide * 0.9
    for sector in range(4):
        build.begin()
        for size, count in ((0.42, 3), (0.17, 12), (0.1, 26)):
            for _ in range(count):
                turn = (sector + rng.uniform(0, 1)) * math.pi / 2
                rise = rng.uniform(-0.9, 1.0)
                out = math.sqrt(1 - rise**2) * rng.uniform(0.75, 1.1) * (1 - size)
                leaf = tone * (1.0 - size + 0.3 * rise + rng.normal(0, 0.12))
                x, y = wide * out * math.cos(turn), wide * out * math.sin(turn)
                centre = (x, y, float(middle + rise * wide * (1 - size)))
                build.stroke([centre], float(wide * size * rng.uniform(0.7, 1.2)), _colour(leaf))
    return build.build()


def bush(rng: np.random.Generator) -> Model:
    """Knee-high to chest-high leaves, or a planter with some."""
    build = Builder()
    wide = float(rng.uniform(0.35, 0.8))
    tone = np.array((0.16, 0.25, 0.09)) * rng.uniform(0.8, 1.3)
    potted = rng.random() < 0.5
    if potted:
        build.begin()
        _block(build, (wide * 1.5, wide * 1.5, 0.5), (0.5, 0.47, 0.43))
    build.begin()
    for index in range(42):
        x, y = rng.normal(0, wide * 0.4, 2)
        z = (0.5 if potted else 0.1) + wide * rng.uniform(0.1, 0.9)
        leaf = _colour(tone * rng.uniform(0.6, 1.4))
        radius = wide * rng.uniform(0.2, 0.35) * (1.0 if index < 10 else 0.4)
        build.stroke([(float(x), float(y), float(z))], float(radius), leaf)
    return build.build()


def sign(rng: np.random.Generator) -> Model:
    """A traffic sign, or a traffic light, on a post."""
    build = Builder()
    build.begin()
    high = float(rng.uniform(2.2, 2.8))
    build.stroke([(0, 0, 0), (0, 0, high + 0.3)], 0.035, _POST)
    inside = (-1.0, 0.0, high)
    if rng.random() < 0.3:
        build.stroke([(0.08, 0, high - 0.3), (0.08, 0, high + 0.4)], 0.15, (0.08, 0.08, 0.08))
        lights = ((0.6, 0.1, 0.05), (0.6, 0.5, 0.05), (0.1, 0.6, 0.2))
        for index, colour in enumerate(lights):
            build.stroke([(0.2, 0, high + 0.32 - 0.28 * index)], 0.07, colour)
        return build.build()
    colour, second = [
        ((0.70, 0.06, 0.06), (0.9, 0.9, 0.9)), ((0.08, 0.20, 0.55), (0.9, 0.9, 0.9)),
        ((0.85, 0.70, 0.10), (0.1, 0.1, 0.1)), ((0.85, 0.85, 0.85), (0.7, 0.06, 0.06)),
    ][int(rng.integers(4))]  # fmt: skip
    corners = int(rng.choice([3, 4, 8, 14]))
    for size, x, paint in ((0.33, 0.05, colour), (0.2, 0.06, second)):
        build.face(_plate(x, high, size, corners), paint, inside=inside)
    build.face(_plate(-0.05, high, 0.33, corners), (0.42, 0.43, 0.44), inside=(1.0, 0.0, high))
    return build.build()


def hydrant(rng: np.random.Generator) -> Model:
    """A hydrant, a bollard or a traffic cone."""
    build = Builder()
    build.begin()
    kind = int(rng.integers(3))
    if kind == 0:
        colour: Colour = ((0.65, 0.08, 0.06), (0.75, 0.6, 0.1))[int(rng.integers(2))]
        build.stroke([(0, 0, 0), (0, 0, 0.6)], 0.12, colour)
        build.stroke([(0, -0.18, 0.45), (0, 0.18, 0.45)], 0.07, colour)
        build.stroke([(0, 0, 0.7)], 0.11, colour)
    elif kind == 1:
        build.stroke([(0, 0, 0), (0, 0, 0.9)], 0.09, _POST)
        build.stroke([(0, 0, 0.72), (0, 0, 0.8)], 0.095, (0.8, 0.8, 0.78))
    else:
        for z, radius, paint in (
            (0.04, 0.2, (0.1, 0.1, 0.1)), (0.15, 0.15, (0.85, 0.3, 0.05)),
            (0.33, 0.11, (0.85, 0.85, 0.85)), (0.5, 0.07, (0.85, 0.3, 0.05)),
        ):  # fmt: skip
            build.stroke([(0, 0, z), (0, 0, z + 0.1)], radius, paint)
    return build.build()


def bin_(rng: np.random.Generator) -> Model:
    """A litter bin, a wheeled bin, a post box or a cabinet."""
    build = Builder()
    build.begin()
    colour = _BINS[int(rng.integers(len(_BINS)))]
    size = [(0.5, 0.5, 0.9), (0.6, 0.7, 1.1), (0.45, 0.5, 1.4), (0.5, 1.2, 1.2)][
        int(rng.integers(4))
    ]
    _block(build, size, colour)
    lid: Colour = (colour[0] * 0.6, colour[1] * 0.6, colour[2] * 0.6)
    build.stroke([(0, -size[1] / 2, size[2]), (0, size[1] / 2, size[2])], 0.06, lid)
    return build.build()


def bench(rng: np.random.Generator) -> Model:
    """A bench."""
    build = Builder()
    build.begin()
    long = float(rng.uniform(1.4, 2.0))
    for y in (-long / 2 + 0.1, long / 2 - 0.1):
        build.stroke([(-0.2, y, 0), (-0.2, y, 0.85)], 0.035, _POST)
        build.stroke([(0.2, y, 0), (0.2, y, 0.42)], 0.035, _POST)
    for x, z in ((0.15, 0.45), (0, 0.45), (-0.15, 0.46), (-0.22, 0.65), (-0.24, 0.85)):
        build.stroke([(x, -long / 2, z), (x, long / 2, z)], 0.05, _WOOD)
    return build.build()


def shelter(rng: np.random.Generator) -> Model:
    """A kiosk or an advertising column: wide enough to hide people."""
    build = Builder()
    build.begin()
    paper: Colour = _colour(rng.uniform(0.2, 0.8, 3))
    if rng.random() < 0.5:
        build.stroke([(0, 0, 0.1), (0, 0, 2.5)], 0.55, (0.35, 0.36, 0.36))
        build.stroke([(0, 0, 0.8), (0, 0, 2.1)], 0.56, paper)
        return build.build()
    _block(build, (0.3, 1.3, 2.2), (0.2, 0.21, 0.22))
    for x in (0.16, -0.16):
        poster = [(x, -0.52, 0.5), (x, 0.52, 0.5), (x, 0.52, 2.0), (x, -0.52, 2.0)]
        build.face(poster, paper, inside=(0, 0, 1.2), gloss=0.1, glows=True)
    return build.build()


Maker = Callable[[np.random.Generator], Model]
ALONG_THE_KERB: tuple[tuple[Maker, float], ...] = (
    (tree, 0.20), (sign, 0.24), (hydrant, 0.24), (bin_, 0.16), (bush, 0.12), (shelter, 0.04),
)  # fmt: skip
ON_A_PAVEMENT: tuple[tuple[Maker, float], ...] = (
    (bench, 0.24), (bin_, 0.24), (bush, 0.24), (hydrant, 0.16), (shelter, 0.06), (tree, 0.06),
)  # fmt: skip


def places(
    rng: np.random.Generator, street: Street, view: View
) -> list[tuple[tuple[float, float], Maker]]:
    """What stands where (u, v) along the pavements, as far as the camera sees them."""
    found: list[tuple[tuple[float, float], Maker]] = []
    for side in (-1, 1):
        for table, off, gap in (
            (ALONG_THE_KERB, 0.6, rng.uniform(8, 22)),
            (ON_A_PAVEMENT, street.pavement * rng.uniform(0.5, 0.95), rng.uniform(10, 30)),
        ):
            u = side * (street.half_road + off)
            span = stretch(view, street, u, CAR)
            makers, shares = zip(*table, strict=True)
            v = span[0] + rng.uniform(0, gap) if span else 0.0
            while span and v < min(span[1], span[0] + 90):
                at = (u + float(rng.normal(0, 0.15)), float(v))
                found.append((at, makers[int(rng.choice(len(makers), p=shares))]))
                v += gap * rng.uniform(0.5, 1.6)
    return found


def _block(build: Builder, size: tuple[float, float, float], colour: Colour) -> None:
    long, wide, high = size
    profile = [(-long / 2, 0.0), (-long / 2, high), (long / 2, high), (long / 2, 0.0)]
    Hull(build, profile, [wide / 2] * 4).paint(colour)


def _plate(x: float, z: float, size: float, corners: int) -> list[Point]:
    turns = [2 * math.pi * (corner + 0.5) / corners - math.pi / 2 for corner in range(corners)]
    return [(x, size * math.cos(turn), z + size * math.sin(turn)) for turn in turns]


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (float(value) for value in np.clip(values, 0.02, 1))
    return red, green, blue
