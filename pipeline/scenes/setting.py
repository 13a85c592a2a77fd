"""What a scene is asked to be."""

from __future__ import annotations

from dataclasses import dataclass

ANY = "any"  # follows from the seed
SMALLEST_SIDE = 64  # pixels of a picture
LARGEST_SIDE = 4096


@dataclass(frozen=True, slots=True)
class Setting:
    """A scene follows from this and nothing else; what is `any` follows from the seed."""

    seed: int
    place: str = ANY  # one of `street.PLACES`
    time: str = ANY  # one of `light.TIMES`
    weather: str = ANY  # one of `light.WEATHERS`
    size: tuple[int, int] = (384, 640)  # height, width of its pictures, even
    rate: float = 25.0  # frames a second
