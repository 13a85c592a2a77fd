"""When keyframes are all that is decoded of a live camera."""

from __future__ import annotations

from itertools import accumulate, chain, repeat

import pytest

from pipeline.sparing import Sparing

RATE = 10  # frames a second


def play(max_fps: float | None, spacings: list[float]) -> list[float]:
    """The seconds at which keyframes were enough, of groups of these seconds."""
    sparing, spared = Sparing(max_fps), []
    keys = {round(at * RATE) for at in chain([0.0], accumulate(spacings))}
    for number in range(max(keys)):
        if sparing.see(number / RATE, is_key=number in keys):
            spared.append(number / RATE)
    return spared


@pytest.mark.parametrize(
    ("max_fps", "enough"), [(1, True), (0.5, True), (1.02, True), (2, False), (None, False)]
)
def test_keyframes_are_enough_where_max_fps_asks_for_no_more(
    max_fps: float | None, enough: bool
) -> None:
    found = play(max_fps, list(repeat(1.0, 20)))

    assert found == ([number / RATE for number in range(80, 200)] if enough else [])


def test_a_keyframe_that_is_late_ends_it_at_once_and_for_a_while() -> None:
    found = play(1.0, [*repeat(1.0, 10), 60.0, *repeat(1.0, 12)])

    assert max(at for at in found if at < 70) == pytest.approx(10 + 1.25, abs=0.1)
    assert min(at for at in found if at > 70) == pytest.approx(70 + 8, abs=0.1)


def test_keyframes_that_come_more_often_at_first_promise_nothing() -> None:
    assert play(1.0, [*repeat(0.5, 7), *repeat(2.0, 10)]) == []


@pytest.mark.parametrize("spacing", [4.0, 8.0])
def test_keyframes_that_are_far_apart_are_never_enough(spacing: float) -> None:
    assert play(0.1, list(repeat(spacing, 20))) == []
