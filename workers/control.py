"""What the supervisor and its workers say to each other over the control sockets."""

from __future__ import annotations

from pipeline.messages import Message, decoder
from pipeline.slots import Geometry


class SetUp(Message, frozen=True):
    """To a worker, first: its settings, as one of the structs below, encoded."""

    settings: bytes
    generation: int


class InferSettings(Message, frozen=True):
    weights: str
    input_size: tuple[int, int]  # height, width
    iou: float
    max_detections: int
    device: str
    precision: str
    max_batch: int
    max_wait_ms: float


class PublishSettings(Message, frozen=True):
    url: str  # may hold a password: it travels here, never on a command line
    model_name: str
    model_digest: str
    model_input: tuple[int, int]
    labels: tuple[str, ...]
    infer_generation: int  # results of another one are stale


class IngestCamera(Message, frozen=True):
    """To ingest, with the memory file, its bell and the data socket to infer: begin."""

    camera: str
    geometry: Geometry
    url: str
    live: bool
    loop: bool
    max_fps: float | None
    session: str | None  # None: a live camera's, which ingest names by itself
    started_at: float  # seconds since 1970: what a file's media time counts from
    credits: int


class InferCamera(Message, frozen=True):
    """To infer, with the memory file, its bell and the data socket from ingest."""

    camera: str
    geometry: Geometry
    generation: int  # of the ingest worker at the other end
    confidence: float
    class_ids: tuple[int, ...] | None


class PublishCamera(Message, frozen=True):
    """To publish, with the memory file and its bell."""

    camera: str
    geometry: Geometry
    prefix: str
    live: bool
    maxlen: int | None
    confidence: float


class Join(Message, frozen=True):
    """To infer and publish, with their ends of the data socket between them."""


class Stop(Message, frozen=True):
    """To ingest: end the camera, in order. To the others: everything has ended, leave."""


class Up(Message, frozen=True):
    """From a worker: it can take work now."""

    detail: str = ""  # for the log
    frames: int = 0  # infer: how many can be in batches at once


class Opened(Message, frozen=True):
    """From publish: the camera's streams are known, ingest may begin. A file has its session."""

    camera: str
    session: str | None


class Notice(Message, frozen=True):
    """From a worker: a sentence for the person at the terminal."""

    text: str


class Finished(Message, frozen=True):
    """From publish: Redis has everything of this camera, its `ended` event included."""

    camera: str
    frames: int
    complete: bool
    fault: str | None
    reason: str


class Failed(Message, frozen=True):
    """From a worker: it cannot go on; one sentence. `usage`: the config asks for what is not."""

    text: str
    usage: bool = False


to_worker = decoder(SetUp, IngestCamera, InferCamera, PublishCamera, Join, Stop)
to_supervisor = {  # by role: what a process may say, were it taken over by a hostile stream
    "ingest": decoder(Up, Failed),
    "infer": decoder(Up, Failed),
    "publish": decoder(Up, Opened, Notice, Finished, Failed),
}
settings = decoder(InferSettings, PublishSettings)
