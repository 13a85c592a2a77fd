"""The bodies of a scene: who looks how, and their sprites, drawn once and kept.

A sprite is drawn for the middle of a cell of places (3 % of the distance, a part of the width)
and shifted by whole pixels to where it is needed, so nothing depends on what was drawn before.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np

from pipeline.scenes import figures, heavy, traffic, vehicles
from pipeline.scenes.light import Light
from pipeline.scenes.model import Model
from pipeline.scenes.sprite import Pose, Shadow, Sprite, draw, draw_shadow
from pipeline.scenes.view import View

_STEP = 0.03  # of the distance
_COLUMNS = 20  # cells in the picture's width
_TURNS = 90  # headings in a circle
_PHASES = 12  # of a step
_LEVELS = 3  # of light, above none
_FLEET = 24  # different ones of each kind
_KEPT = 64 << 20  # bytes of sprites


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sprite and its shadow, with where they belong in the picture."""

    sprite: Sprite
    shadow: Shadow | None
    shift: tuple[int, int]  # x, y pixels to add to their own places


@dataclass(frozen=True, slots=True)
class Look:
    """Which model: a kind (as in `traffic.KINDS`, or `rider`), which of its fleet, which phase."""

    kind: str
    number: int
    phase: int = 0  # 0 to _PHASES - 1
    stride: int = 0  # tenths
    parked: bool = False  # its lights are off


class Cast:
    """All bodies of one scene."""

    def __init__(self, seed: int, view: View, light: Light) -> None:
        self._seed = seed
        self._view = view
        self._light = light
        self._models: dict[Look, Model] = {}
        self._people: dict[tuple[bool, int], figures.Person] = {}
        self._sprites: OrderedDict[tuple[object, ...], Drawn | None] = OrderedDict()
        self._bytes = 0

    def model(self, look: Look) -> Model:
        """The model of a look, always the same one."""
        found = self._models.get(look)
        if found is None:
            found = self._models[look] = self._build(look)
        return found

    def at(self, look: Look, pose: Pose) -> Drawn | None:
        """How a look appears at a pose, None where it does not."""
        view = self._view
        x, y, depth = view.project(np.array([[pose.x, pose.y, 0.0]]))[0].tolist()
        if depth < 1.5:
            return None
        cell = round(math.log(depth) / _STEP), round(x / view.width * _COLUMNS)
        turn = round(pose.heading / (2 * math.pi) * _TURNS) % _TURNS
        level = round(pose.level * _LEVELS)
        middle = math.exp(cell[0] * _STEP)
        place = view.spot(cell[1] * view.width / _COLUMNS, middle)
        kept = self._keep(
            (look, *cell, turn, level),
            look,
            Pose(*place, turn * 2 * math.pi / _TURNS, level / _LEVELS),
        )
        if kept is None:
            return None
        own = view.project(np.array([[*place, 0.0]]))[0]
        return Drawn(kept.sprite, kept.shadow, (round(x - own[0]), round(y - own[1])))

    def _keep(self, key: tuple[object, ...], look: Look, pose: Pose) -> Drawn | None:
        if key in self._sprites:
            self._sprites.move_to_end(key)
            return self._sprites[key]
        model = self.model(look)
        sprite = draw(model, pose, self._view, self._light)
        made = None
        if sprite is not None:
            shadow = draw_shadow(model, pose, self._view, self._light)
            made = Drawn(sprite, shadow, (0, 0))
        self._sprites[key] = made
        self._bytes += _size(made)
        while self._bytes > _KEPT:
            self._bytes -= _size(self._sprites.popitem(last=False)[1])
        return made

    def _build(self, look: Look) -> Model:
        rng = np.random.default_rng([self._seed, len(look.kind), ord(look.kind[0]), look.number])
        if look.kind == "walker":
            return figures.walker(
                self._person(False, look.number), look.phase / _PHASES, look.stride / 10
            )
        if look.kind.startswith("rider"):
            motor = look.kind == "rider of a motorcycle"
            return figures.cyclist(self._person(True, look.number), look.phase / _PHASES, motor)
        makers = {
            "bicycle": figures.bicycle, "motorcycle": figures.motorcycle,
            "car": vehicles.car, "bus": heavy.bus, "truck": heavy.truck,
        }  # fmt: skip
        model = makers[look.kind](rng)
        if not look.parked:
            return model
        dark = np.zeros_like(model.glows)
        return replace(model, glows=dark, headlights=(), taillights=())

    def _person(self, rides: bool, number: int) -> figures.Person:
        key = rides, number
        if key not in self._people:
            rng = np.random.default_rng([self._seed, 99, int(rides), number])
            self._people[key] = figures.person(rng, rides=rides)
        return self._people[key]


def looks_of(kind: int, who: float, gone: float, speed: float, alone: bool) -> list[Look]:
    """What a mover is drawn as: a rider comes behind what they ride."""
    name = traffic.KINDS[kind]
    number = int(who * _FLEET)
    if kind == traffic.WALKER:
        if speed < 0.2:
            return [Look(name, number, _PHASES // 4 if number % 2 else 1, 1)]
        stride = 10 if speed < 2 else 16
        phase = int(gone / (1.35 if stride == 10 else 2.2) * _PHASES) % _PHASES
        return [Look(name, number, phase, stride)]
    looks = [Look(name, number, parked=alone)]
    if alone or kind not in (traffic.BICYCLE, traffic.MOTORCYCLE):
        return looks
    phase = int(gone / 4.5 * _PHASES) % _PHASES if kind == traffic.BICYCLE else 0
    return [*looks, Look(f"rider of a {name}", number, phase)]


def _size(drawn: Drawn | None) -> int:
    if drawn is None:
        return 64
    shadow = 0 if drawn.shadow is None else drawn.shadow.dark.nbytes
    return 5 * drawn.sprite.mask.size + shadow + 512
