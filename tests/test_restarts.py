from __future__ import annotations

from workers.restarts import Restarts


def longest(low: float, high: float) -> float:
    return high


def test_the_wait_doubles_with_every_death_of_the_last_minute() -> None:
    restarts = Restarts(longest)

    assert [restarts.wait(now) for now in (0.0, 1.0, 2.0, 3.0)] == [0.5, 1.0, 2.0, 4.0]
    assert restarts.wait(300.0) == 0.5


def test_a_worker_that_keeps_dying_is_left_alone_for_a_minute() -> None:
    restarts = Restarts(longest)

    assert [restarts.wait(float(now)) for now in range(7)][5:] == [60.0, 60.0]


def test_waits_are_spread_out() -> None:
    waits = {Restarts().wait(0.0) for _ in range(20)}

    assert len(waits) == 20
    assert all(0 <= wait <= 0.5 for wait in waits)
