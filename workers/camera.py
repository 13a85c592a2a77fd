"""One camera of a run as the supervisor sees it, through all generations of its memory."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

from config.schema import Camera
from pipeline.messages import Counts
from pipeline.slots import Slots
from pipeline.wire import merge_drops
from workers import control
from workers.preflight import Plan
from workers.supervisor import Worker

PATIENCE = 5  # times that a file's decoder may die at the same frame


@dataclass(slots=True)
class CameraRun:
    """Its config, process and memory; how far it is, and how it ended.

    asked      publish was asked where the camera stands, in this generation
    standing   …and has answered
    begun      infer and ingest have their memory and their socket
    """

    config: Camera
    worker: Worker | None
    generation: int = 0
    identified: bool = False
    digest: str | None = None  # of the file
    asked: bool = False
    standing: control.Opened | None = None
    begun: bool = False
    ingest_died: bool = False
    finished: control.Finished | None = None
    slots: Slots | None = None
    _retiring: tuple[Slots, int] | None = None  # the memory before, until nobody writes to it
    _published: int = 0  # in memory that is gone
    _dropped: Counts = field(default_factory=dict)
    _stuck: tuple[int, int] = (-1, 0)  # a frame, and how often ingest died there

    @property
    def published(self) -> int:
        return self._published + (self.slots.published if self.slots else 0)

    @property
    def dropped(self) -> Counts:
        return merge_drops(self._dropped, self.slots.dropped() if self.slots else {})

    @property
    def in_flight(self) -> int:
        return self.slots.in_flight() if self.slots else 0

    @property
    def known(self) -> int:
        """Frames that are published, dropped or on their way."""
        return self.published + sum(self.dropped.values()) + self.in_flight

    def begin_anew(self) -> None:
        """Somebody who knew the camera is gone: publish is to be asked again."""
        self.asked, self.standing, self.begun = False, None, False

    def move(self, slots: Slots, owed: int) -> None:
        """New memory; `owed` frames of the old one are carried over into it."""
        self.retire()
        if self.slots is not None:
            self._retiring = (self.slots, owed)
        self.slots = slots

    def retire(self) -> None:
        """Nobody writes to the memory before any more: what is in it is final.

        A live camera's frames that were under way there died; a file's come again.
        """
        if self._retiring is None:
            return
        (slots, owed), self._retiring = self._retiring, None
        dropped = slots.dropped()
        died = slots.arrived - slots.published - sum(dropped.values()) - owed
        if self.config.is_live and died > 0:
            dropped = merge_drops(dropped, {"crash": died})
        self._published += slots.published
        self._dropped = merge_drops(self._dropped, dropped)
        slots.close()

    def close(self) -> None:
        self.retire()
        if self.slots is not None:
            self._published, self._dropped = self.published, self.dropped
            self.slots.close()
            self.slots = None

    def is_stuck_at(self, frame: int) -> bool:
        """Whether a file's ingest has died too often with this frame to come."""
        at, deaths = self._stuck
        self._stuck = (frame, deaths + 1 if at == frame else 1)
        return not self.config.is_live and self._stuck[1] >= PATIENCE

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
