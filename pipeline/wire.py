"""What consumers read: the published messages, and the JSON Schemas that they can hold us to.

`docs/schema/` holds the schemas as generated from these structs (a test compares them). A later
version adds fields and reasons of drops, and never changes a field or adds a state or a fault.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, cast

import msgspec
import numpy as np
from msgspec import Meta

from pipeline.messages import Counts, Detections, Ended, Result

Size = Annotated[int, Meta(ge=1)]
Pixels = Annotated[int, Meta(ge=1, description="of the camera picture")]
CameraId = Annotated[str, Meta(description="its id in the config file")]
Box = Annotated[
    tuple[float, float, float, float],
    Meta(description="x1, y1, x2, y2 in camera pixels, clipped to the picture"),
]


class Detection(msgspec.Struct, frozen=True):
    """One object that the network saw."""

    class_id: Annotated[int, Meta(ge=0, description="number of the class in the model")]
    label: Annotated[str, Meta(description="name of the class")]
    confidence: Annotated[float, Meta(ge=0, le=1, description="0 to 1")]
    box: Box


class Model(msgspec.Struct, frozen=True):
    """What made the detections."""

    name: Annotated[str, Meta(description="variant of the network")]
    digest: Annotated[str, Meta(description="sha-256 of the weights file, first 12 hex digits")]
    input: Annotated[tuple[int, int], Meta(description="height, width of the network input")]
    confidence: Annotated[float, Meta(ge=0, le=1, description="threshold")]


class Timing(msgspec.Struct, frozen=True):
    """What each stage cost this frame, in milliseconds."""

    decode: Annotated[float, Meta(description="decoding and resizing")]
    wait: Annotated[float, Meta(description="for its turn in a batch")]
    infer: Annotated[float, Meta(description="its batch, to the boxes")]


class DetectionsMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One processed frame, also when nothing was seen: `vedette.detections/1`."""

    schema: Literal["vedette.detections/1"]
    camera: CameraId
    session: Annotated[
        str, Meta(description="one connection of a live camera, or one epoch of a file")
    ]
    seq: Annotated[int, Meta(ge=0, description="0, 1, 2 … of frames that arrived; a jump is a gap")]
    segment: Annotated[int, Meta(ge=0, description="+1 at each discontinuity of time stamps")]
    media_time: Annotated[float, Meta(description="seconds from the segment's start")]
    captured_at: Annotated[
        float,
        Meta(
            description="seconds since 1970 when its packet arrived (over RTSP: when the next one"
            " did); a file: start + media_time"
        ),
    ]
    width: Pixels
    height: Pixels
    model: Annotated[Model, Meta(description="what made the detections")]
    timing_ms: Annotated[Timing, Meta(description="what each stage cost this frame")]
    dropped: Annotated[
        dict[str, Size],
        Meta(description="frames dropped since the previous message; the sum is the jump in seq"),
    ]
    tainted: Annotated[bool, Meta(description="the decoder saw damage since the last keyframe")]
    detections: Annotated[list[Detection], Meta(description="falling confidence")]
    camera_at: (
        Annotated[float, Meta(description="seconds since 1970 by the camera's own clock (RTCP)")]
        | None
    ) = None
    camera_at_error: (
        Annotated[
            float, Meta(description="seconds, the largest step between its reports; needs two")
        ]
        | None
    ) = None


class CameraMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A change in a camera's life: `vedette.camera/1`."""

    schema: Literal["vedette.camera/1"]
    camera: CameraId
    state: Annotated[
        Literal["connecting", "live", "stalled", "frozen", "dark", "refused", "backoff", "ended"],
        Meta(description="what it is in now"),
    ]
    since: Annotated[float, Meta(description="seconds since 1970")]
    reason: Annotated[str, Meta(description="one sentence")]
    fault: (
        Annotated[
            Literal["network", "camera", "decoder", "us"], Meta(description="who is to blame")
        ]
        | None
    ) = None
    session: Annotated[str, Meta(description="that has ended")] | None = None
    job: (
        Annotated[str, Meta(description="of a file: digest of what decides its results")] | None
    ) = None
    frames: Annotated[int, Meta(ge=0, description="that arrived in the session")] | None = None
    dropped: Annotated[dict[str, Size], Meta(description="behind the last message")] | None = None
    last_id: Annotated[str, Meta(description="of the stream of detections")] | None = None
    complete: Annotated[bool, Meta(description="the source was read to its end")] | None = None


_encoder = msgspec.json.Encoder()
_detections = msgspec.json.Decoder(DetectionsMessage)
_camera = msgspec.json.Decoder(CameraMessage)


def detections_message(result: Result, model: Model, labels: tuple[str, ...]) -> DetectionsMessage:
    """The message of one result; boxes to 1/100 pixel, confidences to 1/10,000."""
    frame = result.frame
    return DetectionsMessage(
        schema="vedette.detections/1",
        camera=frame.camera,
        session=frame.session,
        seq=frame.seq,
        segment=frame.segment,
        media_time=round(frame.media_time, 6),
        captured_at=round(frame.captured_at, 6),
        width=frame.width,
        height=frame.height,
        model=model,
        timing_ms=Timing(
            decode=_milliseconds(result.decode_ns),
            wait=_milliseconds(result.batched_ns - result.written_ns),
            infer=_milliseconds(result.inferred_ns - result.batched_ns),
        ),
        dropped=result.dropped,
        tainted=frame.tainted,
        detections=list_detections(result.detections, labels),
        camera_at=_rounded(frame.camera_at),
        camera_at_error=_rounded(frame.camera_at_error),
    )


def list_detections(detections: Detections, labels: tuple[str, ...]) -> list[Detection]:
    """The three arrays as objects with labels."""
    boxes = np.round(detections.xyxy.astype(float), 2).tolist()
    confidences = np.round(detections.confidence.astype(float), 4).tolist()
    return [
        Detection(class_id, labels[class_id], confidence, tuple(box))
        for class_id, confidence, box in zip(
            detections.class_id.tolist(), confidences, boxes, strict=True
        )
    ]


def ended_message(ended: Ended, *, since: float, last_id: str | None) -> CameraMessage:
    """The event that closes a session."""
    return CameraMessage(
        schema="vedette.camera/1",
        camera=ended.camera,
        state="ended",
        since=round(since, 6),
        reason=ended.reason,
        fault=cast(Any, ended.fault),
        session=ended.session,
        frames=ended.frames,
        dropped=ended.dropped,
        last_id=last_id,
        complete=ended.complete,
    )


def state_message(
    camera: str, state: str, *, since: float, reason: str, fault: str | None
) -> CameraMessage:
    """The event of a change that is no end."""
    return CameraMessage(
        schema="vedette.camera/1",
        camera=camera,
        state=cast(Any, state),
        since=round(since, 6),
        reason=reason,
        fault=cast(Any, fault),
    )


def to_json(message: DetectionsMessage | CameraMessage) -> bytes:
    """The `data` field of an entry: one JSON object, UTF-8."""
    return _encoder.encode(message)


def read_detections(data: bytes) -> DetectionsMessage:
    """Raises `msgspec.ValidationError` for anything that is not `vedette.detections/1`."""
    return _detections.decode(data)


def read_camera(data: bytes) -> CameraMessage:
    """Raises `msgspec.ValidationError` for anything that is not `vedette.camera/1`."""
    return _camera.decode(data)


def traceparent(camera: str, session: str, seq: int) -> str:
    """The frame's trace context (W3C Trace Context, section 3.2), derived and so known everywhere.

    The same frame has the same ids in every process and after every restart.
    """
    name = f"{camera}\0{session}\0{seq}".encode()
    digest = hashlib.blake2b(name, digest_size=24).hexdigest()
    return f"00-{digest[:32]}-{digest[32:]}-01"


def merge_drops(first: Counts, second: Counts) -> Counts:
    """Both together, by reason."""
    merged = dict(first)
    for reason, frames in second.items():
        merged[reason] = merged.get(reason, 0) + frames
    return merged


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema (2020-12) of each message, by its file name in `docs/schema/`."""
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema"}
        | msgspec.json.schema(kind)
        for name, kind in (
            ("vedette.detections-1.json", DetectionsMessage),
            ("vedette.camera-1.json", CameraMessage),
        )
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


def _milliseconds(duration_ns: int) -> float:
    return round(duration_ns / 1e6, 3)
