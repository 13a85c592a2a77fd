"""Scenes as a data set: many streets, a few moments of each, through a real encoder.

A picture is drawn once and kept as its encoder left it (JPEG some 60 kB, H.264 some 30 kB), so
that only the first epoch pays for drawing: all moments of a scene are drawn when the first of
them is asked for. `draw_all` does it beforehand, for processes that are forked or sent the set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipeline.samples import Sample
from pipeline.scenes import coding
from pipeline.scenes.painter import Truth
from pipeline.scenes.scene import LEAST_VISIBLE, NAMES, SMALLEST, Scene
from pipeline.scenes.setting import ANY, Setting

CODECS = ("jpeg", "h264", "none")
PER_SCENE = 20
_APART = (20, 60)  # frames between two moments of a scene, from and to
_GROUP = 4  # frames that go through H.264 for the sake of the last one
_JPEG = (35, 88)  # quality, from and to
_CRF = (24, 31)  # see `coding.py`


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A picture in its coded form."""

    coded: tuple[bytes, ...]
    truth: Truth


class Scenes:
    """`Pictures` (see `pipeline/samples.py`) of `length` moments. The same seed, the same bytes.

    Sets of different seeds have different scenes. `codec`: what the pictures have gone through.
    """

    def __init__(  # noqa: PLR0913 — what a scene may be held to
        self,
        seed: int,
        length: int,
        *,
        size: tuple[int, int] = (384, 640),
        codec: str = "jpeg",
        per_scene: int = PER_SCENE,
        time: str = ANY,
        weather: str = ANY,
        place: str = ANY,
    ) -> None:
        """`size`: height, width. Raises `ValueError` for a codec that is none of `CODECS`."""
        if codec not in CODECS:
            raise ValueError(f"found the codec {codec!r}, must be one of {', '.join(CODECS)}")
        self.names = NAMES
        self._seed = seed
        self._length = length
        self._codec = codec
        self._per_scene = per_scene
        self._held = Setting(seed, place, time, weather, size)
        self._size = size
        self._kept: dict[int, _Kept] = {}
        held = *dataclasses.astuple(self._held), SMALLEST, LEAST_VISIBLE
        self.identity = f"scenes of {(seed, length, codec, per_scene, *held)}"

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"sample {index} of {self._length}")
        if index not in self._kept:
            self._draw(index // self._per_scene)
        kept = self._kept[index]
        truth = kept.truth
        image = _decoded(kept.coded, self._codec, self._size)
        return Sample(
            image,
            truth.boxes.copy(),
            truth.class_ids.copy(),
            truth.visible.copy(),
            truth.ignored.copy(),
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self._length))

    def draw_all(self, done: Callable[[int], object] = lambda count: None) -> None:
        """Draws everything that is not kept yet; `done` hears how many samples there are."""
        for number in range(-(-self._length // self._per_scene)):
            if number * self._per_scene not in self._kept:
                self._draw(number)
            done(len(self._kept))

    def setting(self, index: int) -> Setting:
        """Of the scene that a sample is a moment of."""
        number = index // self._per_scene
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        return replace(self._held, seed=seed)

    def _draw(self, number: int) -> None:
        first = number * self._per_scene
        rng = np.random.default_rng([self._seed, number, 6])
        scene = Scene(self.setting(first))
        moment = int(rng.integers(_GROUP, 500))
        quality, crf = int(rng.integers(*_JPEG)), int(rng.integers(*_CRF))
        for index in range(first, min(first + self._per_scene, self._length)):
            self._kept[index] = _Kept(self._coded(scene, moment, quality, crf), scene.truth(moment))
            moment += int(rng.integers(*_APART))

    def _coded(self, scene: Scene, moment: int, quality: int, crf: int) -> tuple[bytes, ...]:
        if self._codec == "h264":
            frames = range(moment - _GROUP + 1, moment + 1)
            return tuple(coding.to_h264((scene.picture(n) for n in frames), self._size, crf))
        image = scene.picture(moment)
        if self._codec == "jpeg":
            return (coding.to_jpeg(image, quality),)
        return (image.tobytes(),)


def _decoded(coded: tuple[bytes, ...], codec: str, size: tuple[int, int]) -> coding.Bytes:
    if codec == "jpeg":
        return coding.from_jpeg(coded[0])
    if codec == "h264":
        return list(coding.from_h264(coded))[-1]
    return np.frombuffer(coded[0], np.uint8).reshape(*size, 3).copy()
