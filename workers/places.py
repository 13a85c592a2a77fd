"""Where there is something to read: a server of a config file, of a URL, or of a run going on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from config import schema
from config.load import load_reading
from pipeline.consume import Notice
from pipeline.errors import ConfigError, VedetteError
from workers import rundir
from workers.rundir import Address, read_address

_LAST_BREATH = 1.0  # seconds that a run may outlive its server by
_START = "start one with `vedette run FILE`, or name a server: --redis URL"


@dataclass(frozen=True, slots=True)
class Place:
    """Where there is something to read."""

    url: str
    prefix: str
    cameras: tuple[str, ...] | None = None  # None: all that there are
    run: Address | None = None  # that was asked for, or whose own server it is
    writer: Address | None = None  # the run that writes there, where one is known


class Over(Exception):
    """There will be nothing more, or nobody to read it."""


def find(file: Path | None, url: str | None, prefix: str | None) -> Place:
    """The server of a config file, of a URL, or of the one run that is going on.

    Raises ConfigMistakes or ConfigError for a wrong call, VedetteError where there is no run.
    """
    if url is not None and file is not None:
        raise ConfigError("found a config file and --redis, must be one of them")
    if url is not None:
        return _of_url(url, prefix)
    if prefix is not None:
        raise ConfigError("found --prefix without --redis, which it goes with")
    return _of_file(file) if file is not None else _of_only_run()


def check_cameras(cameras: Sequence[str], known: Sequence[str]) -> None:
    for camera in cameras:
        if camera not in known:
            raise ConfigError(f"--camera: found {camera!r}, must be one of {', '.join(known)}")


def end_with(run: Address | None, notice: Notice) -> None:
    """Raises Over when there is nothing more to come because this run has ended.

    Its server ends a moment before the run itself does.
    """
    if run is None or notice.kind not in ("idle", "away"):
        return
    deadline = time.monotonic() + (_LAST_BREATH if notice.kind == "away" else 0.0)
    while rundir.is_going_on(run):
        if time.monotonic() >= deadline:
            return
        time.sleep(0.02)
    raise Over("the run has ended")


def _of_url(url: str, prefix: str | None) -> Place:
    try:
        redis = schema.Redis(url=url, prefix=prefix or "vedette")  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(details) for details in error.errors())) from None
    if redis.is_embedded:
        raise ConfigError("--redis: found embedded, must be a URL; a run's own is found by itself")
    return Place(redis.url.get_secret_value(), redis.prefix)


def _sentence(details: object) -> str:
    place, context = details["loc"][0], details.get("ctx", {})  # type: ignore[index,attr-defined]
    option = "--redis" if place == "url" else "--prefix"
    said = str(context.get("error", "")) or f"must be {schema.accepted_at(('redis', place))}"
    return f"{option}: {said.replace('embedded or ', '')}"


def _of_file(file: Path) -> Place:
    config = load_reading(file)
    if not config.redis.is_embedded:
        cameras = tuple(camera.id for camera in config.cameras)
        url = config.redis.url.get_secret_value()
        return Place(url, config.redis.prefix, cameras, writer=read_address(config.name))
    run = read_address(config.name)
    if run is None:
        raise VedetteError(f"no run of {file} is going on in {rundir.where()}; {_START}")
    return Place(run.redis, run.prefix, run.cameras, run, run)


def _of_only_run() -> Place:
    runs = rundir.runs()
    if not runs:
        raise VedetteError(f"no run is going on in {rundir.where()}; {_START}")
    if len(runs) > 1:
        names = ", ".join(sorted(runs))
        raise ConfigError(f"{len(runs)} runs are going on here, {names}: name the config FILE")
    (run,) = runs.values()
    return Place(run.redis, run.prefix, run.cameras, run, run)
