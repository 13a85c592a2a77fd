"""The files that a config names: there, regular, not empty, readable. Nothing is read of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from config.document import Document
from config.errors import Mistake, Place
from config.kinds import file_of


def file_mistakes(document: Document, folder: Path) -> list[Mistake]:
    """A mistake for each file that cannot be used; keys with another mistake are left out."""
    mistakes = []
    for place, path in _files(document, folder).items():
        problem = _problem(path)
        if problem is not None:
            source = document.references.get(place, str(path))  # values of variables stay unsaid
            text = f"{problem} at {source}, must be a readable file that is not empty"
            mistakes.append(document.mistake(place, text))
    return mistakes


def _files(document: Document, folder: Path) -> dict[Place, Path]:
    """Where a file is named, also in a config that has mistakes elsewhere."""
    files: dict[Place, Path] = {}
    weights = document.at(("model", "weights"))
    if isinstance(weights, str) and not document.is_broken(("model", "weights")):
        files["model", "weights"] = (folder / weights).absolute()
    cameras = document.at(("cameras",))
    for index in range(len(cameras) if isinstance(cameras, list) else 0):
        place = ("cameras", index, "url")
        source = document.at(place)
        if not isinstance(source, str) or document.is_broken(place):
            continue
        path = file_of(source, folder)
        if path is not None:
            files[place] = path
    return files


def _problem(path: Path) -> str | None:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return "found a directory"
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for its writer
            return "found neither a file nor a directory"
        if status.st_size == 0:
            return "found an empty file"
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError):
        return "found nothing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None
