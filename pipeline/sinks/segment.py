"""Segment files: records one behind the other, each with its length and a checksum.

    u32 length of the payload │ u32 CRC-32 of id and payload │ u64 ms │ u64 n │ payload    (little)

A record is whole or it is not there: reading ends at the first that is not. What comes behind a
record that is cut short was never written; what comes behind one that is damaged is set aside.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.sinks.drafts import EntryId

_HEADER = struct.Struct("<IIQQ")
_LONGEST = 64 * 2**20  # bytes of a payload; a length above it is damage


def pack(entry: EntryId, payload: bytes) -> bytes:
    """One record."""
    checksum = zlib.crc32(payload, zlib.crc32(struct.pack("<QQ", *entry)))
    return _HEADER.pack(len(payload), checksum, *entry) + payload


def unpack(data: bytes, start: int = 0) -> Iterator[tuple[EntryId, bytes, int]]:
    """The whole records from `start` on: id, payload, and where the next one begins."""
    while start + _HEADER.size <= len(data):
        length, checksum, milliseconds, count = _HEADER.unpack_from(data, start)
        begin = start + _HEADER.size
        payload = data[begin : begin + length]
        identity = struct.pack("<QQ", milliseconds, count)
        if len(payload) < length or zlib.crc32(payload, zlib.crc32(identity)) != checksum:
            return
        start = begin + length
        yield (milliseconds, count), payload, start


@dataclass(slots=True)
class Segment:
    """One file, of which the first `size` bytes are known to be good."""

    path: Path
    began: float  # seconds since 1970
    written: float  # the same, of the last record
    is_ours: bool = True  # written in this run
    size: int = 0
    records: int = 0
    frames: int = 0
    newest: dict[bool, EntryId] = field(default_factory=dict)  # of frames (True), of events

    def read(self, start: int, most: int) -> Iterator[tuple[EntryId, bytes, int]]:
        """Whole records from `start` on, out of about `most` bytes (one record at least)."""
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.read(min(most, self.size - start))
            if len(data) >= 4:
                (length,) = struct.unpack_from("<I", data)
                missing = _HEADER.size + min(length, _LONGEST) - len(data)
                data += file.read(max(0, min(missing, self.size - start - len(data))))
        for entry, payload, end in unpack(data):
            yield entry, payload, start + end

    def remove(self) -> None:
        with suppress(OSError):  # gone already, or a disk that is read-only by now
            self.path.unlink()


class Writer:
    """Appends to one new segment. Raises OSError; then `segment.size` is what can be trusted."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(segment.path, flags, 0o600)

    def append(self, data: bytes) -> None:
        """On the disk when it returns."""
        rest = memoryview(data)
        while rest:  # a full disk takes a part, and refuses the next call only
            rest = rest[os.write(self._descriptor, rest) :]
        os.fdatasync(self._descriptor)
        self.segment.size += len(data)

    def close(self) -> None:
        """What cannot be trusted is cut off, where the disk still does that."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, self.segment.size)
        with suppress(OSError):
            os.close(self._descriptor)


def recover(path: Path) -> tuple[Segment, list[tuple[EntryId, bytes]], int]:
    """A segment of an earlier process, up to its first bad record; how many damaged bytes it had.

    A tail that is cut short is cut off; damage and what is behind it are kept beside it as `.bad`.
    Raises OSError.
    """
    data = path.read_bytes()
    written = path.stat().st_mtime
    segment = Segment(path, written, written, is_ours=False)
    records = []
    for entry, payload, end in unpack(data):
        records.append((entry, payload))
        segment.size = end
    behind = len(data) - segment.size
    if not behind:
        return segment, records, 0
    torn = _is_torn(data, segment.size)
    with suppress(OSError):  # a disk that is read-only by now: we know where to stop
        if not torn:
            _set_aside(path.with_suffix(".bad"), data[segment.size :])
        os.truncate(path, segment.size)
    return segment, records, 0 if torn else behind


def _is_torn(data: bytes, start: int) -> bool:
    """Whether the record at `start` just ends too early, as after a power cut."""
    if start + _HEADER.size > len(data):
        return True
    (length,) = struct.unpack_from("<I", data, start)
    return bool(start + _HEADER.size + length > len(data) and length <= _LONGEST)


def _set_aside(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
