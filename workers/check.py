"""`vedette check FILE [--probe] [--against RUN]`: what a run would do, and whether it could."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from config.load import config_name
from config.schema import Camera
from pipeline.errors import ConfigError, SinkUnavailable, VedetteError, host_shown
from pipeline.sinks.address import place
from pipeline.sinks.redis import connect, unavailable
from workers.changes import Changes, changes, fingerprint
from workers.embedded import find_server
from workers.look import look
from workers.preflight import Plan, access_of, prepare
from workers.rundir import read_address, runs

_AT_ONCE = 8  # cameras that are opened side by side
_ANSWER = 5.0  # seconds that Redis, or its binary, has for one answer
_OLDEST = (5, 0)  # the first Redis with streams


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of opening one thing."""

    what: str
    ok: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'failed':<6}  {self.what}: {self.text}"


def check(path: Path, *, probe: bool, against: str | None = None) -> int:
    """Prints what the config comes to, then, with `probe`, what its parts really are.

    `against` names a run that goes on: what the config would change there comes first.

    0, or 2 where a part failed. Raises ConfigMistakes with everything that is wrong in the file,
    ConfigError where the run could not take it, or there is none.
    """
    plan = prepare(path)
    if against is not None:
        print(_changes(plan, against))
    for summary in _summary(path, plan):
        print(summary)
    if not probe:
        return 0
    failed = 0
    for finding in probe_all(plan):
        print(finding, flush=True)
        failed += not finding.ok
    return 2 if failed else 0


def probe_all(plan: Plan) -> Iterator[Finding]:
    """Opens the weights, Redis, and every camera, a bounded number of them at a time."""
    threads = ThreadPoolExecutor(_AT_ONCE, "look")
    try:
        looks = [threads.submit(_probe_camera, camera) for camera in plan.config.cameras]
        yield _finding("weights", lambda: _probe_weights(plan))
        yield _finding("redis", lambda: _probe_redis(plan))
        for one in looks:
            yield one.result()
    finally:
        threads.shutdown(cancel_futures=True)


def _changes(plan: Plan, against: str) -> Changes:
    name = config_name(Path(against))
    run = read_address(name)
    if run is None or run.config is None:
        going = ", ".join(sorted(runs())) or "none"
        raise ConfigError(f"--against: no run of {name} is going on, must be one of: {going}")
    return changes(run.config, fingerprint(plan))


def _summary(path: Path, plan: Plan) -> Iterator[str]:
    config, weights = plan.config, plan.weights
    height, width = plan.input_size
    yield f"config: {os.fsencode(path).decode('utf-8', 'replace')} has no mistakes"
    yield (
        f"weights: {config.model.weights}: {weights.variant} ({weights.digest}), "
        f"{len(weights.classes)} classes, input {height} high and {width} wide"
    )
    auto = "auto" in (config.model.device, config.model.precision)
    more = " (--probe says what auto comes to)" if auto else ""
    yield f"device: {config.model.device}, precision {config.model.precision}{more}"
    yield f"redis: {_redis(plan)}, prefix {config.redis.prefix}"
    for camera in config.cameras:
        yield f"camera {camera.id}: {_camera(camera)}"


def _redis(plan: Plan) -> str:
    if plan.config.redis.is_embedded:
        return "embedded, starts and ends with the run"
    return place(plan.config.redis.url.get_secret_value())


def _camera(camera: Camera) -> str:
    kind = "live" if camera.is_live else "file" if camera.file else "scene"
    url = camera.url.get_secret_value()
    words = [kind, str(camera.file or (host_shown(url) if camera.is_network else url))]
    words += ["over UDP"] if camera.transport == "udp" else []
    words += [] if camera.tls_verify else ["any certificate"]
    words += ["decoded on the GPU, if that can be"] if camera.decoder == "gpu" else []
    words += ["in a loop"] if camera.loop else []
    words += [f"at most {camera.max_fps:g} frames/s"] if camera.max_fps else []
    words += [f"only {', '.join(camera.classes)}"] if camera.classes else []
    return ", ".join(words)


def _finding(what: str, probe: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, probe())
    except VedetteError as error:
        return Finding(what, False, str(error))


def _probe_camera(camera: Camera) -> Finding:
    def see() -> str:
        seen = look(
            camera.url.get_secret_value(), network=camera.is_network, access=access_of(camera)
        )
        rate = f", {seen.rate:.4g} frames/s" if seen.rate else ""
        excuse = f", decoded on the CPU: {seen.excuse}" if seen.excuse else ""
        return f"{seen.codec}, {seen.width}x{seen.height}{rate}{excuse}"

    return _finding(f"camera {camera.id}", see)


def _probe_weights(plan: Plan) -> str:
    """Loads the network, and torch with it."""
    try:
        from pipeline.device import plan as plan_device
        from pipeline.yolov6 import load
    except ModuleNotFoundError as error:
        raise VedetteError(
            f"{error.name} is not installed: pip install '.[torch]' in the clone"
        ) from None
    model = plan.config.model
    load(model.weights)
    device = plan_device(
        device=model.device,
        precision=model.precision,
        max_batch=model.max_batch,
        has_ranges=bool(plan.weights.ranges),
    )
    return f"{plan.weights.variant} is loaded, would run on {device}"


def _probe_redis(plan: Plan) -> str:
    if plan.config.redis.is_embedded:
        return _probe_binary(find_server())
    url = plan.config.redis.url.get_secret_value()
    with connect(url, timeout=_ANSWER) as client:
        try:
            began = time.monotonic()
            _ping(client)
            _ping(client)  # the first one has connected and logged in
            answered = time.monotonic()
            told = _told(client)
        except (redis.RedisError, OSError) as error:
            raise unavailable(error, place(url)) from None
    return f"{_judge(told, place(url))}, answers in {(answered - began) * 500:.1f} ms{_risk(told)}"


def _ping(client: redis.Redis) -> None:
    """An answer; that this user may not ask is one as well."""
    with contextlib.suppress(redis.exceptions.NoPermissionError):
        client.ping()


def _told(client: redis.Redis) -> dict[str, Any]:
    """What the server says of itself; nothing where this user may not ask."""
    told: dict[str, Any] = {}
    try:
        for section in ("server", "replication", "memory"):
            told |= client.info(section)
    except redis.exceptions.NoPermissionError:
        return {}
    return told


def _judge(told: dict[str, Any], where: str) -> str:
    """The server's name and version. Raises SinkUnavailable for one that is of no use."""
    if not told:
        return f"{where} (INFO is not allowed, so it is unknown what it is)"
    name = str(told.get("server_name", "redis"))
    version = str(told.get(f"{name}_version", told.get("redis_version", "0")))
    mode = told.get("redis_mode", told.get("server_mode", "standalone"))
    if mode in ("cluster", "sentinel"):
        raise SinkUnavailable(f"Redis at {where} is part of a {mode}, must be a single server")
    if told.get("role") == "slave":
        raise SinkUnavailable(f"Redis at {where} is a replica, must be one that can be written to")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST:
        raise SinkUnavailable(f"Redis at {where} is of version {version}, must be 5.0 or later")
    return f"{name} {version} at {where}"


def _risk(told: dict[str, Any]) -> str:
    policy = str(told.get("maxmemory_policy", ""))
    if not policy.startswith("allkeys-"):
        return ""
    return f"; warning: maxmemory-policy {policy} deletes whole streams, noeviction is right"


def _probe_binary(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_ANSWER, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SinkUnavailable(f"{path} does not run: {type(error).__name__}") from None
    words = dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)
    return f"{path} {words.get('v', '')}".rstrip()
