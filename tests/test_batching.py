from __future__ import annotations

from pipeline.batching import Batcher

MS = 1_000_000


def batcher(max_batch: int = 4, max_wait_ms: int = 5) -> Batcher:
    return Batcher(max_batch=max_batch, max_wait_ns=max_wait_ms * MS)


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


def test_a_withdrawn_camera_is_in_no_batch() -> None:
    batches = batcher()
    batches.offer("a", 0)
    batches.offer("b", 0)

    batches.withdraw("a")

    assert len(batches) == 1
    assert batches.take() == ["b"]


def test_what_is_left_over_has_waited_since_it_was_offered() -> None:
    batches = batcher(max_batch=2)
    for now_ms in (0, 1, 2):
        batches.offer("a", now_ms * MS)

    batches.take()

    assert batches.wait_ns(4 * MS) == 3 * MS
