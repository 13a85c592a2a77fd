"""The config file of a run that goes on: when to read it again, and who is told what came of it."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from workers.preflight import Plan, allow_descriptors, prepare

_EVERY = 1.0  # seconds between two looks
_Looks = dict[Path, tuple[int, int, int] | None]  # what each file is like: time, size, inode


class ConfigFile:
    """Looks at the file, and at those that its secrets come from, where it is to be watched."""

    def __init__(
        self, path: Path, plan: Plan, *, watch: bool, adopt: Callable[[Plan], None]
    ) -> None:
        """`adopt` hears of each plan that was taken."""
        self._path = path
        self._adopt = adopt
        self._watch = watch
        self._files: Sequence[Path] = plan.files
        self._known: _Looks = self._look()
        self._seen = self._known
        self._look_at = time.monotonic() + _EVERY

    def is_due(self) -> bool:
        """Whether it was changed and then left alone: an editor writes more than once."""
        if not self._watch or time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _EVERY
        before, self._seen = self._seen, self._look()
        if self._seen == self._known or self._seen != before:
            return False
        self._known = self._seen
        return True

    def read(self) -> Plan:
        """Raises ConfigMistakes or VedetteError for one that cannot run."""
        self._known = self._seen = self._look()
        plan = prepare(self._path)
        allow_descriptors(len(plan.config.cameras))
        return plan

    def adopt(self, plan: Plan) -> None:
        """This one runs from now on."""
        self._files = plan.files
        # What was changed since it was read is still to be read.
        self._known = self._seen = self._look() | {
            file: look for file, look in self._known.items() if file in plan.files
        }
        self._adopt(plan)

    def _look(self) -> _Looks:
        return {path: _look(path) for path in self._files}


def terminal_is_gone() -> bool:
    """Whether a terminal that this process was started in has been closed: then SIGHUP means that.

    Terminals are the character devices of major number 4 and 136 to 143 (devices.txt of Linux).
    """
    for descriptor in range(3):
        with contextlib.suppress(OSError):
            found = os.fstat(descriptor)
            is_terminal = os.major(found.st_rdev) in (4, *range(136, 144))
            if stat.S_ISCHR(found.st_mode) and is_terminal and not os.isatty(descriptor):
                _silence()
                return True
    return False


def _silence() -> None:
    """What is written to a terminal that is gone would be an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        if not os.isatty(descriptor) and os.major(os.fstat(descriptor).st_rdev):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
