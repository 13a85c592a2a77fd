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
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from pipeline.errors import ConfigError, VedetteError
from pipeline.yolov6.variants import VARIANTS
from pipeline.yolov6.weights import check_size, inspect
from workers.bench import pipelines, report, usage
from workers.bench.results import Machine, Parts, Rate, Report, Round, Subject, Whole
from workers.bench.slo import Slo, most_held
from workers.embedded import EmbeddedRedis
from workers.process import die_with

_MOST_HELD = 512  # cameras that are tried


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    clip: Path | None  # None: one is drawn
    weights: Path | None  # None: random ones of `variant`
    variant: str
    input_size: tuple[int, int]  # height, width
    precision: str
    device: str
    cameras: tuple[int, ...]
    rounds: int
    seconds: float  # of each run of the pipeline
    slo: Slo | None
    output: Path | None  # a folder


def bench(options: Options) -> int:
    """Prints what it finds, and writes it into the folder. The exit code."""
    with tempfile.TemporaryDirectory(prefix="vedette-bench-") as name:
        settings = _settings(options, Path(name))
        about = run_yardstick("about", _given(settings))  # refuses what cannot be measured
        with EmbeddedRedis(Path(name) / "redis") as redis:
            if options.slo is not None:
                held = _ramp(options.slo, settings, redis, about["rate"])
                report.show_held(held, options.slo, _MOST_HELD)
                return 0
            rounds = []
            for number in range(options.rounds):
                _say(f"round {number + 1} of {options.rounds}")
                rounds.append(_round(options.cameras, settings, redis))
        found = Report(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_machine(about["torch"]),
            subject=_subject(settings, about),
            rounds=rounds,
        )
    if options.output is not None:
        report.write(found, options.output)
    report.show(found)
    return 0


def _settings(options: Options, folder: Path) -> pipelines.Settings:
    """Checks what the options alone show, and makes what is not given."""
    clip, weights, size = options.clip, options.weights, options.input_size
    if options.slo is not None and options.output is not None:
        raise ConfigError("--slo writes no files: leave --output out")
    if options.output is not None:
        report.check_folder(options.output)
    if weights is None:
        if options.variant not in VARIANTS:
            raise ConfigError(f"--variant: no {options.variant!r}; see `vedette weights list`")
        weights = folder / "random.safetensors"
        given = {"path": str(weights), "variant": options.variant, "input_size": size}
        run_yardstick("weights", {**given, "ranges": options.precision == "int8"})
    check_size(size, inspect(weights))
    if clip is None:
        clip = folder / "street.mp4"
        _say("drawing a clip")
        run_yardstick("draw", {"path": str(clip)})
    return pipelines.Settings(
        clip, weights, size, options.precision, options.device, options.seconds
    )


def _given(settings: pipelines.Settings) -> dict[str, Any]:
    """What a yardstick is told."""
    return {
        **{"clip": str(settings.clip), "weights": str(settings.weights)},
        **{"input_size": settings.input_size, "precision": settings.precision},
        **{"device": settings.device, "seconds": settings.seconds / 4},
    }


def _round(cameras: Sequence[int], settings: pipelines.Settings, redis: EmbeddedRedis) -> Round:
    """Everything once."""
    given = {**_given(settings), "redis": redis.url}
    network = run_yardstick("network", given)
    parts: dict[str, float] = {}
    for part in ("reading", "nms", "publishing"):
        parts |= run_yardstick(part, given)
    wholes: list[Whole] = []
    for live in (False, True):
        for count in cameras:
            _say(f"{count} live" if live else f"{count} at full speed")
            wholes.append(pipelines.measure(settings, redis, count, live=live))
    rates = msgspec.convert(network["rates"], list[Rate])
    return Round(rates, network["unpacked"], msgspec.convert(_rounded(parts), Parts), wholes)


def _ramp(
    slo: Slo, settings: pipelines.Settings, redis: EmbeddedRedis, rate: float
) -> dict[int, Whole | None]:
    """What was seen of each number of live cameras that was tried; None: it did not run."""
    seen: dict[int, Whole | None] = {}

    def holds(cameras: int) -> bool:
        try:
            seen[cameras] = whole = pipelines.measure(settings, redis, cameras, live=True)
        except VedetteError as error:
            seen[cameras] = None
            _say(f"{cameras} live: {error}")
            return False
        _say(report.of_held(cameras, whole, slo))
        due = cameras * max(0.0, rate - 1 / settings.seconds)  # one may be on its way at either end
        return slo.is_met(whole, due)

    held = most_held(holds, _MOST_HELD)
    return {held: seen.get(held), **{n: seen[n] for n in seen if n == held + 1}}


def run_yardstick(part: str, given: dict[str, Any]) -> Any:
    """The answer of a part that is measured alone. Raises ConfigError where it cannot be."""
    command = [sys.executable, "-P", "-m", "workers.bench.yardstick", part, json.dumps(given)]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        preexec_fn=partial(die_with, os.getpid()),  # this process has no other thread
        check=False,
    )
    if done.returncode:
        raise VedetteError(f"the measurement of the {part} alone failed")
    answer = json.loads(done.stdout or b"null")
    if isinstance(answer, dict) and "error" in answer:
        raise ConfigError(answer["error"])
    return answer


def _machine(torch: str) -> Machine:
    name, instructions = usage.processor()
    gpu = usage.gpu()
    return Machine(
        processor=name,
        cores=usage.cores(),
        instructions=instructions,
        memory_gb=usage.memory_gb(),
        gpu=None if gpu is None else gpu[0],
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        torch=torch,
    )


def _subject(settings: pipelines.Settings, about: dict[str, Any]) -> Subject:
    info = inspect(settings.weights)
    clip = {name: about[name] for name in ("codec", "width", "height", "rate")}
    return Subject(
        clip=settings.clip.name,
        variant=info.variant,
        weights=info.digest,
        input_size=settings.input_size,
        plan=about["plan"],
        **clip,
    )


def _rounded(parts: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in parts.items()}


def _say(text: str) -> None:
    print(f"vedette: {text}", file=sys.stderr, flush=True)
