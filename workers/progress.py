"""How far one command is: a bar on a terminal, plain lines in a pipe, both on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

PLAIN_SECONDS = 10.0  # between two lines in a pipe


class Progress(Protocol):
    """What a long command tells the person who waits for it."""

    def say(self, text: str) -> None: ...
    def update(self, done: float, total: float | None, text: str) -> None: ...


@contextlib.contextmanager
def open_progress(*, bar: bool) -> Iterator[Progress]:
    """A bar where stderr is a terminal and `bar` is wanted, else a line every ten seconds.

    No bar is wanted where data scroll through the same terminal.
    """
    if not (bar and sys.stderr.isatty()):
        yield _Lines()
        return
    from rich import progress
    from rich.console import Console

    with progress.Progress(
        progress.BarColumn(),
        progress.TextColumn("{task.description}", markup=False),
        progress.TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as display:
        yield _Bar(display)


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + PLAIN_SECONDS

    def say(self, text: str) -> None:
        print(f"vedette: {text}", file=sys.stderr, flush=True)

    def update(self, done: float, total: float | None, text: str) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_SECONDS
            self.say(text)


class _Bar:
    def __init__(self, display: object) -> None:
        from rich.progress import Progress as Display

        assert isinstance(display, Display)
        self._display = display
        self._task = display.add_task("", total=None)

    def say(self, text: str) -> None:
        self._display.console.print(f"vedette: {text}", markup=False, highlight=False)

    def update(self, done: float, total: float | None, text: str) -> None:
        self._display.update(self._task, completed=done, total=total, description=text)
