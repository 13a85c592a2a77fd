"""Messages as the pipeline publishes them, for tests of what carries and reads them."""

from __future__ import annotations

from typing import Any

import redis

from pipeline.messages import Counts
from pipeline.wire import (
    CameraMessage,
    Detection,
    DetectionsMessage,
    Model,
    Timing,
    to_json,
    traceparent,
)

MODEL = Model("0.4.x-n", "0123456789ab", (384, 640), 0.25)


def frame(
    seq: int,
    *,
    camera: str = "gate",
    session: str = "1-ab",
    dropped: Counts | None = None,
    tainted: bool = False,
    seen: tuple[tuple[str, float], ...] = (("car", 0.9),),
) -> DetectionsMessage:
    """The message of one frame with one box for each (label, confidence)."""
    return DetectionsMessage(
        schema="vedette.detections/1",
        camera=camera,
        session=session,
        seq=seq,
        segment=0,
        media_time=seq / 10,
        captured_at=1_700_000_000 + seq / 10,
        width=768,
        height=432,
        model=MODEL,
        timing_ms=Timing(1.5, 0.5, 20.0),
        dropped=dropped or {},
        tainted=tainted,
        detections=[Detection(2, label, score, (1.0, 2.0, 3.0, 4.0)) for label, score in seen],
    )


def ended(
    frames: int, *, camera: str = "gate", session: str = "1-ab", dropped: Counts | None = None
) -> CameraMessage:
    """The event behind the last frame of a session, read to its end."""
    return CameraMessage(
        schema="vedette.camera/1",
        camera=camera,
        state="ended",
        since=1_700_000_100.0,
        reason=f"read to its end: {frames} frames",
        session=session,
        frames=frames,
        dropped=dropped or {},
        complete=True,
    )


def add(
    client: redis.Redis,
    *messages: DetectionsMessage | CameraMessage,
    prefix: str = "vedette",
    maxlen: int | None = None,
) -> None:
    """Writes messages as the contract says, with nothing of the publisher's own code.

    A session `7-ab` is a file's: its frames have the ids 7-1, 7-2 …
    """
    pipeline = client.pipeline(transaction=True)
    for message in messages:
        fields: dict[Any, Any] = {"schema": message.schema, "data": to_json(message)}
        key = f"{prefix}:{{{message.camera}}}"
        if isinstance(message, CameraMessage):
            pipeline.xadd(f"{key}:events", fields)
            continue
        fields["traceparent"] = traceparent(message.camera, message.session, message.seq)
        place = f"{message.session.partition('-')[0]}-{message.seq + 1}"
        pipeline.xadd(
            f"{key}:detections",
            fields,
            id=place,
            maxlen=maxlen,
            approximate=False,
        )
    pipeline.execute()
