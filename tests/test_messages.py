from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pipeline.messages import Detections, Ended, Frame, Ready, Result, Ticket, decoder, encode

FRAME = Frame("gate", "1-ab", 7, 0, 0.28, 1.7e9, 123, 1920, 1080)


def result(boxes: int) -> Result:
    detections = Detections(
        np.arange(boxes * 4, dtype=np.float32).reshape(boxes, 4),
        np.linspace(1, 0.5, boxes, dtype=np.float32),
        np.arange(boxes, dtype=np.int16),
    )
    return Result(FRAME, 1, detections, {"superseded": 2}, 10, 20, 30, 40)


@pytest.mark.parametrize(
    ("message", "most"),
    [
        pytest.param(Ready(1, 2**40), 20, id="ready"),
        pytest.param(Ticket(FRAME, 5, 6, {"max_fps": 3}), 120, id="ticket"),
        pytest.param(Ended("gate", "1-ab", 1, 9, {}, "read to its end", True, None), 60, id="end"),
        pytest.param(result(20), 600, id="20 boxes"),
        pytest.param(result(300), 7_000, id="300 boxes"),
    ],
)
def test_a_message_arrives_as_it_was_sent_and_is_small(message: object, most: int) -> None:
    data = encode(message)  # type: ignore[arg-type]

    arrived = decoder(Ready, Ticket, Ended, Result).decode(data)

    assert repr(arrived) == repr(message)
    assert len(data) <= most


def test_arrays_keep_their_values_dtype_and_shape() -> None:
    sent = result(3).detections

    arrived = decoder(Result).decode(encode(result(3))).detections

    for name in ("xyxy", "confidence", "class_id"):
        np.testing.assert_array_equal(getattr(arrived, name), getattr(sent, name), strict=True)


def test_a_socket_takes_only_the_messages_that_belong_there() -> None:
    with pytest.raises(msgspec.ValidationError):
        decoder(Ready, Ended).decode(encode(result(1)))


def test_messages_are_immutable() -> None:
    with pytest.raises(AttributeError):
        FRAME.seq = 8  # type: ignore[misc]
