from __future__ import annotations

from workers.retries import GOOD, LONGEST, REFUSED, Retries


def longest(low: float, high: float) -> float:
    return high


def test_the_wait_doubles_from_a_second_to_half_a_minute() -> None:
    retries = Retries(longest)

    waits = [retries.wait(refused=False) for _ in range(2000)]

    assert waits == [1, 2, 4, 8, 16, *[30] * 1995]


def test_the_wait_is_anything_below_that() -> None:
    lowest = Retries(lambda low, high: low)
    anything = Retries()

    assert lowest.wait(refused=False) == 0
    waits = {anything.wait(refused=False) for _ in range(200)}
    assert len(waits) > 150
    assert 0 <= min(waits) < 5 < 25 < max(waits) <= LONGEST


def test_a_minute_of_pictures_makes_the_next_loss_a_first_one() -> None:
    retries = Retries(longest)
    for _ in range(5):
        retries.wait(refused=False)

    retries.see(1000.0)
    retries.see(1000.0 + GOOD - 1)
    assert retries.wait(refused=False) == 30

    retries.see(2000.0)
    retries.see(2000.0 + GOOD)
    assert retries.wait(refused=False) == 1


def test_who_refuses_is_asked_five_times_in_the_first_hour() -> None:
    retries = Retries(longest)
    asked = [0.0]
    while asked[-1] <= 3600:
        asked.append(asked[-1] + retries.wait(refused=True))

    assert len([at for at in asked if at <= 3600]) == 5
    assert retries.wait(refused=True) == REFUSED[-1]


def test_a_picture_ends_the_slow_lane() -> None:
    retries = Retries(longest)
    retries.wait(refused=True)
    retries.wait(refused=True)

    retries.see(0.0)

    assert retries.wait(refused=True) == REFUSED[0]
