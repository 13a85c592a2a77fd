"""`vedette train`: a data set in, a weights file out, and on the way everything to go on from.

The folder that it writes:

    last.safetensors     the checkpoint of the last whole epoch
    history.jsonl        a line for each epoch
    curves.png           the same as curves
    weights.safetensors  at the end: the averaged network, folded, for `vedette run` and `detect`
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.samples import Pictures
from pipeline.yolov6.train.recipe import Recipe
from pipeline.yolov6.weights import inspect, save, write_whole
from workers.pictures import draw, open_pair
from workers.progress import Progress, open_progress

if TYPE_CHECKING:
    from pipeline.yolov6.network import YOLOv6
    from pipeline.yolov6.train.loop import Training
    from pipeline.yolov6.train.metrics import Score

CHECKPOINT = "last.safetensors"
_FILES = (CHECKPOINT, "history.jsonl", "curves.png", "weights.safetensors")
_COLUMNS = (  # of the table: title, field of a history row, format
    ("epoch", "epoch", "5d"),
    ("class", "classes", "8.4f"),
    ("box", "boxes", "8.4f"),
    ("dfl", "distributions", "8.4f"),
    ("rate", "learning_rate", "9.6f"),
    ("mAP50", "map50", "7.4f"),
    ("mAP50-95", "map50_95", "8.4f"),
    ("images/s", "images_per_second", "8.1f"),
    ("seconds", "seconds", "8.1f"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says besides the recipe."""

    data: str  # a folder, its data.yaml, or scenes
    output: Path  # a folder
    validate: str | None = None  # as data; None: the val part of data, or data itself
    names: str | None = None  # a file of class names, or coco
    device: str = "auto"
    workers: int = 0  # processes that load pictures
    evaluate_every: int = 1  # epochs
    half: bool = False  # float16 in the weights file
    start: Path | None = None  # the folder of a training, or a weights file, to begin with
    resume: bool = False


def train(recipe: Recipe, options: Options) -> int:
    """The exit code, 0. Raises ConfigError for what lets nothing start, VedetteError later."""
    from pipeline.device import plan
    from pipeline.yolov6.train.loop import Training

    device = plan(device=options.device, precision=recipe.precision, max_batch=recipe.batch).device
    pictures, validation = open_pair(options.data, options.validate, options.names)
    training = Training(recipe, pictures, device=device, workers=options.workers)
    with _hold(options), open_progress(bar=True) as progress:
        history = _resume(training, options)
        begin = None if history else _beginning(training, options.start)
        for scenes in (pictures, validation):
            draw(scenes, lambda done, of: progress.update(done, of, f"{done:,} of {of:,} drawn"))
        if begin is not None:
            begin(pictures)
            begin = None  # and what it holds
        report = _Report(training, options, history, progress)
        report.begin(pictures, validation)
        try:
            while not training.is_done:
                report.end_epoch(training.run_epoch(report.step), validation)
        except KeyboardInterrupt:
            progress.say(f"{training.epoch} epochs are in {options.output}: --resume goes on")
            raise
        report.end(pictures.names, validation)
    return 0


class _Report:
    """What comes out of a training: its files, a row an epoch on stdout, a bar on stderr."""

    def __init__(
        self,
        training: Training,
        options: Options,
        history: list[dict[str, Any]],
        progress: Progress,
    ) -> None:
        self._training = training
        self._options = options
        self._history = history
        self._progress = progress
        self._scores: dict[str, Score] = {}
        self._began = time.monotonic()

    def begin(self, pictures: Pictures, validation: Pictures) -> None:
        recipe, epoch = self._training.recipe, self._training.epoch
        height, width = recipe.input_size
        form = "plain" if recipe.plain else "with its branches"
        self._progress.say(
            f"{recipe.variant} {form}, {len(pictures):,} pictures, {len(pictures.names)} classes,"
            f" {_validated(pictures, validation)}, input {height} {width}, from epoch {epoch + 1}"
        )
        print(*(title.rjust(_width(shape)) for title, _, shape in _COLUMNS), flush=True)
        for row in self._history:
            _print_row(row)

    def step(self, step: int, loss: float) -> None:
        recipe, done = self._training.recipe, self._training.epoch
        total = recipe.epochs * self._training.steps
        text = (
            f"epoch {done + 1} of {recipe.epochs}, step {step} of {self._training.steps},"
            f" loss {loss:.3f}"
        )
        self._progress.update(done * self._training.steps + step, total, text)

    def end_epoch(self, epoch: Any, validation: Pictures) -> None:
        """Evaluates where it is time to, and writes everything down before the next epoch."""
        from pipeline.yolov6.train import checkpoint, curves

        done = self._training.epoch
        row: dict[str, Any] = {"epoch": done} | asdict(epoch)
        if done % self._options.evaluate_every == 0 or self._training.is_done:
            self._scores = _evaluate(self._training.folded(), validation, self._training.recipe)
            scores = {name: _plain(found) for name, found in self._scores.items()}
            whole = scores["all"]
            row |= {"map50": whole["map50"], "map50_95": whole["map50_95"], "scores": scores}
        row["seconds"] = round(time.monotonic() - self._began, 3)
        self._began = time.monotonic()
        self._history.append(row)
        _print_row(row)
        folder = self._options.output
        checkpoint.save(folder / CHECKPOINT, self._training.progress(self._history))
        lines = "".join(json.dumps(row) + "\n" for row in self._history)
        write_whole(folder / "history.jsonl", lines.encode())
        curves.draw(folder / "curves.png", self._history)

    def end(self, names: tuple[str, ...], validation: Pictures) -> None:
        """Writes the weights file, and says what it is worth."""
        from pipeline.yolov6 import load

        training = self._training
        path = self._options.output / "weights.safetensors"
        state = {
            key: tensor.cpu().numpy() for key, tensor in training.folded().state_dict().items()
        }
        description = {
            "variant": training.recipe.variant,
            "classes": names,
            "input_size": training.recipe.input_size,
            "source": training.digest(),
        }
        save(path, state, description, half=self._options.half)
        if self._options.half or not self._scores:  # what is told is told of the file
            network = load(path).to(training.device)
            self._scores = _evaluate(network, validation, training.recipe)
        for name, found in self._scores.items():
            print(
                f"{name}: {found.objects:,} objects, mAP50 {found.map50:.4f},"
                f" mAP50-95 {found.map50_95:.4f}, recall {found.recall50:.4f}"
            )
        print(f"weights: {path}, digest {inspect(path).digest}", flush=True)


def _evaluate(network: YOLOv6, validation: Pictures, recipe: Recipe) -> dict[str, Score]:
    from pipeline.yolov6.train.evaluate import evaluate

    return evaluate(network, validation, recipe.input_size)


def _validated(pictures: Pictures, validation: Pictures) -> str:
    if pictures.identity == validation.identity:
        return "validated on the same"
    return f"{len(validation):,} to validate"


@contextmanager
def _hold(options: Options) -> Iterator[None]:
    """The folder, for this training alone: ConfigError where it cannot be had or is not fit."""
    _check_output(options)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        lock = os.open(options.output / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{options.output} cannot be written to: {error.strerror}") from None
    try:
        _lock(lock, options.output)
        yield
    finally:
        os.close(lock)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"{folder} is where another training is going on") from None


def _check_output(options: Options) -> None:
    """An empty place for a new training, a checkpoint for one to go on with."""
    file = options.output / CHECKPOINT
    if file.exists() and not options.resume:
        raise ConfigError(
            f"{options.output} holds a training already: go on with it by --resume, or give"
            " another --output"
        )
    if options.resume and not file.exists():
        raise ConfigError(f"--resume: {file} is not there to go on from")


def _beginning(training: Training, start: Path | None) -> Callable[[Pictures], None] | None:
    """What begins with `start`, once there are pictures; what is wrong with it is said now."""
    from pipeline.yolov6.train import checkpoint

    if start is None:
        return None
    if not start.exists():
        raise ConfigError(f"--start: {start} does not exist")
    if start.is_dir():
        training.begin_from(checkpoint.load(start / CHECKPOINT))
        return None
    state = training.read_folded(start)
    return lambda pictures: training.begin_folded(state, pictures)


def _resume(training: Training, options: Options) -> list[dict[str, Any]]:
    """The history of the epochs that are done."""
    from pipeline.yolov6.train import checkpoint

    if not options.resume:
        return []
    for name in _FILES:
        for left in options.output.glob(f".{name}.[0-9]*"):  # by a writer that was killed
            left.unlink()
    progress = checkpoint.load(options.output / CHECKPOINT)
    training.resume(progress)
    return progress.history


def _print_row(row: Mapping[str, Any]) -> None:
    cells = []
    for _, field, shape in _COLUMNS:
        value = row.get(field)
        cells.append("-".rjust(_width(shape)) if value is None else format(value, shape))
    print(*cells, flush=True)
    sys.stdout.flush()


def _width(shape: str) -> int:
    return int(shape.partition(".")[0].rstrip("d"))


def _plain(found: Score) -> dict[str, float | None]:
    """JSON has no nan."""
    return {name: None if math.isnan(value) else value for name, value in asdict(found).items()}
