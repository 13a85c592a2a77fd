"""What a runner finds on labelled pictures, and how fast it is: what will run, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np

from pipeline.runner import Found, Runner, Thresholds
from pipeline.samples import Pictures
from pipeline.yolov6.train.augment import whole
from pipeline.yolov6.train.evaluate import CONFIDENCE, picture_of
from pipeline.yolov6.train.metrics import Picture

if TYPE_CHECKING:
    from pipeline.runner import Staging

_NOTHING = Thresholds(1.0)


def find(
    runner: Runner,
    pictures: Pictures,
    size: tuple[int, int],
    progress: Callable[[int], None] = lambda done: None,
) -> list[Picture]:
    """What is in each picture and what was found there, in pixels of the pictures.

    The runner is to have been opened with `evaluate`'s IOU and MOST, each box with all its
    classes. `size`: the height and width that it takes. `progress` is told how many are done.
    """
    rows: list[Picture] = []
    at_once = runner.plan.threads * runner.plan.batch
    for start in range(0, len(pictures), at_once):
        samples = [pictures[i] for i in range(start, min(start + at_once, len(pictures)))]
        images = [whole(sample, size).image for sample in samples]
        for sample, found in zip(samples, _run(runner, images), strict=True):
            columns = found.xyxy, found.confidence, found.class_id
            rows.append(picture_of(sample, *columns, size=size))
        progress(len(rows))
    return rows


def _run(runner: Runner, images: Sequence[np.ndarray]) -> Iterator[Found]:
    batch, futures = runner.plan.batch, []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        block = _block(runner)
        block.pixels[: len(part)] = part
        futures.append(runner.submit(block, [Thresholds(CONFIDENCE)] * len(part)))
    for future in futures:
        yield from future.result()


def rate(runner: Runner, seconds: float) -> float:
    """Frames/s of full batches, all threads at work; nothing is found, so that NMS costs little."""
    began, ends, frames = time.monotonic(), time.monotonic() + seconds, 0
    going: list[Future[list[Found]]] = []
    while going or time.monotonic() < ends:
        while time.monotonic() < ends and (block := runner.staging()) is not None:
            going.append(runner.submit(block, [_NOTHING] * runner.plan.batch))
        frames += len(going.pop(0).result())
    return frames / (time.monotonic() - began)


def _block(runner: Runner) -> Staging:
    block = runner.staging()
    assert block is not None  # there is one for each thread, and no more batches at once
    return block
