"""Batches of an epoch: the same for the same seed and epoch, however many processes load them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from pipeline.errors import ConfigError
from pipeline.samples import Pictures, Sample
from pipeline.yolov6.train.augment import augment
from pipeline.yolov6.train.recipe import Recipe

Drawing = tuple[int, int]  # an epoch, and the number of a picture

_SHUFFLE, _AUGMENT = 0, 1  # what a random generator is for


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Inputs, and the n objects in all of them, the ignored ones among them."""

    images: NDArray[np.uint8]  # [B, H, W, 3], RGB
    boxes: NDArray[np.float32]  # [n, 4], input pixels
    class_ids: NDArray[np.int64]  # [n]
    pictures: NDArray[np.int64]  # [n]: which of the batch
    ignored: NDArray[np.bool_]  # [n]


class Batches:
    """The batches of every epoch; with `workers` of 0 they are made by the process itself."""

    def __init__(self, pictures: Pictures, recipe: Recipe, *, workers: int = 0) -> None:
        self._order = _Order(len(pictures), recipe)
        self._loader: DataLoader[Batch] = DataLoader(
            _Inputs(pictures, recipe),  # type: ignore[arg-type]
            batch_sampler=self._order,
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._order)

    def of(self, epoch: int) -> Iterator[Batch]:
        """Raises ConfigError for a picture that cannot be read, whichever process tries."""
        self._order.epoch = epoch
        try:
            yield from self._loader
        except ConfigError as error:  # of another process, with its traceback as the text
            raise ConfigError(str(error).strip().rpartition("ConfigError: ")[2]) from None


def collate(samples: list[Sample]) -> Batch:
    counts = [len(sample.boxes) for sample in samples]
    return Batch(
        np.stack([sample.image for sample in samples]),
        np.concatenate([sample.boxes for sample in samples]),
        np.concatenate([sample.class_ids for sample in samples]),
        np.repeat(np.arange(len(samples)), counts),
        np.concatenate([sample.is_ignored for sample in samples]),
    )


class _Order:
    """Every picture once an epoch, shuffled; what does not fill a batch waits for another epoch."""

    def __init__(self, pictures: int, recipe: Recipe) -> None:
        self.epoch = 0
        self._pictures = pictures
        self._batch = min(recipe.batch, pictures)
        self._seed = recipe.seed

    def __len__(self) -> int:
        return self._pictures // self._batch

    def __iter__(self) -> Iterator[list[Drawing]]:
        random = np.random.default_rng((self._seed, _SHUFFLE, self.epoch))
        order = random.permutation(self._pictures)
        for i in range(len(self)):
            rows = order[i * self._batch : (i + 1) * self._batch]
            yield [(self.epoch, int(index)) for index in rows]


class _Inputs(Dataset[Sample]):
    """(epoch, number of a picture) → an input; a mosaic takes three more pictures at random."""

    def __init__(self, pictures: Pictures, recipe: Recipe) -> None:
        self._pictures = pictures
        self._recipe = recipe

    def __getitem__(self, drawing: Drawing) -> Sample:
        epoch, index = drawing
        random = np.random.default_rng((self._recipe.seed, _AUGMENT, epoch, index))
        augmentation = self._recipe.augmentation(epoch)
        numbers = [index]
        if random.uniform() < augmentation.mosaic:
            numbers += random.integers(len(self._pictures), size=3).tolist()
            random.shuffle(numbers)
        samples = [self._pictures[number] for number in numbers]
        return augment(samples, self._recipe.input_size, augmentation, random)
