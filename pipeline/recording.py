"""A recording: entries of streams as JSON Lines, plain or in zstd (`.zst`), in the order read.

    {"key":"vedette:{gate}:detections","id":"1-1","fields":{"schema":"…","data":"…"}}

A field that is no UTF-8 stands in `base64` instead of `fields`. There is no more to it, so jq and
zstdcat read it too; `vedette replay` publishes it again, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from pipeline.consume.entries import Raw
from pipeline.errors import ConfigError
from pipeline.sinks.window import parse_id

_LEVEL = 6  # of zstd
_KINDS = ("detections", "events")


class Recorded(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a recording: one line."""

    key: str
    id: str
    fields: dict[str, str]
    base64: dict[str, bytes] = {}

    def all_fields(self) -> dict[bytes, bytes]:
        """As Redis had them."""
        text = {name.encode(): value.encode() for name, value in self.fields.items()}
        return text | {name.encode(): value for name, value in self.base64.items()}


class Recorder:
    """An open recording that is being written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._encoder = msgspec.json.Encoder()
        self.entries = 0
        self.cameras: set[str] = set()

    def add(self, raw: Raw) -> None:
        self._file.write(self._encoder.encode(_recorded(raw)) + b"\n")
        self.entries += 1
        self.cameras.add(raw.camera)

    def flush(self) -> None:
        """What was added can be read by others now, even if this process is killed."""
        self._file.flush()


@contextmanager
def write(path: Path) -> Iterator[Recorder]:
    """A new recording, whole at the end of the block. Raises ConfigError where it cannot be."""
    try:
        file = _open(path, "wb")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    with file:
        yield Recorder(file)


def read(path: Path) -> Iterator[Recorded]:
    """Every entry. Raises ConfigError, with the number of the line, for what is no recording."""
    try:
        with _open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                yield _entry(line, f"{path}:{number}")
    except EOFError:
        raise ConfigError(f"{path}: is cut short: it was not written to its end") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except _zstd_error(path) as error:
        raise ConfigError(f"{path}: is not zstd, as its name says: {error}") from None


def split_key(key: str) -> tuple[str, str, str]:
    """The prefix, the camera and the kind of a key. Raises ValueError for any other key."""
    place, _, kind = key.rpartition("}:")
    prefix, found, camera = place.partition(":{")
    if not (found and prefix and camera and kind in _KINDS):
        raise ValueError(f"{key!r} is no stream of a camera")
    return prefix, camera, kind


def _recorded(raw: Raw) -> Recorded:
    fields, base64 = {}, {}
    for name, value in raw.fields.items():
        word = name.decode("utf-8", "replace")
        try:
            fields[word] = value.decode()
        except UnicodeDecodeError:
            base64[word] = value
    return Recorded(raw.key, raw.id, fields, base64)


def _entry(line: bytes, where: str) -> Recorded:
    try:
        entry = msgspec.json.decode(line, type=Recorded)
        split_key(entry.key)
        parse_id(entry.id)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"{where}: is no entry of a recording: {error}") from None
    return entry


def _open(path: Path, mode: str) -> IO[bytes]:
    if path.suffix != ".zst":
        return cast(IO[bytes], path.open(mode))
    from backports import zstd

    level: dict[str, Any] = {"level": _LEVEL} if mode == "wb" else {}
    return cast(IO[bytes], zstd.open(path, cast(Any, mode), **level))


def _zstd_error(path: Path) -> tuple[type[Exception], ...]:
    """What decompressing raises; nothing where nothing is decompressed."""
    if path.suffix != ".zst":
        return ()
    from backports import zstd

    return (zstd.ZstdError,)
