"""What is connected to what, also while it changes: the one file that wires a run together.

    ingest (one per camera) ──data──▶ infer ──data──▶ publish ──▶ Redis
         └── memory file and bell of the camera, in the hands of all three ──┘

Order of a run: publish and infer start; publish learns what Redis has of each camera and says
`Opened`; infer loads and warms and says `Up`; only then does the camera's ingest begin. At the end
`Ended` travels through the stages behind the last frame, publish says `Finished`, and when all
cameras have, infer and publish are told to leave. A signal only stops the ingests: from there on it
is the same way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

from config.schema import Camera
from pipeline.channel import pair
from pipeline.messages import Counts
from pipeline.slots import Geometry, Slots
from pipeline.wire import merge_drops
from workers import control
from workers.preflight import Plan
from workers.supervisor import Died, Said, Signalled, Supervisor, Worker

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
    """One camera of a run: its config, memory, process, and how it ended."""

    config: Camera
    slots: Slots
    worker: Worker
    session: str | None = None
    opened: bool = False
    begun: bool = False
    finished: control.Finished | None = None

    @property
    def abandoned(self) -> int:
        """Frames that were sent on and have not been published or dropped by anybody."""
        dropped = self.slots.dropped()
        lost_on_the_way = sum(dropped.get(reason, 0) for reason in ("superseded", "window"))
        return self.slots.sent - self.slots.published - lost_on_the_way


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    code: int  # 0 done, 1 failed, 3 stopped with frames abandoned
    problems: list[str]  # one sentence each
    frames: int
    dropped: Counts
    abandoned: int
    seconds: float


class Run:
    """One run of a plan, from the first process to the last."""

    def __init__(self, plan: Plan, redis_url: str, supervisor: Supervisor, out: Reporter) -> None:
        self.plan = plan
        self._supervisor = supervisor
        self._out = out
        self._redis_url = redis_url
        self._started_at = time.time()
        self._deadline: float | None = None
        self._problems: list[str] = []
        self._hung_up: list[str] = []
        self._stopping = False
        self._leaving = False
        self._infer_up = False
        self._infer, self._publish = self._start_back_stages()
        self.cameras = [self._add(camera) for camera in plan.config.cameras]

    def serve(self) -> Outcome:
        """Until every camera has finished and every worker has left."""
        while self._supervisor.workers:
            for event in self._supervisor.events(_TICK):
                match event:
                    case Said():
                        self._hear(event.worker, event.message)
                    case Died():
                        self._mourn(event)
                    case Signalled():
                        self._stop(event.name)
            self._out.update(self.cameras)
            if not self._leaving and all(camera.finished for camera in self.cameras):
                self._leave()
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._supervisor.kill()
        return self._outcome()

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

    def _add(self, camera: Camera) -> CameraRun:
        height, width = self.plan.input_size
        geometry = Geometry(self._slots_of(camera), height, width, camera.is_live)
        slots = Slots.create(camera.id, geometry)
        worker = self._supervisor.start("ingest", camera.id)
        self._publish.send(
            control.PublishCamera(
                camera=camera.id,
                prefix=self.plan.config.redis.prefix,
                live=camera.is_live,
                maxlen=self.plan.config.maxlen_of(camera),
                confidence=self.plan.config.confidence_of(camera),
            ),
            (slots.fd, slots.bell),
        )
        return CameraRun(camera, slots, worker)

    def _slots_of(self, camera: Camera) -> int:
        """Enough for a file to keep every batch full, two deep, shared by all files."""
        if camera.is_live:
            return LIVE_SLOTS
        files = sum(not other.is_live for other in self.plan.config.cameras)
        in_flight = 2 * self.plan.config.model.max_batch
        return max(LIVE_SLOTS, min(in_flight, -(-2 * in_flight // files)))

    def _begin(self, camera: CameraRun) -> None:
        """Joins an ingest process to infer and lets it open its source."""
        camera.begun = True
        ours, theirs = pair()
        with ours, theirs:
            self._infer.send(
                control.InferCamera(
                    camera=camera.config.id,
                    generation=camera.worker.generation,
                    confidence=self.plan.config.confidence_of(camera.config),
                    class_ids=self.plan.class_ids(camera.config),
                ),
                (camera.slots.fd, camera.slots.bell, ours.fileno()),
            )
            camera.worker.send(
                control.IngestCamera(
                    camera=camera.config.id,
                    url=camera.config.url.get_secret_value(),
                    live=camera.config.is_live,
                    loop=camera.config.loop,
                    max_fps=camera.config.max_fps,
                    session=camera.session,
                    started_at=self._started_at,
                    credits=2 * camera.slots.geometry.slots,
                ),
                (camera.slots.fd, camera.slots.bell, theirs.fileno()),
            )

    # ── what happens ──────────────────────────────────────────────────────────────────────────

    def _hear(self, worker: Worker, message: object) -> None:
        match message:
            case control.Up() if worker is self._infer:
                self._infer_up = True
                self._out.say(f"network: {self.plan.weights.variant} on {message.detail}")
            case control.Opened():
                camera = self._camera(message.camera)
                camera.opened, camera.session = True, message.session
            case control.Notice():
                self._out.say(message.text)
            case control.Finished():
                self._finish(self._camera(message.camera), message)
        if self._infer_up and not self._stopping:
            for camera in self.cameras:
                if camera.opened and not camera.begun:
                    self._begin(camera)

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
            if not camera.begun:
                camera.finished = control.Finished(
                    camera.config.id, 0, False, None, "stopped before it began"
                )

    def _leave(self) -> None:
        self._leaving = True
        self._deadline = self._deadline or time.monotonic() + DRAIN_SECONDS
        for worker in (self._infer, self._publish):
            worker.send(control.Stop())

    def _mourn(self, death: Died) -> None:
        worker = death.worker
        if death.cause is None or self._leaving:
            return
        if death.hung_up:  # a consequence: whoever died first is named
            self._hung_up.append(f"{worker} lost its neighbour")
        else:
            self._problems.append(f"{worker} {death.cause}")
            self._out.say(f"{worker} {death.cause}; the run ends")
        if worker.role == "ingest":
            camera = self._camera(worker.name)
            camera.finished = control.Finished(worker.name, 0, False, "us", "its process died")
        if not self._stopping:
            self._wind_down(FAILED_SECONDS)
        if worker in (self._infer, self._publish):
            self._deadline = 0.0  # nothing can drain through it

    def _camera(self, name: str) -> CameraRun:
        return next(camera for camera in self.cameras if camera.config.id == name)

    def _outcome(self) -> Outcome:
        problems = self._problems or self._hung_up
        abandoned = sum(camera.abandoned for camera in self.cameras)
        dropped: Counts = {}
        for camera in self.cameras:
            dropped = merge_drops(dropped, camera.slots.dropped())
        return Outcome(
            code=1 if problems else 3 if abandoned else 0,
            problems=problems,
            frames=sum(camera.slots.published for camera in self.cameras),
            dropped=dropped,
            abandoned=abandoned,
            seconds=time.time() - self._started_at,
        )
