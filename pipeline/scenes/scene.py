"""One scene: a camera over a street, what it sees at any time, and the truth about it."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.samples import Sample
from pipeline.scenes import backdrop, facades, light, props, street, traffic, view, weather
from pipeline.scenes.cast import Cast, Drawn, Look, looks_of
from pipeline.scenes.model import Model, Point
from pipeline.scenes.painter import Floor, Glow, Item, Truth, lay, observe, paint
from pipeline.scenes.setting import ANY, Setting
from pipeline.scenes.sprite import Floats, Pose, draw, draw_shadow

NAMES = ("person", "bicycle", "car", "motorcycle", "bus", "truck")  # as in COCO

SMALLEST = 12.0  # pixels at a width of 640: the root of a box's area; nothing smaller is drawn
LEAST_VISIBLE = 0.25  # share; what shows less of itself is ignored

Labelled = tuple[str, tuple[float, float, float, float]]  # a label; x1, y1, x2, y2

_ROOM = 13.0  # metres before the camera without trees and lamps: nobody hangs a camera behind one
_NEAREST = {"street": (7.5, 15.0), "avenue": (9.0, 16.0), "square": (5.5, 10.0)}
# By kind of mover, metres: how far it and its shadow reach, and at most the root of its area.
_REACH = np.array((3.0, 3.0, 4.0, 3.0, 8.5, 7.0))
_BREADTH = np.array((1.2, 1.6, 3.2, 1.9, 7.0, 6.0))
_OF_KIND = {"walker": 0, "bicycle": 1, "car": 2, "motorcycle": 3, "bus": 4, "truck": 5}


class Scene:
    """A world that runs by itself: frame n is what the camera sees n / rate seconds on.

    Any frame can be asked for at any time, and is the same bytes each time. Memory: up to 70 MB.
    """

    def __init__(self, setting: Setting) -> None:
        rng = np.random.default_rng([setting.seed, 1])
        height, width = setting.size
        place = _pick(rng, setting.place, street.PLACES, (0.5, 0.25, 0.25))
        time = _pick(rng, setting.time, light.TIMES, (0.45, 0.25, 0.3))
        sky = _pick(rng, setting.weather, light.WEATHERS, (0.5, 0.25, 0.25))
        self.size = setting.size
        self.least = SMALLEST * width / 640  # pixels
        self._seed = setting.seed
        self._rate = setting.rate
        self.view = view.choose_view(rng, width, height, _NEAREST[place])
        self.street = street.choose_street(rng, self.view, place)
        self.light = light.choose_light(rng, time, sky)
        busy = float(rng.beta(1.1, 1.9)), float(rng.beta(1.0, 1.9))
        self._traffic = traffic.choose_traffic(rng, self.view, self.street, busy)
        self._cast = Cast(setting.seed, self.view, self.light)
        self._last: tuple[int, list[Item]] | None = None  # picture and truth ask for the same
        self._prop_seed = int(rng.integers(1 << 30))

    def frame(self, index: int) -> Sample:
        """Picture and truth of frame `index`, 0 or greater."""
        truth = self.truth(index)
        image = self.picture(index)
        return Sample(image, truth.boxes, truth.class_ids, truth.visible, truth.ignored)

    def picture(self, index: int) -> NDArray[np.uint8]:
        """[height, width, 3], RGB."""
        image = paint(self._floor, self.items(index))
        self._veil.cover(image, np.random.default_rng([self._seed, 2, index]))
        return image

    def truth(self, index: int) -> Truth:
        """What frame `index` shows. Draws no more of it than it must."""
        seen = observe(self.items(index), self.size)
        clear = [s.visible >= LEAST_VISIBLE and _side(s.box) >= self.least for s in seen]
        return Truth(
            boxes=np.array([s.box for s in seen], np.float32).reshape(-1, 4),
            class_ids=np.array([s.class_id for s in seen], np.int64),
            visible=np.array([s.visible for s in seen], np.float32),
            ignored=~np.array(clear, np.bool_),
        )

    def objects(self, index: int) -> tuple[list[Labelled], list[Labelled]]:
        """The same as a consumer has its detections: what is to be found, and what is ignored."""
        truth = self.truth(index)
        return _labelled(truth.of(~truth.ignored)), _labelled(truth.of(truth.ignored))

    def items(self, index: int) -> list[Item]:
        """All that stands in front of the backdrop in frame `index`, the farthest first."""
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        movers = self._traffic.at(index / self._rate)
        x, y, heading = traffic.on_ground(self.street, movers)
        feet = self.view.project(np.stack((x, y, np.zeros_like(x)), axis=1))
        level = self._levels(movers.u, movers.v)
        items = list(self._things)
        for i in np.flatnonzero(self._may_show(movers.kind, movers.u, y, feet)).tolist():
            pose = Pose(float(x[i]), float(y[i]), float(heading[i]), float(level[i]))
            looks = looks_of(
                int(movers.kind[i]), float(movers.who[i]), float(movers.gone[i]),
                float(movers.speed[i]), bool(movers.alone[i]),
            )  # fmt: skip
            for order, look in enumerate(looks):
                item = self._item(look, pose, float(feet[i, 2]) - 0.01 * order)
                if item is not None:
                    items.append(item)
        items.sort(key=lambda item: -item.depth)
        self._last = index, items
        return items

    def _may_show(self, kind: Any, u: Any, y: Any, feet: Any) -> NDArray[np.bool_]:
        """Whose place is near enough to the picture, and not too far away, to be drawn at all."""
        scale = self.view.focal / feet[:, 2]
        reach = _REACH[kind] * scale
        found: NDArray[np.bool_] = (y > 0.5) & (_BREADTH[kind] * scale > self.least)
        found &= (feet[:, 0] > -reach) & (feet[:, 0] < self.view.width + reach)
        found &= (u > -self.street.walls[0]) & (u < self.street.walls[1])
        found &= (feet[:, 1] > -reach) & (feet[:, 1] < self.view.height + 1.5 * reach)
        return found

    def _item(self, look: Look, pose: Pose, depth: float) -> Item | None:
        drawn = self._cast.at(look, pose)
        if drawn is None or _side(drawn.sprite.box) < self.least:
            return None
        class_id = _OF_KIND.get(look.kind, 0)
        glows = self._glows(self._cast.model(look), pose) if self.light.lamps else ()
        return Item(depth, drawn, class_id, glows, rides=look.kind.startswith("rider"))

    def _glows(self, model: Model, pose: Pose) -> tuple[Glow, ...]:
        ahead = _facing(pose, self.view.above)
        found = []
        for points, sign, strength in ((model.headlights, 1, 1.0), (model.taillights, -1, 0.35)):
            towards = sign * ahead
            if towards < 0.05:
                continue
            colour = (1.0, 0.96, 0.85) if sign > 0 else (1.0, 0.10, 0.06)
            size = strength * (0.35 + 0.65 * towards**3)
            found += [self._glow(point, pose, size, colour) for point in points]
        return tuple(found)

    def _glow(
        self, point: Point, pose: Pose, metres: float, colour: tuple[float, float, float]
    ) -> Glow:
        x, y, depth = self.view.project(pose.turn(np.array([point])))[0].tolist()
        radius = round(max(2.0, metres * self.view.focal / depth))
        return Glow(round(x), round(y), weather.halo(min(radius, 90), colour))

    def _levels(self, u: Floats, v: Floats) -> NDArray[np.floating[Any]]:
        """How much of the main light arrives at places of the street."""
        if self.light.lamps:
            return np.asarray(self.street.lamp_light(u, v))
        return facades.sunlit(self.street, self.light, u.astype(np.float32), v.astype(np.float32))

    @cached_property
    def _floor(self) -> Floor:
        return lay(backdrop.trace(self.view, self.street, self.light), self._things)

    @cached_property
    def _veil(self) -> weather.Veil:
        return weather.Veil(np.random.default_rng([self._seed, 3]), self.view, self.light)

    @cached_property
    def _things(self) -> list[Item]:
        """What stands around and never moves."""
        rng = np.random.default_rng([self._prop_seed, 4])
        items = [
            self._thing(props.lamp(rng), at, math.pi / 2 if at[0] > 0 else -math.pi / 2)
            for at in self.street.lamps
        ]
        for at, maker in props.places(rng, self.street, self.view):
            items.append(self._thing(maker(rng), at, float(rng.uniform(0, 2 * math.pi))))
        return [item for item in items if item is not None]

    def _thing(self, model: Model, at: tuple[float, float], turned: float) -> Item | None:
        x, y = self.street.to_ground(*at)
        depth = float(self.view.project(np.array([[x, y, 0.0]]))[0, 2])
        if depth < (_ROOM if model.corners[4, 2] > 2 else 2.0):
            return None
        level = float(self._levels(np.array([at[0]]), np.array([at[1]]))[0])
        pose = Pose(float(x), float(y), turned + math.pi / 2 - self.street.yaw, level)
        sprite = draw(model, pose, self.view, self.light)
        if sprite is None:
            return None
        shadow = draw_shadow(model, pose, self.view, self.light)
        bulbs = model.headlights if self.light.lamps else ()
        glows = tuple(self._glow(bulb, pose, 0.9, light.LAMP) for bulb in bulbs)
        return Item(depth, Drawn(sprite, shadow, (0, 0)), None, glows)


def _labelled(truth: Truth) -> list[Labelled]:
    labels = [NAMES[class_id] for class_id in truth.class_ids.tolist()]
    return [(label, (*box,)) for label, box in zip(labels, truth.boxes.tolist(), strict=True)]


def _pick(
    rng: np.random.Generator, wanted: str, choices: tuple[str, ...], shares: tuple[float, ...]
) -> str:
    drawn = choices[int(rng.choice(len(choices), p=shares))]
    return drawn if wanted == ANY else wanted


def _facing(pose: Pose, above: float) -> float:
    """1: what stands there looks into the camera, -1: away from it."""
    away = math.hypot(pose.x, pose.y, above)
    return -(math.cos(pose.heading) * pose.x + math.sin(pose.heading) * pose.y) / away


def _side(box: tuple[int, ...]) -> float:
    return math.sqrt(max(0, box[2] - box[0]) * max(0, box[3] - box[1]))
