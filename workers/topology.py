"""What is connected to what, also while it changes: the one file that wires a run together.

    ingest (one per camera) ──data──▶ infer ──data──▶ publish ──▶ Redis
         └── memory file and bell of the camera, in the hands of all three ──┘

A camera begins, and begins anew whenever one of the three has died, in the same three steps:

    ask     publish says where it stands: the next frame of a file, what is known of a live session
    begin   new memory, a new socket, a new generation: to publish, to infer, to ingest
    began   ingest writes there, and nobody to the memory before

Whatever carries an earlier generation is discarded. A camera that is to end although its ingest
is gone is asked for as well, and then closed: publish writes its last message itself.
"""

from __future__ import annotations

import os
import time

import msgspec

from config.schema import Camera
from pipeline.channel import pair
from pipeline.messages import Counts, Ended
from pipeline.slots import Geometry, Slots
from pipeline.wire import merge_drops
from workers import control
from workers.camera import CameraRun, Closing
from workers.life import Life
from workers.preflight import Plan, access_of
from workers.quarantine import Quarantine
from workers.supervisor import Supervisor, Worker
from workers.totals import Totals

LIVE_SLOTS = 3
_UP_SECONDS = 300.0  # that a network may take to load
MAX_WAIT_MS = 5.0  # how long a frame waits for company in its batch
_NO_PIXELS = (1, 1)  # height and width of a memory that is only there to count


class Topology:
    """The workers of one run, the cameras, and the sockets and memory between them."""

    def __init__(
        self,
        plan: Plan,
        redis_url: str,
        supervisor: Supervisor,
        *,
        again: bool,
        spool: str | None,
        measured: bool,
    ) -> None:
        self.plan = plan
        self._supervisor = supervisor
        self._redis_url = redis_url
        self._again = again
        self._spool = spool
        self._measured = measured
        self._token = os.urandom(8).hex()
        self._since = time.time_ns() // 1_000_000
        self.network: control.Up | None = None  # what infer said of itself, the first time
        self.infer_up = self.publish_up = False
        self.quarantine = Quarantine()
        self.infer: Worker | None = None
        self.publish: Worker | None = None
        self.start_infer()
        self.start_publish()
        self.cameras: list[CameraRun] = []
        for camera in plan.config.cameras:
            self.start_camera(camera)

    def camera(self, name: str) -> CameraRun:
        """One that is there."""
        camera = self.find(name)
        assert camera is not None
        return camera

    def find(self, name: str) -> CameraRun | None:
        """None for one that is gone, of which somebody may still speak."""
        return next((camera for camera in self.cameras if camera.config.id == name), None)

    def forget(self, camera: CameraRun) -> None:
        """Publish lets go of it, without a last word."""
        if self.publish is not None:
            self.publish.send(control.Forget(camera.config.id))

    # ── processes ─────────────────────────────────────────────────────────────────────────────

    def start(self, role: str, name: str) -> None:
        """Starts a worker that has died once more. Raises OSError where that cannot be done."""
        if role == "infer":
            self.start_infer()
        elif role == "publish":
            self.start_publish()
        elif (camera := self.find(name)) and camera.is_going and not camera.worker:
            self.start_ingest(camera)

    def start_infer(self) -> None:
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
        self.infer = self._supervisor.start(
            "infer", "infer", settings=settings, environment=environment
        )
        self._join(self.infer)

    def start_publish(self) -> None:
        weights = self.plan.weights
        settings = control.PublishSettings(
            url=self._redis_url,
            prefix=self.plan.config.redis.prefix,
            run=self._token,
            since=self._since,
            spool=self._spool,
            model_name=weights.variant,
            model_digest=weights.digest,
            model_input=self.plan.input_size,
            labels=weights.classes,
            measured=self._measured,
        )
        self.publish = self._supervisor.start("publish", "publish", settings=settings)
        self._join(self.publish)

    def late(self, at: float) -> tuple[str, float] | None:
        """The role of a worker that is not up at `at`, long after it was started; for how long."""
        for worker, is_up in ((self.infer, self.infer_up), (self.publish, self.publish_up)):
            if worker is not None and not is_up and at > worker.started_at + _UP_SECONDS:
                return worker.role, at - worker.started_at
        return None

    def start_ingest(self, camera: CameraRun) -> None:
        # Its threads are of no use there, and each counts 40 MB to the limit of memory.
        alone = {"OPENBLAS_NUM_THREADS": "1"}
        camera.worker = self._supervisor.start("ingest", camera.config.id, environment=alone)
        if not camera.identified:
            camera.worker.send(control.Identify(camera.config.url.get_secret_value()))

    def start_camera(self, config: Camera, generation: int = 0) -> None:
        """A camera, with its ingest; `generation` is the last one of that name."""
        unlike_any_job = config.is_live or config.loop
        totals = Totals(live=config.is_live)
        camera = CameraRun(config, None, totals, generation, identified=unlike_any_job)
        camera.born = generation
        if _comes_back(config):
            camera.life = Life(time.time())
        self.start_ingest(camera)
        self.cameras.append(camera)

    def _join(self, newcomer: Worker) -> None:
        """A new data socket from infer to publish."""
        if self.infer is None or self.publish is None:
            return
        try:
            ends = pair()
        except OSError:
            newcomer.process.kill()  # it is started again, as after any death
            return
        for worker, end in zip((self.infer, self.publish), ends, strict=True):
            with end:
                worker.send(control.Join(), (end.fileno(),))

    # ── cameras ───────────────────────────────────────────────────────────────────────────────

    def advance(self, camera: CameraRun) -> None:
        """Takes a camera one step further, where it can go one.

        Raises VedetteError where it never can, OSError where it cannot now: nothing has changed.
        """
        if self.publish is None or self.network is None or not camera.identified:
            return
        if time.monotonic() < camera.not_before:
            return
        self._tell(camera, self.publish)
        if camera.closing is not None and camera.worker is not None:
            return  # until ingest has left it alone
        if not camera.asked:
            self._ask(camera, self.publish, self.network.precision)
        elif camera.standing is None or camera.begun:
            return
        elif camera.closing is not None:
            self._close(camera, camera.standing, camera.closing, self.publish)
        elif self.quarantine.rests(camera.config.id, time.monotonic()):
            return
        elif self.infer is not None and self.infer_up and camera.worker is not None:
            self._begin(camera, camera.standing, (self.publish, self.infer, camera.worker))

    def _tell(self, camera: CameraRun, publish: Worker) -> None:
        """Has publish say what the camera is like, behind the ends of its sessions."""
        if camera.life is None or camera.standing is None or camera.ends or camera.is_over:
            return
        if (state := camera.life.news()) is not None:
            publish.send(
                control.State(camera.config.id, state.name, state.since, state.reason, state.fault)
            )

    def _ask(self, camera: CameraRun, publish: Worker, precision: str) -> None:
        camera.asked = True
        camera.generation += 1
        publish.send(
            control.PublishCamera(
                camera=camera.config.id,
                generation=camera.generation,
                fresh=camera.fresh,
                live=camera.config.is_live,
                maxlen=self.plan.config.maxlen_of(camera.config),
                confidence=self.plan.config.confidence_of(camera.config),
                job=camera.job(self.plan, precision),
                again=self._again,
                incarnation=camera.born,
                session=camera.session,
                confirmed=camera.totals.confirmed,
                event=camera.first_event,
                ends=tuple(camera.ends.values()),
                ended=camera.last_ended,
            )
        )

    def _begin(
        self, camera: CameraRun, standing: control.Opened, workers: tuple[Worker, Worker, Worker]
    ) -> None:
        """Gives a camera its memory and its socket."""
        publish, infer, ingest = workers
        height, width = self.plan.input_size
        geometry = Geometry(self._slots_of(camera.config), height, width, camera.config.is_live)
        ours, theirs = pair()
        with ours, theirs:
            slots = self._attach(camera, standing, geometry, publish)
            if camera.is_over:
                self._end_session(camera, standing)
            if camera.ends:
                standing = self._say_ends(camera, standing, publish)
            camera.begun = True
            memory = (slots.fd, slots.bell)
            infer.send(self._for_infer(camera, standing, geometry), (*memory, ours.fileno()))
            ingest.send(self._for_ingest(camera, standing, geometry), (*memory, theirs.fileno()))

    def _close(
        self, camera: CameraRun, standing: control.Opened, closing: Closing, publish: Worker
    ) -> None:
        """Has publish say the last word of a camera whose ingest is gone."""
        geometry = Geometry(1, *_NO_PIXELS, camera.config.is_live)
        ended = camera.end_of(standing, closing)
        self._attach(camera, standing, geometry, publish)
        camera.begun = True
        self._say_ends(camera, standing, publish)
        camera.totals.retire()
        if camera.first_seq is not None and not camera.config.is_live:
            camera.totals.cut(standing.accounted - camera.first_seq)
        publish.send(control.End(ended, is_last=True))

    def _end_session(self, camera: CameraRun, standing: control.Opened) -> None:
        """The end of a live session whose ingest died; another begins."""
        ended = camera.end_of(standing, camera.death)
        camera.keep(ended)
        camera.hung = None
        camera.totals.begin_session()
        camera.session, camera.is_over = None, False

    def _say_ends(
        self, camera: CameraRun, standing: control.Opened, publish: Worker
    ) -> control.Opened:
        """Has publish say of sessions that they have ended, unless it has; where that leaves it.

        What it has not had by now was lost with some worker.
        """
        for ended in camera.ends.values():
            if ended.session == standing.session:
                ended = _with_crash(ended, {}, standing.accounted)
            else:  # publish has nothing of it, or its end
                ended = _with_crash(ended, ended.dropped, 0)
            publish.send(control.End(ended, is_last=False))
        if standing.session not in camera.ends:
            return standing
        return msgspec.structs.replace(standing, session=None, accounted=0, dropped={})

    def say_late_end(self, camera: CameraRun, loss: control.Lost) -> None:
        """Of a session that ended in an earlier generation: its own way is gone."""
        if loss.ended is None or self.publish is None or camera.standing is None:
            return  # whoever begins the camera says it
        if camera.begun and loss.ended.generation != camera.generation:
            camera.standing = self._say_ends(camera, camera.standing, self.publish)

    def _attach(
        self, camera: CameraRun, standing: control.Opened, geometry: Geometry, publish: Worker
    ) -> Slots:
        """New memory, in the hands of the camera and of publish."""
        slots = Slots.create(camera.config.id, geometry, carried=standing.owed)
        camera.totals.move(slots, owed=standing.owed)
        attach = control.Attach(camera.config.id, camera.generation, geometry)
        publish.send(attach, (slots.fd, slots.bell))
        return slots

    def _for_infer(
        self, camera: CameraRun, standing: control.Opened, geometry: Geometry
    ) -> control.InferCamera:
        config = camera.config
        return control.InferCamera(
            camera=config.id,
            generation=camera.generation,
            geometry=geometry,
            confidence=self.plan.config.confidence_of(config),
            class_ids=self.plan.class_ids(config),
            weight=config.weight,
            max_age_ms=config.max_age_ms if config.is_live else None,
            session=standing.session,
            accounted=standing.accounted,
            dropped=standing.dropped if config.is_live else {},
        )

    def _for_ingest(
        self, camera: CameraRun, standing: control.Opened, geometry: Geometry
    ) -> control.IngestCamera:
        config = camera.config
        if camera.first_seq is None:
            camera.first_seq = 0 if config.is_live else standing.accounted
        return control.IngestCamera(
            camera=config.id,
            generation=camera.generation,
            geometry=geometry,
            url=config.url.get_secret_value(),
            access=access_of(config),
            live=config.is_live,
            loop=config.loop,
            comes_back=_comes_back(config),
            max_fps=config.max_fps,
            session=None if config.is_live else standing.session,
            first_seq=camera.first_seq,
            next_seq=0 if config.is_live else standing.accounted,
            started_at=standing.started_at or time.time(),
        )

    def _slots_of(self, camera: Camera) -> int:
        """Enough for a file to keep every batch full, two deep, shared by all files."""
        if camera.is_live or self.network is None:
            return LIVE_SLOTS
        in_flight = self.network.frames
        files = sum(not other.is_live for other in self.plan.config.cameras)
        return max(LIVE_SLOTS, min(2 * in_flight, -(-4 * in_flight // files)))


def _comes_back(camera: Camera) -> bool:
    """Whether its end is a lost connection."""
    return camera.is_live and camera.is_network


def _with_crash(ended: Ended, dropped: Counts, accounted: int) -> Ended:
    """The end of a session of which `accounted` frames are known, and `dropped` of the rest."""
    lost = ended.frames - accounted - sum(dropped.values())
    dropped = merge_drops(dropped, {"crash": lost}) if lost > 0 else dropped
    return msgspec.structs.replace(ended, dropped=dropped)
