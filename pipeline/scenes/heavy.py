"""Trucks and buses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.scenes.model import Builder, Colour, Model
from pipeline.scenes.vehicles import (
    CLOTHS,
    DARK,
    GLASS,
    PAINTS,
    PLATE,
    RED_LIGHT,
    RIM,
    WHITE_LIGHT,
    Hull,
)

_LIVERIES: tuple[tuple[Colour, Colour], ...] = (
    ((0.85, 0.85, 0.83), (0.15, 0.35, 0.65)), ((0.75, 0.08, 0.07), (0.9, 0.9, 0.88)),
    ((0.88, 0.68, 0.10), (0.15, 0.15, 0.16)), ((0.12, 0.42, 0.28), (0.88, 0.88, 0.82)),
    ((0.15, 0.25, 0.50), (0.85, 0.80, 0.30)), ((0.80, 0.80, 0.80), (0.70, 0.10, 0.12)),
    ((0.30, 0.55, 0.72), (0.92, 0.92, 0.92)), ((0.45, 0.16, 0.40), (0.80, 0.78, 0.80)),
)  # fmt: skip


def truck(rng: np.random.Generator) -> Model:
    """A cab with a box, a tipper's trough, a tank, or the bed of a pickup behind it."""
    kind = str(rng.choice(["box", "tipper", "tank", "pickup"], p=[0.48, 0.2, 0.12, 0.2]))
    if kind == "pickup":
        return _pickup(rng)
    length = float(rng.uniform(6.0, 9.5))
    back, front, half = -length / 2, length / 2, 1.2
    builder = Builder()
    _chassis(builder, back, front, half)
    builder.begin()
    cab_back = front - float(rng.uniform(1.7, 2.1))
    _cab(builder, PAINTS[int(rng.integers(len(PAINTS)))], (cab_back, front), half)
    builder.begin()
    colour = CLOTHS[int(rng.integers(len(CLOTHS)))]
    room = (back, cab_back - 0.15)
    {"box": _box, "tipper": _tipper, "tank": _tank}[kind](builder, colour, room, rng)
    return builder.build()


def bus(rng: np.random.Generator) -> Model:
    """A city bus or a coach, now and then with two decks."""
    length = float(rng.uniform(9.0, 12.0))
    double = rng.random() < 0.15
    height = 4.2 if double else float(rng.uniform(2.9, 3.3))
    paint, second = _LIVERIES[int(rng.integers(len(_LIVERIES)))]
    back, front, half = -length / 2, length / 2, 1.25
    builder = Builder()
    builder.begin()
    profile = [
        (back + 0.1, 0.3), (back, 0.5), (back + 0.05, height - 0.25), (back + 0.25, height),
        (front - 0.3, height), (front - 0.04, height - 0.3), (front, 1.0), (front - 0.08, 0.3),
    ]  # fmt: skip
    body = Hull(builder, profile, [half * w for w in (0.98, 1, 1, 0.95, 0.95, 0.98, 1, 0.98)])
    body.paint(paint, {0: DARK}, gloss=0.1)
    skirt = 0.95 if rng.random() < 0.6 else 0.5
    low = [(back + 0.05, 0.3), (front - 0.05, 0.3), (front - 0.05, skirt), (back + 0.05, skirt)]
    body.side(low, [half] * 4, second, 0.05)
    _bus_windows(body, (back, front), [1.15] if not double else [1.0, 2.75], half)
    body.panel(5, (-0.92, 0.92), (0.02, 0.96), GLASS, gloss=0.5)
    body.panel(5, (-0.6, 0.6), (0.02, 0.13), (0.85, 0.55, 0.10), glows=1)
    body.panel(1, (-0.8, 0.8), (0.55, 0.9), GLASS, gloss=0.3)
    _ends(body, builder, (1, 6), (back, front), (half, 0.85))
    for x in (back + length * 0.25, front - length * 0.22):
        for side in (1, -1):
            builder.wheel((x, side * (half + 0.006), 0.48), 0.48, RIM, body.inside)
    unit = [(-1.4, height), (-1.3, height + 0.22), (0.9, height + 0.22), (1.0, height)]
    if rng.random() < 0.6:
        Hull(builder, unit, [0.7] * 4).paint((0.6, 0.6, 0.6))
    return builder.build()


def _bus_windows(
    body: Hull, ends: tuple[float, float], sills: Sequence[float], half: float
) -> None:
    back, front = ends
    panes = int((front - back) / 1.45)
    step = (front - back - 0.7) / panes
    for sill in sills:
        band = [
            (back + 0.3, sill),
            (front - 0.3, sill),
            (front - 0.3, sill + 1.05),
            (back + 0.3, sill + 1.05),
        ]
        body.side(band, [half] * 4, DARK, 0.05)
        for pane in range(panes):
            x = back + 0.4 + pane * step
            glass = [
                (x, sill + 0.04),
                (x + step - 0.1, sill + 0.04),
                (x + step - 0.1, sill + 1.0),
                (x, sill + 1.0),
            ]
            body.side(glass, [half + 0.002] * 4, (0.10, 0.13, 0.15), 0.32)
    for x in (front - 1.5, -0.6):  # doors
        door = [(x, 0.38), (x + 1.1, 0.38), (x + 1.1, sills[0] + 1.0), (x, sills[0] + 1.0)]
        body.side(door, [half + 0.004] * 4, (0.13, 0.15, 0.17), 0.25)


def _ends(
    body: Hull,
    builder: Builder,
    strips: tuple[int, int],
    ends: tuple[float, float],
    where: tuple[float, float],
) -> None:
    """Lights and plates on the strips of the back and the front; `where`: half width, height."""
    back, front = strips
    half, rise = where
    for side in (1, -1):
        edge = (0.66 * side, 0.96 * side)
        body.panel(front, edge, (0.25, 0.55), WHITE_LIGHT, glows=1)
        body.panel(back, edge, (0.12, 0.3), RED_LIGHT, glows=1)
        builder.headlights.append((ends[1], side * half * 0.82, rise))
        builder.taillights.append((ends[0], side * half * 0.85, rise + 0.1))
    body.panel(front, (-0.22, 0.22), (0.65, 0.9), PLATE)
    body.panel(back, (-0.22, 0.22), (0.05, 0.13), PLATE)


def _chassis(builder: Builder, back: float, front: float, half: float) -> None:
    builder.begin()
    frame = [(back, 0.55), (back, 0.95), (front - 0.3, 0.95), (front - 0.3, 0.55)]
    body = Hull(builder, frame, [half * 0.8] * 4)
    body.paint(DARK)
    axles = [back + 1.1, front - 1.0]
    if front - back > 7.5:
        axles.append(back + 2.2)
    for x in axles:
        for side in (1, -1):
            builder.wheel((x, side * half * 0.98, 0.5), 0.5, RIM, body.inside)


def _cab(
    builder: Builder, paint: Colour, ends: tuple[float, float], half: float, height: float = 2.7
) -> None:
    back, front = ends
    profile = [
        (back, 0.75), (back, height), (front - 0.45, height), (front - 0.12, 1.55),
        (front, 1.4), (front, 0.45), (front - 0.2, 0.35),
    ]  # fmt: skip
    cab = Hull(builder, profile, [half * w for w in (1, 0.95, 0.95, 1, 1, 1, 0.95)])
    cab.paint(paint, {5: DARK}, gloss=0.1)
    cab.panel(2, (-0.9, 0.9), (0.12, 0.97), GLASS, gloss=0.5)
    window = [(back + 0.45, 1.6), (back + 0.5, 2.35), (front - 0.5, 2.35), (front - 0.25, 1.6)]
    cab.side(window, [half, half * 0.965, half * 0.965, half], GLASS, 0.3)
    door = [(back + 0.35, 0.7), (back + 0.38, 0.7), (back + 0.38, 2.4), (back + 0.35, 2.4)]
    cab.side(door, [half] * 4, DARK, 0)
    cab.panel(4, (-0.6, 0.6), (0.1, 0.5), DARK)
    cab.panel(4, (-0.25, 0.25), (0.75, 0.95), PLATE)
    for side in (1, -1):
        cab.panel(4, (0.66 * side, 0.96 * side), (0.45, 0.7), WHITE_LIGHT, glows=1)
        builder.headlights.append((front, side * half * 0.82, 0.9))
        arch = [(front - 1.55, 0.7), (front - 1.3, 1.12), (front - 0.7, 1.12), (front - 0.45, 0.7)]
        builder.face([(x, side * (half + 0.01), z) for x, z in arch], DARK, inside=cab.inside)
        builder.wheel((front - 1.0, side * (half + 0.012), 0.5), 0.5, RIM, cab.inside)


def _box(
    builder: Builder, colour: Colour, ends: tuple[float, float], rng: np.random.Generator
) -> None:
    back, front = ends
    top, half = float(rng.uniform(2.9, 3.7)), 1.25
    profile = [(back, 0.95), (back, top), (front, top), (front, 0.95)]
    box = Hull(builder, profile, [half] * 4)
    box.paint(colour)
    stripe, length = CLOTHS[int(rng.integers(len(CLOTHS)))], front - back
    x1, x2 = back + length * rng.uniform(0.05, 0.3), back + length * rng.uniform(0.6, 0.95)
    z1, z2 = 1.2 + rng.uniform(0.1, 0.6), top - rng.uniform(0.2, 0.6)
    box.side([(x1, z1), (x2, z1), (x2, z2), (x1, z2)], [half] * 4, stripe, 0.02)
    edge: Colour = (colour[0] * 0.6, colour[1] * 0.6, colour[2] * 0.6)
    for z in (0.97, top - 0.06):
        box.side([(back, z), (front, z), (front, z + 0.06), (back, z + 0.06)], [half] * 4, edge, 0)
    box.panel(0, (-0.02, 0.02), (0.0, 1.0), edge)
    _back_lights(box, builder, back, half)


def _tipper(
    builder: Builder, colour: Colour, ends: tuple[float, float], rng: np.random.Generator
) -> None:
    back, front = ends
    top, half = float(rng.uniform(1.7, 2.2)), 1.22
    profile = [(back, 0.95), (back - 0.15, top), (front, top + 0.3), (front, 0.95)]
    trough = Hull(builder, profile, [half] * 4)
    trough.paint(colour, {1: (0.32, 0.26, 0.2)})
    dark: Colour = (colour[0] * 0.7, colour[1] * 0.7, colour[2] * 0.7)
    for x in np.arange(back + 0.3, front - 0.2, 0.8):
        rib = [(x, 0.98), (x + 0.1, 0.98), (x + 0.1, top), (x, top)]
        trough.side(rib, [half + 0.02] * 4, dark, 0)
    trough.panel(1, (-0.8, 0.8), (0.1, 0.9), (0.42, 0.35, 0.27))
    _back_lights(trough, builder, back, half)


def _tank(
    builder: Builder, colour: Colour, ends: tuple[float, float], rng: np.random.Generator
) -> None:
    back, front = ends
    profile = [
        (back, 1.1),
        (back, 2.5),
        (back + 0.2, 2.8),
        (front - 0.2, 2.8),
        (front, 2.5),
        (front, 1.1),
    ]
    tank = Hull(builder, profile, [0.9, 1.15, 0.6, 0.6, 1.15, 0.9])
    tank.paint(colour, gloss=0.3)
    stripe = CLOTHS[int(rng.integers(len(CLOTHS)))]
    band = [(back + 0.1, 1.6), (front - 0.1, 1.6), (front - 0.1, 1.95), (back + 0.1, 1.95)]
    tank.side(band, [1.03, 1.03, 1.08, 1.08], stripe, 0.1)
    _back_lights(tank, builder, back, 0.95)


def _back_lights(body: Hull, builder: Builder, back: float, half: float) -> None:
    for side in (1, -1):
        body.panel(0, (0.7 * side, 0.95 * side), (0.0, 0.07), RED_LIGHT, glows=1)
        builder.taillights.append((back, side * half * 0.85, 1.0))
    body.panel(0, (-0.2, 0.2), (0.0, 0.06), PLATE)


def _pickup(rng: np.random.Generator) -> Model:
    """A cab with a high bonnet and an open bed."""
    paint = PAINTS[int(rng.integers(len(PAINTS)))]
    back, front, half, waist = -2.75, 2.75, 0.98, 1.12
    builder = Builder()
    builder.begin()
    profile = [
        (back + 0.05, 0.4), (back, 0.6), (back + 0.02, waist), (back + 0.1, waist + 0.02),
        (1.2, waist + 0.02), (front - 0.15, waist - 0.06), (front, 0.55), (front - 0.08, 0.4),
    ]  # fmt: skip
    body = Hull(builder, profile, [half * w for w in (0.95, 1, 1, 1, 1, 0.97, 0.97, 0.93)])
    body.paint(paint, {0: DARK}, gloss=0.1)
    length = 1.2 - (back + 0.1)
    body.panel(3, (-0.86, 0.86), (0.04, (-0.55 - back - 0.1) / length), (0.09, 0.09, 0.09))
    for side in (1, -1):
        body.panel(5, (0.66 * side, 0.96 * side), (0.02, 0.4), WHITE_LIGHT, glows=1)
        body.panel(1, (0.8 * side, 0.98 * side), (0.4, 0.95), RED_LIGHT, glows=1)
        builder.headlights.append((front, side * half * 0.8, 0.85))
        builder.taillights.append((back, side * half * 0.85, 0.95))
    body.panel(5, (-0.6, 0.6), (0.08, 0.6), DARK)
    body.panel(1, (-0.2, 0.2), (0.1, 0.4), PLATE)
    for x in (back + 1.05, front - 0.95):
        for side in (1, -1):
            arch = [(x - 0.52, 0.4), (x - 0.3, 0.85), (x + 0.3, 0.85), (x + 0.52, 0.4)]
            builder.face(
                [(px, side * (half + 0.006), pz) for px, pz in arch], DARK, inside=body.inside
            )
            builder.wheel((x, side * (half + 0.01), 0.4), 0.4, RIM, body.inside)
    cabin = Hull(
        builder,
        [(-0.6, waist), (-0.5, 1.8), (-0.3, 1.86), (0.5, 1.86), (0.65, 1.82), (1.3, waist)],
        [0.93, 0.76, 0.76, 0.76, 0.76, 0.93],
    )
    cabin.paint(paint)
    cabin.panel(0, (-0.85, 0.85), (0.1, 0.9), GLASS, gloss=0.4)
    cabin.panel(4, (-0.92, 0.92), (0.05, 0.95), GLASS, gloss=0.45)
    for x1, x2, x3, x4 in ((-0.42, -0.36, 0.1, 0.1), (0.2, 0.2, 0.58, 1.1)):
        cabin.side(
            [(x1, waist + 0.05), (x2, 1.75), (x3, 1.75), (x4, waist + 0.05)],
            [0.92, 0.78, 0.78, 0.92], GLASS, 0.3,
        )  # fmt: skip
    return builder.build()
