"""What is connected to what, also while it changes: the one file that wires a run together.

    ingest (one per camera) ──data──▶ infer ──data──▶ publish ──▶ Redis
         └── memory file and bell of the camera, in the hands of all three ──┘

A camera begins, and begins anew whenever one of the three has died, in the same three steps:

    ask     publish says where it stands: the next frame of a file, what is known of a live session
    begin   new memory, a new socket, a new generation: to publish, to infer, to ingest
    began   ingest writes there, and nobody to the memory before

Whatever carries an earlier generation is discarded. At the end `Ended` travels through the stages
behind the last frame, publish says `Finished`, and when all cameras have, infer and publish are
told to leave. A signal only stops the ingests: from there on it is the same way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from config.schema import Camera
from pipeline.channel import pair
from pipeline.slots import Geometry, Slots
from workers import control
from workers.camera import CameraRun
from workers.outcome import Outcome, outcome_of
from workers.preflight import Plan
from workers.report import Reporter
from workers.restarts import Restarts
from workers.supervisor import Died, Event, Said, Signalled, Supervisor, Worker

LIVE_SLOTS = 3
MAX_WAIT_MS = 5.0  # how long a frame waits for company in its batch
DRAIN_SECONDS = 20.0  # from a signal to the end of patience, below Kubernetes' 30
FAILED_SECONDS = 3.0  # the same after a worker that cannot be started
_TICK = 0.25  # seconds between looks at the counters


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is told beside its plan."""

    again: bool = False  # publish files anew, also those that are done
    restart: bool = False  # start workers that die again, rather than end the run
    spool: str | None = None  # a folder for live records that wait for Redis
    tend: Callable[[], str | None] = lambda: None  # called every tick; what it says is said on


class Run:
    """One run of a plan, from the first process to the last."""

    def __init__(
        self,
        plan: Plan,
        redis_url: str,
        supervisor: Supervisor,
        out: Reporter,
        options: Options | None = None,
    ) -> None:
        self.plan = plan
        self._supervisor = supervisor
        self._out = out
        self._options = options or Options()
        self._redis_url = redis_url
        self._token = os.urandom(8).hex()
        self._started_at = time.time()
        self._deadline: float | None = None
        self._problems: list[str] = []
        self._usage = False
        self._stopping = False
        self._leaving = False
        self._network: control.Up | None = None  # what infer said of itself, the first time
        self._infer_up = False
        self._restarts: dict[tuple[str, str], Restarts] = {}
        self._due: list[tuple[float, str, str]] = []  # when to start which role and name again
        self._seen_up: set[tuple[str, str]] = set()
        self._infer: Worker | None = self._start_infer()
        self._publish: Worker | None = self._start_publish()
        self._join()
        self.cameras = [self._start_camera(camera) for camera in plan.config.cameras]

    def serve(self) -> Outcome:
        """Until every camera has finished and every worker has left."""
        while self._supervisor.workers or (self._due and not self._stopping):
            for event in self._supervisor.events(_TICK):
                self._react(event)
            self._start_what_is_due()
            self._advance()
            self._out.update(self.cameras)
            if (news := self._options.tend()) is not None:
                self._out.say(news)
            if not self._leaving and all(camera.finished for camera in self.cameras):
                self._leave()
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._supervisor.kill()
        outcome = outcome_of(
            self.cameras, self._problems, usage=self._usage, since=self._started_at
        )
        for camera in self.cameras:
            camera.close()
        return outcome

    # ── processes ─────────────────────────────────────────────────────────────────────────────

    def _start_infer(self) -> Worker:
        model = self.plan.config.model
        settings = control.InferSettings(
            weights=str(model.weights),
            input_size=self.plan.input_size,
            iou=model.iou,
            max_detections=model.max_detections,
            device=model.device,
            precision=model.precision,
            max_batch=model.max_batch,
            max_wait_ms=MAX_WAIT_MS,
        )
        # Batches side by side, not one on all cores.
        environment = {"OMP_NUM_THREADS": "1"}
        return self._supervisor.start("infer", "infer", settings=settings, environment=environment)

    def _start_publish(self) -> Worker:
        weights = self.plan.weights
        settings = control.PublishSettings(
            url=self._redis_url,
            prefix=self.plan.config.redis.prefix,
            run=self._token,
            spool=self._options.spool,
            model_name=weights.variant,
            model_digest=weights.digest,
            model_input=self.plan.input_size,
            labels=weights.classes,
        )
        return self._supervisor.start("publish", "publish", settings=settings)

    def _start_camera(self, camera: Camera) -> CameraRun:
        unlike_any_job = camera.is_live or camera.loop
        worker = self._start_ingest(camera, identify=not unlike_any_job)
        return CameraRun(camera, worker, identified=unlike_any_job)

    def _start_ingest(self, camera: Camera, *, identify: bool) -> Worker:
        worker = self._supervisor.start("ingest", camera.id)
        if identify:
            worker.send(control.Identify(camera.url.get_secret_value()))
        return worker

    def _join(self) -> None:
        """A new data socket from infer to publish."""
        if self._infer is None or self._publish is None:
            return
        ends = pair()
        for worker, end in zip((self._infer, self._publish), ends, strict=True):
            with end:
                worker.send(control.Join(), (end.fileno(),))

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        due = [entry for entry in self._due if entry[0] <= now]
        self._due = [entry for entry in self._due if entry[0] > now]
        for _, role, name in due:
            if self._stopping:
                continue
            if role == "ingest":
                camera = self._camera(name)
                camera.worker = self._start_ingest(camera.config, identify=not camera.identified)
                continue
            if role == "infer":
                self._infer = self._start_infer()
            else:
                self._publish = self._start_publish()
            self._join()

    # ── cameras ───────────────────────────────────────────────────────────────────────────────

    def _advance(self) -> None:
        """Takes every camera one step further, where it can go one."""
        if self._stopping or self._network is None:
            return
        for camera in self.cameras:
            if camera.finished is not None or not camera.identified:
                continue
            if not camera.asked and self._publish is not None:
                self._ask(camera, self._publish, self._network.precision)
            elif camera.standing and not camera.begun and self._infer_up and camera.worker:
                self._begin(camera, camera.standing, camera.worker)

    def _ask(self, camera: CameraRun, publish: Worker, precision: str) -> None:
        camera.asked = True
        camera.generation += 1
        publish.send(
            control.PublishCamera(
                camera=camera.config.id,
                generation=camera.generation,
                live=camera.config.is_live,
                maxlen=self.plan.config.maxlen_of(camera.config),
                confidence=self.plan.config.confidence_of(camera.config),
                job=camera.job(self.plan, precision),
                again=self._options.again,
                resume=camera.slots is not None,
                session_over=camera.ingest_died,
            )
        )

    def _begin(self, camera: CameraRun, standing: control.Opened, worker: Worker) -> None:
        """Gives a camera its memory and its socket."""
        assert self._infer is not None
        assert self._publish is not None
        camera.begun, camera.ingest_died = True, False
        config = camera.config
        height, width = self.plan.input_size
        geometry = Geometry(self._slots_of(config), height, width, config.is_live)
        slots = Slots.create(config.id, geometry, carried=standing.owed)
        camera.move(slots, standing.owed)
        memory = (slots.fd, slots.bell)
        self._publish.send(control.Attach(config.id, camera.generation, geometry), memory)
        ours, theirs = pair()
        with ours, theirs:
            self._infer.send(
                control.InferCamera(
                    camera=config.id,
                    generation=camera.generation,
                    geometry=geometry,
                    confidence=self.plan.config.confidence_of(config),
                    class_ids=self.plan.class_ids(config),
                    session=standing.session,
                    accounted=standing.accounted,
                    dropped=standing.dropped if config.is_live else {},
                ),
                (*memory, ours.fileno()),
            )
            worker.send(
                control.IngestCamera(
                    camera=config.id,
                    generation=camera.generation,
                    geometry=geometry,
                    url=config.url.get_secret_value(),
                    live=config.is_live,
                    loop=config.loop,
                    max_fps=config.max_fps,
                    session=None if config.is_live else standing.session,
                    next_seq=0 if config.is_live else standing.accounted,
                    started_at=standing.started_at or time.time(),
                    credits=2 * geometry.slots,
                ),
                (*memory, theirs.fileno()),
            )

    def _slots_of(self, camera: Camera) -> int:
        """Enough for a file to keep every batch full, two deep, shared by all files."""
        if camera.is_live or self._network is None:
            return LIVE_SLOTS
        in_flight = self._network.frames
        files = sum(not other.is_live for other in self.plan.config.cameras)
        return max(LIVE_SLOTS, min(2 * in_flight, -(-4 * in_flight // files)))

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
            case control.Up():
                self._welcome(worker, message)
            case control.Identified():
                camera = self._camera(worker.name)
                camera.identified, camera.digest = True, message.digest
            case control.Began():
                camera = self._camera(worker.name)
                if message.generation == camera.generation:
                    camera.retire()
            case control.Opened():
                self._place(self._camera(message.camera), message)
            case control.Notice():
                self._out.say(message.text)
            case control.Finished():
                self._finish(self._camera(message.camera), message)

    def _welcome(self, worker: Worker, message: control.Up) -> None:
        self._seen_up.add((worker.role, worker.name))
        if worker is not self._infer:
            return
        if self._network is None:
            self._out.say(f"network: {self.plan.weights.variant} on {message.detail}")
            self._network = message
        self._infer_up = True

    def _place(self, camera: CameraRun, standing: control.Opened) -> None:
        if standing.generation != camera.generation:
            return
        camera.standing = standing
        name, frame = camera.config.id, standing.accounted
        if standing.finished:
            reason = f"its job is done already, {frame:,} frames; --again publishes them anew"
            self._finish(camera, control.Finished(name, frame, True, None, reason))
        elif camera.ingest_died and camera.is_stuck_at(frame):
            reason = f"its decoder died again and again at frame {frame:,}"
            self._finish(camera, control.Finished(name, frame, False, "decoder", reason))
        elif frame and camera.slots is None and not camera.config.is_live:
            self._out.say(f"{name}: goes on at frame {frame:,}; those before are published")

    def _finish(self, camera: CameraRun, message: control.Finished) -> None:
        if camera.finished is not None:
            return
        camera.finished = message
        text = f"{message.camera}: {message.reason}"
        self._out.say(text)
        if message.fault is not None:
            self._problems.append(text)
        if camera.worker is not None:
            camera.worker.send(control.Stop())

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
            if camera.worker is not None:
                camera.worker.send(control.Stop())
            if not camera.begun and camera.finished is None:  # and never will
                reason = "stopped before it began"
                camera.finished = control.Finished(camera.config.id, 0, False, None, reason)

    def _leave(self) -> None:
        self._leaving = self._stopping = True
        if self._deadline is None:
            self._deadline = time.monotonic() + DRAIN_SECONDS
        for worker in self._supervisor.workers:
            worker.send(control.Stop())

    def _mourn(self, death: Died) -> None:
        worker, name = death.worker, (death.worker.role, death.worker.name)
        at_the_door = death.hung_up or worker.was_overdue
        if death.cause is None or (self._leaving and at_the_door):
            return
        if self._stopping or not self._options.restart:
            self._lose(worker, death)
        elif worker.failure is not None and name not in self._seen_up:
            self._lose(worker, death)  # it cannot be started, and would fail again
        else:
            now = time.monotonic()
            wait = self._restarts.setdefault(name, Restarts()).wait(now)
            self._due.append((now + wait, *name))
            self._out.say(f"{worker} {death.cause}; it is started again in {wait:.1f} s")
            self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        """A worker is gone: whoever worked with it begins anew."""
        if worker.role == "ingest":
            camera = self._camera(worker.name)
            camera.worker, camera.ingest_died = None, True
            camera.begin_anew()
            return
        if worker is self._infer:
            self._infer, self._infer_up = None, False
        else:
            self._publish = None
        for camera in self.cameras:
            camera.begin_anew()

    def _lose(self, worker: Worker, death: Died) -> None:
        """A worker is gone for good: the run ends."""
        self._usage = worker.failure is not None and worker.failure.usage
        self._problems.append(f"{worker} {death.cause}")
        self._out.say(f"{worker} {death.cause}; the run ends")
        camera = self._camera(worker.name) if worker.role == "ingest" else None
        if camera is not None and camera.finished is None:
            reason = "its process died"
            camera.finished = control.Finished(worker.name, 0, False, "us", reason)
        if not self._stopping:
            self._wind_down(FAILED_SECONDS)
        if worker in (self._infer, self._publish):
            self._deadline = 0.0  # nothing can drain through it

    def _camera(self, name: str) -> CameraRun:
        return next(camera for camera in self.cameras if camera.config.id == name)
