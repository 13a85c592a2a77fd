from __future__ import annotations

import json

import pytest

from pipeline.sinks.window import NO_ENTRY, Keys, Record, Window, format_id, parse_id
from pipeline.wire import CameraMessage
from tests.published import ended, frame

KEYS = Keys.of("vedette", "gate")


def live(limit: int | None = 100) -> Window:
    return Window(KEYS, limit=limit)


def ids(records: list[Record]) -> list[str]:
    return [format_id(record.id) for record in records]


def data(record: Record) -> dict[str, object]:
    return json.loads(record.fields["data"])


def sent(window: Window) -> list[dict[str, object]]:
    return [data(record) for record in window.attempt(1000, 5)]


def test_a_camera_has_one_key_for_each_kind_and_all_in_one_cluster_slot() -> None:
    assert KEYS.detections == "vedette:{gate}:detections"
    assert KEYS.events == "vedette:{gate}:events"


def test_an_entry_holds_schema_data_and_the_trace_context_of_its_frame() -> None:
    window = live()
    window.append(frame(7))
    window.append(ended(8))

    detections, event = window.attempt(50, 1_000)

    assert detections.key == KEYS.detections
    assert detections.fields["schema"] == b"vedette.detections/1"
    assert data(detections)["seq"] == 7
    assert detections.fields["traceparent"].startswith(b"00-")
    assert (detections.is_frame, event.is_frame) == (True, False)
    assert event.key == KEYS.events
    assert list(event.fields) == ["schema", "data"]


def test_a_live_id_is_the_time_and_a_number_within_the_millisecond() -> None:
    window = live()
    for seq in range(3):
        window.append(frame(seq))
    first = window.attempt(50, 1_000)
    window.confirm()
    window.append(frame(3))

    assert ids(first) == ["1000-0", "1000-1", "1000-2"]
    assert ids(window.attempt(50, 1_001)) == ["1001-0"]


@pytest.mark.parametrize("last", [(9_000, 0), (2**64 - 2, 4)])
def test_a_live_id_is_above_the_last_one_whatever_the_clock_says(last: tuple[int, int]) -> None:
    window = live()
    window.confirm_up_to({KEYS.detections: last, KEYS.events: NO_ENTRY})
    window.append(frame(0))

    (record,) = window.attempt(50, 1_000)

    assert record.id == (last[0], last[1] + 1)


def test_a_files_id_is_its_epoch_and_the_frames_number() -> None:
    window = Window(KEYS, limit=None, epoch=3)
    for seq, dropped in ((0, 0), (1, 0), (5, 3)):
        window.append(frame(seq, dropped={"max_fps": dropped} if dropped else {}))

    assert ids(window.attempt(50, 1_000)) == ["3-1", "3-2", "3-6"]


def test_what_was_attempted_is_byte_for_byte_the_same_in_the_next_attempt() -> None:
    window = live()
    window.append(frame(0))
    first = window.attempt(50, 1_000)
    window.append(frame(1))

    again = window.attempt(50, 2_000)

    assert again[:1] == first
    assert ids(again) == ["1000-0", "2000-0"]


def test_an_attempt_has_no_more_records_than_a_batch() -> None:
    window = live()
    for seq in range(7):
        window.append(frame(seq))

    assert len(window.attempt(3, 1)) == 3
    assert len(window.attempt(3, 1)) == 3
    assert window.confirm() == 3
    assert len(window) == window.frames == 4


def test_what_redis_has_is_confirmed_and_the_rest_stays() -> None:
    window = live()
    for seq in range(3):
        window.append(frame(seq))
    window.attempt(50, 1_000)

    assert window.confirm_up_to({KEYS.detections: (1_000, 1), KEYS.events: NO_ENTRY}) == 2
    assert [data(record)["seq"] for record in window.attempt(50, 9_000)] == [2]


def test_events_are_no_frames() -> None:
    window = live()
    window.append(frame(0))
    window.append(ended(1))

    assert (len(window), window.frames) == (2, 1)
    window.attempt(50, 1)
    assert window.confirm() == 1
    assert len(window) == 0


def test_a_full_window_sheds_its_oldest_frame_and_the_next_message_accounts_for_it() -> None:
    window = live(limit=3)

    shed = [window.append(frame(seq)) for seq in range(5)]

    assert shed == [0, 0, 0, 1, 1]
    messages = sent(window)
    assert [message["seq"] for message in messages] == [2, 3, 4]
    assert messages[0]["dropped"] == {"window": 2}
    assert messages[1]["dropped"] == {}


def test_what_a_shed_frame_knew_of_earlier_drops_is_carried_on() -> None:
    window = live(limit=1)
    window.append(frame(4, dropped={"superseded": 3, "window": 1}))

    window.append(frame(6, dropped={"superseded": 1}))

    assert [message["dropped"] for message in sent(window)] == [{"superseded": 4, "window": 2}]


def test_the_end_accounts_for_frames_that_were_shed_before_it() -> None:
    window = live(limit=1)
    window.append(frame(0))

    window.append(ended(1, dropped={"superseded": 2}))

    (message,) = sent(window)
    assert message["state"] == "ended"
    assert message["dropped"] == {"window": 1, "superseded": 2}


def test_the_jump_in_seq_equals_the_sum_of_dropped_whatever_is_shed() -> None:
    window = live(limit=4)
    seen: list[dict[str, object]] = []
    for seq in range(40):
        window.append(frame(seq))
        if seq % 11 == 0:
            seen += sent(window)
            window.confirm()
    window.append(ended(40))
    seen += sent(window)

    expected = 0
    for message in seen:
        lost = sum(dict(message["dropped"]).values())  # type: ignore[call-overload]
        assert message.get("seq", message.get("frames")) == expected + lost
        expected += lost + 1


def test_what_redis_may_have_is_never_shed() -> None:
    window = live(limit=2)
    window.append(frame(0))
    attempted = window.attempt(50, 1)

    for seq in range(1, 6):
        window.append(frame(seq))

    assert window.attempt(1, 1) == attempted
    assert [message["seq"] for message in sent(window)] == [0, 4, 5]


def test_an_event_is_never_shed() -> None:
    window = live(limit=1)
    for _ in range(3):
        assert window.append(ended(0)) == 0

    assert len(window) == 3


def test_a_window_without_a_limit_sheds_nothing() -> None:
    window = live(limit=None)

    assert sum(window.append(frame(seq)) for seq in range(5_000)) == 0
    assert window.frames == 5_000


def test_the_end_names_the_last_entry_of_the_frames_before_it() -> None:
    window = Window(KEYS, limit=None, epoch=2)
    window.append(frame(0))
    window.append(ended(1))

    assert data(window.attempt(50, 1)[1])["last_id"] == "2-1"


def test_the_end_of_a_camera_that_never_showed_a_frame_names_none() -> None:
    window = live()
    window.append(ended(0))

    assert "last_id" not in data(window.attempt(50, 1)[0])


def test_another_event_names_no_entry() -> None:
    window = live()
    window.append(frame(0))
    window.append(CameraMessage("vedette.camera/1", "gate", "live", 1.0, "it answers"))

    assert "last_id" not in data(window.attempt(50, 1)[1])


@pytest.mark.parametrize("text", ["1-2", b"1-2"])
def test_an_id_is_read_as_redis_writes_it(text: str | bytes) -> None:
    assert parse_id(text) == (1, 2)
    assert format_id((1, 2)) == "1-2"


def test_ids_are_in_the_order_of_numbers_not_of_letters() -> None:
    assert parse_id("9-10") > parse_id("9-9")


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "a-b"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_id(text)
