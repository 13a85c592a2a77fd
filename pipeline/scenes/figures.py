"""People on foot and on two wheels, and what they ride: all of bars and balls on joints.

The walk is the textbook's: thighs swing as a sine, knees bend behind it, arms go against the
legs, and the body rises twice a step. A `phase` runs from 0 to 1 over two steps (or one turn of
the pedals).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pipeline.scenes.model import Builder, Colour, Model, Point, circle

_SKINS: tuple[Colour, ...] = (
    (0.80, 0.62, 0.52), (0.72, 0.53, 0.42), (0.55, 0.38, 0.28), (0.36, 0.24, 0.17),
    (0.24, 0.16, 0.12),
)  # fmt: skip
_HAIR: tuple[Colour, ...] = (
    (0.07, 0.06, 0.05), (0.18, 0.11, 0.07), (0.36, 0.24, 0.13), (0.60, 0.48, 0.28),
    (0.55, 0.55, 0.55),
)  # fmt: skip
_TOPS: tuple[Colour, ...] = (
    (0.08, 0.08, 0.09), (0.15, 0.16, 0.20), (0.75, 0.75, 0.73), (0.42, 0.43, 0.45),
    (0.55, 0.08, 0.08), (0.75, 0.20, 0.12), (0.10, 0.20, 0.45), (0.25, 0.42, 0.65),
    (0.12, 0.30, 0.18), (0.45, 0.42, 0.20), (0.80, 0.65, 0.12), (0.70, 0.40, 0.50),
    (0.35, 0.20, 0.40), (0.50, 0.35, 0.22), (0.85, 0.80, 0.68), (0.78, 0.85, 0.10),
    (0.90, 0.45, 0.08), (0.20, 0.50, 0.52),
)  # fmt: skip
_TROUSERS: tuple[Colour, ...] = (
    (0.07, 0.07, 0.08), (0.10, 0.12, 0.20), (0.16, 0.22, 0.36), (0.30, 0.36, 0.45),
    (0.35, 0.30, 0.22), (0.55, 0.48, 0.36), (0.25, 0.25, 0.26), (0.62, 0.62, 0.60),
    (0.20, 0.24, 0.16),
)  # fmt: skip
_FRAMES: tuple[Colour, ...] = (
    (0.06, 0.06, 0.07), (0.60, 0.08, 0.07), (0.08, 0.22, 0.50), (0.75, 0.75, 0.75),
    (0.10, 0.40, 0.30), (0.85, 0.55, 0.08), (0.45, 0.46, 0.48),
)  # fmt: skip
_BLACK: Colour = (0.04, 0.04, 0.045)
_STEEL: Colour = (0.40, 0.41, 0.43)


@dataclass(frozen=True, slots=True)
class Person:
    """How somebody looks; `stature` is their height, metres."""

    stature: float
    girth: float  # 1: slim
    skin: Colour
    hair: Colour
    top: Colour
    legs: Colour
    shoes: Colour
    coat: float  # how far down the thighs the top reaches, 0 to 1.2
    sleeves: bool
    pack: str  # none, back, bag
    pack_colour: Colour
    head: str  # hair, long, cap, hood, helmet

    @property
    def thigh(self) -> float:
        return 0.245 * self.stature

    @property
    def hip(self) -> float:
        return 0.52 * self.stature


def person(rng: np.random.Generator, *, rides: bool = False) -> Person:
    """Somebody; one in eight is a child, unless they ride."""
    child = not rides and rng.random() < 0.12

    def pick(colours: tuple[Colour, ...]) -> Colour:
        return colours[int(rng.integers(len(colours)))]

    heads = ["hair", "long", "cap", "hood"]
    return Person(
        stature=float(rng.uniform(1.1, 1.45) if child else rng.normal(1.72, 0.08)),
        girth=float(rng.uniform(0.95, 1.4)),
        skin=pick(_SKINS),
        hair=pick(_HAIR),
        top=pick(_TOPS),
        legs=pick(_TROUSERS),
        shoes=pick(_TROUSERS),
        coat=float(rng.choice([0.0, 0.15, 0.5, 1.0, 1.2], p=[0.3, 0.3, 0.15, 0.15, 0.1])),
        sleeves=bool(rng.random() < 0.75),
        pack=str(rng.choice(["none", "back", "bag"], p=[0.55, 0.22, 0.23])),
        pack_colour=pick(_TOPS),
        head="helmet" if rides and rng.random() < 0.7 else str(rng.choice(heads)),
    )


def walker(who: Person, phase: float, stride: float) -> Model:
    """Somebody on foot; `stride` 0 stands, 1 walks, 1.6 runs."""
    build = Builder()
    swing = math.sin(2 * math.pi * phase)
    rise = 0.02 * abs(math.cos(2 * math.pi * phase)) * stride * who.stature
    hip = who.hip - 0.015 * stride + rise
    lean = 0.04 * stride * who.stature
    for side in (1, -1):
        build.begin()
        ahead = 0.48 * stride * swing * side
        bend = 0.25 * stride + 0.55 * stride * max(0.0, -math.cos(2 * math.pi * phase) * side)
        _leg(build, who, (0.0, side * 0.09 * who.girth, hip), (ahead, bend))
    build.begin()
    neck = (lean, 0.0, who.stature * 0.83 + rise)
    _torso(build, who, (0.0, 0.0, hip), neck)
    for side in (1, -1):
        build.begin()
        back = -0.42 * stride * swing * side
        _arm(build, who, neck, side, (back + 0.05, back + 0.25 + 0.3 * stride))
    build.begin()
    _head(build, who, neck)
    return build.build()


def cyclist(who: Person, phase: float, motor: bool) -> Model:
    """Somebody who rides; stands on the same place as what they ride."""
    build = Builder()
    seat = (-0.28, 0.0, 0.84) if motor else (-0.22, 0.0, 0.98)
    grips = (0.42, 0.98) if motor else (0.42, 1.02)
    neck = (0.0 if motor else 0.12, 0.0, seat[2] + 0.31 * who.stature)
    for side in (1, -1):
        build.begin()
        turn = 2 * math.pi * phase + (0 if side > 0 else math.pi)
        pedal = (0.05, 0.0) if motor else (0.05 + 0.16 * math.cos(turn), 0.16 * math.sin(turn))
        foot = (pedal[0], side * (0.2 if motor else 0.12), 0.34 + pedal[1])
        hip = (seat[0], side * 0.1, seat[2])
        knee = _joint(hip, foot, who.thigh * 1.06)
        knee = (knee[0], knee[1] + side * (0.1 if motor else 0.03), knee[2])
        build.stroke([hip, knee], 0.085 * who.girth, who.legs)
        build.stroke([knee, foot], 0.06 * who.girth, who.legs)
        build.stroke([foot, (foot[0] + 0.16, foot[1], foot[2] - 0.02)], 0.045, who.shoes)
    build.begin()
    _torso(build, who, (seat[0], 0.0, seat[2] + 0.03), neck)
    for side in (1, -1):
        build.begin()
        shoulder = (neck[0], side * 0.19 * who.girth, neck[2] - 0.05)
        hand = (grips[0], side * 0.27, grips[1])
        elbow = ((shoulder[0] + hand[0]) / 2 - 0.06, side * 0.3, (shoulder[2] + hand[2]) / 2 - 0.05)
        build.stroke([shoulder, elbow], 0.05 * who.girth, who.top)
        build.stroke([elbow, hand], 0.042, who.top if who.sleeves else who.skin)
        build.stroke([hand], 0.045, _BLACK if motor else who.skin)
    build.begin()
    _head(build, who, (neck[0] + 0.04, 0.0, neck[2]))
    return build.build()


def bicycle(rng: np.random.Generator) -> Model:
    """Two wheels, a diamond of tubes, and perhaps a basket."""
    build = Builder()
    paint = _FRAMES[int(rng.integers(len(_FRAMES)))]
    radius = float(rng.uniform(0.31, 0.35))
    build.begin()
    for x in (-0.52, 0.54):
        rim = circle((x, 0.0, radius), radius, 18)
        build.stroke([*rim, rim[0]], 0.026, _BLACK)
        for turn in (0.0, 1.05, 2.1):
            dx, dz = radius * math.cos(turn), radius * math.sin(turn)
            build.stroke([(x - dx, 0, radius - dz), (x + dx, 0, radius + dz)], 0.006, _STEEL)
        fender = circle((x, 0.0, radius), radius + 0.04, 18)[2:9]
        if rng.random() < 0.5:
            build.stroke(fender, 0.02, paint)
    crank, seat, head = (-0.05, 0, 0.30), (-0.22, 0, 0.88), (0.36, 0, 0.86)
    low = (0.40, 0, 0.66)
    for tube in ([crank, low], [crank, seat], [(-0.2, 0, 0.8), head], [crank, (-0.52, 0, radius)]):
        build.stroke(tube, 0.026, paint)
    build.stroke([(-0.52, 0, radius), (-0.2, 0, 0.78)], 0.018, paint)
    build.stroke([head, low, (0.54, 0, radius)], 0.024, paint)
    build.stroke(
        [(0.34, 0.27, 1.0), (0.40, 0.12, 1.0), (0.40, -0.12, 1.0), (0.34, -0.27, 1.0)],
        0.022,
        _BLACK,
    )
    build.stroke([head, (0.38, 0, 1.0)], 0.02, _STEEL)
    build.stroke([(-0.34, 0, 0.93), (-0.1, 0, 0.95)], 0.05, _BLACK)
    build.stroke([(-0.05, 0.08, 0.3), (0.09, 0.1, 0.22)], 0.025, _BLACK)
    build.stroke([(-0.05, -0.08, 0.3), (-0.19, -0.1, 0.38)], 0.025, _BLACK)
    if rng.random() < 0.3:
        build.stroke([(0.6, 0, 0.86), (0.6, 0, 0.98)], 0.14, (0.35, 0.26, 0.16))
    if rng.random() < 0.4:
        build.stroke([(-0.75, 0, 0.72), (-0.35, 0, 0.72)], 0.04, _BLACK)
    build.headlights.append((0.5, 0.0, 0.78))
    return build.build()


def motorcycle(rng: np.random.Generator) -> Model:
    """A motorcycle or, less often, a scooter."""
    build = Builder()
    paint = _FRAMES[int(rng.integers(len(_FRAMES)))]
    scooter = rng.random() < 0.35
    radius = 0.24 if scooter else 0.31
    build.begin()
    for x in (-0.68, 0.70):
        rim = circle((x, 0.0, radius), radius - 0.06, 16)
        build.stroke([*rim, rim[0]], 0.075, _BLACK)
        build.stroke([(x, 0, radius)], 0.10, _STEEL)
    build.stroke([(0.70, 0, radius), (0.42, 0, 0.95)], 0.045, _STEEL)
    if scooter:
        build.stroke([(0.42, 0.0, 0.9), (0.38, 0.0, 0.4)], 0.17, paint)
        build.stroke([(0.3, 0, 0.3), (-0.2, 0, 0.3)], 0.13, paint)
        build.stroke([(-0.3, 0, 0.52), (-0.75, 0, 0.6)], 0.19, paint)
    else:
        build.stroke([(-0.25, 0, 0.42), (0.22, 0, 0.42)], 0.18, (0.16, 0.16, 0.17))
        build.stroke([(-0.68, 0, radius), (-0.1, 0, 0.45)], 0.05, _STEEL)
        build.stroke([(-0.6, -0.16, 0.36), (0.0, -0.16, 0.3)], 0.055, (0.55, 0.55, 0.56))
        build.stroke([(-0.12, 0, 0.76), (0.3, 0, 0.80)], 0.16, paint)
        build.stroke([(-0.5, 0, 0.72), (-0.85, 0, 0.82)], 0.085, paint)
        build.stroke([(0.72, 0, 0.64), (0.52, 0, 0.58)], 0.05, paint)
    build.stroke([(-0.72, 0, 0.80), (-0.2, 0, 0.78)], 0.11, _BLACK)
    build.stroke([(0.36, 0.36, 1.0), (0.42, 0.0, 0.98), (0.36, -0.36, 1.0)], 0.03, _BLACK)
    build.stroke([(0.48, 0, 0.86), (0.52, 0, 0.86)], 0.12, (0.25, 0.25, 0.26))
    build.stroke([(0.58, 0, 0.86)], 0.08, (0.9, 0.9, 0.8))
    build.stroke([(-0.92, 0, 0.72)], 0.05, (0.7, 0.05, 0.04))
    if rng.random() < 0.3:
        build.stroke([(-0.85, 0, 1.0), (-0.72, 0, 1.0)], 0.2, _BLACK)
    build.headlights.append((0.65, 0.0, 0.86))
    build.taillights.append((-0.95, 0.0, 0.72))
    return build.build()


def _leg(build: Builder, who: Person, hip: Point, angles: tuple[float, float]) -> None:
    ahead, bend = angles
    knee = _swung(hip, ahead, who.thigh)
    ankle = _swung(knee, ahead - bend, who.hip - who.thigh - 0.05)
    thick = 0.075 * who.girth * who.stature / 1.72
    build.stroke([hip, knee], thick, who.legs)
    build.stroke([knee, ankle], thick * 0.72, who.legs)
    toe = (ankle[0] + 0.15, ankle[1], max(0.03, ankle[2] - 0.05))
    build.stroke([ankle, toe], 0.042, who.shoes)
    if who.coat > 0.6:
        down = tuple(h + (k - h) * min(1.0, who.coat) for h, k in zip(hip, knee, strict=True))
        build.stroke([hip, (down[0] * 0.8, down[1], down[2])], thick * 1.5, who.top)


def _torso(build: Builder, who: Person, hip: Point, neck: Point) -> None:
    scale = who.stature / 1.72
    wide, thick = 0.16 * who.girth * scale, 0.085 * who.girth * scale
    low = hip[2] - 0.12 * who.coat * scale
    sides = [(1, wide, neck, -0.07), (-1, wide, neck, -0.07)]
    shoulders = [(p[0], s * w, p[2] + dz * scale) for s, w, p, dz in sides]
    hips = [(hip[0], s * wide * 0.78, low) for s in (1, -1)]
    build.stroke([*shoulders], thick, who.top)
    build.stroke([shoulders[0], hips[0], hips[1], shoulders[1]], thick, who.top)
    build.stroke([(neck[0], 0, neck[2] - 0.1), (hip[0], 0, low)], thick * 1.25, who.top)
    if who.pack == "back":
        x, z = neck[0] - 0.17 * scale, neck[2] - 0.12
        build.stroke([(x, 0, z), (x, 0, z - 0.26 * scale)], 0.13 * scale, who.pack_colour)
    elif who.pack == "bag":
        y = 0.22 * who.girth * scale
        build.stroke(
            [(hip[0], y, hip[2] + 0.05), (hip[0] + 0.08, y, hip[2] + 0.05)], 0.1, who.pack_colour
        )


def _arm(build: Builder, who: Person, neck: Point, side: int, angles: tuple[float, float]) -> None:
    scale = who.stature / 1.72
    shoulder = (neck[0], side * 0.19 * who.girth * scale, neck[2] - 0.06 * scale)
    elbow = _swung(shoulder, angles[0], 0.29 * scale)
    hand = _swung(elbow, angles[1], 0.26 * scale)
    build.stroke([shoulder, elbow], 0.052 * who.girth * scale, who.top)
    build.stroke([elbow, hand], 0.042 * scale, who.top if who.sleeves else who.skin)
    build.stroke([hand], 0.045 * scale, who.skin)


def _head(build: Builder, who: Person, neck: Point) -> None:
    scale = 0.85 + 0.15 * who.stature / 1.72
    x, y, z = neck[0] + 0.02, neck[1], neck[2] + 0.17 * who.stature / 1.72
    build.stroke([neck, (x, y, z - 0.05)], 0.055 * scale, who.skin)
    cover = {"hood": who.top, "cap": who.pack_colour, "helmet": who.pack_colour}.get(
        who.head, who.hair
    )
    if who.head in ("hood", "helmet"):
        build.stroke([(x - 0.02, y, z)], 0.135 * scale, cover)
        build.stroke([(x + 0.06, y, z - 0.03)], 0.09 * scale, who.skin)
        return
    if who.head == "long":
        build.stroke([(x - 0.04, y, z), (x - 0.06, y, z - 0.2)], 0.10 * scale, who.hair)
    build.stroke([(x - 0.025, y, z + 0.02)], 0.12 * scale, cover)
    build.stroke([(x + 0.035, y, z - 0.03)], 0.095 * scale, who.skin)
    build.stroke([(x - 0.01, y, z + 0.055)], 0.1 * scale, cover)


def _swung(start: Point, angle: float, length: float) -> Point:
    """The end of a bar that hangs from `start`, swung ahead by an angle."""
    return start[0] + length * math.sin(angle), start[1], start[2] - length * math.cos(angle)


def _joint(start: Point, end: Point, length: float) -> Point:
    """A knee ahead of the line between hip and foot, both bones of one length."""
    middle = tuple((a + b) / 2 for a, b in zip(start, end, strict=True))
    half = math.dist(start, end) / 2
    out = math.sqrt(max(0.0, length**2 - half**2))
    dx, dz = end[0] - start[0], end[2] - start[2]
    size = math.hypot(dx, dz) or 1.0
    return middle[0] - dz / size * out, middle[1], middle[2] + dx / size * out
