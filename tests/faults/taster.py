"""A process that reads one source after another as an ingest does, and may die of any of them.

As a program (`python -m tests.faults.taster`): a task a line comes in, its outcome a line goes out.
As a module: `Taster` starts that program, hands it tasks, and starts it anew when it is gone.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceError, SourceRefused
from pipeline.sources import Access, Picture, open_source
from workers import ingest

ROOT = Path(__file__).parents[2]
_LOOPED = 40  # pictures: of a loop, and of a camera
_SIZE = (192, 320)  # height and width that pictures are written at


@dataclass(frozen=True)
class Task:
    """What is to be read. A loop and a camera are left after so many pictures."""

    url: str
    live: bool = False
    loop: bool = False
    keys_only: bool = False
    transport: str = "tcp"


@dataclass(frozen=True)
class Outcome:
    """What came of it. `kind`: ended, left, error, refused, or else `died` or `hung`."""

    kind: str
    says: str = ""  # in one sentence, if it is well
    pictures: int = 0
    unwritten: int = 0  # that could not be converted
    fault: str | None = None
    seconds: float = 0.0
    peak_mb: float = 0.0  # of resident memory, of this task alone

    @property
    def is_a_sentence(self) -> bool:
        return 0 < len(self.says) < 500 and self.says.isprintable()


class Taster:
    """One child that is there when it is needed. Close it."""

    def __init__(self, *, limit: float) -> None:
        """`limit`: seconds for one task."""
        self._limit = limit
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def taste(self, task: Task) -> Outcome:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.taster"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            assert self._line(30) is not None
        assert self._child.stdin is not None
        began = time.monotonic()
        with suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
            self._child.stdin.flush()
        line = self._line(self._limit)
        if line:
            return Outcome(**json.loads(line))
        seconds = time.monotonic() - began
        if line is None:
            self._end()
            return Outcome("hung", f"for {seconds:.1f} s", seconds=seconds)
        stderr = self._end()
        return Outcome("died", stderr, seconds=seconds)

    def _line(self, seconds: float) -> bytes | None:
        """What the child says; empty where it is gone, None where it says nothing for so long."""
        assert self._child is not None
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], seconds)
        return self._child.stdout.readline() if ready else None

    def _end(self) -> str:
        """Ends the child; how it ended, and the last it said."""
        child, self._child = self._child, None
        if child is None:
            return ""
        try:
            _, stderr = child.communicate(timeout=0.5)  # closes its input: it leaves by itself
        except subprocess.TimeoutExpired:
            child.kill()
            _, stderr = child.communicate()
        code = child.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"{how}: {stderr.decode(errors='replace')[:2000]}"


def _taste(task: Task) -> Outcome:
    """Reads it as `workers.ingest` and `workers.reconnect` do."""
    out = np.empty((*_SIZE, 3), np.uint8)
    pictures = unwritten = 0
    access = Access(transport=task.transport)
    try:
        with open_source(task.url, live=task.live, loop=task.loop, access=access) as source:
            for picture in source:
                pictures += 1
                assert math.isfinite(picture.media_time), picture
                assert picture.media_time >= 0, picture
                assert min(picture.width, picture.height) > 0, picture
                if not picture.is_left_out:
                    unwritten += not _is_written(picture, out)
                source.keys_only = task.keys_only
                if pictures >= _LOOPED and (task.loop or "://" in task.url):
                    return Outcome("left", f"after {pictures} pictures", pictures, unwritten)
            assert source.complete == (source.fault is None)
        return Outcome("ended", source.reason, pictures, unwritten, source.fault)
    except SourceError as error:
        kind = "refused" if isinstance(error, SourceRefused) else "error"
        return Outcome(kind, str(error), pictures, unwritten, error.fault)


def _is_written(picture: Picture, out: NDArray[np.uint8]) -> bool:
    try:
        picture.write(out)
    except SourceError as error:
        says = str(error)
    else:
        return True
    assert says.isprintable(), says
    return False


def _peak_mb() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else math.nan


def main() -> None:
    ingest.limit_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import faulthandler

    import pipeline.sources.av  # noqa: F401 - so that the first task is not slower than others

    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w")
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): forgets the peak so far
        began = time.monotonic()
        outcome = _taste(Task(**json.loads(line)))
        figures = {"seconds": time.monotonic() - began, "peak_mb": _peak_mb()}
        print(json.dumps(asdict(outcome) | figures), file=answers, flush=True)


if __name__ == "__main__":
    main()
