"""The surfaces of a street as colours: asphalt, markings, kerbs, slabs, grass.

All are functions of a place (u, v) and of how large a pixel is there: what is finer than a pixel
fades, so that nothing flickers in the distance.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.street import Street
from pipeline.scenes.textures import look_up, noise, scatter

Floats = NDArray[np.floating[Any]]

_PAINT = np.array((0.78, 0.78, 0.75), np.float32)
_KERB = np.array((0.60, 0.59, 0.56), np.float32)
_GRASS = np.array((0.25, 0.31, 0.15), np.float32)


def albedo(street: Street, u: Floats, v: Floats, pixel: tuple[Floats, Floats]) -> Floats:
    """[N, 3], 0 to 1, for places [N]; `pixel`: metres across and along in one pixel, [N] each."""
    rng = np.random.default_rng(street.seed)
    across, along = pixel
    size = np.sqrt(across * along)
    road = _asphalt(rng, street, u, v, size)
    _mark(street, road, (u, v), (across, along))
    side = _beside(rng, street, (u, v), (across, along))
    edge = np.abs(u) - street.half_road
    if street.half_road < 1:
        return side
    colour = _mixed(road, side, _step(edge, across))
    kerb = _step(edge + 0.02, across) * (1 - _step(edge - 0.2, across))
    colour = _mixed(colour, _KERB, kerb)
    gutter = _step(edge + 0.25, across) * (1 - _step(edge, across))
    return colour * (1 - 0.3 * gutter[:, None])


def _asphalt(
    rng: np.random.Generator, street: Street, u: Floats, v: Floats, size: Floats
) -> Floats:
    base = np.float32(rng.uniform(0.27, 0.45)) * np.array((1.0, 1.0, rng.uniform(0.98, 1.05)))
    coarse, fine = noise(False), noise(True)
    grey = 1 + 0.10 * look_up(coarse, u, v, 2.0)
    grey += 0.09 * look_up(fine, u, v, 9.0) * _visible(0.12, size)
    grey += 0.05 * look_up(fine, u, v, 31.0) * _visible(0.03, size)
    patches = look_up(coarse, u + 31, v * 0.4 + 7, 1.1) > 1.15  # where the road was opened
    grey -= 0.13 * patches
    lane = np.abs((np.abs(u) - street.median) % 3.3 - 1.65)
    grey -= 0.06 * np.exp(-((lane - 0.75) ** 2) / 0.08)  # the tracks of tyres
    cracks = np.abs(look_up(coarse, u + 90, v, 5.0)) < 0.035
    grey -= 0.14 * cracks * _visible(0.1, size)
    covers = scatter(street.seed, np.floor(v / 13), np.floor((u + 100) / 3.3)) < 0.13
    dv, du = v % 13 - 6.5, (u + 100) % 3.3 - 1.65
    grey -= 0.22 * (covers & (dv * dv + du * du < 0.12))
    coloured: Floats = np.clip(grey, 0.3, 1.6)[:, None] * base.astype(np.float32)
    return coloured


def _mark(
    street: Street, road: Floats, place: tuple[Floats, Floats], pixel: tuple[Floats, Floats]
) -> None:
    """Paints lines onto the road, in place."""
    (u, v), (across, along) = place, pixel
    worn = 0.55 + 0.35 * np.clip(look_up(noise(True), u, v, 7.0) * 0.6 + 0.5, 0, 1)
    dash = _step(1.5 - np.abs(v % 6.0 - 3.0), along)
    lanes = sorted({abs(lane.u) for lane in street.lanes if lane.kind == "cars"})
    paint = np.zeros_like(u)
    for inner, outer in pairwise(lanes):
        paint += _line(np.abs(u), (inner + outer) / 2, 0.07, across) * dash
    if lanes:
        paint += _line(np.abs(u), lanes[-1] + 1.55, 0.06, across)
    if lanes and not street.median:
        paint += _line(u, 0.0, 0.07, across) * (dash if street.seed % 2 else 1)
    if street.zebra is not None:
        inside = _step(1.8 - np.abs(v - street.zebra), along)
        bars = _step(0.25 - np.abs(u % 1.0 - 0.5), across)
        paint = paint * (1 - inside) + bars * inside
    road[:] = _mixed(road, _PAINT, np.clip(paint, 0, 1) * worn)
    if street.median:
        grass = _step(street.median - 0.15 - np.abs(u), across)
        rim = _step(street.median - np.abs(u), across)
        road[:] = _mixed(road, _KERB, rim)
        road[:] = _mixed(road, _lawn(u, v), grass)


def _beside(
    rng: np.random.Generator,
    street: Street,
    place: tuple[Floats, Floats],
    pixel: tuple[Floats, Floats],
) -> Floats:
    """Pavement, and behind it paving or a lawn up to the walls."""
    u, v = place
    slabs = _slabs(rng, street, place, pixel)
    edge = np.abs(u) - street.half_road - street.pavement
    behind = scatter(street.seed + 5, np.sign(u) + 2, np.floor(v / 40)) < 0.6
    wide = min(street.walls) - street.half_road - street.pavement > 2
    if not wide and street.half_road > 1:
        return slabs
    return _mixed(slabs, _lawn(u, v), _step(edge, pixel[0]) * behind)


def _slabs(
    rng: np.random.Generator,
    street: Street,
    place: tuple[Floats, Floats],
    pixel: tuple[Floats, Floats],
) -> Floats:
    (u, v), (across, along) = place, pixel
    base = np.float32(rng.uniform(0.42, 0.62))
    warm = np.array((1.0, rng.uniform(0.93, 1.0), rng.uniform(0.84, 1.0)), np.float32)
    wide, long = rng.choice([0.4, 0.6, 1.0]), rng.choice([0.4, 0.8, 1.2])
    shift = (np.floor(u / wide) % 2) * long / 2
    tone = scatter(street.seed + 1, np.floor(u / wide), np.floor((v + shift) / long))
    size = np.sqrt(across * along)
    grey = 1 + (tone - 0.5) * 0.16 * _visible(0.6, size)
    grey += 0.05 * look_up(noise(True), u, v, 11.0) * _visible(0.1, size)
    grey += 0.08 * look_up(noise(False), u, v, 1.7)
    joint = _line(u % wide, 0.0, 0.015, across) + _line((v + shift) % long, 0.0, 0.015, along)
    grey -= 0.25 * np.clip(joint, 0, 1)
    paved: Floats = grey[:, None] * base * warm
    return paved


def _lawn(u: Floats, v: Floats) -> Floats:
    grey = 1 + 0.16 * look_up(noise(False), u, v, 1.3) + 0.18 * look_up(noise(True), u, v, 12.0)
    tone = np.clip(grey, 0.3, 1.8)[:, None] * _GRASS
    dry = np.clip(look_up(noise(False), u + 40, v, 0.8) * 0.3, 0, 0.5)
    return _mixed(tone, np.array((0.36, 0.32, 0.18), np.float32), dry)


def _step(signed: Floats, pixel: Floats) -> Floats:
    """0 below zero and 1 above, over the width of a pixel."""
    return np.clip(signed / np.maximum(pixel, 0.01) + 0.5, 0, 1)


def _line(place: Floats, middle: float, half: float, pixel: Floats) -> Floats:
    """How much of a pixel a line covers."""
    off = np.abs(place - middle)
    share = np.minimum(1, 2 * half / np.maximum(pixel, 0.01))
    covered: Floats = np.clip((half - off) / np.maximum(pixel, 0.01) + 0.5, 0, 1) * share
    return covered


def _visible(period: float, pixel: Floats) -> Floats:
    """1 where a pattern of that period shows, 0 where it is finer than a pixel."""
    shown: Floats = np.clip(1.6 - 1.2 * pixel / period, 0, 1)
    return shown


def _mixed(first: Floats, second: Floats, share: Floats) -> Floats:
    return first + (second - first) * share[:, None]
