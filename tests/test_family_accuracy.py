"""Average precision on 128 real pictures with their ground truth, by COCO's own evaluation.

What is measured goes the whole way of a picture file: decoded, resized into its letterbox, through
the network as bytes, selected, and back to the picture's own pixels.
"""

from __future__ import annotations

import contextlib
import functools
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.device import PRECISIONS, plan
from pipeline.letterbox import Letterbox
from pipeline.sources import open_source
from pipeline.yolov6 import load
from pipeline.yolov6.importer import import_weights
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.nms import Selection, select

coco = pytest.importorskip("pycocotools.coco")
cocoeval = pytest.importorskip("pycocotools.cocoeval")

# What the original reaches at 320x320 with confidence 0.03, IoU 0.65, several classes a box.
ORIGINAL = {"s": 29.10, "m": 32.79, "l": 37.39}  # AP 50:95, per cent
SIDE = 320


@pytest.mark.timeout(1800)  # `s` takes a minute with AVX-512, two without
@pytest.mark.slow
@pytest.mark.parametrize("size", ["s", "m", "l"])
def test_precision_on_real_pictures_is_that_of_the_original(shared: Path, size: str) -> None:
    assert average_precision(shared, size, "fp32") >= ORIGINAL[size] - 0.2


@pytest.mark.slow
@pytest.mark.skipif(
    plan(device="cpu", precision="auto", max_batch=1).precision != "bf16",
    reason="this processor does not multiply bf16 itself: it is never chosen, and rounds otherwise",
)
@pytest.mark.parametrize("size", ORIGINAL)
def test_bfloat16_costs_at_most_a_third_of_a_point(shared: Path, size: str) -> None:
    exact = average_precision(shared, size, "fp32")

    assert average_precision(shared, size, "bf16") >= exact - 0.3


@functools.cache
def average_precision(shared: Path, size: str, precision: str) -> float:
    """AP 50:95 of Lite-`size`, in per cent."""
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary) / "lite.safetensors"
        source = shared / "yolov6" / "pretrained" / f"yolov6lite_{size}.safetensors"
        import_weights(source, weights)
        network = load(weights)
    network.take_bytes()
    network.to(PRECISIONS[precision]).to(memory_format=torch.channels_last)
    folder = shared / "coco128"
    files = sorted((folder / "images").glob("*.jpg"))
    assert len(files) == 128
    images, found = [], []
    for number, (box, detections) in enumerate(detected(network, files)):
        images.append({"id": number, "width": box.width, "height": box.height})
        found += predictions(number, box, detections)
    truth = [
        annotation
        for image, file in zip(images, files, strict=True)
        for annotation in annotations(image, folder / "labels" / f"{file.stem}.txt")
    ]
    ap = evaluate(images, truth, found)
    print(f"Lite-{size} {precision}: AP {ap:.2f}, the original {ORIGINAL[size]:.2f}")
    return ap


@torch.inference_mode()
def detected(network: YOLOv6, files: list[Path]) -> Iterator[tuple[Letterbox, Selection]]:
    dtype = next(network.parameters()).dtype
    for file in files:
        slot = np.empty((SIDE, SIDE, 3), np.uint8)
        with open_source(str(file), live=False, loop=False) as source:
            picture = next(iter(source))
            box = Letterbox.of(picture.width, picture.height, (SIDE, SIDE))
            box.paint(slot)
            picture.write(slot[box.region])
        images = torch.from_numpy(slot[None]).permute(0, 3, 1, 2).to(dtype)
        (found,) = select(
            *network(images), confidence=0.03, iou=0.65, max_detections=300, multi_label=True
        )
        yield box, found


def predictions(image: int, box: Letterbox, found: Selection) -> list[dict[str, Any]]:
    """As the original's evaluator writes them: boxes to 3 digits, scores to 5."""
    corners = box.to_camera(found.xyxy.numpy()).astype(np.float64)
    corners[:, 2:] -= corners[:, :2]
    return [
        {
            "image_id": image,
            "category_id": int(category),
            "bbox": [round(float(side), 3) for side in sides],
            "score": round(float(score), 5),
        }
        for sides, score, category in zip(corners, found.confidence, found.class_id, strict=True)
    ]


def annotations(image: dict[str, int], file: Path) -> Iterator[dict[str, Any]]:
    lines = file.read_text().splitlines() if file.exists() else []
    for line in lines:
        category, *sides = line.split()
        x, y, width, height = (float(side) for side in sides)
        width, height = width * image["width"], height * image["height"]
        left, top = x * image["width"] - width / 2, y * image["height"] - height / 2
        yield {
            "image_id": image["id"],
            "category_id": int(category),
            "bbox": [left, top, width, height],
            "area": width * height,
            "iscrowd": 0,
        }


def evaluate(
    images: list[dict[str, Any]], truth: list[dict[str, Any]], found: list[dict[str, Any]]
) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = coco.COCO()
        dataset.dataset = {
            "info": {},
            "images": images,
            "annotations": [annotation | {"id": i + 1} for i, annotation in enumerate(truth)],
            "categories": [{"id": i, "name": str(i)} for i in range(80)],
        }
        dataset.createIndex()
        evaluation = cocoeval.COCOeval(dataset, dataset.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return 100 * float(evaluation.stats[0])
