"""The walls on both sides of a street: houses with windows and shops, hedges, gaps.

A wall is a plane along the street; it is divided into plots, and what stands on a plot follows
from its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.scenes.light import Light
from pipeline.scenes.street import Street
from pipeline.scenes.textures import look_up, noise, scatter
from pipeline.scenes.view import View

Floats = NDArray[np.floating[Any]]

_PLOT = 14.0  # metres of street
_WALLS = np.array(
    (
        (0.62, 0.54, 0.44), (0.55, 0.30, 0.22), (0.70, 0.68, 0.64), (0.48, 0.46, 0.44),
        (0.72, 0.62, 0.42), (0.58, 0.42, 0.34), (0.40, 0.26, 0.20), (0.66, 0.70, 0.68),
        (0.50, 0.54, 0.58), (0.76, 0.72, 0.60),
    ),
    np.float32,
)  # fmt: skip
_SIGNS = np.array(
    (
        (0.55, 0.10, 0.10),
        (0.10, 0.25, 0.45),
        (0.12, 0.35, 0.2),
        (0.7, 0.6, 0.2),
        (0.15, 0.15, 0.16),
    ),
    np.float32,
)
_HEDGE = np.array((0.13, 0.20, 0.08), np.float32)
_STOREY = 3.2  # metres
_SHOP = 3.6


@dataclass(frozen=True, slots=True, eq=False)
class Walls:
    """`hit` is [all pixels]; the rest has a number for each that is hit."""

    hit: NDArray[np.bool_]
    metres: Floats
    v: Floats
    z: Floats
    right: NDArray[np.bool_]  # the wall on the right side of the street
    slant: Floats  # how much longer a pixel is along the wall than across the ray


def meet(street: Street, view: View, rays: tuple[Floats, Floats, Floats], reach: Floats) -> Walls:
    """Where rays (across and along the street, and up) meet a wall before the ground."""
    across, along, up = rays
    right = across > 0
    plane = np.where(right, street.walls[1], -street.walls[0]).astype(np.float32)
    safe = np.where(np.abs(across) > 1e-5, across, np.float32(1e-5))
    metres = (plane - np.float32(street.camera[0])) / safe
    near = (metres > 0.5) & (metres < np.minimum(reach, np.float32(400)))
    metres = np.where(near, metres, np.float32(1))
    v = np.float32(street.camera[1]) + along * metres
    z = np.float32(view.above) + up * metres
    top = np.where(right, _top(street, v, True), _top(street, v, False))
    hit = near & (z < top)
    slant = 1 / np.maximum(np.abs(across[hit]) / np.hypot(across[hit], along[hit]), 0.02)
    return Walls(hit, metres[hit], v[hit], z[hit], right[hit], slant)


def sunlit(street: Street, light: Light, u: Floats, v: Floats) -> Floats:
    """0 or 1 for places on the ground: whether no wall stands between them and the sun."""
    if not light.casts:
        return np.ones_like(u)
    x, y, z = light.towards
    sin, cos = np.sin(street.yaw), np.cos(street.yaw)
    across, along = x * cos - y * sin, x * sin + y * cos
    if abs(across) < 1e-3:
        return np.ones_like(u)
    right = across > 0
    plane = street.walls[1] if right else -street.walls[0]
    steps = (plane - u) / np.float32(across)
    high = steps * np.float32(z)
    top = _top(street, v + steps * np.float32(along), right)
    return np.where((steps > 0) & (high < top), np.float32(0), np.float32(1))


def colours(street: Street, light: Light, walls: Walls, view: View) -> Floats:
    """[N, 3] for the pixels that hit a wall."""
    plot = np.floor(walls.v / _PLOT)
    seed = street.seed + 100
    side = walls.right.astype(np.int64)
    houses = _is_house(street, plot, side)
    colour = _house(street, light, walls, plot, view)
    leafy = 1 + 0.3 * look_up(noise(True), walls.v, walls.z, 9.0)
    hedge = _HEDGE * np.clip(leafy, 0.2, 2)[:, None]
    facing = _facing(street, light)
    sun = np.where(walls.right, facing[1], facing[0]).astype(np.float32)
    if light.lamps:
        strength = np.float32(0.55) * np.exp(-np.abs(walls.z - 2.5) / 4).astype(np.float32)
        sun = strength * (0.5 + 0.5 * scatter(seed, plot, side))
    ambient = np.asarray(light.sky, np.float32)
    incoming = ambient + np.asarray(light.main, np.float32) * sun[:, None]
    foot = np.clip(0.75 + walls.z / 6, 0.75, 1)[:, None]  # little light comes from below
    lit = np.where(houses[:, None], colour.base, hedge) * incoming * foot
    lit = np.where(houses[:, None], lit + colour.glow, lit)
    return light.through_air(lit, walls.metres[:, None]).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _House:
    base: Floats  # albedo
    glow: Floats  # light of its own


def _house(street: Street, light: Light, walls: Walls, plot: Floats, view: View) -> _House:
    seed, side = street.seed + 7, walls.right.astype(np.int64)
    tint = _WALLS[(scatter(seed, plot, side) * len(_WALLS)).astype(int)]
    rough = 1 + 0.05 * look_up(noise(True), walls.v, walls.z, 6.0)
    rough += 0.05 * look_up(noise(False), walls.v, walls.z, 1.2)
    base = tint * rough[:, None]
    pane, cell, shop = _panes(seed, walls, plot, side)
    pixel = walls.metres / view.focal * walls.slant
    shows = np.clip(1.5 - pixel / 1.2, 0.25, 1)
    tone = scatter(seed + 3, *cell, side)
    glass = (0.10 + 0.16 * tone)[:, None] * np.array((0.85, 0.95, 1.05), np.float32)
    share = (pane * shows)[:, None]
    base = base + (glass - base) * share
    sign = shop & (walls.z > 2.9) & (walls.z < 3.45)
    names = _SIGNS[(scatter(seed + 9, plot, side) * len(_SIGNS)).astype(int)]
    base = np.where(sign[:, None], names, base)
    ledge = ((walls.z % _STOREY) < 0.16) & ~shop
    base = base * (1 - 0.12 * ledge)[:, None]
    lit = (tone < (0.32 if light.time == "night" else 0.16)) | (shop & (tone < 0.75))
    warm = np.array((0.85, 0.68, 0.40), np.float32) * (0.35 + 0.6 * ((tone * 37) % 1))[:, None]
    glow = warm * share * (lit & light.lamps)[:, None]
    sky = np.asarray(light.horizon, np.float32) * share * np.float32(0.18)
    return _House(base, glow + sky)


def _panes(
    seed: int, walls: Walls, plot: Floats, side: NDArray[np.int64]
) -> tuple[Floats, tuple[Floats, Floats], NDArray[np.bool_]]:
    """How much of each pixel is glass, the number of its window, and whether it is a shop."""
    wide = 1.6 + 1.6 * scatter(seed + 1, plot, side)
    inside = (walls.v - plot * _PLOT) / wide
    column, storey = np.floor(inside), np.floor(walls.z / _STOREY)
    fill_v, fill_z = 0.22 + 0.2 * scatter(seed + 2, plot, side), np.float32(0.28)
    window = np.abs(inside % 1 - 0.5) < fill_v
    window &= np.abs((walls.z / _STOREY) % 1 - 0.55) < fill_z
    shop = (walls.z < _SHOP) & (scatter(seed + 4, plot, side) < 0.55)
    front = (np.abs((walls.v / 3.5) % 1 - 0.5) < 0.42) & (walls.z > 0.5) & (walls.z < 2.8)
    pane = np.where(shop, front, window).astype(np.float32)
    column = np.where(shop, np.floor(walls.v / 3.5), column + plot * 16)
    return pane, (column, storey), shop


def _top(street: Street, v: Floats, right: bool) -> Floats:
    """How high the wall is at v, metres."""
    plot = np.floor(v / _PLOT)
    side = np.full(plot.shape, int(right), np.int64)
    storeys = np.floor(2.2 + 4 * scatter(street.seed + 11, plot, side))
    house = storeys * np.float32(_STOREY) + np.float32(0.5)
    low = 1.1 + 1.1 * scatter(street.seed + 12, plot, side)
    bushy = low + 0.25 * look_up(noise(False), v, v * 0 + 3, 4.0)
    return np.where(_is_house(street, plot, side), house, bushy).astype(np.float32)


def _is_house(street: Street, plot: Floats, side: NDArray[np.int64]) -> NDArray[np.bool_]:
    dense = 0.9 if min(street.walls) - street.half_road - street.pavement < 1 else 0.6
    return scatter(street.seed + 13, plot, side) < dense


def _facing(street: Street, light: Light) -> tuple[float, float]:
    """How much of the sun the left and the right wall get."""
    x, y, _ = light.towards
    across = x * np.cos(street.yaw) - y * np.sin(street.yaw)
    return max(0.0, float(across)), max(0.0, -float(across))
