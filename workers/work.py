"""What the reader of publish has its writer do, in the order in which it was put."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.messages import Ended, Stamps
from pipeline.slots import Slots
from pipeline.wire import CameraMessage, DetectionsMessage
from workers import control


@dataclass(frozen=True, slots=True)
class Take:
    """Put this record into the camera's window; `ended` comes with the last one of all."""

    camera: str
    message: DetectionsMessage | CameraMessage
    ended: Ended | None = None
    stamps: Stamps | None = None  # of a frame that is measured


@dataclass(frozen=True, slots=True)
class Open:
    """Say where the camera stands, once everything before this is in its window."""

    camera: str
    settings: control.PublishCamera


@dataclass(frozen=True, slots=True)
class Move:
    """Count into this memory file from now on."""

    camera: str
    slots: Slots


@dataclass(frozen=True, slots=True)
class Forget:
    """Let go of the camera: it has ended, and nothing is to be said of it."""

    camera: str


Work = Take | Open | Move | Forget
