"""What every child does first and last: `python -m workers.process ROLE NAME FD PARENT`.

The role names the loop to run, resolved here in the child, so that the parent never imports what
only a child needs. The settings come over the control socket: no secret stands on a command line.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import traceback

from pipeline.channel import Channel
from pipeline.errors import ChannelClosed, ConfigError, VedetteError, redact
from workers import control

LOOPS = {
    "ingest": "workers.ingest:run",
    "infer": "workers.infer:run",
    "publish": "workers.publish:run",
}
HUNG_UP = 4  # exit code: a neighbour, or the supervisor, is gone
_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(role: str, name: str, fd: int, parent: int) -> int:
    """The exit code. `name` only tells one process from another in a listing."""
    die_with(parent)
    with contextlib.suppress(OSError, RuntimeError):  # a closed stderr
        faulthandler.enable()
    for quiet in (signal.SIGINT, signal.SIGTERM):
        signal.signal(quiet, signal.SIG_IGN)  # ending in order is the supervisor's business
    channel = Channel.adopt(fd, control.to_worker)
    module, _, function = LOOPS[role].partition(":")
    try:
        getattr(importlib.import_module(module), function)(channel)
    except ChannelClosed:
        return HUNG_UP
    except VedetteError as error:
        return _fail(channel, str(error), usage=isinstance(error, ConfigError))
    except Exception as error:  # noqa: BLE001 - the one place: the child's entry point
        with contextlib.suppress(OSError):  # a full disk behind stderr
            print(redact(traceback.format_exc()), file=sys.stderr)
        return _fail(channel, redact(f"{type(error).__name__}: {error}"))
    return 0


def die_with(parent: int) -> None:
    """SIGKILL when the parent dies, however it dies (prctl(2); Linux only)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before this was set up
        os._exit(1)


def _fail(channel: Channel, text: str, *, usage: bool = False) -> int:
    try:
        channel.send(control.Failed(text, usage))
    except ChannelClosed:
        print(f"vedette: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    # All is done, and the kernel takes back the rest. To have the interpreter tear down torch and
    # FFmpeg first takes up to a second of a processor, of all workers at once where a run ends.
    os._exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
