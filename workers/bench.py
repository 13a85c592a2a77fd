"""`vedette bench`: the parts alone and the pipeline whole, in turn, in one run on one machine.

The *efficiency* of a pipeline is its rate divided by what the cores could do if nothing but
decoding, resizing and the network cost anything:

    ideal = cores / (CPU seconds of decode + resize per frame + cores / best rate of the network)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from config.schema import Config
from pipeline.errors import ConfigError, VedetteError
from pipeline.yolov6.weights import inspect
from workers.camera import CameraRun
from workers.embedded import EmbeddedRedis
from workers.lifecycle import Run
from workers.preflight import Plan
from workers.supervisor import Supervisor

VARIANT = "0.4.x-n"
_WARM_FRAMES = 30  # of each camera, before the clock starts
_GIVE_UP = 120.0  # seconds


@dataclass(slots=True)
class Round:
    """One measurement of everything, one after the other."""

    network: dict[str, Any]
    decode_ms: float
    pipeline: dict[int, float] = field(default_factory=dict)  # frames/s by number of cameras

    @property
    def network_rate(self) -> float:
        """The network's best, however it is run."""
        return float(max(*self.network["side_by_side"].values(), self.network["all_threads"]))

    def efficiency(self, cameras: int) -> float:
        cores = len(os.sched_getaffinity(0))
        ideal = cores / (self.decode_ms / 1000 + cores / self.network_rate)
        return self.pipeline[cameras] / ideal


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured."""

    clip: Path
    weights: Path
    input_size: tuple[int, int]
    cameras: tuple[int, ...]
    seconds: float


def bench(
    clip: Path,
    *,
    weights: Path | None,
    input_size: tuple[int, int],
    cameras: tuple[int, ...],
    rounds: int,
    seconds: float,
) -> int:
    """Prints the table of medians. Without `weights`: YOLOv6-N with random ones."""
    if weights is not None:
        stride = inspect(weights).stride  # raises here, rather than in the middle
        if any(side % stride for side in input_size):
            raise ConfigError(f"--input-size: must be multiples of {stride} for these weights")
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as folder:
        if weights is None:
            weights = Path(folder) / "random.safetensors"
            _yardstick("weights", weights, input_size, VARIANT)
        subject = Subject(clip, weights, input_size, cameras, seconds)
        with EmbeddedRedis(Path(folder) / "redis") as redis:
            measured = [_round(subject, redis.url, number, rounds) for number in range(rounds)]
    Console().print(_table(subject, measured))
    return 0


def _round(subject: Subject, redis_url: str, number: int, rounds: int) -> Round:
    print(f"vedette: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    network = _yardstick("network", subject.weights, subject.input_size, subject.seconds / 4)
    decode = _yardstick("decode", subject.clip, subject.input_size, subject.seconds / 4)
    measured = Round(network, decode["cpu_ms"])
    for cameras in subject.cameras:
        measured.pipeline[cameras] = _pipeline(subject, redis_url, cameras)
    return measured


def _yardstick(part: str, subject: Path, size: tuple[int, int], amount: object) -> Any:
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "workers.yardstick",
            part,
            subject,
            *map(str, size),
            str(amount),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise VedetteError(f"the measurement of the {part} alone failed")
    return json.loads(done.stdout or b"null")


def _pipeline(subject: Subject, redis_url: str, cameras: int) -> float:
    """Frames/s of the whole, once it runs: files at full speed, in a loop."""
    config = Config.model_validate(
        {
            "model": {"weights": str(subject.weights), "input_size": list(subject.input_size)},
            "cameras": [
                {"id": f"bench-{number}", "url": str(subject.clip), "loop": True, "maxlen": 1000}
                for number in range(cameras)
            ],
        }
    )
    plan = Plan(config, inspect(subject.weights), subject.input_size)
    clock = _Clock(subject.seconds)
    with Supervisor() as supervisor:
        outcome = Run(plan, redis_url, supervisor, clock).serve()
    if outcome.problems or not clock.rate:
        raise VedetteError("; ".join(outcome.problems) or "the pipeline published nothing")
    return clock.rate


class _Clock:
    """Reads the counters of a run, and ends it when it has seen enough."""

    def __init__(self, seconds: float) -> None:
        self.rate = 0.0
        self._seconds = seconds
        self._gives_up_at = time.monotonic() + _GIVE_UP
        self._start: tuple[float, int] | None = None

    def say(self, text: str) -> None:
        """Nobody is listening."""

    def update(self, cameras: list[CameraRun], before: int) -> None:
        frames = [camera.totals.published for camera in cameras]
        now, published = time.monotonic(), sum(frames)
        if self._start is None:
            if min(frames) >= _WARM_FRAMES:
                self._start = now, published
            elif now > self._gives_up_at:
                self._end()
        elif not self.rate and now >= self._start[0] + self._seconds:
            self.rate = (published - self._start[1]) / (now - self._start[0])
            self._end()

    def _end(self) -> None:
        self._gives_up_at = float("inf")
        signal.raise_signal(signal.SIGTERM)


def _table(subject: Subject, measured: list[Round]) -> Table:
    first = measured[0].network
    height, width = subject.input_size
    table = Table(
        title=f"{subject.weights.stem} at {height}x{width} on {first['plan']}, "
        f"{len(os.sched_getaffinity(0))} cores; medians of {len(measured)} rounds",
        title_justify="left",
    )
    for column in ("what", "frames/s", "CPU ms/frame", "efficiency"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for batch in first["side_by_side"]:
        rate = median(round_.network["side_by_side"][batch] for round_ in measured)
        table.add_row(f"network, batches of {batch} side by side", f"{rate:.1f}", "", "")
    rate = median(round_.network["all_threads"] for round_ in measured)
    table.add_row("network, one batch of 8 on all cores", f"{rate:.1f}", "", "")
    cost = median(round_.decode_ms for round_ in measured)
    table.add_row("decode + resize, one thread", f"{1000 / cost:.0f}", f"{cost:.2f}", "")
    for cameras in subject.cameras:
        rate = median(round_.pipeline[cameras] for round_ in measured)
        share = median(round_.efficiency(cameras) for round_ in measured)
        name = f"pipeline, {cameras} camera{'s' if cameras > 1 else ''}"
        table.add_row(name, f"{rate:.1f}", "", f"{share:.2f}")
    return table
