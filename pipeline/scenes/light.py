"""What light, weather and sensor do to a scene. Colours are RGB from 0 to 1, without gamma.

One main light: the sun by day, the street lamps by night, which is why an object's `level` (how
much of it reaches the place) belongs to every question about a colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TIMES = ("day", "dusk", "night")
WEATHERS = ("clear", "overcast", "rain")

LAMP = (1.0, 0.80, 0.52)  # the colour of a street lamp
_UP_SHARE = 0.35  # how much of the sky's light comes from above rather than from around


@dataclass(frozen=True, slots=True)
class Light:
    """All that is the same in every frame of a scene."""

    time: str
    weather: str
    towards: tuple[float, float, float]  # the main light, unit
    main: tuple[float, float, float]  # its colour and strength
    sky: tuple[float, float, float]  # the light that comes from everywhere
    zenith: tuple[float, float, float]  # the colour of the sky itself, above
    horizon: tuple[float, float, float]  # … and where it meets the ground
    haze: float  # per metre
    lamps: bool  # street lamps, headlights and windows are lit
    casts: bool  # things have sharp shadows
    noise: float  # of the sensor, grey levels of 255
    blur: float  # radius, pixels at a width of 640
    rain: float  # 0 to 1
    gain: tuple[float, float, float]  # of the sensor

    def shade(self, albedo: Any, normals: Any, level: Any) -> NDArray[np.float64]:
        """[N, 3] albedo of surfaces that look along `normals` → [N, 3] as they are lit.

        `level`, 0 to 1 (a number, or [N, 1]): how much of the main light arrives.
        """
        up = normals[:, 2:3]
        around = np.asarray(self.sky) * (1 - _UP_SHARE + _UP_SHARE * up)
        facing = np.maximum(normals @ np.asarray(self.towards), 0.0)[:, None]
        lit: NDArray[np.float64] = albedo * (around + np.asarray(self.main) * facing * level)
        return lit

    def through_air(self, colours: Any, metres: Any) -> NDArray[np.float64]:
        """`colours` as they arrive from so far away ([N, 1] or a number)."""
        kept = np.exp(-self.haze * metres)
        seen: NDArray[np.float64] = colours * kept + np.asarray(self.horizon) * (1 - kept)
        return seen

    def exposed(self, colours: Any) -> NDArray[np.uint8]:
        """What the sensor makes of it, uint8."""
        levels = np.asarray(colours) * (255 * np.asarray(self.gain))
        clipped: NDArray[np.uint8] = np.minimum(np.maximum(levels, 0), 255).astype(np.uint8)
        return clipped


def choose_light(rng: np.random.Generator, time: str, weather: str) -> Light:
    """Light for a time of day (`day`, `dusk`, `night`) and a weather (`clear` and so on)."""
    made = {"day": _day, "dusk": _dusk, "night": _night}[time](rng, weather == "clear")
    wet = weather == "rain"
    tint = rng.normal(1.0, 0.03, 3) * rng.uniform(0.88, 1.1)
    return Light(
        time=time,
        weather=weather,
        **made,
        haze=rng.uniform(0.002, 0.005) * (2.2 if wet else 1.0),
        noise={"day": rng.uniform(1, 4), "dusk": rng.uniform(2, 7)}.get(time, rng.uniform(4, 11)),
        blur=max(0.0, rng.uniform(-0.7, 0.9)) + 0.2 * wet,
        rain=rng.uniform(0.3, 1.0) if wet else 0.0,
        gain=(float(tint[0]), float(tint[1]), float(tint[2])),
    )


def _day(rng: np.random.Generator, clear: bool) -> dict[str, Any]:
    if not clear:
        grey = rng.uniform(0.62, 0.88)
        return {
            "towards": _direction(rng.uniform(0, 2 * math.pi), 1.35),
            "main": (0.16, 0.16, 0.15),
            "sky": (0.66, 0.68, 0.71),
            "zenith": (grey, grey, grey + 0.02),
            "horizon": (grey * 1.05, grey * 1.05, grey * 1.06),
            "lamps": False,
            "casts": False,
        }
    warm = rng.uniform(0, 1)
    return {
        "towards": _direction(rng.uniform(0, 2 * math.pi), rng.uniform(0.45, 1.15)),
        "main": (0.64, 0.60 - 0.05 * warm, 0.52 - 0.12 * warm),
        "sky": (0.47, 0.51, 0.57),
        "zenith": (0.30, 0.50, 0.80),
        "horizon": (0.72, 0.80, 0.88),
        "lamps": False,
        "casts": True,
    }


def _dusk(rng: np.random.Generator, clear: bool) -> dict[str, Any]:
    depth = rng.uniform(0.6, 1.0)
    glow = rng.uniform(0.4, 1.0) if clear else 0.15
    grey = 0.60 * depth
    return {
        "towards": _direction(rng.uniform(0, 2 * math.pi), rng.uniform(0.25, 0.4)),
        "main": (0.62 * glow * depth, 0.44 * glow * depth, 0.27 * glow * depth),
        "sky": (grey, grey, grey * 1.16),
        "zenith": (0.26 * depth, 0.31 * depth, 0.50 * depth),
        "horizon": ((0.50 + 0.25 * glow) * depth, 0.48 * depth, (0.53 - 0.12 * glow) * depth),
        "lamps": True,
        "casts": clear and depth > 0.8,
    }


def _night(rng: np.random.Generator, clear: bool) -> dict[str, Any]:
    strength = rng.uniform(0.7, 1.3)
    dark = rng.uniform(0.15, 0.30) + (0.0 if clear else 0.03)
    return {
        "towards": _direction(rng.uniform(0, 2 * math.pi), 1.25),
        "main": tuple(part * strength for part in LAMP),
        "sky": (dark, dark, dark * 1.15),
        "zenith": (0.02, 0.02, 0.045),
        "horizon": (0.10, 0.085, 0.085),
        "lamps": True,
        "casts": False,
    }


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    flat = math.cos(elevation)
    return flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)
