"""A network on a data set: what it finds, and how good that is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.letterbox import Letterbox
from pipeline.samples import Pictures, Sample
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.nms import select
from pipeline.yolov6.train.augment import whole
from pipeline.yolov6.train.metrics import Picture, Score, score

CONFIDENCE, IOU, MOST = 0.03, 0.65, 300  # as the original evaluates


def evaluate(
    network: YOLOv6,
    pictures: Pictures,
    size: tuple[int, int],
    *,
    batch: int = 8,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Score]:
    """`metrics.score` of a fused network, on its own device, with inputs of `size` (height, width).

    Boxes are compared in pixels of the pictures. `progress` is told how many are done.
    """
    return score(find(network, pictures, size, batch=batch, progress=progress))


def find(
    network: YOLOv6,
    pictures: Pictures,
    size: tuple[int, int],
    *,
    batch: int = 8,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Picture]:
    """What is in each picture, and what was found there; as `evaluate`."""
    rows: list[Picture] = []
    for start in range(0, len(pictures), batch):
        samples = [pictures[i] for i in range(start, min(start + batch, len(pictures)))]
        rows += _find(network, samples, size)
        progress(len(rows))
    return rows


@torch.inference_mode()
def _find(network: YOLOv6, samples: list[Sample], size: tuple[int, int]) -> list[Picture]:
    images = np.stack([whole(sample, size).image for sample in samples])
    device = next(network.parameters()).device
    tensor = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 255
    boxes, scores = network(tensor)
    # One by one: all pairs of a batch are compared, also those of different pictures.
    selections = [
        select(
            boxes[i : i + 1],
            scores[i : i + 1],
            confidence=CONFIDENCE,
            iou=IOU,
            max_detections=MOST,
            multi_label=scores.shape[-1] > 1,
        )[0]
        for i in range(len(samples))
    ]
    return [
        picture_of(sample, *(column.cpu().numpy() for column in found), size=size)
        for sample, found in zip(samples, selections, strict=True)
    ]


def picture_of(
    sample: Sample,
    boxes: NDArray[np.float32],
    confidence: NDArray[np.float32],
    class_ids: NDArray[np.integer],
    *,
    size: tuple[int, int],
) -> Picture:
    """A sample, and what was found in it: boxes [n, 4] in pixels of an input of `size`."""
    height, width = sample.image.shape[:2]
    letterbox = Letterbox.of(width, height, size)
    return Picture(
        sample.boxes,
        sample.class_ids,
        sample.visible,
        letterbox.to_camera(boxes),
        confidence,
        class_ids,
        sample.is_ignored,
    )
