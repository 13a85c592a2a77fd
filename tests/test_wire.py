from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pytest

from pipeline import wire
from pipeline.messages import Detections, Ended, Frame, Result

SCHEMAS = Path(__file__).parents[1] / "docs" / "schema"
MODEL = wire.Model("0.4.x-n", "0123456789ab", (384, 640), 0.25)


def result(boxes: int = 2) -> Result:
    detections = Detections(
        np.full((boxes, 4), 10.123456, np.float32),
        np.full(boxes, 0.912345, np.float32),
        np.full(boxes, 1, np.int16),
    )
    frame = Frame("gate", "1-ab", 7, 0, 0.28, 1.7e9, 0, 1920, 1080)
    return Result(frame, 1, detections, {"superseded": 2}, 4_000_000, 0, 1_500_000, 9_000_000)


@pytest.mark.parametrize("name", sorted(wire.schemas()))
def test_the_committed_schema_is_the_one_of_the_code(name: str) -> None:
    assert json.loads((SCHEMAS / name).read_text()) == wire.schemas()[name]


@pytest.mark.parametrize("boxes", [0, 2])
def test_a_message_is_valid_and_says_what_the_result_says(boxes: int) -> None:
    message = wire.detections_message(result(boxes), MODEL, ("person", "car"))

    data = json.loads(wire.to_json(message))

    jsonschema.validate(data, wire.schemas()["vedette.detections-1.json"])
    assert data["seq"] == 7
    assert data["dropped"] == {"superseded": 2}
    assert data["timing_ms"] == {"decode": 4.0, "wait": 1.5, "infer": 7.5}
    assert data["detections"] == boxes * [
        {"class_id": 1, "label": "car", "confidence": 0.9123, "box": [10.12] * 4}
    ]
    assert wire.read_detections(wire.to_json(message)) == message


def test_an_ended_event_is_valid_and_leaves_out_what_is_not_known() -> None:
    ended = Ended("gate", "1-ab", 1, 9, {}, "read to its end", True, None)

    data = json.loads(wire.to_json(wire.ended_message(ended, since=1.5, last_id="1-9")))

    jsonschema.validate(data, wire.schemas()["vedette.camera-1.json"])
    assert data["last_id"] == "1-9"
    assert "fault" not in data
    assert "job" not in data


def test_a_reader_of_this_version_accepts_what_later_ones_add() -> None:
    message = wire.detections_message(result(), MODEL, ("person", "car"))
    later = json.loads(wire.to_json(message)) | {"tracks": [1, 2]}

    assert wire.read_detections(json.dumps(later).encode()) == message


def test_a_reader_refuses_what_is_something_else() -> None:
    with pytest.raises(msgspec.ValidationError):
        wire.read_detections(b'{"schema": "vedette.detections/2"}')


def test_a_frame_has_the_same_trace_context_everywhere_and_another_frame_another() -> None:
    first = wire.traceparent("gate", "1-ab", 7)

    assert first == wire.traceparent("gate", "1-ab", 7)
    assert first != wire.traceparent("gate", "1-ab", 8)
    version, trace, span, flags = first.split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
    assert int(trace, 16) > 0
    assert int(span, 16) > 0
