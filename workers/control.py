"""What the supervisor and its workers say to each other over the control sockets."""

from __future__ import annotations

from pipeline.messages import Counts, Ended, Message, Stamps, decoder
from pipeline.slots import EntryId, Geometry
from pipeline.sources import Access


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
    prefix: str
    run: str  # token of the run: a publisher that is started again takes its own leases back
    since: int  # when the run began, milliseconds since 1970
    spool: str | None  # folder of live records that wait for Redis; None: they wait in memory
    model_name: str
    model_digest: str
    model_input: tuple[int, int]
    labels: tuple[str, ...]
    measured: bool  # somebody wants `Measured`


class Identify(Message, frozen=True):
    """To ingest: what is in this file?"""

    url: str


class PublishCamera(Message, frozen=True):
    """To publish: a camera begins, or begins anew; say where it stands (`Opened`).

    From here on only results of this generation are taken.
    """

    camera: str
    generation: int
    fresh: bool  # whatever had this name before has finished, and is another
    live: bool
    maxlen: int | None
    confidence: float
    job: str | None  # digest of all that decides a file's results; None: like no other job
    again: bool  # from the start, even if the job has been done
    incarnation: int  # of a camera that another config has begin anew: like no other job again
    session: str | None  # the live one that is under way; None before the first
    confirmed: EntryId  # the last entry that this run has counted
    event: (
        EntryId | None
    )  # the last event before this run; None: not known, it has published nothing
    ends: tuple[Ended, ...]  # of earlier sessions: publish has not said yet that Redis has them
    ended: str | None  # the last session whose end Redis has


class Forget(Message, frozen=True):
    """To publish: this camera has ended, and there is nothing to be said of it."""

    camera: str


class Attach(Message, frozen=True):
    """To publish, with the memory file of the camera's new generation and its bell."""

    camera: str
    generation: int
    geometry: Geometry


class End(Message, frozen=True):
    """To publish: a session ended that cannot say so itself; `ended` is to be published.

    `is_last`: the camera ends with it, and `Finished` is the answer.
    """

    ended: Ended
    is_last: bool


class InferCamera(Message, frozen=True):
    """To infer, with the memory file, its bell and the data socket from ingest."""

    camera: str
    generation: int
    geometry: Geometry
    confidence: float
    class_ids: tuple[int, ...] | None
    weight: float
    max_age_ms: float | None  # None: a file's frames may wait
    session: str | None  # what publish has of it…
    accounted: int  # …frames published or dropped…
    dropped: Counts  # …and of those, dropped


class IngestCamera(Message, frozen=True):
    """To ingest, with the memory file, its bell and the data socket to infer: begin, or go on."""

    camera: str
    generation: int
    geometry: Geometry
    url: str
    access: Access
    live: bool
    loop: bool
    comes_back: bool  # its end is a lost connection: there will be another
    max_fps: float | None
    session: str | None  # None: a live camera's, which ingest names by itself
    first_seq: int  # of a file: where this run began…
    next_seq: int  # …and where it goes on: the frames before are decoded past
    started_at: float  # seconds since 1970: what a file's media time counts from


class Join(Message, frozen=True):
    """To infer and publish, with their ends of the data socket between them."""


class Stop(Message, frozen=True):
    """To ingest: end the camera, in order. To the others: everything has ended, leave."""


class Up(Message, frozen=True):
    """From a worker: it can take work now."""

    detail: str = ""  # for the log
    precision: str = ""  # infer: what it resolved to
    frames: int = 0  # infer: how many can be in batches at once


class Identified(Message, frozen=True):
    """From ingest: size and sha-256 of the file; None where it cannot be read."""

    digest: str | None


class Began(Message, frozen=True):
    """From ingest: nothing is written to memory of an earlier generation any more."""

    generation: int


class Connected(Message, frozen=True):
    """From ingest: a live camera's session begins."""

    session: str


class Decodes(Message, frozen=True):
    """From ingest: a camera's pictures are not decoded where they were to be."""

    excuse: str


class MayOpen(Message, frozen=True):
    """From ingest: it would open its camera now. `Connected` or `Lost` say that it has tried."""


class Go(Message, frozen=True):
    """To ingest: open it."""


class Lost(Message, frozen=True):
    """From ingest: a live camera cannot be had now; it is tried again in so many seconds."""

    reason: str
    fault: str | None
    seconds: float
    refused: bool  # the credentials, or what it is: it is asked seldom
    ended: Ended | None  # the session that ended with it


class Looks(Message, frozen=True):
    """From ingest: what a live camera's pictures are like from now on: live, frozen or dark."""

    state: str


class State(Message, frozen=True):
    """To publish: what a camera on the network is like from now on, for its events."""

    camera: str
    state: str
    since: float  # seconds since 1970
    reason: str
    fault: str | None


class Opened(Message, frozen=True):
    """From publish: where a camera stands. Ingest may begin, unless the job is finished."""

    camera: str
    generation: int
    session: str | None  # a file's, or of the live session that goes on
    accounted: int  # frames of the session that are published, held or dropped
    dropped: Counts  # of those, dropped
    started_at: float | None  # of a file's epoch
    finished: bool  # there is nothing to do: its end is published
    owed: int  # frames that publish holds and Redis has yet to confirm
    uncounted: int  # frames that Redis has beyond those in the memory files and earlier answers…
    confirmed: EntryId  # …up to this entry
    event: EntryId  # the last one that was there


class Notice(Message, frozen=True):
    """From a worker: a sentence for the person at the terminal."""

    text: str


class Measured(Message, frozen=True):
    """From publish: frames that Redis has confirmed since the last time."""

    frames: tuple[Stamps, ...]


class SessionEnded(Message, frozen=True):
    """From publish: Redis has the `ended` event of a session whose camera goes on."""

    camera: str
    session: str


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


to_worker = decoder(
    SetUp,
    Identify,
    Go,
    IngestCamera,
    InferCamera,
    PublishCamera,
    Forget,
    Attach,
    End,
    State,
    Join,
    Stop,
)
to_supervisor = {  # by role: what a process may say, were it taken over by a hostile stream
    "ingest": decoder(Up, Identified, Began, MayOpen, Connected, Decodes, Lost, Looks, Failed),
    "infer": decoder(Up, Failed),
    "publish": decoder(Up, Opened, Notice, Measured, SessionEnded, Finished, Failed),
}
settings = decoder(InferSettings, PublishSettings)
