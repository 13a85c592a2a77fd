"""`vedette weights quantize`: the same weights with what int8 needs, if int8 finds the same.

Everything is measured with the runner that a pipeline has: what is allowed is what will run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, VedetteError
from pipeline.samples import Pictures
from pipeline.yolov6.weights import Ranges, check_output, check_size, inspect, read, save
from workers.pictures import draw, open_pair
from workers.progress import Progress, open_progress

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.device import Plan
    from pipeline.runner import Runner
    from pipeline.yolov6.network import YOLOv6
    from pipeline.yolov6.train.metrics import Picture, Score

DEAREST = 0.005  # of mAP50-95, 0 to 1, that int8 may cost
FEWEST = 100  # labelled objects that can tell it
WORTHLESS = 0.05  # mAP50-95 below which there is nothing to lose
LEAST = 1.05  # times as many frames/s that it must bring
_LOOKED_AT = 64  # pictures, for ranges
_RANKED = 8  # of them, for which convolutions int8 hurts
_KEPT = (0.0, 0.03, 0.06, 0.1, 0.2, 0.4)  # shares of them that stay in floating point, in turn
_BATCH = 4
_ROUNDS, _SECONDS = 3, 1.0  # of the comparison of speeds


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    weights: Path
    data: str  # a folder, its data.yaml, or scenes: what is looked at
    output: Path
    validate: str | None = None  # as data: what is compared; None: the val part of data, or data
    names: str | None = None  # a file of class names, or coco
    input_size: tuple[int, int] | None = None  # that it will run at; None: as the weights say


@dataclass(frozen=True, slots=True)
class _Trial:
    """One choice of what runs in int8."""

    ranges: Ranges
    found: list[Picture]
    score: Score


def quantize(options: Options) -> None:
    """Writes the weights with ranges, and says what they cost and bring.

    Raises ConfigError for what lets nothing start, VedetteError where int8 costs too much or
    brings nothing; nothing is written then.
    """
    from pipeline.device import plan

    info = inspect(options.weights)
    check_output(options.output)
    size = options.input_size or info.input_size
    check_size(size, info)
    in_bytes = plan(device="cpu", precision="int8", max_batch=16, has_ranges=True)
    pictures, validation = open_pair(options.data, options.validate, options.names)
    if tuple(pictures.names) != info.classes:
        raise ConfigError("--data: the pictures there have other classes than the weights")
    with open_progress(bar=True) as progress:
        draw(validation, lambda done, of: progress.update(done, of, f"{done:,} of {of:,} drawn"))
        task = _Task(options.weights, size, in_bytes, validation, progress)
        whole, trial = task.run(pictures)
        rates = task.rates(trial.ranges)
    if rates[1] < LEAST * rates[0]:
        floats = task.floats.precision
        raise VedetteError(
            f"int8 brings too little here, {rates[1]:.1f} frames/s instead of {rates[0]:.1f} in"
            f" {floats}: nothing is written"
        )
    _, state = read(options.weights)
    description = {
        "variant": info.variant,
        "classes": info.classes,
        "input_size": info.input_size,
        "source": info.source_digest,
        "ranges": trial.ranges,
    }
    half = all(array.dtype.itemsize == 2 for array in state.values())
    save(options.output, state, description, half=half)
    print(
        f"mAP50-95: {trial.score.map50_95:.4f} in int8, {whole.score.map50_95:.4f} in fp32, "
        f"of {whole.score.objects:,} objects on {len(validation):,} pictures\n"
        f"worst class: {_worst_class(whole, trial, info.classes)}\n"
        f"frames/s: {rates[1]:.1f} in int8, {rates[0]:.1f} in {task.floats.precision}\n"
        f"convolutions: {len(trial.ranges)} of {task.convolutions} in int8\n"
        f"weights: {options.output}, digest {inspect(options.output).digest}"
    )


def _worst_class(whole: _Trial, trial: _Trial, names: Sequence[str]) -> str:
    """The one that loses most."""
    from pipeline.yolov6.train.metrics import by_class

    before, after = by_class(whole.found), by_class(trial.found)
    label = max(before, key=lambda one: before[one].map50_95 - after[one].map50_95)
    values = f"{after[label].map50_95:.4f} in int8, {before[label].map50_95:.4f} in fp32"
    return f"{names[label]}, {values}, of {before[label].objects:,} objects"


class _Task:
    """One weights file, and the pictures that decide."""

    def __init__(
        self, weights: Path, size: tuple[int, int], in_bytes: Plan, validation: Pictures,
        progress: Progress,
    ) -> None:  # fmt: skip
        from pipeline.device import plan

        self._weights, self._size = weights, size
        self._in_bytes, self._validation, self._progress = in_bytes, validation, progress
        self.floats = plan(device="cpu", precision="auto", max_batch=in_bytes.batch)
        self.convolutions = 0

    def run(self, pictures: Pictures) -> tuple[_Trial, _Trial]:
        """What float32 finds, and the first trial that comes close enough to it."""
        from pipeline.yolov6.calibrate import measure, worst_first

        self._progress.say("looking at what flows between the layers")
        network, images = self._load({}), list(self._images(pictures))
        ranges = measure(network, images)
        self.convolutions = len(ranges)
        whole = self._try("fp32", replace(self.floats, precision="fp32"), {})
        _check_worth(whole.score)
        worst = list(ranges)
        costs: list[float] = []
        for count in dict.fromkeys(round(share * len(ranges)) for share in _KEPT):
            if count and len(costs) == 1:
                worst = worst_first(network, ranges, images[: _RANKED // _BATCH], self._tell_ranked)
            trial = {name: ranges[name] for name in worst[count:]}
            found = self._try(f"int8 but for {count} of {len(worst)}", self._in_bytes, trial)
            costs.append(whole.score.map50_95 - found.score.map50_95)
            if costs[-1] <= DEAREST:
                return whole, found
        raise VedetteError(
            f"int8 costs {100 * min(costs):.2f} mAP at least, of {100 * whole.score.map50_95:.2f},"
            f" and may cost {100 * DEAREST:g}: nothing is written"
        )

    def _tell_ranked(self, done: int) -> None:
        total = self.convolutions
        self._progress.update(done, total, f"{done} of {total} convolutions in int8 alone")

    def rates(self, ranges: Ranges) -> tuple[float, float]:
        """Frames/s in floating point, and in int8; medians, in turn."""
        from workers.accuracy import rate

        floats, in_bytes = self._open(self.floats, {}), self._open(self._in_bytes, ranges)
        with closing(floats), closing(in_bytes):
            pairs = [(rate(floats, _SECONDS), rate(in_bytes, _SECONDS)) for _ in range(_ROUNDS)]
        before, after = zip(*pairs, strict=True)
        return median(before), median(after)

    def _images(self, pictures: Pictures) -> Iterator[Tensor]:
        """Some of them, as floats."""
        import numpy as np
        import torch

        from pipeline.yolov6.train.augment import whole

        count = min(_LOOKED_AT, len(pictures))
        numbers = [i * len(pictures) // count for i in range(count)]
        for start in range(0, count, _BATCH):
            batch = [whole(pictures[i], self._size).image for i in numbers[start : start + _BATCH]]
            yield torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float() / 255

    def _load(self, ranges: Ranges) -> YOLOv6:
        from pipeline.yolov6 import load

        network = load(self._weights)
        network.ranges = ranges
        return network

    def _open(self, plan: Plan, ranges: Ranges) -> Runner:
        from pipeline.runner import Runner
        from pipeline.yolov6.train.evaluate import IOU, MOST

        runner = Runner(
            self._load(ranges),
            plan,
            input_size=self._size,
            iou=IOU,
            max_detections=MOST,
            multi_label=True,
        )
        if runner.plan.precision != plan.precision:
            runner.close()
            raise VedetteError(f"{runner.complaint}: nothing is written")
        return runner

    def _try(self, name: str, plan: Plan, ranges: Ranges) -> _Trial:
        from pipeline.yolov6.train.metrics import score
        from workers.accuracy import find

        total = len(self._validation)
        with closing(self._open(plan, ranges)) as runner:
            pictures = find(
                runner,
                self._validation,
                self._size,
                lambda done: self._progress.update(done, total, f"{name}: {done:,} of {total:,}"),
            )
        found = score(pictures)["all"]
        self._progress.say(f"{name}: mAP50 {found.map50:.4f}, mAP50-95 {found.map50_95:.4f}")
        return _Trial(ranges, pictures, found)


def _check_worth(found: Score) -> None:
    if found.objects < FEWEST:
        raise ConfigError(
            f"--data: found {found.objects} labelled objects to compare on,"
            f" must be {FEWEST} or more"
        )
    if found.map50_95 < WORTHLESS:
        raise ConfigError(
            f"--data: the weights find next to nothing there, mAP50-95 {found.map50_95:.4f}:"
            " nothing to compare"
        )
