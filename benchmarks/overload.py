"""Live cameras that offer more than the device can do: how old frames are, and who gets its share.

    python -m benchmarks.overload [--cameras 8 32] [--times 4] [--seconds 60] [--input-size 384 640]

Each run is a real one, with processes, a Redis and our weights. The cameras play a drawn clip for
ever, at the pace that makes `times` of what the network alone does here; every other one has
weight 2. *Age* is from the arrival of a frame's packet to the start of its inference, over all
cameras; its bound is two intervals between frames and one batch. A *share* is what a camera got by
what its weight says, in all that all of them got; the one that is farthest off is shown.

For comparison the usual way: one FIFO of 16 frames before the same network in this process, frames
offered at the same times without any decoding; when it is full, the newest is dropped.

The table is Markdown; the exit code is 1 where an age is above its bound or a share off by 5 %.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from config.schema import Config
from pipeline.device import plan
from pipeline.messages import Stamps
from pipeline.runner import Runner, Thresholds, open_runner
from pipeline.scenes.clip import write_clip
from pipeline.scenes.setting import Setting
from pipeline.yolov6 import load
from pipeline.yolov6.weights import OURS, inspect
from workers.camera import CameraRun
from workers.embedded import EmbeddedRedis
from workers.figures import Figures
from workers.lifecycle import Options, Run
from workers.preflight import Plan
from workers.supervisor import Supervisor

FIFO = 16  # frames
MOST_OFF = 0.05  # of a share
_WARM = 5.0  # seconds that are not counted
_CLIP = (192, 320)  # height and width: what is measured is not the decoder
_GIVE_UP = 120.0  # seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. Times in milliseconds."""

    offered: float  # frames/s
    resized: float | None  # frames/s; None: nothing is
    inferred: float  # frames/s
    age: float  # median
    age95: float
    batch: float  # median of how long one takes
    bound: float
    share: float | None  # of the camera that is farthest off; None: weights mean nothing there

    @property
    def is_well(self) -> bool:
        off = 0.0 if self.share is None else abs(self.share - 1)
        return self.age95 <= self.bound and off <= MOST_OFF


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--times", type=float, default=4.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--input-size", type=int, nargs=2, default=[384, 640])
    options = parser.parse_args(arguments)
    size = tuple(options.input_size)
    runner = _runner(size)
    rate = _rate(runner, min(10.0, options.seconds / 3))
    print(
        f"{runner.plan}, input {size[0]}x{size[1]}, the network alone: {rate:.1f} frames/s\n\n"
        "| cameras | way | offered | resized | inferred | age, median | age, p95 | bound"
        " | worst share |\n|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    is_well = True
    for cameras in options.cameras:
        pace = options.times * rate / cameras
        found = measure(cameras, pace, options.seconds, size)
        is_well &= found.is_well
        print(_row(cameras, "Vedette", found))
        print(_row(cameras, f"one FIFO of {FIFO}", fifo(runner, cameras, pace, options.seconds)))
        sys.stdout.flush()
    runner.close()
    return int(not is_well)


def measure(cameras: int, pace: float, seconds: float, size: tuple[int, int]) -> Measured:
    """A real run of so many cameras, each of `pace` frames/s."""
    with tempfile.TemporaryDirectory(prefix="vedette-overload-") as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, Setting(7, "street", "day", "clear", _CLIP, rate=round(pace, 3)), 60)
        config = Config.model_validate(
            {
                "model": {"weights": str(OURS), "input_size": list(size)},
                "cameras": [
                    {
                        **{"id": f"live-{number}", "url": str(clip), "live": True, "loop": True},
                        "weight": 1 + number % 2,
                        "max_age_ms": 60_000,  # ages are measured, not cut off
                    }
                    for number in range(cameras)
                ],
            }
        )
        watch = _Watch(cameras, seconds)
        with EmbeddedRedis(Path(folder) / "redis") as redis, Supervisor() as supervisor:
            run = Run(
                Plan(config, inspect(OURS), size),
                redis.url,
                supervisor,
                watch,
                Options(observer=watch),
            )
            outcome = run.serve()
        if outcome.problems:
            raise SystemExit("; ".join(outcome.problems))
        weights = {camera.id: camera.weight for camera in config.cameras}
        return watch.measured(pace, weights)


@dataclass(slots=True)
class _Watch:
    """Sees a run as telemetry and as a person do, and ends it when it has seen enough."""

    cameras: int
    seconds: float
    frames: list[Stamps] = field(default_factory=list)
    began: float | None = None  # monotonic seconds
    ended: float | None = None
    # At the beginning, and at the end; frames.
    arrived: list[int] = field(default_factory=list)
    resized: list[int] = field(default_factory=list)
    gives_up_at: float = field(default_factory=lambda: time.monotonic() + _GIVE_UP)

    def say(self, text: str) -> None:
        """Nobody is listening."""

    def update(self, cameras: list[CameraRun], before: int) -> None:
        """Called a few times a second."""
        now = time.monotonic()
        if self.began is None and all(camera.totals.published for camera in cameras):
            self.began = now + _WARM
        if self.began is not None and now >= self.began and not self.arrived:
            self._count(cameras)
        is_enough = self.began is not None and now >= self.began + self.seconds
        if self.ended is None and (is_enough or now > self.gives_up_at):
            self.ended = now
            self._count(cameras)
            signal.raise_signal(signal.SIGTERM)

    def _count(self, cameras: list[CameraRun]) -> None:
        self.arrived.append(sum(camera.totals.known for camera in cameras))
        self.resized.append(sum(camera.totals.steps.sent for camera in cameras))

    def show(self, figures: Figures) -> None:
        """As `update`."""

    def record(self, frames: Sequence[Stamps]) -> None:
        self.frames += frames

    def measured(self, pace: float, weights: dict[str, float]) -> Measured:
        if self.began is None or self.ended is None or len(self.arrived) < 2:
            raise SystemExit("the run did not come to work")
        inside = [s for s in self.frames if self.began <= s.batched_ns / 1e9 < self.ended]
        ages = [(s.batched_ns - s.captured_ns) / 1e6 for s in inside]
        batch = median((s.inferred_ns - s.batched_ns) / 1e6 for s in inside)
        served = Counter(s.camera for s in inside)
        by_weight = {name: served[name] / weight for name, weight in weights.items()}
        mean = len(inside) / sum(weights.values())
        shares = [got / mean for got in by_weight.values()]
        seconds = self.ended - self.began
        return Measured(
            offered=(self.arrived[1] - self.arrived[0]) / seconds,
            resized=(self.resized[1] - self.resized[0]) / seconds,
            inferred=len(inside) / seconds,
            age=median(ages),
            age95=float(np.percentile(ages, 95)),
            batch=batch,
            bound=2 * 1000 / pace + batch,
            share=max(shares, key=lambda share: abs(share - 1)),
        )


def fifo(runner: Runner, cameras: int, pace: float, seconds: float) -> Measured:
    """One queue for all, before the same network."""
    frames: queue.Queue[int | None] = queue.Queue(FIFO)
    offered = 0

    def offer() -> None:
        nonlocal offered
        began, number = time.monotonic(), 0
        while (due := began + number / (pace * cameras)) < began + seconds:
            time.sleep(max(0.0, due - time.monotonic()))
            number += 1
            offered += 1
            with contextlib.suppress(queue.Full):
                frames.put_nowait(time.monotonic_ns())
        frames.put(None)

    feeder = threading.Thread(target=offer)
    feeder.start()
    ages, batches = _serve(runner, frames)
    feeder.join()
    batch = median(batches)
    return Measured(
        offered=offered / seconds,
        resized=None,
        inferred=len(ages) / seconds,
        age=median(ages),
        age95=float(np.percentile(ages, 95)),
        batch=batch,
        bound=2 * 1000 / pace + batch,
        share=None,
    )


def _serve(runner: Runner, frames: queue.Queue[int | None]) -> tuple[list[float], list[float]]:
    """Batches of what has come, until the end: ages and durations, in milliseconds."""
    ages: list[float] = []
    took: list[float] = []
    going: deque[Future[object]] = deque()
    is_over = False
    while not is_over:
        while (staging := runner.staging()) is None:
            time.sleep(0.0005)
        batch = [frames.get()]
        while len(batch) < runner.plan.batch and not frames.empty():
            batch.append(frames.get())
        is_over = batch[-1] is None
        came = [at for at in batch if at is not None]
        if not came:
            runner.give_back(staging)
            break
        now = time.monotonic_ns()
        ages += [(now - at) / 1e6 for at in came]
        future = runner.submit(staging, [Thresholds(0.25)] * len(came))
        future.add_done_callback(lambda _, now=now: took.append((time.monotonic_ns() - now) / 1e6))
        going.append(future)  # type: ignore[arg-type]
    for one in going:
        one.result()
    return ages, took


def _runner(size: tuple[int, int]) -> Runner:
    network = load(OURS)
    has_ranges = bool(network.ranges)
    device = plan(device="auto", precision="auto", max_batch=16, has_ranges=has_ranges)
    return open_runner(network, device, input_size=size, iou=0.45, max_detections=300)


def _rate(runner: Runner, seconds: float) -> float:
    """Frames/s of the network, its best way."""
    going: deque[Future[object]] = deque()
    frames, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        while (staging := runner.staging()) is None:
            going.popleft().result()
        batch = runner.plan.batch
        going.append(runner.submit(staging, [Thresholds(0.25)] * batch))  # type: ignore[arg-type]
        frames += batch
    for one in going:
        one.result()
    return frames / (time.monotonic() - began)


def _row(cameras: int, way: str, found: Measured) -> str:
    share = "" if found.share is None else f"{found.share:.3f}"
    resized = "" if found.resized is None else f"{found.resized:.0f}/s"
    return (
        f"| {cameras} | {way} | {found.offered:.0f}/s | {resized}"
        f" | {found.inferred:.1f}/s | {found.age:.0f} ms | {found.age95:.0f} ms"
        f" | {found.bound:.0f} ms | {share} |"
    )


if __name__ == "__main__":
    sys.exit(main())
