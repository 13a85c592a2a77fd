"""What a bench has found: as tables for a person, as JSON and as a picture for later."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import msgspec
from rich.console import Console
from rich.table import Table

from pipeline.errors import ConfigError
from workers.bench import results
from workers.bench.results import Report, Round, Whole
from workers.bench.slo import Slo

_WIDTH = 130  # columns where there is no terminal: nothing is cut off there
JSON, PNG = "bench.json", "bench.png"


def show(report: Report) -> None:
    """Tables on stdout, and in words what lets no more frames through."""
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    console.print(_heading(report), highlight=False)
    console.print(_alone(report))
    for live in (False, True):
        if (table := _wholes(report, live=live)).row_count:
            console.print(table)
    console.print(f"limit: {_limit(report)}", highlight=False)


def show_held(seen: Mapping[int, Whole | None], slo: Slo, most: int) -> None:
    """`seen`: of the last number that was held, and of the one above it if that was tried."""
    held = min(seen)
    least = "at least " if held == most else ""
    print(f"held within {slo}: {least}{held} live cameras")
    for cameras, whole in seen.items():
        if whole is not None:
            print(of_held(cameras, whole, slo))


def of_held(cameras: int, whole: Whole, slo: Slo) -> str:
    latency = slo.latency(whole)
    found = "nothing came through" if math.isinf(latency) else f"{slo.quantile} {latency:.0f} ms"
    word = "camera" if cameras == 1 else "cameras"
    return f"{cameras} {word}: {found}, {whole.rate:.1f} of {whole.offered:.1f} frames/s published"


def check_folder(folder: Path) -> None:
    """Raises ConfigError where nothing can be written, before anything is measured.

    Raises ModuleNotFoundError where there is nothing to draw with.
    """
    import pipeline.charts  # noqa: F401

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output: {folder} cannot be made: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"--output: {folder} cannot be written to")


def write(report: Report, folder: Path) -> None:
    """bench.json and bench.png. Raises ConfigError."""
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    try:
        (folder / JSON).write_bytes(data + b"\n")
        (folder / PNG).write_bytes(picture(report))
    except OSError as error:
        raise ConfigError(f"--output: {folder} cannot be written to: {error.strerror}") from None
    print(f"vedette: written: {folder / JSON}, {folder / PNG}", file=sys.stderr)


def picture(report: Report) -> bytes:
    """Frames/s, and the latency of live cameras, over the number of cameras."""
    from pipeline.charts import Panel, png

    numbers = sorted({whole.cameras for whole in report.rounds[0].wholes})
    ticks = [(math.log2(number), str(number)) for number in numbers]
    rates: dict[str, list[tuple[float, float]]] = {"files": [], "live": []}
    latency: dict[str, list[tuple[float, float]]] = {"median": [], "p95": []}
    for i, whole in enumerate(report.rounds[0].wholes):
        x, found = math.log2(whole.cameras), [one.wholes[i] for one in report.rounds]
        rates["live" if whole.live else "files"].append((x, median(one.rate for one in found)))
        if whole.live:
            for name, field in (("median", "p50"), ("p95", "p95")):
                if (time := _latency(found, "whole", field)) is not None:
                    latency[name].append((x, time))
    for line in (*rates.values(), *latency.values()):
        line.sort()
    subject = report.subject
    size = "x".join(map(str, subject.input_size))
    return png(
        [
            Panel(f"frames/s over cameras: {subject.variant}, {size}", rates, ticks),
            Panel("ms from arrival to Redis, live cameras", latency, ticks),
        ]
    )


def _heading(report: Report) -> str:
    subject, machine = report.subject, report.machine
    size = "x".join(map(str, subject.input_size))
    return (
        f"{subject.variant} at {size} on {subject.plan}; {subject.clip}: {subject.codec}"
        f" {subject.width}x{subject.height} {subject.rate:g}/s\n{machine.processor},"
        f" {machine.cores:g} cores ({' '.join(machine.instructions)}), {machine.gpu or 'no GPU'},"
        f" torch {machine.torch}; medians of {len(report.rounds)} rounds"
    )


def _alone(report: Report) -> Table:
    table = _table("alone", "frames/s", "CPU per frame")
    for i, rate in enumerate(report.rounds[0].network):
        way = f"{rate.side_by_side} side by side" if rate.side_by_side > 1 else "one at a time"
        way += ", replayed" if rate.recorded else ""
        name = f"network, {rate.precision}, batches of {rate.batch}, {way}"
        table.add_row(name, f"{report.typical(lambda one, i=i: one.network[i].rate):.1f}", "")  # type: ignore[misc]

    unpacked = report.typical(lambda one: one.unpacked)
    floats = next(r.precision for r in report.rounds[0].network if r.precision != "int8")
    table.add_row(f"the same in plain torch, {floats}, batches of 4", f"{unpacked:.1f}", "")

    def of(read: str) -> float:
        return report.typical(lambda one: float(getattr(one.parts, read)))

    for name, cost in (("decode", of("decode_ms")), ("resize", of("resize_ms"))):
        table.add_row(f"{name}, one thread", f"{1000 / cost:.0f}", f"{cost:.2f} ms")
    bare = of("bare_ms")
    table.add_row("both in bare PyAV", f"{1000 / bare:.0f}", f"{bare:.2f} ms")
    boxes = f"NMS, {of('nms_found'):.0f} boxes kept"
    table.add_row(boxes, f"{1e6 / of('nms_us'):,.0f}", f"{of('nms_us'):.0f} µs")
    ours, plain = of("publish_rate"), of("plain_rate")
    table.add_row("publish, 5 detections", f"{ours:,.0f}", f"{of('publish_us'):.0f} µs")
    table.add_row(
        f"a pipeline of ready bytes (ours ÷ this: {ours / plain:.2f})", f"{plain:,.0f}", ""
    )
    return table


def _wholes(report: Report, *, live: bool) -> Table:
    columns = ["cameras", "frames/s", "published", "p50 ms", "p95 ms"]
    columns += ["decode", "wait", "infer", "publish", "CPU", "MB", "MB/camera"]
    if not live:
        columns.insert(2, "efficiency")
    table = _table(
        *columns, title=f"{'live cameras' if live else 'files at full speed'} (of stages: p95 ms)"
    )
    for i, first in enumerate(report.rounds[0].wholes):
        if first.live != live:
            continue
        found = [one.wholes[i] for one in report.rounds]
        row = [str(first.cameras), f"{median(one.rate for one in found):.1f}"]
        if not live:
            row.append(f"{median(report.efficiencies(i)):.2f}")
        row.append(f"{median(one.share for one in found):.1%}")
        row += [_shown(_latency(found, "whole", field)) for field in ("p50", "p95")]
        row += [_shown(_latency(found, stage, "p95")) for stage in results.STAGES[:-1]]
        memory = median(sum(one.memory_mb.values()) for one in found)
        each = median(one.memory_mb.get("ingest", 0.0) for one in found) / first.cameras
        row += [f"{median(sum(one.cpu.values()) for one in found):.2f}", f"{memory:.0f}"]
        table.add_row(*row, f"{each:.0f}")
    return table


def _latency(found: list[Whole], stage: str, field: str) -> float | None:
    """The median of the rounds; None where in any of them no frame came through."""
    if any(stage not in one.latency for one in found):
        return None
    return float(median(getattr(one.latency[stage], field) for one in found))


def _shown(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f}"


def _limit(report: Report) -> str:
    def read(one: Round) -> float:
        return one.best(report.precision)

    middle = sorted(report.rounds, key=read)[len(report.rounds) // 2]
    return results.limit(read(middle), middle.parts, report.machine.cores, is_gpu=report.is_gpu)


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    return table
