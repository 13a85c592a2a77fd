"""When the writer tries again, and what it says meanwhile."""

from __future__ import annotations

from pipeline.errors import SinkUnavailable
from workers.pause import Pause


def test_the_same_complaint_is_news_once() -> None:
    pause = Pause()

    assert pause.extend(SinkUnavailable("cannot be reached"))
    assert not pause.extend(SinkUnavailable("cannot be reached"))
    assert pause.extend(SinkUnavailable("is loading"))


def test_a_refused_login_is_news_behind_a_lost_connection_and_its_countdown_is_not() -> None:
    pause = Pause()
    pause.extend(SinkUnavailable("cannot be reached"))

    assert pause.extend(SinkUnavailable("refuses the password", retry_after=60))
    assert not pause.extend(SinkUnavailable("the next login is in 12 s", retry_after=12))
    assert pause.extend(SinkUnavailable("cannot be reached"))
    assert pause.extend(SinkUnavailable("refuses the password", retry_after=60))


def test_after_an_end_everything_is_news_again() -> None:
    pause = Pause()
    pause.extend(SinkUnavailable("cannot be reached"))

    assert pause.end()
    assert not pause.end()
    assert pause.extend(SinkUnavailable("cannot be reached"))
