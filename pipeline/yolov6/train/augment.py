"""Samples → inputs of the network: whole, or changed at random, or four in one.

Decided here: a change of size and place is one map x' = a x + b per picture, and a picture is
drawn into the input by one resampling (Pillow's, which averages where it shrinks). So a mosaic is
not drawn larger than what is seen of it. Boxes go through the same maps; of those that the input
or the tile cuts, what is left counts, if it is more than a tenth and two pixels wide and high.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.letterbox import GREY, Letterbox
from pipeline.samples import Sample
from pipeline.yolov6.train.recipe import Augmentation

Boxes = NDArray[np.float32]
Window = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the input

_LEAST_SIDE = 2.0  # pixels
_LEAST_SHARE = 0.1  # of a box's area
# RGB → luma, and two axes of colour, in which hue is an angle (NTSC's YIQ).
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_TO_RGB = np.linalg.inv(_TO_YIQ)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture lies in the input: pixel (x, y) goes to (gain x + left, gain y + top)."""

    gain: float
    left: float
    top: float

    def boxes(self, boxes: Boxes) -> Boxes:
        shift = _array(self.left, self.top, self.left, self.top)
        moved: Boxes = (boxes * np.float32(self.gain) + shift).astype(np.float32)
        return moved


def whole(sample: Sample, size: tuple[int, int]) -> Sample:
    """The picture in the middle of an input of `size` (height, width), as a camera's is."""
    height, width = sample.image.shape[:2]
    box = Letterbox.of(width, height, size)
    image = np.full((*size, 3), GREY, np.uint8)
    image[box.region] = _resized(sample.image, (0, 0, width, height), box.resized)
    boxes = box.to_network(sample.boxes.astype(np.float32))
    return Sample(image, boxes, sample.class_ids, sample.visible, sample.is_ignored)


def augment(
    samples: Sequence[Sample],
    size: tuple[int, int],
    augmentation: Augmentation,
    random: np.random.Generator,
) -> Sample:
    """One input of `size` (height, width) from one sample, or from four: a mosaic of them."""
    image = np.full((*size, 3), GREY, np.uint8)
    gain, dx, dy = _wobble(size, augmentation, random)
    if len(samples) == 1:
        parts = [_draw(image, samples[0], _middle(samples[0], size, gain, dx, dy), None)]
    else:
        middle = (
            gain * size[1] * (random.uniform(0.5, 1.5) - 1) + size[1] / 2 + dx,
            gain * size[0] * (random.uniform(0.5, 1.5) - 1) + size[0] / 2 + dy,
        )
        parts = [
            _draw(image, sample, *_corner(sample, size, gain, middle, i))
            for i, sample in enumerate(samples)
        ]
    boxes, labels, ignored = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    if random.uniform() < augmentation.flip:
        image = image[:, ::-1]
        boxes = boxes[:, [2, 1, 0, 3]] * _array(-1, 1, -1, 1) + _array(size[1], 0, size[1], 0)
    return Sample(recoloured(image, augmentation, random), boxes, labels, ignored=ignored)


def recoloured(
    image: NDArray[np.uint8], augmentation: Augmentation, random: np.random.Generator
) -> NDArray[np.uint8]:
    """With another hue, saturation and brightness: one linear map of its colours."""
    turn, saturation, value = random.uniform(-1, 1, 3) * (
        augmentation.hue,
        augmentation.saturation,
        augmentation.value,
    )
    if not (turn or saturation or value):
        return np.ascontiguousarray(image)
    sine, cosine = math.sin(2 * math.pi * turn), math.cos(2 * math.pi * turn)
    colour = np.eye(3)
    colour[1:, 1:] = np.array([[cosine, -sine], [sine, cosine]]) * (1 + saturation)
    matrix = np.zeros((3, 4))
    matrix[:, :3] = (1 + value) * _TO_RGB @ colour @ _TO_YIQ
    picture = Image.fromarray(np.ascontiguousarray(image))
    return np.array(picture.convert("RGB", tuple(matrix.ravel().tolist())))


def _wobble(
    size: tuple[int, int], augmentation: Augmentation, random: np.random.Generator
) -> tuple[float, float, float]:
    """The gain, and the shift in x and y in pixels."""
    gain = 1 + random.uniform(-1, 1) * augmentation.scale
    dx, dy = random.uniform(-1, 1, 2) * augmentation.translate * (size[1], size[0])
    return gain, float(dx), float(dy)


def _fit(sample: Sample, size: tuple[int, int]) -> float:
    height, width = sample.image.shape[:2]
    return min(size[0] / height, size[1] / width)  # type: ignore[no-any-return]


def _middle(sample: Sample, size: tuple[int, int], gain: float, dx: float, dy: float) -> Place:
    height, width = sample.image.shape[:2]
    scale = gain * _fit(sample, size)
    return Place(scale, (size[1] - scale * width) / 2 + dx, (size[0] - scale * height) / 2 + dy)


def _corner(
    sample: Sample, size: tuple[int, int], gain: float, middle: tuple[float, float], i: int
) -> tuple[Place, Window]:
    """Tile i, row by row: it touches the middle with its inner corner, and ends there."""
    height, width = sample.image.shape[:2]
    scale = gain * _fit(sample, size)
    x, y = middle
    is_left, is_top = i % 2 == 0, i < 2
    place = Place(scale, x - scale * width if is_left else x, y - scale * height if is_top else y)
    window = (
        0.0 if is_left else x,
        0.0 if is_top else y,
        x if is_left else float(size[1]),
        y if is_top else float(size[0]),
    )
    return place, window


def _draw(
    image: NDArray[np.uint8], sample: Sample, place: Place, window: Window | None
) -> tuple[Boxes, NDArray[np.int64], NDArray[np.bool_]]:
    """Draws the sample into `image`, inside of the window.

    Boxes, labels and who is ignored, of what is left.
    """
    height, width = sample.image.shape[:2]
    limits = window or (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    x1, y1, x2, y2 = (
        max(round(place.left), round(limits[0]), 0),
        max(round(place.top), round(limits[1]), 0),
        min(round(place.left + place.gain * width), round(limits[2]), image.shape[1]),
        min(round(place.top + place.gain * height), round(limits[3]), image.shape[0]),
    )
    if x2 <= x1 or y2 <= y1:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    source = (
        max(0.0, (x1 - place.left) / place.gain),
        max(0.0, (y1 - place.top) / place.gain),
        min(float(width), (x2 - place.left) / place.gain),
        min(float(height), (y2 - place.top) / place.gain),
    )
    image[y1:y2, x1:x2] = _resized(sample.image, source, (y2 - y1, x2 - x1))
    boxes = place.boxes(sample.boxes)
    cut = np.clip(boxes, _array(x1, y1, x1, y1), _array(x2, y2, x2, y2))
    sides, before = cut[:, 2:] - cut[:, :2], boxes[:, 2:] - boxes[:, :2]
    kept = (sides >= _LEAST_SIDE).all(1)
    kept &= sides.prod(1) > _LEAST_SHARE * before.prod(1)
    return cut[kept], sample.class_ids[kept], sample.is_ignored[kept]


def _resized(image: NDArray[np.uint8], box: Window, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The part `box` (x1, y1, x2, y2) of the picture at `size` (height, width)."""
    picture = Image.fromarray(image)
    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR, box))


def _array(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)
