from __future__ import annotations

from math import isnan

import pytest

from pipeline.agreement import Tally, judge
from pipeline.comparison import Box
from pipeline.wire import Detection

HERE: Box = (10.0, 10.0, 30.0, 50.0)
THERE: Box = (100.0, 10.0, 120.0, 50.0)


def seen(label: str, confidence: float, box: Box = HERE) -> Detection:
    return Detection(0, label, confidence, box)


def moved(box: Box, right: float) -> Box:
    return box[0] + right, box[1], box[2] + right, box[3]


def test_what_is_seen_where_it_is_is_right() -> None:
    tally = judge([seen("car", 0.9), seen("bus", 0.4, THERE)], [("bus", THERE), ("car", HERE)])

    assert tally == Tally(right=2, found=2, there=2)
    assert (tally.precision, tally.recall) == (1.0, 1.0)


def test_another_class_is_wrong_and_its_object_is_missed() -> None:
    assert judge([seen("bus", 0.9)], [("car", HERE)]) == Tally(right=0, found=1, there=1)


def test_an_object_is_found_once() -> None:
    assert judge([seen("car", 0.9), seen("car", 0.8)], [("car", HERE)]) == Tally(1, 2, 1)


@pytest.mark.parametrize(("shift", "right"), [(6.66, 1), (6.67, 0)])  # of 20: IoU 0.5003, 0.4998
def test_half_of_both_is_enough(shift: float, right: int) -> None:
    assert judge([seen("car", 0.9, moved(HERE, shift))], [("car", HERE)]).right == right


def test_the_surest_takes_the_object_that_it_overlaps_most_whatever_the_order() -> None:
    objects = [("car", HERE), ("car", moved(HERE, 8))]
    unsure, surest = seen("car", 0.3, moved(HERE, -5)), seen("car", 0.9, moved(HERE, 5))

    assert judge([unsure, surest], objects) == judge([surest, unsure], objects) == Tally(2, 2, 2)


def test_a_sure_one_takes_even_what_fits_another_better() -> None:
    detections = [seen("car", 0.9, moved(HERE, 5)), seen("car", 0.8)]

    assert judge(detections, [("car", HERE)]) == Tally(right=1, found=2, there=1)


def test_what_is_ignored_takes_one_detection_that_then_does_not_count() -> None:
    found = [seen("car", 0.9, THERE), seen("car", 0.8, THERE), seen("bus", 0.7, THERE)]

    assert judge(found, [("car", HERE)], [("car", THERE)]) == Tally(right=0, found=2, there=1)


def test_what_is_to_be_found_is_taken_before_what_is_ignored() -> None:
    ignored = [("car", moved(HERE, 1))]

    assert judge([seen("car", 0.9)], [("car", moved(HERE, 4))], ignored) == Tally(1, 1, 1)


def test_a_box_without_area_is_nothing() -> None:
    assert judge([seen("car", 0.9, (10, 10, 10, 10))], [("car", (10, 10, 10, 10))]).right == 0


def test_pictures_add_up_and_nothing_has_no_share() -> None:
    pictures = [judge([seen("car", 0.9)], [("car", HERE)]), judge([], [("car", HERE)])]
    tally = sum([*pictures, judge([seen("car", 0.9)], [])], Tally())

    assert tally == Tally(right=1, found=2, there=2)
    assert (tally.precision, tally.recall) == (0.5, 0.5)
    assert isnan(Tally().precision)
    assert isnan(Tally().recall)
