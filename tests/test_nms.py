from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.yolov6 import nms
from pipeline.yolov6.nms import Selection, select
from tests import reference

CASES = [
    *(
        f"{p}/{q}"
        for p in ("anchorfree_nc6", "obj_nc6", "anchorfree_nc80", "anchorfree_nc1")
        for q in ("infer", "eval")
    ),
    *(
        f"anchorfree_nc6/{q}"
        for q in (
            "agnostic",
            "agnostic_multi",
            "classes_0_2",
            "classes_0_2_multi",
            "max_det_5",
            "iou_0.3",
            "mostly_empty",
        )
    ),
    "obj_nc6/v1_eval",
    "obj_nc6/v1_infer",
]


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    with np.load(shared / "yolov6" / "golden" / "nms_cases.npz") as file:
        arrays = dict(file)
    return {"arrays": arrays, "cases": json.loads(str(arrays["cases"]))}


def scene(pictures: int, boxes: int, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random overlapping boxes, all with some score."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(pictures, boxes, 2, generator=generator) * 300
    half = torch.rand(pictures, boxes, 2, generator=generator) * 60 + 5
    scores = torch.rand(pictures, boxes, classes, generator=generator)
    return torch.cat((centre - half, centre + half), -1), scores


def rows(selection: Selection) -> np.ndarray:
    xyxy, confidence, class_id = selection
    return np.concatenate((xyxy, confidence[:, None], class_id[:, None]), 1)


def one_by_one(boxes: Tensor, scores: Tensor, threshold: float, iou: float) -> list[int]:
    """Greedy suppression as one would write it down; the indices that remain, best first."""
    best, labels = scores.max(-1)
    remain: list[int] = []
    for i in torch.argsort(best, descending=True, stable=True).tolist():
        if best[i] <= threshold:
            break
        box = boxes[i].tolist()
        if all(labels[i] != labels[j] or overlap(box, boxes[j].tolist()) <= iou for j in remain):
            remain.append(i)
    return remain


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return shared / (areas - shared)


@pytest.mark.parametrize("case", CASES)
def test_exactly_the_boxes_of_the_original_remain(golden: dict[str, Any], case: str) -> None:
    pred, options = (golden["cases"][case][key] for key in ("pred", "params"))
    rows_in = golden["arrays"][f"pred:{pred}"]
    boxes = torch.from_numpy(reference.to_corners(rows_in))
    scores = torch.from_numpy(rows_in[..., 5:] * rows_in[..., 4:5])

    found = select(
        boxes,
        scores,
        confidence=options["conf_thres"],
        iou=options["iou_thres"],
        max_detections=options["max_det"],
        multi_label=options["multi_label"],
        agnostic=options["agnostic"],
        class_ids=[options["classes"]] * len(boxes),
    )

    for i, selection in enumerate(found):
        expected = golden["arrays"][f"out:{case}:{i}"]
        np.testing.assert_allclose(rows(selection), expected, atol=1e-6)


def test_classes_are_told_apart_without_moving_boxes(golden: dict[str, Any]) -> None:
    rows_in = golden["arrays"]["pred:offset_rounding"]
    boxes = torch.from_numpy(reference.to_corners(rows_in))

    found = select(
        boxes, torch.from_numpy(rows_in[..., 5:]), confidence=0.4, iou=0.45, max_detections=300
    )

    assert len(found[0].confidence) == 1  # the original's float32 offset keeps 2: IoU is 0.4517


@pytest.mark.parametrize("block", [7, 64, 1024])
def test_blocks_do_not_change_the_result(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nms, "_BLOCK", block)
    boxes, scores = scene(3, 200)

    found = select(boxes, scores, confidence=0.2, iou=0.3, max_detections=1000)

    for i, selection in enumerate(found):
        expected = one_by_one(boxes[i], scores[i], 0.2, 0.3)
        assert selection.xyxy.tolist() == boxes[i, expected].tolist()


def test_a_picture_gets_the_same_in_any_batch() -> None:
    boxes, scores = scene(4, 300)
    options: dict[str, Any] = {"confidence": 0.1, "iou": 0.4, "max_detections": 20}

    together = select(boxes, scores, **options)
    alone = [select(boxes[i : i + 1], scores[i : i + 1], **options)[0] for i in range(4)]

    for batched, single in zip(together, alone, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batched, single, strict=True))


def test_thresholds_and_classes_may_differ_by_picture() -> None:
    boxes, scores = scene(1, 100)
    boxes, scores = boxes.expand(3, -1, -1), scores.expand(3, -1, -1)

    low, high, cars = select(
        boxes,
        scores,
        confidence=[0.3, 0.9, 0.3],
        iou=0.5,
        max_detections=300,
        class_ids=[None, None, (2,)],
    )

    assert 0.3 < float(low.confidence.min()) < 0.9 < float(high.confidence.min())
    assert set(cars.class_id.tolist()) == {2}
    assert cars.xyxy.tolist() == low.xyxy[low.class_id == 2].tolist()


def test_the_best_remain_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores = scene(2, 300)
    everything = select(boxes, scores, confidence=0.0, iou=1.0, max_detections=300)
    monkeypatch.setattr(nms, "MAX_CANDIDATES", 50)

    found = select(boxes, scores, confidence=0.0, iou=1.0, max_detections=300)

    for few, many in zip(found, everything, strict=True):
        assert torch.equal(few.confidence, many.confidence[:50])


def test_selecting_twice_changes_nothing() -> None:
    boxes, scores = scene(1, 200, classes=1)
    options: dict[str, Any] = {"confidence": 0.1, "iou": 0.4, "max_detections": 300}
    (first,) = select(boxes, scores, **options)

    (again,) = select(first.xyxy[None], first.confidence[None, :, None], **options)

    assert torch.equal(again.xyxy, first.xyxy)


def test_nothing_in_gives_nothing_out() -> None:
    options: dict[str, Any] = {"confidence": 0.99, "iou": 0.5, "max_detections": 300}
    empty = select(torch.zeros(2, 10, 4), torch.zeros(2, 10, 5), **options)
    none = select(torch.zeros(1, 0, 4), torch.zeros(1, 0, 5), **options)

    assert [tuple(s.xyxy.shape) for s in (*empty, *none)] == [(0, 4)] * 3
    assert select(torch.zeros(0, 10, 4), torch.zeros(0, 10, 5), **options) == []


def test_boxes_without_area_are_not_suppressed() -> None:
    boxes = torch.tensor([[[5.0, 5.0, 5.0, 5.0], [5.0, 5.0, 5.0, 5.0]]])

    (found,) = select(
        boxes, torch.tensor([[[0.9], [0.8]]]), confidence=0.5, iou=0.5, max_detections=9
    )

    assert len(found.confidence) == 2


def test_a_flood_of_candidates_ends_soon() -> None:
    boxes, scores = scene(2, 5000, classes=8)
    start = time.monotonic()

    found = select(boxes, scores, confidence=0.001, iou=0.65, max_detections=300, multi_label=True)

    assert [len(selection.confidence) for selection in found] == [300, 300]
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("anchors", [0, 1, 31, 32, 37, 5040])
def test_candidates_are_found_in_blocks_of_whatever_size(anchors: int) -> None:
    random = torch.Generator().manual_seed(anchors)
    scores = torch.rand((3, anchors, 4), generator=random)
    thresholds = torch.tensor([0.9, 0.99, 1.0])

    image, anchor = nms._above(scores, thresholds)

    wanted = (scores.amax(-1) > thresholds[:, None]).nonzero()
    assert torch.equal(torch.stack((image, anchor), 1), wanted)


def test_a_score_that_is_no_number_hides_none_beside_it() -> None:
    scores = torch.zeros(1, 64, 2)
    scores[0, 3], scores[0, 5, 1] = torch.nan, 0.8

    _, anchor = nms._above(scores, torch.tensor([0.5]))

    assert anchor.tolist() == [5]
