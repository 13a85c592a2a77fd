"""`vedette detect SOURCE…`: pictures and clips in, JSON Lines out, in the order of the sources.

Decided here: pictures of all sources share batches, and several batches are in flight, but never
more than the runner has blocks for, so memory does not grow with a clip. A source that fails is
said on stderr behind its last line, and the others go on.

    0  all of every source was read · 1  some of it was not · 2  nothing could start
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from pipeline.errors import ConfigError, SourceError, VedetteError
from pipeline.sources import open_source
from pipeline.wire import Detection, list_detections
from pipeline.yolov6.weights import check_size, inspect
from workers.flow import Flow, Row
from workers.progress import Progress, open_progress
from workers.selection import Item, Selection, select

if TYPE_CHECKING:
    from pipeline.runner import Found, Runner, Thresholds

_MAX_BATCH = 16  # frames, on a GPU; the plan takes fewer on a CPU

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says besides the sources."""

    weights: Path
    input_size: tuple[int, int] | None = None  # height, width; None: as the weights say
    confidence: float = 0.25
    iou: float = 0.45
    max_detections: int = 300
    multi_label: bool = False
    device: str = "auto"
    precision: str = "auto"
    draw: Path | None = None  # a folder
    json: Path | None = None  # a file; None: stdout


class Line(msgspec.Struct, frozen=True):
    """One picture, one line."""

    source: str  # as it was given; a file of a folder: with the folder before it
    frame: int  # 0, 1, 2 … inside the source
    width: int  # of the picture, pixels
    height: int
    detections: list[Detection]  # falling confidence


def detect(sources: Sequence[str], options: Options) -> int:
    """The exit code, 0 or 1. Raises ConfigError or WeightsError for what lets nothing start."""
    weights = inspect(options.weights)
    input_size = options.input_size or weights.input_size
    check_size(input_size, weights)
    selection = select(sources)
    _check_draw(options.draw, selection)
    with contextlib.ExitStack() as stack:
        runner = _open_runner(options, input_size)
        stack.callback(runner.close)
        lines = stack.enter_context(_open_lines(options.json, selection))
        terminal = options.json is None and sys.stdout.isatty()
        progress = stack.enter_context(open_progress(bar=not terminal))
        report = _Report(weights.classes, lines, options.draw, progress, len(selection.items))
        for problem in selection.problems:
            report.fail(problem)
        flow = Flow(runner, _thresholds(options), input_size, report.emit)
        try:
            for item in selection.items:
                _read(item, flow, report, full=options.draw is not None)
            flow.finish()
            report.close()
        except BrokenPipeError:  # the reader of the lines has seen enough
            _silence_stdout()
    return 1 if report.failed else 0


class _Report:
    """What comes out: a line and a drawn picture each, progress, failures, and a last sentence."""

    def __init__(
        self,
        labels: tuple[str, ...],
        lines: Callable[[bytes], None],
        folder: Path | None,
        progress: Progress,
        sources: int,
    ) -> None:
        self.failed = False
        self._labels = labels
        self._lines = lines
        self._folder = folder
        self._progress = progress
        self._sources = sources
        self._ended = 0
        self._frames = 0
        self._began = time.monotonic()

    def emit(self, row: Row, found: Found) -> None:
        detections = list_detections(found.in_camera(row.letterbox), self._labels)
        width, height = row.letterbox.width, row.letterbox.height
        line = Line(row.item.shown, row.frame, width, height, detections)
        self._lines(_encoder.encode(line) + b"\n")
        if self._folder is not None and row.pixels is not None:
            from pipeline.drawing import save

            save(self._folder / row.item.drawn(row.frame), row.pixels, detections)
        self._frames += 1
        self._advance()

    def end(self) -> None:
        """One more source has been read."""
        self._ended += 1
        self._advance()

    def fail(self, text: str) -> None:
        self.failed = True
        self._progress.say(text)

    def close(self) -> None:
        seconds = time.monotonic() - self._began
        self._progress.say(f"{self._figures()}, in {seconds:.1f} s")

    def _advance(self) -> None:
        total = self._sources if self._sources > 1 else None  # how long a clip is, nobody knows
        self._progress.update(self._ended, total, self._figures())

    def _figures(self) -> str:
        rate = self._frames / max(time.monotonic() - self._began, 1e-9)
        return (
            f"{self._frames:,} frames, {rate:.1f} frames/s, "
            f"{self._ended:,} of {self._sources:,} sources read"
        )


def _read(item: Item, flow: Flow, report: _Report, *, full: bool) -> None:
    """Sends every picture of a source on its way, and behind them how it ended."""
    try:
        with open_source(item.url, live=False, loop=False) as source:
            for frame, picture in enumerate(source):
                try:
                    flow.add(item, frame, picture, full=full)
                except SourceError as error:
                    flow.then(_saying(report, f"frame {frame}: {error}"))
            if not source.complete:
                flow.then(_saying(report, f"{item.shown}: {source.reason}"))
    except SourceError as error:
        flow.then(_saying(report, str(error)))
    flow.then(report.end)


def _saying(report: _Report, text: str) -> Callable[[], None]:
    return lambda: report.fail(text)


def _check_draw(folder: Path | None, selection: Selection) -> None:
    """Makes the folder; a drawn picture never lands where a source lies."""
    if folder is None:
        return
    import PIL  # noqa: F401 — missing, it is to be said before anything starts

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--draw: {folder} cannot be made: {error.strerror}") from None
    for item in selection.items:
        if item.path is not None and item.path.resolve().parent == folder.resolve():
            text = f"{folder} holds {item.path.name}, a source that it might replace"
            raise ConfigError(f"--draw: {text}; give another folder")


def _thresholds(options: Options) -> Thresholds:
    from pipeline.runner import Thresholds

    return Thresholds(options.confidence)


def _open_runner(options: Options, input_size: tuple[int, int]) -> Runner:
    """Not warmed up: most calls are for a few pictures, and the first may as well be one."""
    from pipeline.device import plan
    from pipeline.runner import Runner
    from pipeline.yolov6 import load

    network = load(options.weights)
    device = plan(
        device=options.device,
        precision=options.precision,
        max_batch=_MAX_BATCH,
        has_ranges=bool(network.ranges),
    )
    return Runner(
        network,
        device,
        input_size=input_size,
        iou=options.iou,
        max_detections=options.max_detections,
        multi_label=options.multi_label,
    )


@contextlib.contextmanager
def _open_lines(path: Path | None, selection: Selection) -> Iterator[Callable[[bytes], None]]:
    """Writes a line to stdout or to the file; raises VedetteError where it takes no more."""
    if path is None:
        if sys.stdout is None:
            raise ConfigError("stdout is closed; open it, or give --json a file")
        yield _writer(sys.stdout.buffer, "stdout")
        return
    if any(item.path is not None and item.path.resolve() == path.resolve() for item in selection):
        raise ConfigError(f"--json: {path} is one of the sources")
    try:
        file = path.open("wb", buffering=0)  # so that closing it writes nothing, and cannot fail
    except OSError as error:
        raise ConfigError(f"--json: {path} cannot be written: {error.strerror}") from None
    with file:
        yield _writer(file, str(path))


def _writer(file: IO[bytes], name: str) -> Callable[[bytes], None]:
    def write(line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise VedetteError(f"{name} cannot be written: {error.strerror}") from None

    return write


def _silence_stdout() -> None:
    """Python flushes stdout once more when it ends, which would fail again, and loudly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
