from __future__ import annotations

import pytest

from pipeline.batching import Batcher

MS = 1_000_000


def batcher(
    max_batch: int = 4, max_wait_ms: int = 5, *, lossless: bool = False, **weights: float
) -> Batcher:
    """Of the cameras `file` and `a` to `d`, with these weights."""
    made = Batcher(max_batch=max_batch, max_wait_ns=max_wait_ms * MS)
    made.add("file", lossless=True)
    for camera in {**dict.fromkeys(("gate", *"abcd")), **weights}:
        made.add(camera, weight=weights.get(camera, 1.0), lossless=lossless)
    return made


def shares(batches: Batcher, cameras: str, rounds: int) -> dict[str, int]:
    """How often each was served where all of them always have a frame."""
    served = dict.fromkeys(cameras, 0)
    offering: set[str] = set()
    for _ in range(rounds):
        for camera in cameras:
            if camera not in offering:
                batches.offer(camera, 0)
        offering = set(cameras)
        for camera in batches.take():
            served[camera] += 1
            offering.discard(camera)
    return served


def test_nothing_offered_is_nothing_to_wait_for() -> None:
    assert batcher().wait_ns(0) is None


def test_a_full_batch_goes_at_once() -> None:
    batches = batcher()
    for camera in "abcd":
        batches.offer(camera, 0)

    assert batches.wait_ns(0) == 0
    assert batches.take() == ["a", "b", "c", "d"]
    assert batches.wait_ns(0) is None


def test_a_lonely_frame_goes_after_max_wait_and_never_waits_for_a_given_camera() -> None:
    batches = batcher()
    batches.offer("a", 10 * MS)

    assert batches.wait_ns(12 * MS) == 3 * MS
    assert batches.wait_ns(15 * MS) == 0
    assert batches.take() == ["a"]


def test_a_camera_that_offers_much_cannot_starve_one_that_offers_little() -> None:
    batches = batcher()
    for _ in range(100):
        batches.offer("file", 0)
    batches.offer("gate", 0)

    assert batches.take() == ["file", "gate", "file", "file"]


def test_cameras_take_turns_from_batch_to_batch() -> None:
    batches = batcher(max_batch=2)
    for camera in "abc" * 2:
        batches.offer(camera, 0)

    assert [batches.take() for _ in range(3)] == [["a", "b"], ["c", "a"], ["b", "c"]]


def test_a_removed_camera_is_in_no_batch() -> None:
    batches = batcher()
    batches.offer("a", 0)
    batches.offer("b", 0)

    batches.remove("a")

    assert len(batches) == 1
    assert batches.take() == ["b"]


def test_shares_are_by_weight_where_a_batch_has_no_room_for_all() -> None:
    served = shares(batcher(2, a=1, b=2, c=4, d=1), "abcd", 400)

    assert served == pytest.approx({"a": 100, "b": 200, "c": 400, "d": 100}, rel=0.02)


@pytest.mark.parametrize("weights", [{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 0.5}])
def test_shares_are_by_weight_where_a_batch_has_room_for_all(weights: dict[str, float]) -> None:
    rounds = 1200
    served = shares(batcher(16, **weights), "".join(weights), rounds)

    highest = max(weights.values())
    wanted = {camera: rounds * weight / highest for camera, weight in weights.items()}
    assert served == pytest.approx(wanted, rel=0.02)


def test_of_equal_weight_nobody_sits_out() -> None:
    assert shares(batcher(16), "abcd", 50) == dict.fromkeys("abcd", 50)


def test_the_queue_is_the_order_in_which_they_go() -> None:
    batches = batcher(max_batch=1, a=2.0, b=1.0, c=0.5, d=1.0)
    for _ in range(40):
        for camera in "abcd":
            if camera not in batches.queue():
                batches.offer(camera, 0)
        first = batches.queue()[0]

        assert len(batches.queue()) == 4
        assert batches.take() == [first]
    assert batcher().queue() == []


def test_who_sits_out_is_next_where_the_device_has_time() -> None:
    batches = batcher(16, a=0.25, b=1)
    taken = []
    for _ in range(8):  # both at the same pace, slower than the device
        batches.offer("a", 0)
        batches.offer("b", 0)
        while len(batches):
            taken += batches.take()

    assert (taken.count("a"), taken.count("b")) == (8, 8)


def test_who_was_away_neither_makes_up_for_it_nor_waits() -> None:
    batches = batcher(1)
    for _ in range(50):
        batches.offer("a", 0)
        batches.take()
    for _ in range(4):
        batches.offer("a", 0)
        batches.offer("b", 0)

    assert [batches.take()[0] for _ in range(8)] in (list("ba" * 4), list("ab" * 4))


def test_files_share_by_weight_too_and_fill_a_batch() -> None:
    batches = batcher(6, lossless=True, a=1, b=2)
    for _ in range(40):
        batches.offer("a", 0)
        batches.offer("b", 0)

    assert [sorted(batches.take()) for _ in range(3)] == [list("aabbbb")] * 3


def test_live_cameras_and_files_starve_neither() -> None:
    batches = batcher(4)
    for _ in range(100):
        batches.offer("file", 0)
    taken: list[str] = []
    for _ in range(20):
        for camera in "abc":
            batches.offer(camera, 0)
        taken += batches.take()

    assert {camera: taken.count(camera) for camera in (*"abc", "file")} == dict.fromkeys(
        (*"abc", "file"), 20
    )


def test_what_a_file_gets_where_there_is_room_is_not_held_against_it() -> None:
    batches = batcher(16)

    waiting: set[str] = set()

    def rounds(number: int) -> int:
        served = 0
        for _ in range(number):
            while len(batches) < 40:
                batches.offer("file", 0)
            for camera in sorted(set("abcd") - waiting):
                batches.offer(camera, 0)
            taken = batches.take()
            waiting.clear()
            waiting.update(set("abcd") - set(taken))
            served += taken.count("file")
        return served

    assert rounds(1000) == 12_000
    batches.max_batch = 4

    assert rounds(200) > 100


def test_what_is_left_over_has_waited_since_it_was_offered() -> None:
    batches = batcher(max_batch=2)
    for now_ms in (0, 1, 2):
        batches.offer("a", now_ms * MS)

    batches.take()

    assert batches.wait_ns(4 * MS) == 3 * MS
