"""Who is where at which time, as a function: no state, so any moment can be asked for.

Everything that moves goes round a loop that is a little longer than what the camera sees of its
way, at a speed that swells and ebbs; each round brings somebody else. Whoever stands has a speed
of 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.street import Lane, Street
from pipeline.scenes.textures import scatter
from pipeline.scenes.view import View

Floats = NDArray[np.float64]

# What a mover is; a rider comes with what they ride.
KINDS = ("walker", "bicycle", "car", "motorcycle", "bus", "truck")
WALKER, BICYCLE, CAR, MOTORCYCLE, BUS, TRUCK = range(6)
_ROOM = {CAR: 6.2, MOTORCYCLE: 4.0, BUS: 14.5, TRUCK: 11.5}  # metres of lane
_SHARES = {CAR: 0.40, MOTORCYCLE: 0.18, BUS: 0.21, TRUCK: 0.21}
_BROAD = {CAR: 2.6, MOTORCYCLE: 1.5, BUS: 6.5, TRUCK: 4.8}  # root of the area it shows, metres
_BROADEST = 0.42  # of the picture's width: where a kind would look larger, it does not drive
_FARTHEST = {WALKER: 35.0, BICYCLE: 36.0, CAR: 56.0}  # metres, at a focal length of 600 pixels


@dataclass(frozen=True, slots=True)
class Track:
    """One mover's way; a scene is many of them."""

    kind: int
    start: tuple[float, float]  # u, v
    along: tuple[float, float]  # the unit of its direction
    length: float  # of the loop, metres
    offset: float  # on the loop at time 0
    speed: float  # metres a second, 0: stands
    surge: tuple[float, float, float]  # strength 0 to 1, seconds, phase: how the speed swells
    alone: bool = False  # a vehicle without its driver
    turned: float = 0.0  # radians that it stands away from its direction


@dataclass(frozen=True, slots=True, eq=False)
class Movers:
    """All tracks of a scene at one time; [N] each."""

    kind: NDArray[np.intp]
    u: Floats
    v: Floats
    heading: Floats  # radians on the street's axes: 0 along v, counter-clockwise
    gone: Floats  # metres since time 0, for the legs
    speed: Floats
    who: Floats  # 0 to 1: somebody else in each round
    alone: NDArray[np.bool_]


class Traffic:
    """The tracks of one scene."""

    def __init__(self, tracks: list[Track], seed: int) -> None:
        self._seed = seed
        self._kind = np.array([track.kind for track in tracks], np.intp)
        self._alone = np.array([track.alone for track in tracks], bool)
        columns = [
            (*t.start, *t.along, t.length, t.offset, t.speed, *t.surge, t.turned) for t in tracks
        ]
        self._columns = np.array(columns, float).reshape(-1, 11).T

    def at(self, seconds: float) -> Movers:
        """Where all are, `seconds` after the scene's beginning."""
        u, v, du, dv, length, offset, speed, strength, period, phase, turned = self._columns
        swell = period / (2 * math.pi) * strength
        turn = 2 * math.pi * seconds / period + phase
        gone = offset + speed * (seconds + swell * (np.sin(turn) - np.sin(phase)))
        rounds, place = np.divmod(gone, length)
        numbers = np.arange(len(u))
        return Movers(
            kind=self._kind,
            u=u + du * place,
            v=v + dv * place,
            heading=np.arctan2(-du, dv) + turned,
            gone=gone,
            speed=speed * (1 + strength * np.cos(turn)),
            who=scatter(self._seed, numbers, rounds).astype(float),
            alone=self._alone,
        )


def choose_traffic(
    rng: np.random.Generator, view: View, street: Street, busy: tuple[float, float]
) -> Traffic:
    """`busy`: how full the road and the pavements are, 0 to 1."""
    tracks: list[Track] = []
    for lane in street.lanes:
        tracks += _lane(rng, view, street, lane, busy[0])
    for u in street.parking:
        tracks += _parked(rng, view, street, u)
    tracks += _walkers(rng, view, street, busy[1])
    tracks += _bystanders(rng, view, street, busy[1])
    tracks += _stands(rng, view, street)
    return Traffic(tracks, street.seed + 77)


def stretch(view: View, street: Street, u: float, kind: int) -> tuple[float, float] | None:
    """From where to where along the street the camera sees things at `u`; None: nowhere."""
    v = np.arange(-120.0, 160.0, 1.0)
    x, y = street.to_ground(np.full_like(v, u), v)
    feet = view.project(np.stack((x, y, np.zeros_like(x)), axis=1))
    heads = view.project(np.stack((x, y, np.full_like(x, 1.7)), axis=1))
    margin = 0.06 * view.width
    seen = (feet[:, 0] > -margin) & (feet[:, 0] < view.width + margin) & (y > 1.5)
    seen &= (heads[:, 1] < view.height) & (feet[:, 1] > 0)
    reach = _FARTHEST.get(kind, _FARTHEST[CAR]) * view.focal / view.width * 640 / 600
    seen &= feet[:, 2] < reach
    where = v[seen]
    return (float(where[0]), float(where[-1])) if len(where) > 4 else None


def _lane(
    rng: np.random.Generator, view: View, street: Street, lane: Lane, busy: float
) -> list[Track]:
    cycles = lane.kind == "cycles"
    span = stretch(view, street, lane.u, BICYCLE if cycles else CAR)
    if span is None:
        return []
    low, high = span[0] - 9.0, span[1] + 5.0
    length = high - low
    surge = (
        float(rng.choice([0.0, 0.4, 0.9])),
        float(rng.uniform(18, 40)),
        float(rng.uniform(0, 6)),
    )
    speed = float(rng.uniform(3.2, 6.0) if cycles else rng.uniform(4.0, 14.0))
    start, along = ((lane.u, low), (0.0, 1.0)) if lane.forward else ((lane.u, high), (0.0, -1.0))
    tracks: list[Track] = []
    place = float(rng.uniform(0, 6))
    mean_gap = 55.0 / (0.25 + busy) if cycles else 34.0 * (1.12 - busy) ** 1.4
    kinds, shares = _kinds(view, street, lane.u, span)
    while True:
        kind = BICYCLE if cycles else int(rng.choice(kinds, p=shares))
        room = 3.0 if cycles else _ROOM[kind]
        if place + room > length:
            return tracks
        sideways = float(rng.normal(0, 0.25))
        middle = (place + room / 2) % length
        tracks.append(
            Track(kind, (start[0] + sideways, start[1]), along, length, middle, speed, surge)
        )
        place += room + float(rng.exponential(mean_gap))


def _kinds(
    view: View, street: Street, u: float, span: tuple[float, float]
) -> tuple[list[int], Floats]:
    """Which vehicles go along `u`, and their shares."""
    x, y = street.to_ground(u, np.linspace(*span, 20))
    nearest = float(view.project(np.stack((x, y, np.zeros_like(x)), axis=1))[:, 2].min())
    most = _BROADEST * view.width / view.focal * nearest  # metres
    kinds = [kind for kind in _SHARES if kind in (CAR, MOTORCYCLE) or _BROAD[kind] < most]
    shares = np.array([_SHARES[kind] for kind in kinds])
    return kinds, shares / shares.sum()


def _parked(rng: np.random.Generator, view: View, street: Street, u: float) -> list[Track]:
    span = stretch(view, street, u, CAR)
    if span is None:
        return []
    tracks = []
    v = span[0] + float(rng.uniform(0, 5))
    full = rng.uniform(0.15, 0.6)
    while v < span[1]:
        if rng.random() < full:
            kind = int(rng.choice([CAR, MOTORCYCLE, TRUCK], p=[0.84, 0.1, 0.06]))
            askew = float(rng.normal(0, 0.03)) + (math.pi if rng.random() < 0.3 else 0.0)
            along = (0.0, 1.0) if u > 0 else (0.0, -1.0)
            tracks.append(_standing(rng, kind, (u, v), along, askew))
            v += {CAR: 0.0, MOTORCYCLE: -2.5, TRUCK: 3.5}[kind]
        v += float(rng.uniform(5.3, 6.3))
    return tracks


def _walkers(rng: np.random.Generator, view: View, street: Street, busy: float) -> list[Track]:
    """People on their way: alone or in twos and threes, along the pavements or over a square."""
    tracks: list[Track] = []
    for side in (-1, 1):
        inner = side * (street.half_road + 0.8)
        outer = side * (street.half_road + street.pavement - 0.6)
        span = stretch(view, street, (inner + outer) / 2, WALKER)
        if span is None:
            continue
        area = (span[1] - span[0]) * street.pavement
        for _ in range(rng.poisson(min(5.0, 0.012 * area) * (0.25 + 1.6 * busy))):
            tracks += _company(rng, street, span, (inner, outer))
    if street.zebra is not None:
        reach = street.half_road + 2.5
        for _ in range(rng.poisson(2.2 * (0.3 + busy))):
            side = int(rng.choice([-1, 1]))
            at = (-side * reach, street.zebra + float(rng.uniform(-1.4, 1.4)))
            pace = float(rng.uniform(1.0, 1.6))
            offset = float(rng.uniform(0, 2 * reach))
            tracks.append(Track(WALKER, at, (side, 0.0), 2 * reach, offset, pace, _even(rng)))
    return tracks


def _company(
    rng: np.random.Generator,
    street: Street,
    span: tuple[float, float],
    between: tuple[float, float],
) -> list[Track]:
    low, high = span[0] - 2, span[1] + 2
    turn = math.pi * int(rng.integers(2)) + float(rng.normal(0, 0.06))
    if street.place == "square":
        turn = float(rng.uniform(0, 2 * math.pi))
    along = (-math.sin(turn), math.cos(turn))
    runs = rng.random() < 0.06
    pace = float(rng.uniform(2.4, 3.2) if runs else rng.uniform(0.8, 1.7))
    middle = (float(rng.uniform(min(between), max(between))), float(rng.uniform(low, high)))
    length = abs((high - low) * along[1]) + abs((between[1] - between[0]) * along[0]) + 4
    offset, surge = float(rng.uniform(0, length)), _even(rng)
    tracks = []
    for index in range(int(rng.choice([1, 2, 3], p=[0.66, 0.26, 0.08]))):
        beside = 0.75 * index + float(rng.normal(0, 0.06))
        behind = float(rng.normal(0, 0.2))
        start = (
            middle[0] - along[0] * (length / 2 + behind) + along[1] * beside,
            middle[1] - along[1] * (length / 2 + behind) - along[0] * beside,
        )
        tracks.append(Track(WALKER, start, along, length, offset, pace, surge))
    return tracks


def _bystanders(rng: np.random.Generator, view: View, street: Street, busy: float) -> list[Track]:
    """Knots of people who stand together, up to a small crowd."""
    tracks: list[Track] = []
    for _ in range(rng.poisson(0.2 + 0.7 * busy)):
        side = int(rng.choice([-1, 1]))
        u = side * (street.half_road + float(rng.uniform(1.0, max(1.1, street.pavement - 0.8))))
        span = stretch(view, street, u, WALKER)
        if span is None:
            continue
        v = float(rng.uniform(span[0], span[1]))
        crowd = rng.random() < 0.1 + 0.6 * busy
        size = int(rng.integers(7, 17)) if crowd else int(rng.integers(1, 5))
        spread = 0.85 * math.sqrt(size)
        for _ in range(size):
            at = (u + float(rng.normal(0, spread)), v + float(rng.normal(0, spread)))
            tracks.append(_standing(rng, WALKER, at, (0.0, 1.0), float(rng.uniform(0, 6.28))))
    return tracks


def _stands(rng: np.random.Generator, view: View, street: Street) -> list[Track]:
    """Bicycles that lean in a row, and motorcycles that somebody has left."""
    tracks: list[Track] = []
    for _ in range(rng.poisson(0.6)):
        side = int(rng.choice([-1, 1]))
        u = side * (street.half_road + float(rng.uniform(0.8, max(0.9, street.pavement - 0.5))))
        span = stretch(view, street, u, BICYCLE)
        if span is None:
            continue
        v, turned = float(rng.uniform(*span)), float(rng.uniform(0, 3.14))
        kind = BICYCLE if rng.random() < 0.7 else MOTORCYCLE
        gap = 1.0 if kind == BICYCLE else 1.6
        for index in range(int(rng.integers(1, 5))):
            at = (u - side * 0.1, v + gap * index)
            tracks.append(_standing(rng, kind, at, (1.0, 0.0), turned * 0.15))
    return tracks


def _standing(
    rng: np.random.Generator,
    kind: int,
    at: tuple[float, float],
    along: tuple[float, float],
    turned: float,
) -> Track:
    return Track(kind, at, along, 1.0, 0.0, 0.0, _even(rng), kind != WALKER, turned)


def _even(rng: np.random.Generator) -> tuple[float, float, float]:
    """Hardly any surge."""
    return 0.15, float(rng.uniform(5, 9)), float(rng.uniform(0, 6))


def on_ground(street: Street, movers: Movers) -> tuple[Any, Any, Any]:
    """x, y and heading of all movers on the camera's ground."""
    x, y = street.to_ground(movers.u, movers.v)
    return x, y, movers.heading + (math.pi / 2 - street.yaw)
