from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.sight import SECONDS, Sight


def noise(seed: int, most: int = 255) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, most + 1, (48, 64, 3), dtype=np.uint8)


def watch(pictures: list[NDArray[np.uint8]], rate: float = 5.0) -> list[tuple[float, str]]:
    """When the state changes, and into what."""
    sight, changes = Sight(), []
    for number, picture in enumerate(pictures):
        if sight.see(picture, number / rate):
            changes.append((number / rate, sight.state))
    return changes


def test_pictures_that_change_are_live() -> None:
    assert watch([noise(n) for n in range(200)]) == []


def test_a_picture_that_stays_the_same_is_noticed_within_ten_seconds() -> None:
    pictures = [noise(n) for n in range(50)] + [noise(0)] * 100 + [noise(1), noise(2), noise(3)] * 2

    (frozen_at, frozen), (live_at, live) = watch(pictures)

    assert (frozen, live) == ("frozen", "live")
    assert SECONDS <= frozen_at - 10 <= 10
    assert live_at - 30 < 1


def test_noise_in_the_dark_is_dark() -> None:
    pictures = [noise(n, 200) for n in range(10)] + [noise(n, 20) for n in range(60)]

    ((dark_at, state),) = watch(pictures)

    assert state == "dark"
    assert SECONDS - 0.6 <= dark_at - 2 <= 10  # from the last look at a bright one


def test_a_picture_that_is_black_and_still_is_dark() -> None:
    assert [state for _, state in watch([noise(0, 0)] * 100)] == ["dark"]


def test_a_lamp_in_the_dark_is_enough() -> None:
    picture = noise(0, 10)
    picture[16, 16] = 200

    assert [state for _, state in watch([picture] * 100)] == ["frozen"]


@pytest.mark.parametrize("rate", [1.0, 100.0])
def test_how_many_pictures_there_are_does_not_matter(rate: float) -> None:
    changes = watch([noise(0)] * int(20 * rate), rate)

    assert [state for _, state in changes] == ["frozen"]
    assert SECONDS <= changes[0][0] <= 10
