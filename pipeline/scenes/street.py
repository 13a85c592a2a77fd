"""Where things are in a scene: the road, its lanes, the pavements, walls, lamps.

The street's axes: v along the road, u to its right, metres, u = 0 in the middle of the road. The
camera stands at (u, v) = `camera`, and looks `yaw` to the left of the road's direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.scenes.view import View

PLACES = ("street", "avenue", "square")
_LANE = 3.3  # metres
_LAMP_GAP = 24.0


@dataclass(frozen=True, slots=True)
class Lane:
    """Traffic that follows a line."""

    u: float
    forward: bool  # along v, or against it
    kind: str  # cars, cycles


@dataclass(frozen=True, slots=True)
class Street:
    """One straight street through the picture."""

    place: str
    camera: tuple[float, float]  # u, v
    yaw: float  # radians
    half_road: float  # metres from the middle to the kerb
    pavement: float  # width, metres
    lanes: tuple[Lane, ...]
    median: float  # half the width of what divides the directions, 0: nothing
    parking: tuple[float, ...]  # u of the rows of parked cars
    walls: tuple[float, float]  # how far left and right of the middle the buildings begin
    lamps: tuple[tuple[float, float], ...]  # u, v
    zebra: float | None  # v of a crossing's middle
    seed: int  # of all that is decided by position: facades, trees

    def to_ground(self, u: Any, v: Any) -> tuple[Any, Any]:
        """Places of the street → x, y on the camera's ground."""
        across, along = u - self.camera[0], v - self.camera[1]
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        return across * cos + along * sin, along * cos - across * sin

    def to_street(self, x: Any, y: Any) -> tuple[Any, Any]:
        """The way back."""
        sin, cos = math.sin(self.yaw), math.cos(self.yaw)
        return self.camera[0] + x * cos - y * sin, self.camera[1] + x * sin + y * cos

    def heading(self, forward: bool) -> float:
        """Radians from the x axis of the camera's ground, for what goes along the street."""
        return math.pi / 2 - self.yaw + (0.0 if forward else math.pi)

    def lamp_light(self, u: Any, v: Any) -> Any:
        """0 to 1: how much of the lamps' light reaches a place."""
        total: Any = np.zeros(np.broadcast(u, v).shape, np.float32)
        for lamp_u, lamp_v in self.lamps:
            inner = lamp_u - math.copysign(1.5, lamp_u)  # the arm hangs over the road
            squared = (u - inner) ** 2 + (v - lamp_v) ** 2
            total = total + 1 / (1 + squared / 36)
        return np.minimum(total * 0.85, 1.0)


def choose_street(rng: np.random.Generator, view: View, place: str) -> Street:
    """A street that lies well in the picture."""
    count = {"street": 2, "avenue": int(rng.choice([4, 6])), "square": int(rng.choice([0, 2]))}[
        place
    ]
    median = float(rng.uniform(0.6, 2.0)) if place == "avenue" and rng.random() < 0.7 else 0.0
    rows = [side for side in (-1, 1) if place == "street" and rng.random() < 0.6]
    half = count / 2 * _LANE + median + (2.3 if rows else 0.3)
    side = rng.choice([-1, 1])
    yaw = side * math.radians(_yaw(rng, place))
    aim = rng.normal(0.0, half * 0.45 + 1.5)
    distance = min(view.centre, 40.0)
    camera = (aim + distance * math.sin(yaw), 0.0)
    pavement = float(rng.uniform(9, 16) if place == "square" else rng.uniform(2.8, 5.5))
    walls = [half + pavement + rng.choice([0.0, 0.0, 3.0, 7.0]) for _ in range(2)]
    walls = [
        max(wall, 3.0 - camera[0]) if index == 0 else max(wall, camera[0] + 3.0)
        for index, wall in enumerate(walls)
    ]
    along = distance * math.cos(yaw)
    return Street(
        place=place,
        camera=(float(camera[0]), 0.0),
        yaw=float(yaw),
        half_road=float(half),
        pavement=pavement,
        lanes=_lanes(count, median),
        median=median,
        parking=tuple(row * (half - 1.15) for row in rows),
        walls=(float(walls[0]), float(walls[1])),
        lamps=_lamps(rng, half + 0.7, along),
        zebra=float(along + rng.uniform(-4, 12)) if rng.random() < 0.45 and count else None,
        seed=int(rng.integers(1 << 30)),
    )


def _yaw(rng: np.random.Generator, place: str) -> float:
    """Degrees: mostly along the street, sometimes across it."""
    if place == "square":
        return float(rng.uniform(0, 80))
    low, high = [(2, 25), (25, 55), (55, 82)][int(rng.choice(3, p=[0.45, 0.35, 0.2]))]
    return float(rng.uniform(low, high))


def _lanes(count: int, median: float) -> tuple[Lane, ...]:
    """Traffic keeps to the right."""
    half = count // 2
    lanes = []
    for index in range(half):
        u = median + (index + 0.5) * _LANE
        lanes += [Lane(u, True, "cars"), Lane(-u, False, "cars")]
    if count:
        edge = median + half * _LANE - 0.25
        lanes += [Lane(edge, True, "cycles"), Lane(-edge, False, "cycles")]
    return tuple(lanes)


def _lamps(rng: np.random.Generator, u: float, along: float) -> tuple[tuple[float, float], ...]:
    first = along + rng.uniform(-_LAMP_GAP, 0) - _LAMP_GAP
    both = rng.random() < 0.5
    lamps = []
    for index in range(6):
        side = 1 if both and index % 2 else -1
        lamps.append((side * u, float(first + index * _LAMP_GAP * (0.5 if both else 1))))
    return tuple(lamps)
