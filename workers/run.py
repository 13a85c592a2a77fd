"""`vedette run FILE`: preflight, a Redis, the processes, and a last line that says how it went."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from config.schema import Config
from pipeline.errors import redact
from workers.changes import fingerprint
from workers.embedded import EmbeddedRedis
from workers.lifecycle import Options, Run
from workers.observer import open_observer
from workers.outcome import Outcome
from workers.preflight import Plan, allow_descriptors, prepare
from workers.reload import ConfigFile
from workers.report import open_reporter
from workers.rundir import Address, RunDirectory
from workers.supervisor import Supervisor


def run(path: Path, *, again: bool = False, watch: bool = False) -> int:
    """The exit code. Raises ConfigMistakes or VedetteError for what stops it from starting."""
    plan = prepare(path)
    config = plan.config
    with contextlib.ExitStack() as stack:
        supervisor = stack.enter_context(Supervisor())  # from here on a signal is an orderly end
        directory = stack.enter_context(RunDirectory(config.name))
        allow_descriptors(len(config.cameras))
        out = stack.enter_context(open_reporter())
        tend: Callable[[], str | None] = _nothing_to_tend
        if config.redis.is_embedded:
            server = stack.enter_context(EmbeddedRedis(directory.state))
            url, tend = server.url, server.tend
            out.say(f"redis: embedded at {url}, data in {directory.state}")
        else:
            url = config.redis.url.get_secret_value()
            out.say(f"redis: {redact(url)}")
        observer, page = stack.enter_context(open_observer(config, out.say))

        def adopt(plan: Plan) -> None:
            for camera in plan.config.cameras:
                if not camera.tls_verify:
                    out.say(f"{camera.id}: whoever answers is believed (tls_verify: false)")
            cameras = tuple(camera.id for camera in plan.config.cameras)
            prefix, digests = plan.config.redis.prefix, fingerprint(plan)
            directory.announce(Address(os.getpid(), url, prefix, cameras, page, digests))

        adopt(plan)
        options = Options(
            again=again,
            spool=_spool(config, directory),
            tend=tend,
            observer=observer,
            file=ConfigFile(path, plan, watch=watch, adopt=adopt),
        )
        outcome = Run(plan, url, supervisor, out, options).serve()
        out.say(_last_line(outcome))
    return outcome.code


def _nothing_to_tend() -> None:
    """A server of somebody else's."""


def _spool(config: Config, directory: RunDirectory) -> str | None:
    if config.redis.durability != "disk":
        return None
    return str(config.redis.spool or directory.spool)


def _last_line(outcome: Outcome) -> str:
    rate = outcome.frames / max(outcome.seconds, 1e-9)
    text = f"{outcome.frames:,} frames published in {outcome.seconds:.1f} s ({rate:.1f} frames/s)"
    if outcome.dropped:
        drops = ", ".join(f"{frames:,} {reason}" for reason, frames in outcome.dropped.items())
        text += f"; dropped: {drops}"
    if outcome.abandoned:
        text += f"; {outcome.abandoned:,} abandoned: on their way, and never confirmed"
    if outcome.unended:
        text += f"; the end of {outcome.unended} camera(s) was not confirmed"
    if outcome.problems:
        text += f"; failed: {'; '.join(outcome.problems)}"
    return text
