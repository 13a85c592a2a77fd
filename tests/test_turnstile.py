from __future__ import annotations

from workers.turnstile import Turnstile


def test_so_many_go_in_and_the_others_follow_in_turn() -> None:
    turnstile = Turnstile(most=2)

    assert [turnstile.enter(name) for name in "abcd"] == [True, True, False, False]
    assert turnstile.leave("b") == "c"
    assert turnstile.leave("a") == "d"
    assert turnstile.leave("c") is None
    assert turnstile.enter("e")


def test_who_asks_twice_is_one() -> None:
    turnstile = Turnstile(most=1)

    assert turnstile.enter("a")
    assert turnstile.enter("a")
    assert [turnstile.enter("b"), turnstile.enter("b")] == [False, False]
    assert turnstile.leave("a") == "b"
    assert turnstile.leave("b") is None


def test_who_goes_while_waiting_is_not_let_in() -> None:
    turnstile = Turnstile(most=1)
    for name in "abc":
        turnstile.enter(name)

    assert turnstile.leave("b") is None
    assert turnstile.leave("a") == "c"


def test_who_was_never_there_changes_nothing() -> None:
    turnstile = Turnstile(most=1)
    turnstile.enter("a")

    assert turnstile.leave("x") is None
    assert not turnstile.enter("b")
