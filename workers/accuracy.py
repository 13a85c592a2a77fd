"""What a runner finds on labelled pictures, and how fast it is: what will run, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np

from pipeline.letterbox import Letterbox
from pipeline.runner import Found, Runner, Thresholds
from pipeline.samples import Pictures, Sample
from pipeline.yolov6.train.augment import whole
from pipeline.yolov6.train.metrics import Picture

if TYPE_CHECKING:
    from pipeline.runner import Staging

# As the original evaluates: with these a runner is to be opened, each box with all its classes.
CONFIDENCE, IOU, DETECTIONS = 0.03, 0.65, 300
_NOTHING = Thresholds(1.0)


def find(
    runner: Runner,
    pictures: Pictures,
    size: tuple[int, int],
    progress: Callable[[int], None] = lambda done: None,
) -> list[Picture]:
    """What is in each picture and what was found there, in pixels of the pictures.

    `size`: the height and width that the runner takes. `progress` is told how many are done.
    """
    rows: list[Picture] = []
    at_once = runner.plan.threads * runner.plan.batch
    for start in range(0, len(pictures), at_once):
        samples = [pictures[i] for i in range(start, min(start + at_once, len(pictures)))]
        images = [whole(sample, size).image for sample in samples]
        rows += map(_row, samples, _run(runner, images), [size] * len(samples))
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


def _row(sample: Sample, found: Found, size: tuple[int, int]) -> Picture:
    height, width = sample.image.shape[:2]
    boxes = Letterbox.of(width, height, size).to_camera(found.xyxy)
    return Picture(
        sample.boxes,
        sample.class_ids,
        sample.visible,
        boxes,
        found.confidence,
        found.class_id,
        sample.is_ignored,
    )


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
