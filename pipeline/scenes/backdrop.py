"""What never moves: sky, walls and ground, traced pixel by pixel, once for a scene.

Two pictures come out, since shadows move: one as it is, and one as if no main light came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pipeline.scenes import facades, ground
from pipeline.scenes.light import LAMP, Light
from pipeline.scenes.street import Street
from pipeline.scenes.textures import look_up, noise
from pipeline.scenes.view import View

Floats = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """Both [height, width, 3], RGB."""

    lit: Bytes
    shadow: Bytes


@dataclass(frozen=True, slots=True, eq=False)
class _Hits:
    """Where pixels look; all [N]."""

    metres: Floats  # how far away
    u: Floats
    v: Floats


def trace(view: View, street: Street, light: Light) -> Backdrop:
    """Draws a street without anything in it."""
    rays = view.rays()
    right, ahead, up = rays.reshape(3, -1)
    sin, cos = np.float32(math.sin(street.yaw)), np.float32(math.cos(street.yaw))
    across, along = right * cos - ahead * sin, right * sin + ahead * cos
    falls = up < -1e-4
    reach = np.where(falls, view.above / np.maximum(-up, 1e-4), np.float32(np.inf))
    lit = _sky(view, light, rays).reshape(-1, 3)
    shadow = lit.copy()
    wall = facades.meet(street, view, (across, along, up), reach)
    floor = np.flatnonzero(falls & ~wall.hit)
    hits = _Hits(
        metres=reach[floor],
        u=np.float32(street.camera[0]) + across[floor] * reach[floor],
        v=np.float32(street.camera[1]) + along[floor] * reach[floor],
    )
    lit[floor], shadow[floor] = _ground(view, street, light, hits)
    at = np.flatnonzero(wall.hit)
    lit[at] = shadow[at] = facades.colours(street, light, wall, view)
    blur = ImageFilter.BoxBlur(light.blur * view.width / 640)
    pictures = []
    for colours in (lit, shadow):
        image = Image.fromarray(light.exposed(colours).reshape(view.height, view.width, 3))
        pictures.append(np.asarray(image.filter(blur)))
    return Backdrop(*pictures)


def _ground(view: View, street: Street, light: Light, hits: _Hits) -> tuple[Floats, Floats]:
    per_pixel = hits.metres / view.focal
    stretched = per_pixel * hits.metres / view.above  # metres of ground, away from the camera
    turned = abs(math.sin(street.yaw))
    across = per_pixel * (1 - turned) + stretched * turned
    along = per_pixel * turned + stretched * (1 - turned)
    albedo = ground.albedo(street, hits.u, hits.v, (across, along))
    if light.weather == "rain":
        albedo = albedo * np.float32(0.72)
    ambient = np.asarray(light.sky, np.float32)
    arrives = facades.sunlit(street, light, hits.u, hits.v)
    if light.lamps:
        arrives = street.lamp_light(hits.u, hits.v).astype(np.float32)
    main = np.asarray(light.main, np.float32) * np.float32(light.towards[2])
    full = albedo * (ambient + main * arrives[:, None])
    part = albedo * ambient * np.float32(0.82 if light.casts else 0.6)
    if light.lamps:
        part = part + albedo * main * arrives[:, None] * np.float32(0.35)
    if light.weather == "rain":
        sheen = _sheen(light, hits, view)
        full, part = full + sheen, part + sheen * np.float32(0.8)
    far = hits.metres[:, None]
    return (
        light.through_air(full, far).astype(np.float32),
        light.through_air(part, far).astype(np.float32),
    )


def _sheen(light: Light, hits: _Hits, view: View) -> Floats:
    """What wet ground mirrors of the sky: more, the flatter one looks at it (Schlick)."""
    facing = view.above / np.maximum(hits.metres, view.above)
    share = 0.03 + 0.34 * (1 - facing) ** 6
    puddles = look_up(noise(False), hits.u, hits.v, 1.5) > 0.5
    share = share * (1 + 0.8 * puddles)
    colour = np.asarray(light.horizon, np.float32) + 0.06 * np.asarray(LAMP) * light.lamps
    mirrored: Floats = (np.minimum(share, 0.7)[:, None] * colour).astype(np.float32)
    return mirrored


def _sky(view: View, light: Light, rays: Floats) -> Floats:
    """[height, width, 3]: brighter at the horizon, with clouds and far hills or roofs."""
    flat = np.hypot(rays[0], rays[1])
    rise = rays[2] / flat
    share = np.clip(rise / 0.5, 0, 1)[..., None] ** np.float32(0.6)
    zenith, horizon = (np.asarray(c, np.float32) for c in (light.zenith, light.horizon))
    colour = horizon + (zenith - horizon) * share
    clouds = noise(False)
    turn = np.arctan2(rays[0], rays[1])
    seen = look_up(clouds, turn * 40, rise * 110, 1.0)
    cover = np.clip((seen - (0.2 if light.weather == "clear" else -0.6)) * 0.5, 0, 0.8)
    bright = horizon * np.float32(1.12 if light.time == "day" else 0.8)
    colour += (bright - colour) * (cover * np.clip(rise * 8, 0, 1))[..., None]
    skyline = 0.03 + 0.02 * look_up(clouds, turn * 90, turn * 0, 1.0)
    skyline += 0.02 * look_up(noise(True), turn * 25, turn * 0 + 9, 1.0)
    hidden = (rise < np.maximum(skyline, 0.006))[..., None]
    return np.where(hidden, horizon * np.float32(0.72), colour).astype(np.float32)
