"""What is knowable before anything starts: the config, its files, and whether they fit together."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from config.errors import ConfigMistakes, Mistake
from config.load import Loaded, check_files, load
from config.schema import Camera, Config
from pipeline.errors import ConfigError, WeightsError
from pipeline.sinks.address import check_url
from pipeline.sources import Access
from pipeline.yolov6.weights import WeightsInfo, inspect


@dataclass(frozen=True, slots=True)
class Plan:
    """A config that can run: its weights are read, its labels are numbers."""

    config: Config
    weights: WeightsInfo
    input_size: tuple[int, int]  # height, width
    files: tuple[Path, ...] = ()  # the config file, and those of its secrets

    def class_ids(self, camera: Camera) -> tuple[int, ...] | None:
        """The classes that a camera reports, None for all."""
        if camera.classes is None:
            return None
        return tuple(self.weights.classes.index(label) for label in camera.classes)


def access_of(camera: Camera) -> Access:
    """How a camera is reached and decoded."""
    return Access(camera.transport, camera.tls_verify, camera.decoder)


def prepare(path: Path) -> Plan:
    """The plan of a config file. Raises ConfigMistakes with everything that is wrong with it."""
    loaded = load(path)
    mistakes = check_files(loaded) + _contradictions(loaded)
    weights = None
    if not any(mistake.field == "model.weights" for mistake in mistakes):
        try:
            weights = inspect(loaded.config.model.weights)
        except WeightsError as error:
            mistakes.append(loaded.mistake(("model", "weights"), str(error)))
    if weights is not None:
        mistakes += _misfits(loaded, weights)
    if mistakes or weights is None:
        raise ConfigMistakes(path, mistakes)
    input_size = loaded.config.model.input_size or weights.input_size
    return Plan(loaded.config, weights, input_size, loaded.files)


def allow_descriptors(cameras: int) -> None:
    """Raises the soft limit of open files; ConfigError where the hard one is too low."""
    needed = 64 + 12 * cameras
    comfortable = 4096  # others may come while it runs, and its workers keep the limit of its start
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"{cameras} cameras need {needed} open files and the limit is {hard}: raise it "
            f"(ulimit -Hn {needed}, LimitNOFILE={needed})"
        )
    wanted = max(needed, comfortable if hard == resource.RLIM_INFINITY else min(hard, comfortable))
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _contradictions(loaded: Loaded) -> list[Mistake]:
    """What the config alone shows, once it is read."""
    mistakes = []
    model, redis = loaded.config.model, loaded.config.redis
    if model.precision == "fp16" and model.device == "cpu":
        text = "found fp16 with device: cpu, must be auto, fp32 or bf16 there"
        mistakes.append(loaded.mistake(("model", "precision"), text))
    if model.precision == "int8" and model.device not in ("auto", "cpu"):
        text = f"found int8 with device: {model.device}, must be auto, fp32, bf16 or fp16 there"
        mistakes.append(loaded.mistake(("model", "precision"), text))
    if not redis.is_embedded:
        try:
            check_url(redis.url.get_secret_value())
        except ConfigError as error:
            mistakes.append(loaded.mistake(("redis", "url"), str(error)))
    return mistakes


def _misfits(loaded: Loaded, weights: WeightsInfo) -> list[Mistake]:
    mistakes = []
    size = loaded.config.model.input_size
    if size is not None and any(side % weights.stride for side in size):
        text = f"found {list(size)}, must be multiples of {weights.stride} for these weights"
        mistakes.append(loaded.mistake(("model", "input_size"), text))
    if loaded.config.model.precision == "int8" and not weights.ranges:
        text = "found int8, must be another for weights without ranges: `vedette weights quantize`"
        mistakes.append(loaded.mistake(("model", "precision"), text))
    known = set(weights.classes)
    for number, camera in enumerate(loaded.config.cameras):
        for position, label in enumerate(camera.classes or ()):
            if label not in known:
                text = f"found {label!r}, must be a class of the weights: {_some(weights.classes)}"
                place = ("cameras", number, "classes", position)
                mistakes.append(loaded.mistake(place, text))
    return mistakes


def _some(classes: tuple[str, ...], most: int = 5) -> str:
    shown = ", ".join(classes[:most])
    rest = len(classes) - most
    return shown if rest <= 0 else f"{shown} and {rest} more (`vedette weights show` lists them)"
