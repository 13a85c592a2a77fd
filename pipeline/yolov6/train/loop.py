"""The training itself: epochs of steps, from a checkpoint to the next."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import ConfigError, VedetteError
from pipeline.samples import Pictures
from pipeline.yolov6 import load
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.train.assigner import Truth
from pipeline.yolov6.train.augment import whole
from pipeline.yolov6.train.build import build, folded
from pipeline.yolov6.train.checkpoint import Progress
from pipeline.yolov6.train.ema import Average
from pipeline.yolov6.train.loading import Batch, Batches
from pipeline.yolov6.train.losses import Losses, loss
from pipeline.yolov6.train.optimiser import build_optimiser
from pipeline.yolov6.train.recipe import Recipe
from pipeline.yolov6.train.schedule import Schedule
from pipeline.yolov6.train.unfold import check_unfolding, unfold
from pipeline.yolov6.weights import inspect

_CLASS_LAYERS = "detect.cls_preds."  # by the names of the state dict
_FEWEST = 2  # values that BatchNorm can normalise
_LARGEST_GRADIENT = 10.0  # norm of all together
_LOOKED_AT = 32  # pictures, to learn what values folded weights give


@dataclass(frozen=True, slots=True)
class Epoch:
    """Means over the steps of one epoch."""

    classes: float
    boxes: float
    distributions: float
    learning_rate: float  # at its end
    images_per_second: float  # loading included


class Training:
    """One training on one device: `run_epoch` until `is_done`, `progress` in between."""

    def __init__(
        self, recipe: Recipe, pictures: Pictures, *, device: torch.device, workers: int = 0
    ) -> None:
        """Raises ConfigError where recipe and pictures do not go together."""
        self.recipe = recipe
        self.epoch = 0  # that are done
        self._names = tuple(pictures.names)
        self._pictures = len(pictures)
        self._identity = pictures.identity
        self.device = device
        network = build(recipe.variant, len(self._names), plain=recipe.plain, seed=recipe.seed)
        _check_size(recipe, network, self._pictures)
        # The images come channels last, and a step takes two thirds of the time this way.
        self._network: YOLOv6 = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._average: Average[YOLOv6] = Average(self._network)
        self._batches = Batches(pictures, recipe, workers=workers)
        self._schedule = Schedule(recipe.learning_rate, recipe.epochs, len(self._batches))
        self._optimiser = build_optimiser(self._network, recipe)

    @property
    def is_done(self) -> bool:
        return self.epoch >= self.recipe.epochs

    @property
    def steps(self) -> int:
        """In one epoch."""
        return len(self._batches)

    def run_epoch(self, report: Callable[[int, float], None] = lambda step, loss: None) -> Epoch:
        """Trains for one more epoch. `report` is told of each step: its number, from 1, and loss.

        Raises VedetteError where the losses are no longer finite.
        """
        began, sums = time.monotonic(), torch.zeros(3)
        for step, batch in enumerate(self._batches.of(self.epoch)):
            losses = torch.stack(self._step(self.epoch * self.steps + step, batch)).detach().cpu()
            sums += losses
            report(step + 1, losses.sum().item())
            if not math.isfinite(sums.sum()):
                rate = self.recipe.learning_rate
                where = f"epoch {self.epoch + 1}, step {step + 1}"
                raise VedetteError(
                    f"the loss is not finite in {where}; the rate {rate} is too high"
                )
        seconds = time.monotonic() - began
        self.epoch += 1
        rate, _ = self._schedule.rates(self.epoch * self.steps - 1)
        images = self.steps * min(self.recipe.batch, self._pictures)
        classes, boxes, distributions = (sums / self.steps).tolist()
        return Epoch(classes, boxes, distributions, rate, images / seconds)

    def folded(self) -> YOLOv6:
        """The averaged network as it runs, on the training's device."""
        return folded(self._average.network, self.recipe.variant)

    def averaged(self) -> YOLOv6:
        """The averaged network with its branches, eval mode; to be looked at only."""
        return self._average.network

    def digest(self) -> str:
        """sha-256 of the averaged weights, branches and all."""
        hashed = hashlib.sha256()
        for key, tensor in sorted(self._average.state().items()):
            hashed.update(key.encode())
            hashed.update(tensor.cpu().numpy().tobytes())
        return hashed.hexdigest()

    def progress(self, history: list[dict[str, Any]]) -> Progress:
        """What `resume` needs."""
        return Progress(
            recipe=self.recipe.as_dict(),
            names=list(self._names),
            pictures=self._pictures,
            identity=self._identity,
            epoch=self.epoch,
            history=history,
            network=self._network.state_dict(),
            average=self._average.state(),
            momentum={
                name: self._optimiser.state[parameter]["momentum_buffer"]
                for name, parameter in self._network.named_parameters()
                if self._optimiser.state[parameter]
            },
        )

    def begin_from(self, progress: Progress) -> None:
        """Begins with what another training has learned: its average, with all branches.

        Raises ConfigError if that is another network, or sees other classes.
        """
        self._check_start("variant", progress.recipe.get("variant"))
        self._check_start("plain", progress.recipe.get("plain"))
        if tuple(progress.names) != self._names:
            raise ConfigError("--start: the training there is of other classes")
        try:
            for network in (self._network, self._average.network):
                network.load_state_dict(progress.average)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0][:120]
            raise ConfigError(f"--start: the checkpoint is not of its network: {reason}") from None

    def read_folded(self, path: Path) -> dict[str, Tensor]:
        """What `begin_folded` takes of a weights file; of other classes, not what tells them.

        Raises ConfigError if it is of another network, WeightsError if it is no weights file.
        """
        info = inspect(path)
        self._check_start("variant", info.variant)
        network = load(path)
        ours, theirs = self._network.detect.bins, network.detect.bins
        if ours != theirs:
            raise ConfigError(f"--start: found distances in {theirs} bins, must be in {ours}")
        state = network.to(self.device).state_dict()
        check_unfolding(self._network, state)
        if info.classes == self._names:
            return state
        return {key: t for key, t in state.items() if not key.startswith(_CLASS_LAYERS)}

    def begin_folded(self, state: Mapping[str, Tensor], pictures: Pictures) -> None:
        """Begins with folded weights, looking at some pictures for what values they give.

        Raises ConfigError for blocks that are folded by other rules than `unfold` knows.
        """
        # Without gradients twice a step's pictures take less memory than a step.
        count = min(_LOOKED_AT, 2 * self.recipe.batch, len(pictures))
        numbers = [i * len(pictures) // count for i in range(count)]
        looked_at = [whole(pictures[i], self.recipe.input_size).image for i in numbers]
        images = torch.from_numpy(np.stack(looked_at)).to(self.device)
        unfold(self._network, state, images.permute(0, 3, 1, 2).float() / 255)
        self._average.network.load_state_dict(self._network.state_dict())

    def _check_start(self, field: str, theirs: object) -> None:
        ours = getattr(self.recipe, field)
        if ours != theirs:
            raise ConfigError(f"--start: found {field} {theirs}, must be {ours} as here")

    def resume(self, progress: Progress) -> None:
        """Goes on from there.

        Raises ConfigError if it is of another recipe or of other pictures, or is not whole.
        """
        if changed := self.recipe.differences(progress.recipe):
            raise ConfigError(f"the checkpoint is of another training: it differs in {changed[0]}")
        found = tuple(progress.names), progress.pictures, progress.identity
        if found != (self._names, self._pictures, self._identity):
            raise ConfigError("the checkpoint is of a training on other pictures")
        try:
            self._network.load_state_dict(progress.network)
            self._average.network.load_state_dict(progress.average)
            self._remember(progress.momentum, is_begun=progress.epoch > 0)
        except (KeyError, RuntimeError) as error:
            reason = str(error).partition("\n")[0][:120]
            raise ConfigError(f"the checkpoint does not hold its network: {reason}") from None
        self.epoch = progress.epoch
        self._average.updates = self.epoch * self.steps

    def _remember(self, momentum: Mapping[str, Tensor], *, is_begun: bool) -> None:
        parameters = dict(self._network.named_parameters())
        if is_begun and not momentum:
            raise KeyError("momentum")
        for name, tensor in momentum.items():
            parameter = parameters[name]
            if tensor.shape != parameter.shape:
                raise KeyError(name)
            # In the parameter's own layout, channels last.
            own = torch.empty_like(parameter).copy_(tensor)
            self._optimiser.state[parameter]["momentum_buffer"] = own

    def _step(self, step: int, batch: Batch) -> Losses:
        weights, biases = self._schedule.rates(step)
        for group in self._optimiser.param_groups:
            group["lr"] = biases if group["is_bias"] else weights
            group["momentum"] = self._schedule.momentum(step)
        losses = self._losses(batch)
        self._optimiser.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _LARGEST_GRADIENT)
        self._optimiser.step()
        self._average.update(self._network)
        return losses

    def _losses(self, batch: Batch) -> Losses:
        images, truth = self._send(batch)
        with self._autocast():
            levels = self._network.neck(self._network.backbone(images))
            rows, points, strides = self._network.detect.rows(levels)
        return loss(self._network.detect.as_distances(rows), points, strides, truth)

    def _send(self, batch: Batch) -> tuple[Tensor, Truth]:
        images = torch.from_numpy(batch.images).to(self.device).permute(0, 3, 1, 2)
        columns = (batch.boxes, batch.class_ids, batch.pictures, batch.ignored)
        truth = Truth(*(torch.from_numpy(column).to(self.device) for column in columns))
        return images.float() / 255, truth

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        if self.recipe.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()


def _check_size(recipe: Recipe, network: YOLOv6, pictures: int) -> None:
    stride = network.strides[-1]
    cells = math.prod(side // stride for side in recipe.input_size)
    if 0 < cells * min(recipe.batch, pictures) < _FEWEST:
        found = "--input-size: one picture in a step, of {} {}".format(*recipe.input_size)
        raise ConfigError(f"{found}, has nothing to normalise by: make it or --batch larger")
    if any(side % stride or side <= 0 for side in recipe.input_size):
        height, width = recipe.input_size
        accepted = f"multiples of {stride} for {recipe.variant}"
        raise ConfigError(f"--input-size: found {height} {width}, must be {accepted}")
