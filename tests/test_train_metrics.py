from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.yolov6.train.metrics import Picture, score

CLASSES = 4


def random_picture(random: np.random.Generator, *, visible: bool = False) -> Picture:
    """Objects of all sizes; some are found well, some badly, some not, and some are made up."""
    count = int(random.integers(0, 8))
    near = random.uniform(0, 400, (count, 2))
    boxes = np.concatenate((near, near + np.exp(random.uniform(1.5, 5.5, (count, 2)))), 1)
    class_ids = random.integers(0, CLASSES, count)
    copies = np.repeat(np.arange(count), random.integers(0, 3, count))
    found = boxes[copies] + random.normal(0, 4, (len(copies), 4))
    made_up = random.uniform(0, 300, (3, 2))
    found = np.concatenate((found, np.concatenate((made_up, made_up + 40), 1)))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    labels = np.concatenate((class_ids[copies], random.integers(0, CLASSES, 3)))
    confidence = np.sort(random.uniform(0, 1, len(found)))[::-1]
    shares = random.uniform(0.25, 1, count) if visible else None
    return Picture(boxes, class_ids, shares, found, confidence, labels)


def official(pictures: list[Picture]) -> Any:
    """The twelve numbers of pycocotools."""
    annotations: list[dict[str, Any]] = []
    results = []
    for number, picture in enumerate(pictures):
        for box, label, counts in zip(
            picture.boxes, picture.class_ids, picture.counts, strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": corner_and_size(box),
                    "area": float((box[2] - box[0]) * (box[3] - box[1])) if counts else 1e11,
                    "iscrowd": 0,
                }
            )
        rows = zip(picture.found, picture.confidence, picture.found_ids, strict=True)
        for box, confidence, label in rows:
            results.append(
                {
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": corner_and_size(box),
                    "score": float(confidence),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(len(pictures))],
            "annotations": annotations,
            "categories": [{"id": number} for number in range(CLASSES)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def corner_and_size(box: Any) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_pycocotools(seed: int) -> None:
    random = np.random.default_rng(seed)
    pictures = [random_picture(random) for _ in range(30)]

    scores = score(pictures)

    stats = official(pictures)
    assert scores["all"].map50_95 == pytest.approx(stats[0], abs=1e-9)
    assert scores["all"].map50 == pytest.approx(stats[1], abs=1e-9)
    for name, expected in zip(("small", "medium", "large"), stats[3:6], strict=True):
        assert scores[name].map50_95 == pytest.approx(expected, abs=1e-9)


def test_finding_everything_exactly_scores_one_in_every_group() -> None:
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(20):
        picture = random_picture(random, visible=True)
        ones = np.ones(len(picture.boxes))
        pictures.append(
            Picture(
                picture.boxes,
                picture.class_ids,
                picture.visible,
                picture.boxes,
                ones,
                picture.class_ids,
            )
        )

    scores = score(pictures)

    assert set(scores) == {"all", "small", "medium", "large", "whole", "partly", "mostly"}
    for found in scores.values():
        assert (found.map50, found.map50_95, found.recall50) == (1.0, 1.0, 1.0)


def test_groups_by_occlusion_count_each_object_once() -> None:
    random = np.random.default_rng(1)
    pictures = [random_picture(random, visible=True) for _ in range(20)]

    scores = score(pictures)

    parts = [scores[name].objects for name in ("whole", "partly", "mostly")]
    assert sum(parts) == scores["all"].objects == sum(len(p.boxes) for p in pictures)


def test_an_object_of_another_group_is_neither_missed_nor_wrongly_found() -> None:
    boxes = np.array([[0.0, 0, 50, 50], [100, 100, 150, 150]])
    picture = Picture(
        boxes, np.zeros(2, int), np.array([1.0, 0.6]), boxes, np.array([0.5, 0.9]), np.zeros(2, int)
    )

    scores = score([picture])

    assert scores["whole"].map50 == scores["partly"].map50 == 1.0


def test_who_is_ignored_is_neither_missed_nor_wrongly_found() -> None:
    """As pycocotools has it of an object whose size is out of every range."""
    random = np.random.default_rng(7)
    pictures = []
    for _ in range(40):
        picture = random_picture(random)
        pictures.append(replace(picture, ignored=random.uniform(size=len(picture.boxes)) < 0.3))

    scores = score(pictures)

    stats = official(pictures)
    assert scores["all"].map50 == pytest.approx(stats[1], abs=1e-9)
    for name, expected in zip(
        ("all", "small", "medium", "large"), (stats[0], *stats[3:6]), strict=True
    ):
        assert scores[name].map50_95 == pytest.approx(expected, abs=1e-9)
    assert scores["all"].objects == sum(int(picture.counts.sum()) for picture in pictures)


def test_groups_by_occlusion_are_absent_where_it_is_unknown() -> None:
    picture = random_picture(np.random.default_rng(3))

    assert set(score([picture])) == {"all", "small", "medium", "large"}


def test_no_objects_and_nothing_found_is_no_number() -> None:
    nothing = Picture(
        np.zeros((0, 4)), np.zeros(0, int), None, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
    )

    assert np.isnan(score([nothing])["all"].map50)
