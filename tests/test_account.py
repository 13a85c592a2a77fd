from __future__ import annotations

from pipeline.account import Account


def test_what_ingest_dropped_is_told_once() -> None:
    account = Account(None, 0, {})

    assert account.settle("s", 2, {"max_fps": 2}, {}) == {"max_fps": 2}
    assert account.settle("s", 5, {"max_fps": 4}, {}) == {"max_fps": 2}
    assert account.settle("s", 6, {"max_fps": 4}, {}) == {}


def test_the_sum_is_the_jump_in_seq() -> None:
    account = Account(None, 0, {})

    first = account.settle("s", 0, {}, {})
    second = account.settle("s", 7, {"max_fps": 1}, {"superseded": 3})

    assert first == {}
    assert second == {"max_fps": 1, "superseded": 3, "crash": 2}
    assert sum(second.values()) == 7 - 0 - 1


def test_what_infer_left_out_is_told_by_reason_and_is_never_more_than_is_missing() -> None:
    account = Account(None, 0, {})

    assert account.settle("s", 4, {}, {"superseded": 2, "too_old": 1}) == {
        "superseded": 2,
        "too_old": 1,
        "crash": 1,
    }
    assert account.settle("s", 7, {"max_fps": 1}, {"superseded": 1, "too_old": 5}) == {
        "max_fps": 1,
        "superseded": 1,
    }


def test_a_new_session_begins_with_nothing() -> None:
    account = Account("old", 90, {"max_fps": 5})

    assert account.settle("new", 2, {"max_fps": 1}, {"superseded": 1}) == {
        "max_fps": 1,
        "superseded": 1,
    }


def test_a_session_that_goes_on_counts_what_a_crash_took() -> None:
    account = Account("s", 10, {"max_fps": 2})

    assert account.settle("s", 14, {"max_fps": 3}, {"superseded": 1}) == {
        "max_fps": 1,
        "superseded": 1,
        "crash": 2,
    }


def test_where_it_is_not_known_what_was_told_all_is_told_as_a_crash() -> None:
    account = Account("s", 10, {})

    assert account.settle("s", 12, {"max_fps": 9}, {"superseded": 1}) == {"crash": 2}


def test_what_ingest_and_infer_leave_out_is_told_apart_after_a_crash() -> None:
    """Publish has counted both together; ingest says its own again, from the beginning."""
    account = Account("s", 1_000, {"surplus": 600, "superseded": 300})

    assert account.settle("s", 1_045, {"surplus": 640}, {"superseded": 5}) == {
        "surplus": 40,
        "superseded": 5,
    }
