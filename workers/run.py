"""`vedette run FILE`: preflight, a Redis, the processes, and a last line that says how it went."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pipeline.errors import redact
from workers.embedded import EmbeddedRedis
from workers.preflight import prepare
from workers.report import open_reporter
from workers.rundir import Address, RunDirectory
from workers.supervisor import Supervisor
from workers.topology import Outcome, Run


def run(path: Path) -> int:
    """The exit code. Raises ConfigMistakes or VedetteError for what stops it from starting."""
    plan = prepare(path)
    config = plan.config
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(RunDirectory(config.name))
        out = stack.enter_context(open_reporter())
        if config.redis.is_embedded:
            url = stack.enter_context(EmbeddedRedis(directory.state)).url
            out.say(f"redis: embedded at {url}, data in {directory.state}")
        else:
            url = config.redis.url.get_secret_value()
            out.say(f"redis: {redact(url)}")
        cameras = tuple(camera.id for camera in config.cameras)
        directory.announce(Address(os.getpid(), url, config.redis.prefix, cameras))
        supervisor = stack.enter_context(Supervisor())
        outcome = Run(plan, url, supervisor, out).serve()
    out.say(_last_line(outcome))
    return outcome.code


def _last_line(outcome: Outcome) -> str:
    rate = outcome.frames / max(outcome.seconds, 1e-9)
    text = f"{outcome.frames:,} frames published in {outcome.seconds:.1f} s ({rate:.1f} frames/s)"
    if outcome.dropped:
        drops = ", ".join(f"{frames:,} {reason}" for reason, frames in outcome.dropped.items())
        text += f"; dropped: {drops}"
    if outcome.abandoned:
        text += f"; {outcome.abandoned:,} abandoned: on their way, and never confirmed"
    if outcome.problems:
        text += f"; failed: {'; '.join(outcome.problems)}"
    return text
