"""The file → a `Config` with the line of each of its keys, or every mistake in it at once."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from config.document import Document, read
from config.errors import ConfigMistakes, Mistake, Place
from config.files import file_mistakes
from config.references import expand
from config.schema import Config, Reading, accepted_at
from config.sentences import TEXT_EXPECTED, found, refuse_all, unknown_key

MOST_BYTES = 1_000_000
_READ = {"redis": ("url", "prefix"), "cameras": ("id",)}  # what a reader needs of the file

_Kind = TypeVar("_Kind", Config, Reading)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid config, and where its keys stand, for checks that need more than the file."""

    path: Path
    config: Config
    document: Document = field(repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file itself, and those that its secrets come from."""
        return (self.path.absolute(), *dict.fromkeys(self.document.files))

    def line(self, *place: str | int) -> int | None:
        """The line of a key, as `line("cameras", 1, "url")`, or of what is around an absent one."""
        return self.document.line(place)

    def mistake(self, place: Place, text: str) -> Mistake:
        """A mistake at `place`, to be raised in `ConfigMistakes(loaded.path, …)`."""
        return self.document.mistake(place, text)


def load(path: Path, *, environment: Mapping[str, str] | None = None) -> Loaded:
    """Read, resolve references (`environment`: the process's by default) and validate.

    Raises `ConfigMistakes`, which then holds what `check_files` finds, too. A missing video alone
    is no mistake here: `vedette tail` needs none.
    """
    document = read(_text(path))
    folder = path.absolute().parent
    config = None
    if document.readable:
        expand(document, os.environ if environment is None else environment, folder)
        config = _validate(document, folder, Config)
    if config is None or document.mistakes:
        raise ConfigMistakes(path, [*document.mistakes, *file_mistakes(document, folder)])
    return Loaded(path, config.model_copy(update={"name": config_name(path)}), document)


def load_reading(path: Path, *, environment: Mapping[str, str] | None = None) -> Reading:
    """Where the streams of a config are, and of which cameras: no secret of a camera is needed.

    Nor need the values of other keys be right. Raises `ConfigMistakes`.
    """
    document = read(_text(path))
    folder = path.absolute().parent
    reading = None
    if document.readable:
        _reduce(document)
        expand(document, os.environ if environment is None else environment, folder)
        reading = _validate(document, folder, Reading)
    if reading is None or document.mistakes:
        raise ConfigMistakes(path, document.mistakes)
    return reading.model_copy(update={"name": config_name(path)})


def check_files(loaded: Loaded) -> list[Mistake]:
    """The weights and the cameras' files that are not there, not files, empty or unreadable."""
    return file_mistakes(loaded.document, loaded.path.absolute().parent)


def _text(path: Path) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a directory" if stat.S_ISDIR(mode) else "neither a file nor a directory"
            raise _unreadable(path, f"found {kind}, must be a YAML file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        return _decode(path, data)
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from None


def _decode(path: Path, data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise _unreadable(path, f"found more than {MOST_BYTES:,} bytes, must be a YAML file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        text = f"found the byte 0x{data[error.start]:02x}, must be text in UTF-8"
        raise _unreadable(path, text, line) from None


def _unreadable(path: Path, text: str, line: int | None = None) -> ConfigMistakes:
    return ConfigMistakes(path, [Mistake(line, "", text)])


def config_name(path: Path) -> str:
    """The file's name without its ending, fit to be a folder's name."""
    return re.sub(r"[^\w.-]+", "-", path.stem).strip(".-") or "vedette"


def _reduce(document: Document) -> None:
    """Leaves of the file what a `Reading` has."""
    if not isinstance(document.value, dict):
        return
    value = document.value
    document.value = {key: _only(value[key], keys) for key, keys in _READ.items() if key in value}


def _only(value: Any, keys: Collection[str]) -> Any:
    """Of a section, or of each in a list, what these keys hold."""
    if isinstance(value, list):
        return [_only(item, keys) for item in value]
    return {key: value[key] for key in keys if key in value} if isinstance(value, dict) else value


def _validate(document: Document, folder: Path, kind: type[_Kind]) -> _Kind | None:
    if not isinstance(document.value, dict):
        document.refuse((), f"found {found(document, ())}, must be {accepted_at(())}")
        return None
    if "name" in document.value:  # of `Config`, but no key of the file
        document.refuse(("name",), unknown_key(("name",)))
    _refuse_repeated_ids(document)
    try:
        return _validated(document, folder, kind)
    except ValidationError as error:
        _take_as_written(document, error)
    try:
        return _validated(document, folder, kind)
    except ValidationError as error:
        refuse_all(document, error)
        return None


def _validated(document: Document, folder: Path, kind: type[_Kind]) -> _Kind:
    keys = {key: value for key, value in document.value.items() if key != "name"}
    return kind.model_validate(keys, context={"folder": folder})


def _take_as_written(document: Document, error: ValidationError) -> None:
    """Let a text key have `0123` or `true` as the text that stands in the file."""
    for details in error.errors():
        if details["type"] in TEXT_EXPECTED and details["loc"] in document.written:
            document.put(details["loc"], document.written[details["loc"]])


def _refuse_repeated_ids(document: Document) -> None:
    first: dict[str, int] = {}
    cameras = document.value.get("cameras")
    for index in range(len(cameras) if isinstance(cameras, list) else 0):
        place = ("cameras", index, "id")
        identifier = document.written.get(place, document.at(place))
        if not isinstance(identifier, str) or document.is_broken(place):
            continue
        if identifier in first:
            line = document.line(("cameras", first[identifier], "id"))
            name = found(document, place)
            text = f"found {name} again, line {line} has it, must be unique"
            document.refuse(place, text)
        first.setdefault(identifier, index)
