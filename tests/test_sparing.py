"""When keyframes are all that is decoded of a live camera."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipeline.sparing import LONGEST_REST, LOOK, REST, Sparing


def play(
    sparing: Sparing, seconds: float, *, keys: float, takes: float, start: float = 0.0
) -> list[float]:
    """The seconds, whole ones, in which keyframes were enough; 10 frames come a second.

    A keyframe comes every `keys` seconds, and infer has read `takes` frames a second.
    """
    spared = []
    for number in range(round(seconds * 10)):
        at = start + number / 10
        is_key = number % round(keys * 10) == 0
        if sparing.see(at, int(at * takes), is_key=is_key) and number % 10 == 9:
            spared.append(at)
    return spared


@pytest.mark.parametrize(
    ("max_fps", "keys", "enough"), [(1, 1.0, True), (0.5, 1.0, True), (2, 1.0, False)]
)
def test_keyframes_are_enough_where_max_fps_asks_for_no_more(
    max_fps: float, keys: float, enough: bool
) -> None:
    found = play(Sparing(max_fps), 20, keys=keys, takes=10)

    assert len(found) == (17 if enough else 0)


def test_a_device_that_takes_every_frame_is_offered_every_frame() -> None:
    assert play(Sparing(None), 100, keys=1.0, takes=10) == []


def test_a_device_that_takes_more_than_the_keyframes_is_offered_every_frame() -> None:
    assert play(Sparing(None), 100, keys=2.0, takes=0.6) == []


def test_a_device_that_takes_less_is_offered_keyframes_and_asked_again_ever_later() -> None:
    found = play(Sparing(None), 600, keys=1.0, takes=0.5)

    rests = [1]
    for before, after in pairwise(found):
        if after - before > 2:
            rests.append(0)
        rests[-1] += 1
    assert rests[:5] == pytest.approx([REST, 2 * REST, 4 * REST, 8 * REST, LONGEST_REST], abs=1)
    assert len(found) > 500


def test_a_device_that_has_time_again_is_offered_everything() -> None:
    sparing = Sparing(None)
    assert len(play(sparing, 100, keys=1.0, takes=0.5)) > 50

    later = play(sparing, 600, keys=1.0, takes=10, start=100.0)

    assert later[-1] < 100 + LONGEST_REST + LOOK
    assert play(sparing, 60, keys=1.0, takes=10, start=700.0) == []


def test_where_infer_is_not_there_nothing_is_concluded() -> None:
    assert play(Sparing(None), 60, keys=1.0, takes=0) == []


@pytest.mark.parametrize("keys", [5.0, 8.0])
def test_keyframes_that_are_far_apart_are_never_enough(keys: float) -> None:
    assert play(Sparing(0.1), 100, keys=keys, takes=0.01) == []
