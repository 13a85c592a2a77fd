"""What crosses between stages and processes: one frozen struct per hop, so this file is the flow.

Times are `time.monotonic_ns()` (one clock for every process of a host) in fields named `*_ns`, and
seconds since 1970 in fields named `*_at`. On sockets the structs travel as msgpack arrays, never
as pickles: a decoder that has been taken over by a hostile stream can send no program to the
other processes. Each direction decodes only the types that may arrive there.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

Counts = dict[str, int]  # frames by reason: {"superseded": 3, "max_fps": 1}


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What every message has in common: immutable, compact, and tagged with its type's name."""


class Frame(Message, frozen=True):
    """Which picture, when and how big; travels the whole way."""

    camera: str
    session: str  # (camera, session, seq) is unique for ever
    seq: int  # 0, 1, 2 … of frames that arrived in the session
    segment: int  # +1 at each discontinuity of time stamps
    media_time: float  # seconds of stream time from the segment's start
    captured_at: float  # when its packet arrived; a file: the epoch's start + media time
    captured_ns: int  # when its packet arrived, monotonic
    width: int  # of the camera picture, pixels
    height: int
    tainted: bool = False  # the decoder saw damage since the last keyframe
    camera_at: float | None = None  # when it was taken, by the camera's own clock…
    camera_at_error: float | None = None  # …and by how much its reports of that have differed


class Ticket(Message, frozen=True):
    """What lies beside the pixels of one slot: from ingest to infer."""

    frame: Frame
    decode_ns: int  # what decoding and resizing took
    written_ns: int  # when the pixels lay in the slot
    dropped: Counts  # by ingest, since the session began, by reason


class Ready(Message, frozen=True):
    """Wakes infer: a slot of this camera holds a frame it has not read."""

    generation: int  # of the ingest worker that wrote it
    sent: int  # the number of the frame, counted from 1 over the life of the memory file


class Ended(Message, frozen=True):
    """The last message of a camera, behind its last frame, through every stage."""

    camera: str
    session: str
    generation: int
    frames: int  # how many arrived
    dropped: Counts  # of the frames behind the last published one, by reason
    reason: str  # one sentence
    complete: bool  # the source was read to its very end
    fault: str | None  # who is to blame: network, camera, decoder; None for an end as it should be
    goes_on: bool = False  # it is the session that ends: the camera will have another


class Detections(Message, frozen=True):
    """n boxes as three arrays; the field names are those of `supervision.Detections`."""

    xyxy: np.ndarray  # float32 [n, 4]: x1, y1, x2, y2 in camera pixels, clipped to the picture
    confidence: np.ndarray  # float32 [n], 0 … 1, falling
    class_id: np.ndarray  # int16 [n]

    def __len__(self) -> int:
        return len(self.confidence)


class Result(Message, frozen=True):
    """What one frame showed: from infer to publish. No slot: the pixels are gone by now."""

    frame: Frame
    generation: int  # of the infer worker that made it
    detections: Detections
    dropped: Counts  # of this session since this camera's previous result, by reason
    decode_ns: int
    written_ns: int
    batched_ns: int
    inferred_ns: int


class Stamps(Message, frozen=True):
    """When a frame that Redis has was where: what is measured of it."""

    camera: str
    session: str
    seq: int
    captured_ns: int
    decode_ns: int  # what decoding and resizing took
    written_ns: int
    batched_ns: int
    inferred_ns: int
    published_ns: int  # when Redis confirmed it
    dropped: Counts  # between the message before and it
    tainted: bool

    @property
    def begun_ns(self) -> int:
        """When it came; of a file's, which is read ahead, when its decoding began."""
        return min(self.captured_ns, self.written_ns - self.decode_ns)

    @property
    def stages(self) -> dict[str, tuple[int, int]]:
        """From when to when each stage had it."""
        return {
            "decode": (self.written_ns - self.decode_ns, self.written_ns),
            "wait": (self.written_ns, self.batched_ns),
            "infer": (self.batched_ns, self.inferred_ns),
            "publish": (self.inferred_ns, self.published_ns),
        }


def _encode_array(value: Any) -> tuple[str, list[int], bytes]:
    if isinstance(value, np.ndarray):
        return value.dtype.str, list(value.shape), value.tobytes()
    raise NotImplementedError(f"a message cannot carry {type(value).__name__}")


def _decode_array(kind: type, value: Any) -> np.ndarray:
    dtype, shape, data = value
    return np.frombuffer(data, dtype=dtype).reshape(shape)


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_array)


def encode(message: Message) -> bytes:
    """The bytes of any message of this module, or of a struct made in its likeness."""
    return _encoder.encode(message)


def decoder(*kinds: type[Message]) -> msgspec.msgpack.Decoder[Any]:
    """A decoder of exactly these types; anything else raises `msgspec.ValidationError`."""
    union: Any = kinds[0]
    for kind in kinds[1:]:
        union = union | kind
    return msgspec.msgpack.Decoder(union, dec_hook=_decode_array)
