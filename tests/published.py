"""Messages as the pipeline publishes them, for tests of what carries and reads them."""

from __future__ import annotations

from pipeline.messages import Counts
from pipeline.wire import CameraMessage, Detection, DetectionsMessage, Model, Timing

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
