from __future__ import annotations

from workers.life import BACKOFF, CONNECTING, DEAD_SECONDS, LIVE, OPENING_SECONDS, Life


def test_a_change_is_told_once() -> None:
    life = Life(100.0)

    first, again = life.news(), life.news()
    life.become(LIVE, "its pictures arrive", 101.0)
    second = life.news()
    is_news = life.become(LIVE, "its pictures arrive", 102.0)

    assert first is not None
    assert second is not None
    assert (first.name, first.since, again) == (CONNECTING, 100.0, None)
    assert (second.name, second.since, second.reason) == (LIVE, 101.0, "its pictures arrive")
    assert not is_news
    assert life.news() is None


def test_a_state_that_goes_on_for_another_reason_is_told_and_has_begun_when_it_did() -> None:
    life = Life(0.0)
    life.become(BACKOFF, "the connection was closed", 1.0, "network")
    life.news()

    assert life.become(BACKOFF, "404 Not Found", 9.0, "camera")
    told = life.news()
    assert told is not None
    assert (told.reason, told.fault, told.since) == ("404 Not Found", "camera", 1.0)


def test_only_the_last_of_several_changes_is_told() -> None:
    life = Life(0.0)
    life.become(LIVE, "a", 1.0)
    life.become(BACKOFF, "b", 2.0, "network")

    told = life.news()

    assert told is not None
    assert (told.name, told.fault) == (BACKOFF, "network")
    assert life.news() is None


def test_who_is_new_is_told_again() -> None:
    life = Life(0.0)
    life.news()
    life.forget()

    assert life.news() is not None


def test_time_counts_from_the_last_picture() -> None:
    life = Life(0.0)
    look = lambda place, at: life.watch(place, at, opening=False, waiting=False)  # noqa: E731

    assert [look(1, 0.0), look(1, 1.5), look(2, 2.0), look(2, 3.0), look(2, 4.5)] == [
        *(0.0, 1.5, 0.0, 1.0, 2.5)
    ]


def test_time_in_which_nobody_looked_does_not_count() -> None:
    life = Life(0.0)
    for at in (0.0, 1.0, 2.0):
        life.watch(1, at, opening=False, waiting=False)

    assert life.watch(1, 60.0, opening=False, waiting=False) == 0.0
    assert life.watch(1, 61.0, opening=False, waiting=False) == 1.0


def test_who_waits_rightly_is_not_late() -> None:
    life = Life(0.0)
    life.watch(1, 0.0, opening=False, waiting=False)
    life.watch(1, 1.5, opening=False, waiting=True)

    assert life.watch(1, 2.0, opening=False, waiting=False) == 0.5


def test_opening_takes_longer() -> None:
    life = Life(0.0)
    still = [life.watch(None, float(at), opening=True, waiting=False) for at in range(46)]

    assert OPENING_SECONDS == 45
    assert still[-1] == DEAD_SECONDS
