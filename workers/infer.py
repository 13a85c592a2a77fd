"""The inference loop: tickets in, results out, in the order in which batches were submitted."""

from __future__ import annotations

import selectors
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import msgspec
import numpy as np

from pipeline.account import Account
from pipeline.batching import Batcher
from pipeline.channel import Channel
from pipeline.device import plan
from pipeline.errors import ChannelClosed
from pipeline.letterbox import Letterbox
from pipeline.messages import Counts, Ended, Ready, Result, Ticket, decoder
from pipeline.runner import Found, Runner, Thresholds, open_runner
from pipeline.slots import Slots
from pipeline.turns import Pace
from pipeline.yolov6 import load
from workers import control
from workers.waiting import receive

_from_ingest = decoder(Ready, Ended)


def run(channel: Channel) -> None:
    """Loads and warms the network, says so, and serves cameras until the supervisor says stop."""
    set_up, _ = receive(channel, control.SetUp)
    settings: control.InferSettings = control.settings.decode(set_up.settings)
    network = load(settings.weights)
    device = plan(
        device=settings.device,
        precision=settings.precision,
        max_batch=settings.max_batch,
        has_ranges=bool(network.ranges),
    )
    runner = open_runner(
        network,
        device,
        input_size=settings.input_size,
        iou=settings.iou,
        max_detections=settings.max_detections,
    )
    frames = runner.plan.threads * runner.plan.batch
    channel.send(control.Up(str(runner), runner.plan.precision, frames))
    Inference(channel, runner, settings).serve()


@dataclass(slots=True)
class Camera:
    """One camera as infer sees it: what it has read, and what that means for the next result."""

    settings: control.InferCamera
    slots: Slots
    data: Channel
    thresholds: Thresholds
    account: Account
    left_out: Counts = field(default_factory=dict)  # since the last result
    offered: bool = False  # a live camera has at most one wake-up in the batcher
    ended: Ended | None = None
    session: str | None = None  # of the last frame that was read
    is_stale: bool = False  # another generation of it is served now

    def read(self, out: np.ndarray, hear: Callable[[], None]) -> Ticket | None:
        """The next frame of a file, the newest of a live camera.

        None when there is no new one, or it has become too old.

        `hear` is called before the first frame of a session is counted: the end of the one before
        may lie unheard in the socket.
        """
        for _ in range(self.slots.geometry.slots):
            taken = self.slots.taken
            number = self.slots.sent if self.slots.geometry.live else taken + 1
            if number == taken:
                return None
            ticket = self.slots.read(number, out)
            if ticket is not None:
                if ticket.frame.session != self.session:
                    hear()
                    self.session = ticket.frame.session
                self._leave_out("superseded", number - taken - 1)
                self.slots.count_taken(number)
                if self._is_too_old(ticket):
                    self._leave_out("too_old", 1)
                    self.slots.count_too_old()
                    return None
                self.slots.count_read()
                return ticket
        return None

    def _is_too_old(self, ticket: Ticket) -> bool:
        most = self.settings.max_age_ms
        return most is not None and time.monotonic_ns() - ticket.frame.captured_ns > most * 1e6

    def _leave_out(self, reason: str, frames: int) -> None:
        if frames:
            self.left_out[reason] = self.left_out.get(reason, 0) + frames

    def drops_before(self, session: str, frames: int, dropped: Counts) -> Counts:
        """What was lost between the last result and one before which `frames` had arrived."""
        left_out, self.left_out = self.left_out, {}
        return self.account.settle(session, frames, dropped, left_out)


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a batch in flight."""

    camera: Camera
    ticket: Ticket
    dropped: Counts


@dataclass(frozen=True, slots=True)
class Batch:
    rows: list[Row]
    batched_ns: int
    found: Future[list[Found]]


@dataclass(frozen=True, slots=True)
class Departure:
    """A camera that leaves, or a session of it that ends, behind its last frame."""

    camera: Camera
    ended: Ended


class Inference:
    """The loop's state. Batches, and the ends of cameras, leave in the order they came in."""

    def __init__(self, channel: Channel, runner: Runner, settings: control.InferSettings) -> None:
        self._channel = channel
        self._runner = runner
        self._input_size = settings.input_size
        self._batcher = Batcher(
            max_batch=runner.plan.batch, max_wait_ns=int(settings.max_wait_ms * 1e6)
        )
        self._pace = Pace(runner.plan.threads)
        self._cameras: dict[str, Camera] = {}  # that have not ended
        self._served: dict[str, Camera] = {}  # the last generation of each
        self._in_flight: deque[Batch | Departure] = deque()
        self._out: Channel | None = None
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, self._hear_supervisor)
        self._selector.register(runner, selectors.EVENT_READ, runner.drain_bell)

    def serve(self) -> None:
        try:
            while not self._stopping:
                self._submit_batches()
                self._send_results()
                for key, _ in self._selector.select(self._patience()):
                    key.data()
        finally:
            self._runner.close()

    def _patience(self) -> float | None:
        """Seconds until a batch should go; for ever while every thread has work."""
        wait_ns = self._batcher.wait_ns(time.monotonic_ns())
        if wait_ns is None or not self._runner.has_room:
            return None
        return wait_ns / 1e9

    def _submit_batches(self) -> None:
        self._batcher.max_batch = self._runner.most
        while self._batcher.wait_ns(time.monotonic_ns()) == 0:
            staging = self._runner.staging()
            if staging is None:
                break
            rows: list[Row] = []
            taken = self._batcher.take()
            for name in taken:
                camera = self._cameras.get(name)
                ticket = self._read(camera, staging.pixels[len(rows)]) if camera else None
                if camera is not None and ticket is not None:
                    rows.append(Row(camera, ticket, self._drops_before(camera, ticket)))
            if rows:
                thresholds = [row.camera.thresholds for row in rows]
                batched_ns = time.monotonic_ns()  # behind all reading: a frame may be that new
                found = self._runner.submit(staging, thresholds)
                self._in_flight.append(Batch(rows, batched_ns, found))
            else:
                self._runner.give_back(staging)
            self._say_turns(len(taken))
        self._let_ended_go()

    def _say_turns(self, taken: int) -> None:
        """To all who wait, so that their ingest need not resize what nobody will see."""
        queue = self._batcher.queue()
        self._pace.take(time.monotonic_ns(), taken, waiting=len(queue))
        for before, name in enumerate(queue):
            self._cameras[name].slots.expect_turn(self._pace.turn_ns(before))

    def _drops_before(self, camera: Camera, ticket: Ticket) -> Counts:
        frame = ticket.frame
        return camera.drops_before(frame.session, frame.seq, ticket.dropped)

    def _read(self, camera: Camera, out: np.ndarray) -> Ticket | None:
        camera.offered = False
        try:
            return camera.read(out, lambda: self._hear_ingest(camera))
        except ChannelClosed:  # its ingest writes nonsense: whatever it was, it is no camera now
            self._forget(camera)
            return None

    def _forget(self, camera: Camera) -> None:
        self._batcher.remove(camera.settings.camera)
        self._cameras.pop(camera.settings.camera, None)
        self._stop_hearing(camera)

    def _let_ended_go(self) -> None:
        for camera in [c for c in self._cameras.values() if c.ended is not None]:
            if camera.slots.sent > camera.slots.taken:  # its last frames come first
                continue
            assert camera.ended is not None
            self._depart(camera, camera.ended)
            self._forget(camera)

    def _depart(self, camera: Camera, ended: Ended) -> None:
        dropped = camera.drops_before(ended.session, ended.frames, ended.dropped)
        ended = msgspec.structs.replace(ended, dropped=dropped)
        self._in_flight.append(Departure(camera, ended))

    def _send_results(self) -> None:
        while self._in_flight:
            head = self._in_flight[0]
            if isinstance(head, Batch):
                if not head.found.done():
                    return
                for row, found in zip(head.rows, head.found.result(), strict=True):
                    if not row.camera.is_stale:
                        self._send(self._result(row, found, head.batched_ns))
                        row.camera.slots.count_inferred()
            elif not head.camera.is_stale:
                self._send(head.ended)
                if not head.ended.goes_on:
                    head.camera.slots.close()
            self._in_flight.popleft()

    def _result(self, row: Row, found: Found, batched_ns: int) -> Result:
        frame = row.ticket.frame
        box = Letterbox.of(frame.width, frame.height, self._input_size)
        return Result(
            frame=frame,
            generation=row.camera.settings.generation,
            detections=found.in_camera(box),
            dropped=row.dropped,
            decode_ns=row.ticket.decode_ns,
            written_ns=row.ticket.written_ns,
            batched_ns=batched_ns,
            inferred_ns=time.monotonic_ns(),
        )

    def _send(self, message: Result | Ended) -> None:
        """To publish; while it is gone, to nobody: the supervisor has all cameras begin anew."""
        while self._out is not None and not self._stopping:
            try:
                if self._out.send_or_wait(message, self._channel):
                    return
            except ChannelClosed:
                self._out.close()
                self._out = None
                return
            self._hear_supervisor()

    def _hear_supervisor(self) -> None:
        message, descriptors = self._channel.receive_with_descriptors()
        match message:
            case control.Stop():
                self._stopping = True
            case control.Join():
                if self._out is not None:
                    self._out.close()
                self._out = Channel.adopt(descriptors[0])
            case control.InferCamera():
                self._add(message, descriptors)

    def _add(self, settings: control.InferCamera, descriptors: list[int]) -> None:
        memory, bell, data = descriptors
        if (earlier := self._served.get(settings.camera)) is not None:
            self._forget(earlier)
            earlier.is_stale = True
            earlier.slots.close()
        camera = Camera(
            settings,
            Slots.attach(memory, bell, settings.geometry),
            Channel.adopt(data, _from_ingest),
            Thresholds(settings.confidence, settings.class_ids),
            Account(settings.session, settings.accounted, settings.dropped),
        )
        self._served[settings.camera] = camera
        self._cameras[settings.camera] = camera
        lossless = not settings.geometry.live
        self._batcher.add(settings.camera, weight=settings.weight, lossless=lossless)
        self._selector.register(
            camera.data, selectors.EVENT_READ, lambda: self._hear_ingest(camera)
        )

    def _hear_ingest(self, camera: Camera) -> None:
        if camera.data.fileno() < 0:
            return  # let go of a moment ago
        try:
            while (message := camera.data.receive()) is not None:
                if message.generation != camera.settings.generation:
                    continue  # stale: of a worker that is gone
                if isinstance(message, Ended) and not message.goes_on:
                    camera.ended = message
                    break
                if isinstance(message, Ended):  # ingest has waited until all of it was read
                    self._depart(camera, message)
                self._offer(camera)  # also then: a wake-up may have been left out
            else:
                return
        except ChannelClosed:
            pass  # ingest died; what it means is for the supervisor to say
        self._stop_hearing(camera)
        if camera.slots.geometry.live and camera.slots.sent > camera.slots.taken:
            self._offer(camera)  # the newest frame may have come without a wake-up

    def _stop_hearing(self, camera: Camera) -> None:
        if camera.data.fileno() >= 0:
            self._selector.unregister(camera.data)
            camera.data.close()

    def _offer(self, camera: Camera) -> None:
        if camera.offered and camera.slots.geometry.live:
            return
        if camera.settings.camera not in self._cameras:
            return  # let go of a moment ago
        camera.offered = True
        self._batcher.offer(camera.settings.camera, time.monotonic_ns())
