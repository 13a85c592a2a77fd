"""What a run says of itself every ten seconds, where nobody sees bars."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from workers.life import BACKOFF, LIVE, Life
from workers.report import PlainReporter


def camera(name: str, state: str | None = None, published: int = 10) -> Any:
    life = None
    if state is not None:
        life = Life(0.0)
        life.become(state, "a reason", 1.0)
    totals = SimpleNamespace(published=published)
    return SimpleNamespace(config=SimpleNamespace(id=name), totals=totals, life=life, finished=None)


def say(cameras: list[Any], before: int, capsys: pytest.CaptureFixture[str]) -> str:
    reporter = PlainReporter()
    reporter._next = 0.0
    reporter.update(cameras, before)
    return capsys.readouterr().err


def test_cameras_that_are_sick_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    said = say([camera("gate", LIVE), camera("door", BACKOFF), camera("yard")], 0, capsys)

    assert said.startswith("vedette: 30 frames published, ")
    assert said.endswith(" frames/s, 3 of 3 cameras going; door backoff\n")


def test_of_very_many_some_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    said = say([camera(f"door-{n}", BACKOFF) for n in range(9)], 0, capsys)

    assert said.endswith("; " + ", ".join(f"door-{n} backoff" for n in range(5)) + ", 4 more\n")


def test_frames_of_cameras_that_are_gone_still_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert say([camera("gate", LIVE)], 1000, capsys).startswith("vedette: 1,010 frames published")
    assert "cameras going\n" in say([camera("gate", LIVE)], 1000, capsys)
