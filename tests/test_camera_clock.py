"""What a camera's clock is taken to say."""

from __future__ import annotations

import pytest

from pipeline.sources.camera_clock import CameraClock, CameraTime


def test_before_the_first_report_nothing_is_known() -> None:
    clock = CameraClock()

    assert clock.read(0, 1.0, None, 0) is None
    assert clock.read(0, 1.1, 1001.1, 0) is None


def test_one_report_gives_a_time_and_a_second_what_it_is_worth() -> None:
    clock = CameraClock()

    assert clock.read(0, 0.0, 1000.0, 1) == CameraTime(1000.0, None)
    assert clock.read(0, 0.5, 1000.5, 1) == CameraTime(1000.5, None)
    second = clock.read(0, 5.0, 1005.25, 2)

    assert second is not None
    assert second.error == pytest.approx(0.25)


def test_the_worst_of_the_last_minute_counts() -> None:
    clock = CameraClock()
    ahead = 0.0
    for number in range(30):
        ahead += 0.5 if number == 3 else 0.001
        found = clock.read(0, 5.0 * number, 1000 + 5.0 * number + ahead, number + 1)
        assert found is not None
        if 3 <= number < 15:
            assert found.error == pytest.approx(0.5)

    assert found is not None
    assert found.error == pytest.approx(0.001)


def test_a_jump_of_time_stamps_ends_what_was_known() -> None:
    clock = CameraClock()
    clock.read(0, 0.0, 1000.0, 1)

    assert clock.read(1, 7200.0, 8200.0, 1) is None
    assert clock.read(1, 7201.0, 1006.0, 2) == CameraTime(1006.0, None)


def test_a_picture_without_a_time_stamp_leaves_the_clock_alone() -> None:
    clock = CameraClock()
    clock.read(0, 0.0, 1000.0, 1)

    assert clock.read(0, None, 1000.1, 2) is None
    assert clock.read(0, 0.2, 1000.2, 2) == CameraTime(1000.2, pytest.approx(0, abs=1e-9))
