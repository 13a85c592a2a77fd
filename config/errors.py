"""What is wrong with a config file: each mistake with its line, all of them in one exception."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

Place = tuple[str | int, ...]  # where in the file: ("cameras", 1, "max_fps")

_LONGEST = 40  # characters of a text that a message quotes


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing to mend: `field` as in `cameras[1].max_fps`, "" for the file as a whole."""

    line: int | None  # from 1; None where the file has no line for it
    field: str
    text: str  # one sentence: what was found, what is accepted

    def __str__(self) -> str:
        return f"{self.field}: {self.text}" if self.field else self.text


class ConfigMistakes(Exception):
    """A config file that cannot be used; its text has one line for each mistake, by line number."""

    def __init__(self, path: Path, mistakes: Iterable[Mistake]) -> None:
        self.path = path
        self.mistakes = sorted(mistakes, key=lambda mistake: mistake.line or 0)
        super().__init__(path, self.mistakes)

    def __str__(self) -> str:
        name = os.fsencode(self.path).decode("utf-8", "replace")
        return "\n".join(
            f"{name}: {mistake}" if mistake.line is None else f"{name}:{mistake.line}: {mistake}"
            for mistake in self.mistakes
        )


def field_name(place: Place) -> str:
    """`("cameras", 1, "max_fps")` as people write it: `cameras[1].max_fps`."""
    name = ""
    for step in place:
        name += f"[{step}]" if isinstance(step, int) else f".{_key(step)}" if name else _key(step)
    return name


def quoted(text: str) -> str:
    """`text` in quotes, printable and short; what may be a URL with a password is not shown."""
    if "@" in text or "://" in text:
        return "a text (not shown, it may hold a password)"
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return repr(short)


def _key(text: str) -> str:
    plain = text.isascii() and text.replace("-", "_").isidentifier() and len(text) <= _LONGEST
    return text if plain else quoted(text)
