"""One camera of a run as the supervisor sees it, whoever works on it at the moment."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field

from config.schema import Camera
from pipeline import sight
from pipeline.messages import Ended
from pipeline.slots import EntryId
from workers import control, life
from workers.life import LIVE, Life
from workers.preflight import Plan
from workers.stillness import Stillness
from workers.supervisor import Worker
from workers.totals import Totals

_LOOKS = {
    life.LIVE: "its pictures arrive",
    life.FROZEN: f"its picture has not changed for {sight.SECONDS:.0f} s",
    life.DARK: f"its picture has been black for {sight.SECONDS:.0f} s",
    life.STALLED: f"no picture has come for {life.STALLED_SECONDS:.0f} s",
}
_MOST_ENDS = 200  # of sessions, while Redis is away
_AGAIN = 5.0  # seconds until it goes on where this machine had no descriptor for it
_READING = 300.0  # seconds that a file's storage may be away: killing its reader helps nothing
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
    born: int = 0  # the generation before its first
    fresh: bool = True  # publish has said nothing of it yet
    most_arrived: int = 0  # that was ever counted
    removed: bool = False  # from the config: it is to end
    identified: bool = False
    digest: str | None = None  # of the file
    asked: bool = False
    standing: control.Opened | None = None
    begun: bool = False
    began: bool = False
    sessions: int = 0  # that have begun
    first_seq: int | None = None  # of a file: where this run found it
    first_event: EntryId | None = None  # the last event that was there before this run
    session: str | None = None  # of a live camera, as its ingest names it
    is_over: bool = False  # that session: its ingest died
    ends: dict[str, Ended] = field(default_factory=dict)  # of sessions: not known to be in Redis
    last_ended: str | None = None  # the last session whose end Redis has
    life: Life | None = None  # of a camera on the network
    looks: str = LIVE  # what its pictures are like, while they arrive
    opening: bool = False  # it was allowed to open its camera, and has not answered yet
    hung: str | None = None  # why its ingest was killed
    suspect: str | None = None  # who died while it worked on this camera's frames
    closing: Closing | None = None
    finished: control.Finished | None = None
    not_before: float = 0.0  # monotonic seconds: until then it does not go on
    _reading: Stillness = field(default_factory=Stillness)  # of a file
    _stuck: tuple[int, int] = (-1, 0)  # a frame, and how often somebody died there

    @property
    def waits_refused(self) -> bool:
        """Whether its camera does not let it in, and is not to be asked for a while."""
        is_going = not (self.removed or self.opening or self.closing or self.finished)
        return is_going and self.life is not None and self.life.state.name == life.REFUSED

    @property
    def is_going(self) -> bool:
        """Whether it has use for an ingest."""
        return self.finished is None and self.closing is None

    def wait(self, now: float, error: OSError) -> str:
        """It cannot go on for now; why, in words."""
        self.not_before = now + _AGAIN
        return f"it waits for {_AGAIN:.0f} s: {error.strerror}"

    def stop(self) -> bool:
        """Whether its ingest is there to end it in order: its `Ended` travels the whole way.

        One that waits for its camera hears nothing meanwhile, and has no frame: it is killed.
        """
        if self.worker is None or self.opening or not self.begun:
            if self.worker is not None and self.opening:
                self.worker.process.kill()
            return False
        self.worker.send(control.Stop())
        return True

    def begin_anew(self) -> None:
        """Somebody who knew the camera is gone: publish is to be asked again."""
        self.asked, self.standing, self.begun, self.began = False, None, False, False

    def hear(self, message: object) -> str | None:
        """Something that its ingest says; what of it is news to a person."""
        match message:
            case control.Identified():
                self.identified, self.digest = True, message.digest
            case control.Began(generation=generation) if generation == self.generation:
                self.began = True
                self.sessions = self.sessions or int(not self.config.is_live)
                self.totals.retire()
            case control.Connected():
                return self._connect(message.session)
            case control.Lost():
                return self._lose(message)
            case control.Decodes():
                return f"is decoded on the CPU: {message.excuse}"
            case control.Looks():
                self.looks = message.state
                return self._look(message.state)
        return None

    def _connect(self, session: str) -> str | None:
        self.session, self.opening = session, False
        self.sessions += 1
        self.looks = life.LIVE
        was_away = self.life is not None and self.life.state.name != life.CONNECTING
        self._look(life.LIVE)
        return "it is back" if was_away else None

    def _lose(self, loss: control.Lost) -> str | None:
        """Its connection is gone, or cannot be made."""
        self.opening = False
        if loss.ended is not None:
            self.keep(loss.ended)
            self.totals.begin_session()
            self.session = None
        state = life.REFUSED if loss.refused else life.BACKOFF
        if self.life is None or not self.life.become(state, loss.reason, time.time(), loss.fault):
            return None
        return f"{loss.reason}; it is tried again in {loss.seconds:.0f} s"

    def keep(self, ended: Ended) -> None:
        """The end of a session, until Redis is known to have it; of very many the last ones."""
        if ended.session != self.last_ended:
            self.ends[ended.session] = ended
        while len(self.ends) > _MOST_ENDS:
            self.ends.pop(next(iter(self.ends)))

    def has_end(self, session: str) -> None:
        """Redis has the end of this session."""
        self.ends.pop(session, None)
        self.last_ended = session

    def _look(self, state: str) -> str | None:
        """What its pictures are like."""
        if self.life is None or not self.life.become(state, _LOOKS[state], time.time()):
            return None
        return _LOOKS[state]

    def watch(self, at: float) -> str | None:
        """Whether it stands still, at `at`, monotonic seconds; why its process is to be killed."""
        if self.worker is None or self.hung is not None:
            return None
        if self.life is None:
            return self._watch_reading(at)
        opening = self.opening or (self.begun and not self.began)
        waiting = not self.begun or (self.session is None and not opening)
        place = self.session, self.opening, self.began, self.totals.known
        still = self.life.watch(place, at, opening=opening, waiting=waiting)
        if still >= life.DEAD_SECONDS:
            away = "it is opened, and no picture comes"
            return f"no picture for {life.DEAD_SECONDS:.0f} s" if self.session else away
        if self.session is not None and self.begun and not opening:
            self._look(life.STALLED if still >= life.STALLED_SECONDS else self.looks)
        return None

    def _watch_reading(self, at: float) -> str | None:
        """The same of a file, which may wait for its turn, or long for its first picture."""
        read = self.totals.read if self.began else None
        still = self._reading.watch(read, at, waiting=not read)
        return f"nothing of it has been read for {still:.0f} s" if still > _READING else None

    def lose_ingest(self) -> None:
        """Its process is gone, and of a live camera the session with it."""
        self.worker = None
        was_away = self.session is None and not self.opening  # as it was told to be
        self.is_over, self.opening = self.session is not None, False
        if self.life is not None and (not was_away or self.hung is not None):
            self.life.become(life.BACKOFF, self.death.reason, time.time(), self.death.fault)
        if self.began and self.hung is None:
            self.suspect = "its decoder"
        if not self.is_over:
            self.hung = None  # there is no session to say it of
        self.begin_anew()

    @property
    def death(self) -> Closing:
        """Why its session ended with its ingest."""
        if self.hung is not None:
            return Closing(self.hung, "camera")
        return Closing("its ingest process died", "us")

    @property
    def is_suspect(self) -> bool:
        """Whether it is a live camera whose frames infer has in a batch."""
        return self.config.is_live and self._is_in_batch

    @property
    def _is_in_batch(self) -> bool:
        return self.began and self.totals.in_batches > 0

    def rest(self, seconds: float) -> str:
        """Does without the network for a while; why, in words."""
        reason = f"the network died again with its frames; it rests for {seconds:.0f} s"
        if self.life is not None:
            self.life.become(life.BACKOFF, reason, time.time(), "us")
        return reason

    def lose_infer(self) -> None:
        if self._is_in_batch:
            self.suspect = "the network"
        self.begin_anew()

    def lose_publish(self) -> None:
        if self.life is not None:
            self.life.forget()
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
        session = standing.session or next(reversed(self.ends), self.last_ended)
        assert session is not None
        lost = max(0, self.totals.session_frames - standing.accounted) if self.config.is_live else 0
        return Ended(
            camera=self.config.id,
            session=session,
            generation=self.generation,
            frames=standing.accounted + lost,
            dropped={"crash": lost} if lost else {},
            reason=closing.reason,
            complete=False,
            fault=closing.fault,
        )

    def closed(self, closing: Closing) -> control.Finished:
        """It ends, and there is nothing to be published."""
        return control.Finished(self.config.id, 0, False, closing.fault, closing.reason)

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
