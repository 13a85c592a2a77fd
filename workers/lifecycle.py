"""One run from its first process to its last: who dies is started again, and all ends in order.

A worker that dies is started again after a while (`restarts`), and every camera that it worked on
begins anew (`topology`). At the end `Ended` travels through the stages behind the last frame,
publish says `Finished`, and when all cameras have, infer and publish are told to leave. A signal
only stops the ingests: from there on it is the same way. A camera whose way is broken while it is
to end is closed by publish instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import VedetteError
from workers import control
from workers.camera import CameraRun, Closing
from workers.coming import Coming
from workers.figures import figures_of
from workers.observer import Nobody, Observer
from workers.outcome import Outcome, outcome_of
from workers.preflight import Plan
from workers.quarantine import REST
from workers.reload import ConfigFile, terminal_is_gone
from workers.report import Reporter
from workers.restarts import Restarts
from workers.supervisor import Died, Event, Said, Signalled, Supervisor, Worker
from workers.topology import Topology
from workers.turnstile import Turnstile
from workers.watchdog import Watchdog

DRAIN_SECONDS = 20.0  # from a signal to the end of patience, below Kubernetes' 30
FAILED_SECONDS = 3.0  # the same after a worker that cannot be started
_TICK = 0.25  # seconds between looks at the counters
_ONE_SIGNAL = 0.2  # seconds in which two count as one: timeout(1) sends it twice
_HURRY = 0.5  # seconds: the longest wait before publish is started again while a run ends


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is told beside its plan."""

    again: bool = False  # publish files anew, also those that are done
    spool: str | None = None  # a folder for live records that wait for Redis
    tend: Callable[[], str | None] = lambda: None  # called every tick; what it says is said on
    observer: Observer | None = None
    file: ConfigFile | None = None  # where the plan comes from, and another may


class Run:
    """One run of a plan."""

    def __init__(
        self,
        plan: Plan,
        redis_url: str,
        supervisor: Supervisor,
        out: Reporter,
        options: Options | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._out = out
        self._options = options or Options()
        self._started_at = time.monotonic()
        self._deadline: float | None = None
        self._signalled_at: float | None = None  # monotonic seconds
        self._problems: list[str] = []
        self._usage = False
        self._stopping = False
        self._leaving = False
        self._restarts: dict[tuple[str, str], Restarts] = {}
        self._due: list[tuple[float, str, str]] = []  # when to start which role and name again
        self._turnstile = Turnstile()
        self._watchdog = Watchdog()
        self._runs_on: str | None = None  # what infer has said last
        self._shot: Worker | None = None  # the last one that was killed because it hung
        self._seen_up: set[tuple[str, str]] = set()
        self._topology = Topology(
            plan,
            redis_url,
            supervisor,
            again=self._options.again,
            spool=self._options.spool,
            measured=self._options.observer is not None,
        )
        self._observer = self._options.observer or Nobody()
        self._restarted: dict[tuple[str, str], int] = {}
        self._coming = Coming(self._topology, out.say, self._end)

    @property
    def cameras(self) -> list[CameraRun]:
        return self._topology.cameras

    def serve(self) -> Outcome:
        """Until every camera has finished and every worker has left."""
        while self._supervisor.workers or self._due:
            for event in self._supervisor.events(_TICK):
                self._react(event)
            self._start_what_is_due()
            if not self._stopping:
                self._come_and_go()
                self._watch_workers()
            for camera in self._unfinished():
                self._advance(camera)
                self._watch(camera)
            self._out.update(self.cameras, self._coming.published)
            self._observer.show(figures_of(self._topology, self._restarted, ending=self._stopping))
            if (news := self._options.tend()) is not None:
                self._out.say(news)
            coming = not self._stopping and self._coming.cameras
            if not self._leaving and not self._unfinished() and not coming:
                self._leave()
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._due.clear()
                self._supervisor.kill()
        cameras = [*self._coming.gone, *self.cameras]
        outcome = outcome_of(cameras, self._problems, usage=self._usage, since=self._started_at)
        for camera in cameras:
            camera.totals.close()
        return outcome

    def _unfinished(self) -> list[CameraRun]:
        return [camera for camera in self.cameras if camera.finished is None]

    def _react(self, event: Event) -> None:
        match event:
            case Said():
                self._hear(event.worker, event.message)
            case Died():
                self._mourn(event)
            case Signalled(name="SIGHUP") if self._options.file and not terminal_is_gone():
                if not self._stopping:
                    self._coming.reload(self._options.file, asked=True)
            case Signalled():
                self._stop(event.name)

    # ── what workers say ──────────────────────────────────────────────────────────────────────

    def _hear(self, worker: Worker, message: object) -> None:
        match message:
            case control.Up():
                self._welcome(worker, message)
            case control.Opened() | control.SessionEnded() | control.Finished():
                if (camera := self._topology.find(message.camera)) is not None:
                    self._hear_publish(camera, message)
            case control.Notice():
                self._out.say(message.text)
            case control.Measured():
                self._observer.record(message.frames)
            case _:
                self._hear_ingest(self._topology.camera(worker.name), message)

    def _hear_publish(self, camera: CameraRun, message: object) -> None:
        match message:
            case control.Opened():
                self._place(camera, message)
            case control.SessionEnded():
                camera.has_end(message.session)
            case control.Finished():
                self._finish(camera, message)

    def _hear_ingest(self, camera: CameraRun, message: object) -> None:
        match message:
            case control.MayOpen():
                if camera.is_going and self._turnstile.enter(camera.config.id):
                    self._let_open(camera)
            case control.Connected() | control.Lost():
                self._open_next(camera)
        if (news := camera.hear(message)) is not None:
            self._out.say(f"{camera.config.id}: {news}")
        if isinstance(message, control.Lost):
            self._topology.say_late_end(camera, message)

    def _advance(self, camera: CameraRun) -> None:
        """A camera one step further; one that cannot be ends, and the others go on."""
        try:
            self._topology.advance(camera)
        except VedetteError as error:
            self._close(camera, Closing(str(error), "us"))
        except OSError as error:  # this machine has no descriptor left for it
            self._out.say(f"{camera.config.id}: {camera.wait(time.monotonic(), error)}")

    def _come_and_go(self) -> None:
        if self._options.file is not None and self._options.file.is_due():
            self._coming.reload(self._options.file, asked=False)
        self._coming.go_on()

    def _watch_workers(self) -> None:
        """Kills infer or publish where it hangs: it is started again, as after any death."""
        now = time.monotonic()
        found = self._watchdog.hung(self.cameras, now) or self._topology.late(now)
        if found is None:
            return
        role, seconds = found
        worker = self._topology.infer if role == "infer" else self._topology.publish
        if worker is not None and worker is not self._shot:
            self._shot = worker
            self._out.say(f"{worker}: no frame has gone on for {seconds:.0f} s: it is killed")
            worker.process.kill()

    def _watch(self, camera: CameraRun) -> None:
        """Kills an ingest that hangs: it is started again, as after any death."""
        if self._stopping or (why := camera.watch(time.monotonic())) is None:
            return
        assert camera.worker is not None
        self._out.say(f"{camera.config.id}: {why}: its process is killed")
        camera.hung = why
        camera.worker.process.kill()

    def _open_next(self, camera: CameraRun) -> None:
        """This camera has been opened, or cannot be: it is another's turn."""
        if (name := self._turnstile.leave(camera.config.id)) is not None:
            self._let_open(self._topology.camera(name))

    def _let_open(self, camera: CameraRun) -> None:
        if camera.worker is not None:
            camera.opening = True
            camera.worker.send(control.Go())

    def _welcome(self, worker: Worker, message: control.Up) -> None:
        self._seen_up.add((worker.role, worker.name))
        if worker is self._topology.publish:
            self._topology.publish_up = True
        if worker is not self._topology.infer:
            return
        if message.detail != self._runs_on:  # a GPU may be gone, or there again
            self._runs_on = message.detail
            self._out.say(f"network: {self._topology.plan.weights.variant} on {message.detail}")
        self._topology.network = self._topology.network or message
        self._topology.infer_up = True
        self._topology.quarantine.go_on(time.monotonic())

    def _place(self, camera: CameraRun, standing: control.Opened) -> None:
        """A camera is asked for no more: it goes on, or ends here."""
        if standing.generation != camera.generation:
            return
        camera.standing, camera.fresh = standing, False
        camera.totals.count(standing.uncounted, standing.confirmed)
        if camera.first_event is None:
            camera.first_event = standing.event
        name, frame = camera.config.id, standing.accounted
        suspect, camera.suspect = camera.suspect, None
        if standing.finished:
            camera.totals.settle()
            again = "" if camera.totals.has_begun else " already; --again publishes it anew"
            reason = f"its job is done{again}"
            self._finish(camera, control.Finished(name, frame, True, None, reason))
        elif camera.closing is not None:
            if standing.session is None and not (camera.ends or standing.owed):
                camera.totals.settle()
                self._topology.forget(camera)
                self._finish(camera, camera.closed(camera.closing))
        elif suspect is not None and camera.is_stuck_at(frame):
            fault = "decoder" if suspect == "its decoder" else "us"
            self._close(
                camera, Closing(f"{suspect} died again and again at frame {frame:,}", fault)
            )
        elif frame and not camera.totals.has_begun and not camera.config.is_live:
            self._out.say(f"{name}: goes on at frame {frame:,}; those before are published")

    def _finish(self, camera: CameraRun, message: control.Finished) -> None:
        if camera.finished is not None:
            return
        camera.finished = message
        self._due = [entry for entry in self._due if entry[1:] != ("ingest", camera.config.id)]
        self._open_next(camera)
        text = f"{message.camera}: {message.reason}"
        self._out.say(text)
        if message.fault is not None:
            self._problems.append(text)
        if camera.worker is not None:
            camera.worker.send(control.Stop())

    # ── how it ends ───────────────────────────────────────────────────────────────────────────

    def _stop(self, signal_name: str) -> None:
        now = time.monotonic()
        if self._signalled_at is None:
            self._signalled_at = now
            self._out.say(f"{signal_name}: draining (again: leave at once)")
            if not self._stopping:
                self._wind_down(DRAIN_SECONDS)
        elif now > self._signalled_at + _ONE_SIGNAL:
            self._out.say(f"{signal_name} again: leaving at once")
            self._deadline = 0.0

    def _wind_down(self, seconds: float) -> None:
        """Stops every source; what is under way goes on to its end, for so long at most."""
        self._stopping = True
        self._deadline = time.monotonic() + seconds
        self._due = [(0.0, role, name) for _, role, name in self._due if role == "publish"]
        for camera in self._unfinished():
            self._end(camera)

    def _end(self, camera: CameraRun) -> None:
        """Has a camera end in order, whoever of its workers is there."""
        if not camera.stop() or self._topology.infer is None:
            self._close(camera, Closing("stopped"))

    def _close(self, camera: CameraRun, closing: Closing) -> None:
        """Ends a camera without its ingest: by publish, if there has been anything of it."""
        if camera.worker is not None:
            camera.worker.send(control.Stop())
        if camera.totals.has_begun:
            camera.closing = camera.closing or closing
            camera.begin_anew()
        else:
            self._topology.forget(camera)
            reason = "stopped before it began" if closing.fault is None else closing.reason
            self._finish(camera, camera.closed(Closing(reason, closing.fault)))

    def _leave(self) -> None:
        self._leaving = self._stopping = True
        self._due.clear()
        if self._deadline is None:
            self._deadline = time.monotonic() + DRAIN_SECONDS
        for worker in self._supervisor.workers:
            worker.send(control.Stop())

    # ── who dies ──────────────────────────────────────────────────────────────────────────────

    def _mourn(self, death: Died) -> None:
        worker, name = death.worker, (death.worker.role, death.worker.name)
        is_unwell = death.cause is not None and not self._leaving and self._is_needed(worker)
        if is_unwell and worker.failure is not None and name not in self._seen_up:
            self._give_up(worker, death)
        elif is_unwell:
            self._restart(worker, death)
        elif worker.role == "ingest":
            camera = self._topology.camera(worker.name)
            self._open_next(camera)
            camera.worker = None

    def _is_needed(self, worker: Worker) -> bool:
        return worker.role != "ingest" or self._topology.camera(worker.name).is_going

    def _restart(self, worker: Worker, death: Died) -> None:
        """Starts it again, or does without it where the run is about to end."""
        name, said = (worker.role, worker.name), f"{worker} {death.cause}"
        self._forget(worker)
        if self._stopping and worker.role != "publish":
            self._out.say(said)
            self._problems.append(said)
        elif not self._is_needed(worker):  # its camera was to end anyhow
            self._out.say(said)
        else:
            self._restarted[name] = self._restarted.get(name, 0) + 1
            self._put_off(*name, said)

    def _put_off(self, role: str, name: str, why: str) -> None:
        wait = self._restarts.setdefault((role, name), Restarts()).wait(time.monotonic())
        wait = min(wait, _HURRY) if self._stopping else wait
        self._due.append((time.monotonic() + wait, role, name))
        self._out.say(f"{why}; it is started again in {wait:.1f} s")

    def _forget(self, worker: Worker) -> None:
        """A worker is gone: whoever worked with it begins anew, or is closed."""
        topology, concerned = self._topology, self._unfinished()
        why = Closing("a process died", "us")
        if worker.role == "ingest":
            concerned = [camera for camera in concerned if camera.worker is worker]
            for camera in concerned:
                self._open_next(camera)
                camera.lose_ingest()
        elif worker.role == "infer":
            topology.infer, topology.infer_up = None, False
            in_batch = [one.config.id for one in concerned if one.is_suspect]
            for name in topology.quarantine.die(in_batch, time.monotonic()):
                self._out.say(f"{name}: {topology.camera(name).rest(REST)}")
            for camera in concerned:
                camera.lose_infer()
        else:
            topology.publish, topology.publish_up = None, False
            why = Closing("stopped")
            for camera in concerned:
                camera.lose_publish()
        for camera in concerned:
            if self._stopping or camera.removed:
                self._close(camera, why if self._stopping else Closing("stopped"))

    def _give_up(self, worker: Worker, death: Died) -> None:
        """It cannot be started, and would fail again: the run ends."""
        assert worker.failure is not None
        self._usage = worker.failure.usage
        self._problems.append(f"{worker} {death.cause}")
        self._out.say(f"{worker} {death.cause}; the run ends")
        self._forget(worker)
        if not self._stopping:
            self._wind_down(FAILED_SECONDS)

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        due = [entry for entry in self._due if entry[0] <= now]
        self._due = [entry for entry in self._due if entry[0] > now]
        for _, role, name in due:
            try:
                self._topology.start(role, name)
            except OSError as error:
                self._put_off(role, name, f"{name} cannot be started: {error.strerror}")
