"""What is connected to what, also while it changes: the one file that wires a run together.

    ingest (one per camera) ──data──▶ infer ──data──▶ publish ──▶ Redis
         └── memory file and bell of the camera, in the hands of all three ──┘

Order of a run: all processes start; infer loads and warms and says `Up`, and how many frames it
takes at once; each camera gets its memory file; publish learns what Redis has of the camera and
says `Opened`; only then does the camera's ingest begin. At the end `Ended` travels through the
stages behind the last frame, publish says `Finished`, and when all cameras have, infer and publish
are told to leave. A signal only stops the ingests: from there on it is the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from config.schema import Camera
from pipeline.channel import pair
from pipeline.messages import Counts
from pipeline.slots import Geometry, Slots
from pipeline.wire import merge_drops
from workers import control
from workers.preflight import Plan
from workers.supervisor import Died, Event, Said, Signalled, Supervisor, Worker

LIVE_SLOTS = 3
MAX_WAIT_MS = 5.0  # how long a frame waits for company in its batch
DRAIN_SECONDS = 20.0  # from a signal to the end of patience, below Kubernetes' 30
FAILED_SECONDS = 3.0  # the same after a worker has died
_TICK = 0.25  # seconds between looks at the counters


class Reporter(Protocol):
    """Who tells the person at the terminal."""

    def say(self, text: str) -> None: ...
    def update(self, cameras: list[CameraRun]) -> None: ...


@dataclass(slots=True)
class CameraRun:
    """One camera of a run: its config, process, memory, and how it ended."""

    config: Camera
    worker: Worker
    slots: Slots | None = None  # once infer is up
    session: str | None = None
    begun: bool = False
    finished: control.Finished | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    code: int  # 0 done, 1 failed, 2 the config asks for what is not there, 3 records abandoned
    problems: list[str]  # one sentence each
    frames: int
    dropped: Counts
    abandoned: int  # frames on their way
    unended: int  # cameras whose `ended` event was not confirmed
    seconds: float


class Run:
    """One run of a plan, from the first process to the last."""

    def __init__(
        self,
        plan: Plan,
        redis_url: str,
        supervisor: Supervisor,
        out: Reporter,
        tend: Callable[[], str | None] | None = None,
    ) -> None:
        """`tend` is called with every look at the counters; what it says is said on."""
        self.plan = plan
        self._supervisor = supervisor
        self._out = out
        self._tend = tend
        self._redis_url = redis_url
        self._started_at = time.time()
        self._deadline: float | None = None
        self._problems: list[str] = []
        self._hung_up: list[str] = []
        self._usage = False
        self._stopping = False
        self._leaving = False
        self._infer, self._publish = self._start_back_stages()
        self.cameras = [
            CameraRun(camera, supervisor.start("ingest", camera.id))
            for camera in plan.config.cameras
        ]

    def serve(self) -> Outcome:
        """Until every camera has finished and every worker has left."""
        while self._supervisor.workers:
            for event in self._supervisor.events(_TICK):
                self._react(event)
            self._out.update(self.cameras)
            if self._tend is not None and (news := self._tend()) is not None:
                self._out.say(news)
            if not self._leaving and all(camera.finished for camera in self.cameras):
                self._leave()
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._supervisor.kill()
        outcome = self._outcome()
        for camera in self.cameras:
            if camera.slots is not None:
                camera.slots.close()
        return outcome

    # ── wiring ────────────────────────────────────────────────────────────────────────────────

    def _start_back_stages(self) -> tuple[Worker, Worker]:
        config, weights = self.plan.config, self.plan.weights
        infer = self._supervisor.start(
            "infer",
            "infer",
            settings=control.InferSettings(
                weights=str(config.model.weights),
                input_size=self.plan.input_size,
                iou=config.model.iou,
                max_detections=config.model.max_detections,
                device=config.model.device,
                precision=config.model.precision,
                max_batch=config.model.max_batch,
                max_wait_ms=MAX_WAIT_MS,
            ),
            environment={"OMP_NUM_THREADS": "1"},  # batches side by side, not one on all cores
        )
        publish = self._supervisor.start(
            "publish",
            "publish",
            settings=control.PublishSettings(
                url=self._redis_url,
                model_name=weights.variant,
                model_digest=weights.digest,
                model_input=self.plan.input_size,
                labels=weights.classes,
                infer_generation=infer.generation,
            ),
        )
        ends = pair()
        for worker, end in zip((infer, publish), ends, strict=True):
            with end:
                worker.send(control.Join(), (end.fileno(),))
        return infer, publish

    def _open(self, camera: CameraRun, in_flight: int) -> None:
        """Gives a camera its memory file, and asks publish what Redis has of it."""
        config = camera.config
        height, width = self.plan.input_size
        geometry = Geometry(self._slots_of(config, in_flight), height, width, config.is_live)
        camera.slots = Slots.create(config.id, geometry)
        self._publish.send(
            control.PublishCamera(
                camera=config.id,
                geometry=geometry,
                prefix=self.plan.config.redis.prefix,
                live=config.is_live,
                maxlen=self.plan.config.maxlen_of(config),
                confidence=self.plan.config.confidence_of(config),
            ),
            (camera.slots.fd, camera.slots.bell),
        )

    def _slots_of(self, camera: Camera, in_flight: int) -> int:
        """Enough for a file to keep every batch full, two deep, shared by all files."""
        if camera.is_live:
            return LIVE_SLOTS
        files = sum(not other.is_live for other in self.plan.config.cameras)
        return max(LIVE_SLOTS, min(2 * in_flight, -(-4 * in_flight // files)))

    def _begin(self, camera: CameraRun) -> None:
        """Joins an ingest process to infer and lets it open its source."""
        assert camera.slots is not None
        camera.begun = True
        config, geometry = camera.config, camera.slots.geometry
        memory = (camera.slots.fd, camera.slots.bell)
        ours, theirs = pair()
        with ours, theirs:
            self._infer.send(
                control.InferCamera(
                    camera=config.id,
                    geometry=geometry,
                    generation=camera.worker.generation,
                    confidence=self.plan.config.confidence_of(config),
                    class_ids=self.plan.class_ids(config),
                ),
                (*memory, ours.fileno()),
            )
            camera.worker.send(
                control.IngestCamera(
                    camera=config.id,
                    geometry=geometry,
                    url=config.url.get_secret_value(),
                    live=config.is_live,
                    loop=config.loop,
                    max_fps=config.max_fps,
                    session=camera.session,
                    started_at=self._started_at,
                    credits=2 * geometry.slots,
                ),
                (*memory, theirs.fileno()),
            )

    # ── what happens ──────────────────────────────────────────────────────────────────────────

    def _react(self, event: Event) -> None:
        match event:
            case Said():
                self._hear(event.worker, event.message)
            case Died():
                self._mourn(event)
            case Signalled():
                self._stop(event.name)

    def _hear(self, worker: Worker, message: object) -> None:
        match message:
            case control.Up() if worker is self._infer:
                self._out.say(f"network: {self.plan.weights.variant} on {message.detail}")
                for camera in self.cameras:
                    self._open(camera, message.frames)
            case control.Opened() if not self._stopping:
                camera = self._camera(message.camera)
                camera.session = message.session
                self._begin(camera)
            case control.Notice():
                self._out.say(message.text)
            case control.Finished():
                self._finish(self._camera(message.camera), message)

    def _finish(self, camera: CameraRun, message: control.Finished) -> None:
        camera.finished = message
        text = f"{message.camera}: {message.reason}"
        self._out.say(text)
        if message.fault is not None:
            self._problems.append(text)

    def _stop(self, signal_name: str) -> None:
        if self._stopping:
            self._out.say(f"{signal_name} again: leaving at once")
            self._deadline = 0.0
            return
        self._out.say(f"{signal_name}: draining (again: leave at once)")
        self._wind_down(DRAIN_SECONDS)

    def _wind_down(self, seconds: float) -> None:
        """Stops every source; what is under way goes on to its end, for so long at most."""
        self._stopping = True
        self._deadline = time.monotonic() + seconds
        for camera in self.cameras:
            camera.worker.send(control.Stop())
            if not camera.begun:  # and never will
                camera.finished = control.Finished(
                    camera.config.id, 0, False, None, "stopped before it began"
                )

    def _leave(self) -> None:
        self._leaving = True
        if self._deadline is None:
            self._deadline = time.monotonic() + DRAIN_SECONDS
        for worker in (self._infer, self._publish):
            worker.send(control.Stop())

    def _mourn(self, death: Died) -> None:
        worker = death.worker
        if death.cause is None or (self._leaving and death.hung_up):
            return
        if death.hung_up:  # a consequence: whoever died first is named
            self._hung_up.append(f"{worker} lost its neighbour")
        else:
            self._usage = worker.failure is not None and worker.failure.usage
            self._problems.append(f"{worker} {death.cause}")
            self._out.say(f"{worker} {death.cause}; the run ends")
        if worker.role == "ingest":
            camera = self._camera(worker.name)
            camera.finished = control.Finished(worker.name, 0, False, "us", "its process died")
        if not self._stopping:
            self._wind_down(FAILED_SECONDS)
        if worker in (self._infer, self._publish):
            # Nothing can drain through it; but whoever died first is still to be heard.
            self._deadline = time.monotonic() + (1.0 if death.hung_up else 0.0)

    def _camera(self, name: str) -> CameraRun:
        return next(camera for camera in self.cameras if camera.config.id == name)

    def _outcome(self) -> Outcome:
        problems = self._problems or self._hung_up
        dropped: Counts = {}
        abandoned = frames = 0
        for camera in self.cameras:
            if camera.slots is not None:
                dropped = merge_drops(dropped, camera.slots.dropped())
                abandoned += camera.slots.in_flight()
                frames += camera.slots.published
        unended = sum(camera.begun and camera.finished is None for camera in self.cameras)
        failed = 2 if self._usage else 1
        return Outcome(
            code=failed if problems else 3 if abandoned or unended else 0,
            problems=problems,
            frames=frames,
            dropped=dropped,
            abandoned=abandoned,
            unended=unended,
            seconds=time.time() - self._started_at,
        )
