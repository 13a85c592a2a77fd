"""Whether a file ends where its own headers say: FFmpeg reads a cut one in silence."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

_MOST_CHUNKS = 1 << 20  # that are stepped over, in two seconds: days of fragments have as many
_LONGEST_JPEG = 1 << 26  # bytes that are searched for an end…
_MOST_SEGMENTS = 1 << 16  # …and segments
# All but fill bytes, stuffed ones, and the markers that stand without a length.
_MARKER = re.compile(rb"\xff[^\xff\x00\x01\xd0-\xd8]")
_END_OF_IMAGE = b"\xff\xd9"


def outline(file: BinaryIO, kind: str, size: int) -> tuple[set[bytes], bool]:
    """The names of the outermost chunks, where there are any, and whether the end is missing.

    `kind`: FFmpeg's name of the format; `size`: of the file, bytes. Raises OSError.
    """
    if kind == "matroska":
        return set(), _segment_end(file) > size
    if kind == "jpeg_pipe":
        return set(), not _has_end_of_image(file)
    if kind not in ("mov", "avi"):
        return set(), False
    names: set[bytes] = set()
    position = 0
    for _ in range(_MOST_CHUNKS):
        if position + 8 > size:
            break
        file.seek(position)
        name, length = _box(file.read(16)) if kind == "mov" else _riff(file.read(8))
        if length == 0:  # up to the file's end, or not a chunk
            return names | {name}, b"moof" in names and not name.isalnum()
        names.add(name)
        position += length
    return names, position > size


def _box(head: bytes) -> tuple[bytes, int]:
    """Name and whole length of an ISO base media box (ISO/IEC 14496-12, 4.2)."""
    length = int.from_bytes(head[:4], "big")
    if length == 1:
        length = int.from_bytes(head[8:16], "big")
    return head[4:8], length if length >= 8 else 0


def _riff(head: bytes) -> tuple[bytes, int]:
    """Name and whole length of a RIFF chunk, padded to an even one; 0 for one left unfinished."""
    length = int.from_bytes(head[4:8], "little")
    return head[:4], 8 + length + length % 2 if length and head.startswith(b"RIFF") else 0


def _segment_end(file: BinaryIO) -> int:
    """Where the segment of a Matroska file ends (RFC 9559, 5); 0 where it does not say."""
    file.seek(4)
    header = _vint(file)
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != b"\x18\x53\x80\x67":
        return 0
    length = _vint(file)
    return file.tell() + length if length else 0


def _vint(file: BinaryIO) -> int:
    """An EBML variable-size integer (RFC 8794, 4); 0 for "unknown" and for no such number."""
    first = file.read(1)
    if not first or first[0] == 0:
        return 0
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(extra), "big")
    ones = (1 << 7 * (extra + 1)) - 1
    return 0 if value & ones == ones else value & ones


def _has_end_of_image(file: BinaryIO) -> bool:
    """Whether the first picture of a JPEG file has its EOI marker (ITU-T T.81, B.1.1).

    A thumbnail, which has one of its own, lies inside a marker segment and is stepped over.
    """
    file.seek(0)
    data = file.read(_LONGEST_JPEG)
    position = 2
    for _ in range(_MOST_SEGMENTS):
        marker = _MARKER.search(data, position)
        if marker is None or marker[0] == _END_OF_IMAGE:
            return marker is not None
        position = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return False
