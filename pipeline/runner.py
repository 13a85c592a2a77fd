"""Slots → staging → device → network → host, in batches side by side.

A batch is gathered into one contiguous block of bytes [B, H, W, 3], which *is* a channels-last
tensor [B, 3, H, W] seen the other way, and then runs on one of a few threads. On a CPU each thread
computes its whole batch alone: batches side by side need no barrier, where one batch on all cores
waits, layer by layer, for whichever thread was preempted. On a GPU each thread has its own stream,
so that one batch's copies overlap another's computing, and replays the network from a recording
(`graphs.py`) where that can be made.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.device import PRECISIONS, Plan, as_run
from pipeline.errors import VedetteError
from pipeline.graphs import Compute, Recorded, buckets_up_to, record
from pipeline.letterbox import Letterbox
from pipeline.messages import Detections
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.nms import Selection, select

_RECOVERY = 500  # batches without a want of memory after which they may be larger again


@dataclass(frozen=True, slots=True)
class Found:
    """One picture's boxes in pixels of the network input, falling confidence."""

    xyxy: np.ndarray  # float32 [n, 4]
    confidence: np.ndarray  # float32 [n]
    class_id: np.ndarray  # int16 [n]

    def in_camera(self, letterbox: Letterbox) -> Detections:
        """The same in camera pixels, clipped; a box that has no area there is left out.

        An untrained head may give distances that turn a box inside out.
        """
        xyxy = letterbox.to_camera(self.xyxy)
        real = (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)
        return Detections(xyxy[real], self.confidence[real], self.class_id[real])


@dataclass(slots=True)
class Staging:
    """A block that one batch is gathered into."""

    pixels: np.ndarray  # uint8 [batch, height, width, 3], RGB
    tensor: torch.Tensor  # the same memory


@dataclass(frozen=True, slots=True)
class _Way:
    """How a thread computes."""

    stream: torch.cuda.Stream | None  # of a GPU
    compute: Compute


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What one picture of a batch asks for."""

    confidence: float
    class_ids: tuple[int, ...] | None = None  # None: all


class Runner:
    """Runs batches of pictures, several side by side; each comes back through its own future.

    `fileno` becomes readable whenever a batch has ended, so that one loop can wait for batches and
    sockets together.
    """

    def __init__(  # noqa: PLR0913 — by keyword only
        self,
        network: YOLOv6,
        plan: Plan,
        *,
        input_size: tuple[int, int],
        iou: float,
        max_detections: int,
        multi_label: bool = False,
        recorded: bool = False,
    ) -> None:
        """`recorded`: a GPU is to replay the network, which takes seconds and memory first."""
        ready = as_run(network, plan, input_size)
        self.plan = plan = ready.plan  # perhaps of another precision
        self.complaint = ready.complaint  # why it runs slower than it might
        self._input_size = input_size
        self._iou = iou
        self._max_detections = max_detections
        self._multi_label = multi_label
        self._dtype = PRECISIONS[plan.precision]
        self._network = ready.network
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._free: queue.SimpleQueue[Staging] = queue.SimpleQueue()
        shape = (plan.batch, *input_size, 3)
        for _ in range(plan.threads):
            block = torch.zeros(shape, dtype=torch.uint8, pin_memory=plan.device.type == "cuda")
            self._free.put(Staging(block.numpy(), block))
        self._local = threading.local()
        if plan.device.type == "cuda":
            self._compute_once()
        self._unused = self._ways(recorded=recorded)
        self._threads = ThreadPoolExecutor(plan.threads, "infer", initializer=self._start_thread)
        self._most = plan.batch
        self._well = 0  # batches since memory was short
        self._lock = threading.Lock()  # of these two

    def __str__(self) -> str:
        """How it runs, for a log."""
        return f"{self.plan}; {self.complaint}" if self.complaint else str(self.plan)

    @property
    def most(self) -> int:
        """Frames that a batch may have now: fewer than planned where memory has been short."""
        return self._most

    def fileno(self) -> int:
        return self._bell

    def drain_bell(self) -> None:
        """Makes `fileno` quiet again until the next batch ends."""
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return

    @property
    def has_room(self) -> bool:
        """Whether `staging` would give a block."""
        return not self._free.empty()

    def staging(self) -> Staging | None:
        """A free block to gather the next batch into; None while every thread has work."""
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return None

    def give_back(self, staging: Staging) -> None:
        """Returns a block that was not submitted."""
        self._free.put(staging)

    def submit(self, staging: Staging, thresholds: Sequence[Thresholds]) -> Future[list[Found]]:
        """Runs the first len(thresholds) pictures of a block; the runner owns it from now on."""
        future = self._threads.submit(self._run, staging, thresholds)
        future.add_done_callback(lambda _: os.eventfd_write(self._bell, 1))
        return future

    def warm_up(self) -> None:
        """One full batch on every thread, so that the first camera does not pay for it."""
        blocks = [self._free.get() for _ in range(self.plan.threads)]
        futures = [self.submit(block, [Thresholds(0.25)] * self.plan.batch) for block in blocks]
        for future in futures:
            future.result()

    def use_threads(self, count: int) -> None:
        """Lets every batch compute on so many threads of a CPU, for comparison."""
        for _ in range(self.plan.threads):
            self._threads.submit(torch.set_num_threads, count).result()

    def close(self) -> None:
        self._threads.shutdown()
        os.close(self._bell)

    def _compute_once(self) -> None:
        """What all streams share must be there first: weights, and what the network makes once."""
        with torch.inference_mode():
            self._compute(torch.zeros((1, *self._input_size, 3), dtype=torch.uint8))
        torch.cuda.synchronize(self.plan.device)

    def _ways(self, *, recorded: bool) -> queue.SimpleQueue[_Way]:
        """One for each thread; made before any of them runs, as a recording bears nobody else."""
        ways: queue.SimpleQueue[_Way] = queue.SimpleQueue()
        for _ in range(self.plan.threads):
            if self.plan.device.type == "cpu":
                ways.put(_Way(None, self._compute))
                continue
            stream = torch.cuda.Stream(self.plan.device)  # type: ignore[no-untyped-call]
            compute = self._recorded(stream) if recorded else self._compute
            recorded = recorded and self.complaint is None  # the first failure says why
            ways.put(_Way(stream, compute))
        return ways

    def _recorded(self, stream: torch.cuda.Stream) -> Compute:
        """A recording of the network, or the network where there can be none."""
        shape = (self.plan.batch, *self._input_size, 3)
        try:
            with torch.inference_mode(), torch.cuda.stream(stream):
                pixels = torch.randint(256, shape, dtype=torch.uint8, device=self.plan.device)
                found = Recorded(self._compute, buckets_up_to(self.plan.batch), pixels, record)
        except (RuntimeError, VedetteError) as error:  # RuntimeError: also a want of memory
            # "…due to a previous error during capture" says nothing.
            is_late = "previous error" in str(error) and error.__context__ is not None
            cause = error.__context__ if is_late else error
            self.complaint = f"without CUDA graphs: {str(cause).partition(chr(10))[0]}"
            return self._compute
        finally:
            _release()
        return found

    def _start_thread(self) -> None:
        if self.plan.device.type == "cpu":
            torch.set_num_threads(1)
        self._local.way = self._unused.get_nowait()

    @torch.inference_mode()
    def _run(self, staging: Staging, thresholds: Sequence[Thresholds]) -> list[Found]:
        try:
            if self.plan.device.type == "cuda":
                with torch.cuda.stream(self._local.way.stream):
                    return self._in_parts(staging.tensor, thresholds)
            return self._in_parts(staging.tensor, thresholds)
        finally:
            self._free.put(staging)

    def _in_parts(self, pixels: Tensor, thresholds: Sequence[Thresholds]) -> list[Found]:
        """A batch whole, or in halves where the device has not the memory for it.

        Raises what the device raises for one frame: this process is of no more use then.
        """
        try:
            found = self._detect(pixels[: len(thresholds)], thresholds)
        except torch.OutOfMemoryError:
            if len(thresholds) == 1:
                raise
        else:
            self._settle(None)
            return found
        # Out of the handler, whose traceback holds the tensors that were in the way; a recording
        # holds its memory for ever.
        self._local.way = _Way(self._local.way.stream, self._compute)
        half = self._settle(len(thresholds))
        return [
            one
            for start in range(0, len(thresholds), half)
            for one in self._in_parts(pixels[start:], thresholds[start : start + half])
        ]

    def _settle(self, too_many: int | None) -> int:
        """Smaller batches after one of `too_many` frames, larger ones after many that were well."""
        with self._lock:
            if too_many is None:
                self._well += 1
                if self._well >= _RECOVERY and self._most < self.plan.batch:
                    self._most, self._well = min(self.plan.batch, self._most * 2), 0
                return self._most
            self._most, self._well = max(1, min(self._most, too_many // 2)), 0
        if self.plan.device.type == "cuda":
            _release()
        return max(1, too_many // 2)

    def _detect(self, pixels: Tensor, thresholds: Sequence[Thresholds]) -> list[Found]:
        boxes, scores = self._local.way.compute(pixels)
        kept = select(
            boxes,
            scores,
            confidence=[threshold.confidence for threshold in thresholds],
            iou=self._iou,
            max_detections=self._max_detections,
            multi_label=self._multi_label,
            class_ids=[threshold.class_ids for threshold in thresholds],
        )
        return _to_host(kept)

    def _compute(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, H, W, 3], wherever it is → boxes and scores on the device."""
        pixels = pixels.to(self.plan.device, non_blocking=True)
        images = pixels.permute(0, 3, 1, 2).to(self._dtype)  # [B, 3, H, W], 0 … 255
        return self._network(images)


def _release() -> None:
    """Gives memory that a GPU has free back to it."""
    with contextlib.suppress(RuntimeError):  # a recording that failed may have left torch astray
        torch.cuda.empty_cache()


def _to_host(kept: Sequence[Selection]) -> list[Found]:
    """By one copy of all pictures together: from a GPU each waits for all that is before it."""
    rows = torch.cat(
        [torch.cat((s.xyxy, s.confidence[:, None], s.class_id[:, None]), 1) for s in kept]
    )
    table, found, start = rows.cpu().numpy(), [], 0
    for selection in kept:
        part = table[start : start + len(selection.confidence)]
        start += len(part)
        columns = part[:, :4].copy(), part[:, 4].copy(), part[:, 5].astype(np.int16)
        found.append(Found(*columns))
    return found


def open_runner(
    network: YOLOv6, plan: Plan, *, input_size: tuple[int, int], iou: float, max_detections: int
) -> Runner:
    """A warm runner, which replays the network where the device can."""
    runner = Runner(
        network,
        plan,
        input_size=input_size,
        iou=iou,
        max_detections=max_detections,
        recorded=True,
    )
    runner.warm_up()
    return runner
