"""How a child leaves."""

from __future__ import annotations

import os
import subprocess
import sys

from pipeline.channel import pair
from workers.process import HUNG_UP

# The child as it is, with something that its interpreter would do at its end.
CHILD = """
import atexit, runpy
atexit.register(print, "torn down")
runpy.run_module("workers.process", run_name="__main__")
"""


def test_a_child_that_is_done_leaves_without_being_torn_down() -> None:
    ours, theirs = pair()
    ours.close()
    with theirs:
        arguments = ("ingest", "gate", str(theirs.fileno()), str(os.getpid()))
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            timeout=60,
        )

    assert (done.returncode, done.stdout) == (HUNG_UP, b"")
