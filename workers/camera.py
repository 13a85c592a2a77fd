"""One camera of a run as the supervisor sees it, whoever works on it at the moment."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from config.schema import Camera
from pipeline.messages import Ended
from pipeline.slots import EntryId
from workers import control
from workers.preflight import Plan
from workers.supervisor import Worker
from workers.totals import Totals

PATIENCE = 5  # times that a worker may die at the same frame of a file


@dataclass(frozen=True, slots=True)
class Closing:
    """Why a camera ends that cannot say so itself, and whose fault it is."""

    reason: str
    fault: str | None = None


@dataclass(slots=True)
class CameraRun:
    """Its config, process and figures; how far it is, and how it ended.

    asked      publish was asked where the camera stands, in this generation
    standing   …and has answered
    begun      infer and ingest have their memory and their socket
    began      …and ingest writes there
    """

    config: Camera
    worker: Worker | None
    totals: Totals
    generation: int = 0
    identified: bool = False
    digest: str | None = None  # of the file
    asked: bool = False
    standing: control.Opened | None = None
    begun: bool = False
    began: bool = False
    first_seq: int | None = None  # of a file: where this run found it
    first_event: EntryId | None = None  # the last event that was there before this run
    session: str | None = None  # of a live camera, as its ingest names it
    is_over: bool = False  # that session: its ingest died
    ends: dict[str, Ended] = field(default_factory=dict)  # of sessions: not known to be in Redis
    trouble: str | None = None  # why it cannot be had now
    suspect: str | None = None  # who died while it worked on this camera's frames
    closing: Closing | None = None
    finished: control.Finished | None = None
    _stuck: tuple[int, int] = (-1, 0)  # a frame, and how often somebody died there

    @property
    def is_going(self) -> bool:
        """Whether it has use for an ingest."""
        return self.finished is None and self.closing is None

    def begin_anew(self) -> None:
        """Somebody who knew the camera is gone: publish is to be asked again."""
        self.asked, self.standing, self.begun, self.began = False, None, False, False

    def connect(self, session: str) -> bool:
        """A live camera's session begins; whether that is news."""
        was_lost, self.trouble = self.trouble is not None, None
        self.session = session
        return was_lost

    def lose(self, loss: control.Lost) -> bool:
        """Its connection is gone, or cannot be made; whether that is news."""
        if loss.ended is not None:
            self.ends[loss.ended.session] = loss.ended
            self.totals.begin_session()
            self.session = None
        is_news, self.trouble = self.trouble is None, loss.reason
        return is_news

    def lose_ingest(self) -> None:
        """Its process is gone, and of a live camera the session with it."""
        self.worker = None
        self.is_over = self.session is not None
        if self.began:
            self.suspect = "its decoder"
        self.begin_anew()

    def lose_infer(self) -> None:
        if self.began and self.totals.in_batches:
            self.suspect = "the network"
        self.begin_anew()

    def is_stuck_at(self, frame: int) -> bool:
        """Whether somebody has died too often with this frame of a file to come."""
        at, deaths = self._stuck
        self._stuck = (frame, deaths + 1 if at == frame else 1)
        return not self.config.is_live and self._stuck[1] >= PATIENCE

    def end_of(self, standing: control.Opened, closing: Closing) -> Ended:
        """The last message of its session, in the place of an ingest that is gone.

        What arrived and publish never had was lost with some worker; a file's frames can come
        again, and are not counted.
        """
        assert standing.session is not None
        lost = max(0, self.totals.session_frames - standing.accounted) if self.config.is_live else 0
        return Ended(
            camera=self.config.id,
            session=standing.session,
            generation=self.generation,
            frames=standing.accounted + lost,
            dropped={"crash": lost} if lost else {},
            reason=closing.reason,
            complete=False,
            fault=closing.fault,
        )

    def job(self, plan: Plan, precision: str) -> str | None:
        """Digest of all that decides a file's results; None where it is like no other job."""
        if self.digest is None:
            return None
        model = plan.config.model
        settings = {
            "file": self.digest,
            "weights": plan.weights.digest,
            "precision": precision,
            "input_size": plan.input_size,
            "confidence": plan.config.confidence_of(self.config),
            "iou": model.iou,
            "max_detections": model.max_detections,
            "classes": self.config.classes,
            "max_fps": self.config.max_fps,
        }
        text = json.dumps(settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
