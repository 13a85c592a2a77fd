"""The command: what is measured, in which order."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from pipeline.errors import ConfigError, VedetteError
from pipeline.yolov6.variants import VARIANTS
from pipeline.yolov6.weights import inspect
from workers.bench import pipelines, report, usage
from workers.bench.results import Machine, Parts, Rate, Report, Round, Subject, Whole
from workers.bench.slo import Slo, most_held
from workers.embedded import EmbeddedRedis

_DRAWN = (720, 1280)  # height and width of the clip that is drawn where none is given
_DRAWN_FRAMES = 50
_MOST_HELD = 512  # cameras that are tried


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    clip: Path | None  # None: one is drawn
    weights: Path | None  # None: random ones of `variant`
    variant: str
    input_size: tuple[int, int]  # height, width
    precision: str
    cameras: tuple[int, ...]
    rounds: int
    seconds: float  # of each run of the pipeline
    slo: Slo | None
    output: Path | None  # a folder


def bench(options: Options) -> int:
    """Prints what it finds, and writes it into the folder. The exit code."""
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as name:
        settings = _settings(options, Path(name))
        with EmbeddedRedis(Path(name) / "redis") as redis:
            if options.slo is not None:
                report.show_held(*_ramp(options.slo, settings, redis), options.slo)
                return 0
            found = _measure(options, settings, redis)
    report.show(found)
    if options.output is not None:
        report.write(found, options.output)
    return 0


def _settings(options: Options, folder: Path) -> pipelines.Settings:
    """Checks what can be checked before anything is measured."""
    clip, weights = options.clip, options.weights
    if weights is None:
        if options.variant not in VARIANTS:
            raise ConfigError(f"--variant: no {options.variant!r}; see `vedette weights list`")
        weights = folder / "random.safetensors"
        given = {"path": str(weights), "variant": options.variant, "input_size": options.input_size}
        run_yardstick("weights", given)
    stride = inspect(weights).stride
    if any(side % stride for side in options.input_size):
        raise ConfigError(f"--input-size: must be multiples of {stride} for these weights")
    if options.output is not None:
        report.check_folder(options.output)
    if clip is None:
        clip = folder / "street.mp4"
        _say("drawing a clip")
        _draw(clip)
    return pipelines.Settings(clip, weights, options.input_size, options.precision, options.seconds)


def _draw(clip: Path) -> None:
    from pipeline.scenes.clip import write_clip
    from pipeline.scenes.setting import Setting

    write_clip(clip, Setting(101, "street", "day", "clear", _DRAWN, rate=25.0), _DRAWN_FRAMES)


def _measure(options: Options, settings: pipelines.Settings, redis: EmbeddedRedis) -> Report:
    rounds, plans = [], []
    for number in range(options.rounds):
        _say(f"round {number + 1} of {options.rounds}")
        found, about = _round(options.cameras, settings, redis)
        rounds.append(found)
        plans.append(about)
    return Report(
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_machine(plans[0]["torch"]),
        subject=_subject(settings, plans[0]["plan"]),
        rounds=rounds,
    )


def _round(
    cameras: Sequence[int], settings: pipelines.Settings, redis: EmbeddedRedis
) -> tuple[Round, dict[str, Any]]:
    """Everything once, and what the network says of itself."""
    subject = {
        **{"clip": str(settings.clip), "weights": str(settings.weights), "redis": redis.url},
        **{"input_size": settings.input_size, "precision": settings.precision},
        "seconds": settings.seconds / 4,
    }
    about = run_yardstick("network", subject)
    parts: dict[str, float] = {}
    for part in ("reading", "nms", "publishing"):
        parts |= run_yardstick(part, subject)
    wholes: list[Whole] = []
    for live in (False, True):
        for count in cameras:
            _say(f"{count} {'live cameras' if live else 'files at full speed'}")
            wholes.append(pipelines.measure(settings, redis, count, live=live))
    rates = msgspec.convert(about["rates"], list[Rate])
    return Round(rates, msgspec.convert(_rounded(parts), Parts), wholes), about


def _ramp(
    slo: Slo, settings: pipelines.Settings, redis: EmbeddedRedis
) -> tuple[int, dict[int, Whole]]:
    """How many live cameras are held, and what was seen of each number that was tried."""
    seen: dict[int, Whole] = {}

    def holds(cameras: int) -> bool:
        seen[cameras] = pipelines.measure(settings, redis, cameras, live=True)
        _say(report.of_held(cameras, seen[cameras], slo))
        return slo.is_met(seen[cameras])

    return most_held(holds, _MOST_HELD), seen


def run_yardstick(part: str, given: dict[str, Any]) -> Any:
    """The answer of a part that was measured alone. Raises VedetteError."""
    command = [sys.executable, "-P", "-m", "workers.bench.yardstick", part, json.dumps(given)]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise VedetteError(f"the measurement of the {part} alone failed")
    return json.loads(done.stdout or b"null")


def _machine(torch: str) -> Machine:
    name, instructions = usage.processor()
    gpu = usage.gpu()
    return Machine(
        processor=name,
        cores=len(os.sched_getaffinity(0)),
        instructions=instructions,
        memory_gb=usage.memory_gb(),
        gpu=None if gpu is None else gpu[0],
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        torch=torch,
    )


def _subject(settings: pipelines.Settings, plan: str) -> Subject:
    from pipeline.sources import open_source

    info = inspect(settings.weights)
    with open_source(str(settings.clip), live=False, loop=False) as source:
        first, second = next(iter(source)), next(iter(source))
        codec = source.codec
    return Subject(
        clip=settings.clip.name,
        codec=codec,
        width=first.width,
        height=first.height,
        rate=round(1 / max(1e-3, second.media_time - first.media_time), 2),
        variant=info.variant,
        weights=info.digest,
        input_size=settings.input_size,
        plan=plan,
    )


def _rounded(parts: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in parts.items()}


def _say(text: str) -> None:
    print(f"vedette: {text}", file=sys.stderr, flush=True)
