"""Cars, trucks and buses: bodies that are a side view, pulled apart to a width.

Sizes are those of the street, metres; what varies does so within what is sold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.scenes.model import Builder, Colour, Model, Point

Profile = Sequence[tuple[float, float]]  # x, z: once around, from below the back over the top

GLASS: Colour = (0.07, 0.09, 0.11)
DARK: Colour = (0.05, 0.05, 0.06)
RIM: Colour = (0.45, 0.46, 0.48)
WHITE_LIGHT: Colour = (0.95, 0.95, 0.88)
RED_LIGHT: Colour = (0.75, 0.05, 0.04)
PLATE: Colour = (0.85, 0.84, 0.72)

PAINTS: tuple[Colour, ...] = (
    (0.82, 0.83, 0.84), (0.88, 0.88, 0.87), (0.05, 0.05, 0.06), (0.10, 0.10, 0.12),
    (0.38, 0.39, 0.41), (0.56, 0.57, 0.59), (0.22, 0.23, 0.25), (0.50, 0.05, 0.06),
    (0.65, 0.10, 0.08), (0.06, 0.12, 0.34), (0.12, 0.28, 0.50), (0.30, 0.45, 0.58),
    (0.06, 0.20, 0.12), (0.25, 0.30, 0.18), (0.45, 0.36, 0.24), (0.62, 0.56, 0.44),
    (0.78, 0.60, 0.08), (0.70, 0.32, 0.06), (0.30, 0.16, 0.10), (0.35, 0.10, 0.28),
)  # fmt: skip
CLOTHS: tuple[Colour, ...] = (
    (0.80, 0.80, 0.78), (0.75, 0.72, 0.62), (0.20, 0.35, 0.60), (0.55, 0.12, 0.10),
    (0.20, 0.40, 0.25), (0.55, 0.56, 0.58), (0.80, 0.62, 0.15), (0.30, 0.22, 0.18),
)  # fmt: skip


class Hull:
    """One body: a profile with a half width at each of its points, and what is stuck on it."""

    def __init__(self, builder: Builder, profile: Profile, widths: Sequence[float]) -> None:
        self._builder = builder
        self._profile = profile
        self._widths = widths
        xs, zs = zip(*profile, strict=True)
        self.inside: Point = ((min(xs) + max(xs)) / 2, 0.0, (min(zs) + max(zs)) / 2)

    def paint(
        self, colour: Colour, strips: dict[int, Colour] | None = None, gloss: float = 0.06
    ) -> None:
        """Both sides and the strips between them; a strip's number is that of its first point."""
        build = self._builder
        for side in (1, -1):
            points = [
                (x, side * half, z)
                for (x, z), half in zip(self._profile, self._widths, strict=True)
            ]
            build.face(points, colour, inside=self.inside, gloss=gloss)
        for index in range(len(self._profile) - 1):
            own = (strips or {}).get(index, colour)
            shine = 0.35 if own == GLASS else gloss
            build.face(self._strip(index, (-1, 1), (0, 1)), own, inside=self.inside, gloss=shine)

    def panel(
        self,
        strip: int,
        across: tuple[float, float],
        along: tuple[float, float],
        colour: Colour,
        **look: float,
    ) -> None:
        """A piece of a strip; across from -1 to 1, along from 0 to 1, in parts of it."""
        points = self._strip(strip, across, along)
        shining = bool(look.get("glows"))
        gloss = look.get("gloss", 0.0)
        self._builder.face(points, colour, inside=self.inside, gloss=gloss, glows=shining)

    def side(self, points: Profile, half: Sequence[float], colour: Colour, gloss: float) -> None:
        """The same polygon on both sides, at the half widths of its points."""
        for side in (1, -1):
            placed = [(x, side * (w + 0.004), z) for (x, z), w in zip(points, half, strict=True)]
            self._builder.face(placed, colour, inside=self.inside, gloss=gloss)

    def _strip(
        self, index: int, across: tuple[float, float], along: tuple[float, float]
    ) -> list[Point]:
        (x1, z1), (x2, z2) = self._profile[index], self._profile[index + 1]
        w1, w2 = self._widths[index], self._widths[index + 1]
        points = []
        for step, sides in ((along[0], across), (along[1], across[::-1])):
            half = w1 + (w2 - w1) * step
            x, z = x1 + (x2 - x1) * step, z1 + (z2 - z1) * step
            points += [(x, part * half, z) for part in sides]
        return points


def car(rng: np.random.Generator) -> Model:
    """A hatchback, saloon, estate, off-roader or van with windows."""
    kind = rng.choice(
        ["hatchback", "saloon", "estate", "tall", "van"], p=[0.3, 0.26, 0.2, 0.16, 0.08]
    )
    length, height, rear_top, rear_base, front_top, front_base = {
        "hatchback": (4.0, 1.48, -1.55, -1.92, 0.35, 1.10),
        "saloon": (4.7, 1.44, -1.00, -1.75, 0.35, 1.15),
        "estate": (4.6, 1.50, -1.95, -2.20, 0.35, 1.15),
        "tall": (4.5, 1.72, -1.85, -2.15, 0.55, 1.15),
        "van": (4.9, 1.95, -2.30, -2.42, 1.15, 1.75),
    }[str(kind)]
    stretch = length / 4.5 * rng.uniform(0.96, 1.04)
    half = {"van": 0.95, "tall": 0.93}.get(str(kind), 0.88)
    waist = height * 0.62
    paint = PAINTS[int(rng.integers(len(PAINTS)))]
    builder = Builder()
    builder.begin()
    back, front = -length / 2, length / 2
    deck = waist if kind == "saloon" else waist * 1.02
    profile = [
        (back + 0.08, 0.22), (back, 0.42), (back + 0.04, deck - 0.12), (back + 0.14, deck),
        (front_base * stretch, waist + 0.02), (front - 0.42, waist - 0.14),
        (front - 0.05, waist - 0.30), (front, 0.40), (front - 0.1, 0.22),
    ]  # fmt: skip
    body = Hull(
        builder, profile, [half * w for w in (0.9, 0.97, 1, 0.97, 0.98, 0.95, 0.92, 0.92, 0.86)]
    )
    body.paint(paint, {0: DARK, 7: DARK}, gloss=0.10)
    low = [(back + 0.1, 0.22), (front - 0.1, 0.22), (front - 0.1, 0.34), (back + 0.1, 0.34)]
    body.side(low, [half] * 4, tuple(c * 0.45 for c in paint), 0.0)  # type: ignore[arg-type]
    _seams(body, half, (rear_base * stretch, front_base * stretch), waist, paint)
    _car_ends(body, builder, (back, front), half)
    for x in (back + 0.82, front - 0.85):
        for side in (1, -1):
            arch = [
                (x + dx * 0.38, dz)
                for dx, dz in ((-1, 0.25), (-0.7, 0.58), (0, 0.7), (0.7, 0.58), (1, 0.25))
            ]
            builder.face(
                [(px, side * (half + 0.004), pz) for px, pz in arch], DARK, inside=body.inside
            )
            builder.wheel((x, side * (half + 0.005), 0.31), 0.31, RIM, body.inside)
    _cabin(
        builder,
        paint,
        half,
        (waist, height),
        [v * stretch for v in (rear_base, rear_top, front_top, front_base)],
    )
    return builder.build()


def _seams(body: Hull, half: float, ends: tuple[float, float], waist: float, paint: Colour) -> None:
    """The gaps of the doors and their handles."""
    line: Colour = (paint[0] * 0.55, paint[1] * 0.55, paint[2] * 0.55)
    middle = (ends[0] + ends[1]) / 2
    for x in (middle, ends[1] - 0.05):
        body.side([(x, 0.36), (x + 0.03, 0.36), (x + 0.03, waist), (x, waist)], [half] * 4, line, 0)
    for x in (middle + 0.1, middle - 0.75):
        z = waist - 0.14
        body.side([(x, z), (x + 0.18, z), (x + 0.18, z + 0.03), (x, z + 0.03)], [half] * 4, line, 0)


def _car_ends(body: Hull, builder: Builder, ends: tuple[float, float], half: float) -> None:
    """Lights, number plates and the grille."""
    for side in (1, -1):
        edge = (0.62 * side, 0.98 * side)
        body.panel(5, edge, (0.55, 1.0), WHITE_LIGHT, glows=1)
        body.panel(6, edge, (0.0, 0.25), WHITE_LIGHT, glows=1)
        body.panel(1, edge, (0.45, 0.95), RED_LIGHT, glows=1)
        builder.headlights.append((ends[1], side * half * 0.8, 0.66))
        builder.taillights.append((ends[0], side * half * 0.82, 0.78))
    body.panel(6, (-0.55, 0.55), (0.15, 0.6), DARK)
    body.panel(6, (-0.28, 0.28), (0.62, 0.92), PLATE)
    body.panel(1, (-0.28, 0.28), (0.42, 0.68), PLATE)


def _cabin(
    builder: Builder,
    paint: Colour,
    half: float,
    rise: tuple[float, float],
    xs: Sequence[float],
) -> None:
    """Glass all around under a roof; `rise`: its lowest and highest z, `xs`: of its corners."""
    (base, top), (a, b, c, d) = rise, xs
    low, high = half * 0.95, half * 0.74
    profile = [
        (a, base),
        (b, top - 0.03),
        (b + 0.3, top),
        (c - 0.2, top),
        (c, top - 0.04),
        (d, base),
    ]
    cabin = Hull(builder, profile, [low, high, high, high, high, low])
    cabin.paint(paint, gloss=0.08)
    for strip in (0, 4):
        cabin.panel(strip, (-0.9, 0.9), (0.08, 0.93), GLASS, gloss=0.45)
    rise_of = top - base

    def window(x1: float, x2: float, x3: float, x4: float) -> None:
        z1, z2 = base + 0.05, top - 0.10
        w1 = low - (low - high) * 0.05 / rise_of
        w2 = high + (low - high) * 0.10 / rise_of
        cabin.side([(x1, z1), (x2, z2), (x3, z2), (x4, z1)], [w1, w2, w2, w1], GLASS, 0.3)

    middle = (b + c) / 2 + 0.05
    window(a + 0.22, b + 0.16, middle - 0.05, middle - 0.05)
    window(middle + 0.05, middle + 0.05, c - 0.08, d - 0.2)
