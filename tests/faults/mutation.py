"""Clips that somebody has tampered with: number and seed give the same bytes again.

`Clips(folder)` makes small whole ones of every container and codec that is accepted; `tampered`
damages one of them, or disguises a text that names a canary. `blind` damage knows nothing of
formats; the rest aims at what parsers believe: lengths, counts, names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import cv2

from tests import media
from tests.faults import disguise

_QUICK = {"preset": "ultrafast", "tune": "zerolatency"}
_MADE = [  # name, codec, what else `media.encode` is told
    ("h264.mp4", "libx264", {"options": {"bf": "2", "preset": "ultrafast"}}),
    ("fragments.mp4", "libx264", {"container": {"movflags": "frag_keyframe+empty_moov"}}),
    ("front.mp4", "libx264", {"container": {"movflags": "faststart"}}),
    ("hevc.mp4", "libx265", {"options": {"x265-params": "log-level=none:pools=1"}}),
    ("mpeg4.mov", "mpeg4", {}),
    ("mjpeg.mov", "mjpeg", {"pixels": "yuvj420p"}),
    ("png.mov", "png", {"pixels": "rgb24"}),
    ("av1.mp4", "libsvtav1", {"options": {"preset": "12", "svtav1-params": "lp=1"}}),
    ("av1.mkv", "libsvtav1", {"options": {"preset": "12", "svtav1-params": "lp=1"}}),
    ("h264.mkv", "libx264", {}),
    ("hevc.mkv", "libx265", {"options": {"x265-params": "log-level=none:pools=1"}}),
    ("mpeg2.mkv", "mpeg2video", {}),
    ("vp8.webm", "libvpx", {}),
    ("vp9.webm", "libvpx-vp9", {"options": {"deadline": "realtime"}}),
    ("mjpeg.avi", "mjpeg", {"pixels": "yuvj420p"}),
    ("mpeg4.avi", "mpeg4", {}),
    ("msmpeg4.avi", "msmpeg4", {}),
    ("msmpeg4v2.avi", "msmpeg4v2", {}),
    ("h264.avi", "libx264", {}),
    ("h264.ts", "libx264", {"options": _QUICK}),
    ("mpeg1.ts", "mpeg1video", {}),
    ("mpeg2.ts", "mpeg2video", {}),
    ("hevc.ts", "libx265", {"options": {"x265-params": "log-level=none:pools=1"}}),
]
_PICTURES = ("one.jpg", "one.png", "one.bmp", "one.webp")
_EXTREMES = (
    0,
    1,
    2,
    7,
    8,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFF0,
    2**32 - 1,
)
_FIELDS = (  # before or behind such a name there is a length, a count or an offset
    b"ftyp", b"moov", b"mvhd", b"trak", b"tkhd", b"edts", b"elst", b"mdia", b"mdhd", b"hdlr",
    b"minf", b"dinf", b"dref", b"stbl", b"stsd", b"stts", b"ctts", b"stss", b"stsc", b"stsz",
    b"stco", b"avcC", b"hvcC", b"av1C", b"esds", b"pasp", b"colr", b"mdat", b"moof", b"traf",
    b"trun", b"tfhd", b"tfdt", b"mfra", b"udta", b"meta", b"data", b"avc1", b"hev1", b"mp4v",
    b"RIFF", b"LIST", b"hdrl", b"avih", b"strl", b"strh", b"strf", b"strn", b"movi", b"idx1",
    b"00dc", b"indx", b"odml", b"JUNK", b"IHDR", b"IDAT", b"tEXt", b"eXIf", b"VP8 ", b"VP8L",
    b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b",
    b"\x1f\x43\xb6\x75", b"\x1c\x53\xbb\x6b", b"\x11\x4d\x9b\x74", b"\x63\xa2", b"\xff\xc0",
    b"\xff\xc4", b"\xff\xda", b"\xff\xdb", b"\xff\xe1", b"\0\0\1\xb3", b"\0\0\1\xb5", b"\0\0\1\xe0",
)  # fmt: skip
_VALUABLE = [n for n in _FIELDS if len(n) == 4 and n.isalnum()]


@dataclass(frozen=True)
class Clip:
    """A clip to be read, and in words what was done to it."""

    name: str
    data: bytes
    story: str


class Clips:
    """Whole clips, a few kilobytes each, made once in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.whole: dict[str, bytes] = {}
        for name, codec, rest in _MADE:
            given = {"frames": 10, "size": (96, 64), "keyframes": 5, "pixels": "yuv420p", **rest}
            container = {"fflags": "+bitexact", **given.pop("container", {})}
            path = folder / name
            media.encode(path, codec=codec, container=container, **given)
            self.whole[name] = path.read_bytes()
        for name in _PICTURES:
            assert cv2.imwrite(str(folder / name), media.noise(1, 96, 64))
            self.whole[name] = (folder / name).read_bytes()
        photographs = [
            cv2.imencode(".jpg", media.noise(index, 96, 64))[1].tobytes() for index in range(6)
        ]
        self.whole["moving.mjpeg"] = b"".join(photographs)

    def tampered(self, number: int, seed: int, canary: disguise.Named) -> Clip:
        """The clip of that number; a tenth are texts and references that name the canary."""
        random = Random(f"{seed}:clip:{number}")
        name, data = self._pick(random)
        if random.random() < 0.1:
            other, data, story = disguise.disguised(random, name, data, canary)
            return Clip(other, data, story)
        told = []
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            damage = random.choice(DAMAGES)
            if damage is _splice:
                _, tail = self._pick(random)
                data = _splice(random, data, tail)
            else:
                data = damage(random, data)
            data = data or b"\0"
            told.append(damage.__name__.strip("_"))
        return Clip(name, data, f"{name}: {' '.join(told)}")

    def _pick(self, random: Random) -> tuple[str, bytes]:
        name = random.choice(list(self.whole))
        return name, self.whole[name]


def _place(random: Random, data: bytes) -> int:
    """Half of the damage strikes the first kilobyte or the last one: headers and indexes."""
    where = random.random()
    if where < 0.35:
        return random.randrange(min(len(data), 1024) or 1)
    if where < 0.5:
        return max(0, len(data) - 1 - random.randrange(1024))
    return random.randrange(len(data) or 1)


def _flip(random: Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(random.choice((1, 2, 5, 20, 100))):
        damaged[_place(random, data)] ^= 1 << random.randrange(8)
    return bytes(damaged)


def _overwrite(random: Random, data: bytes) -> bytes:
    start = _place(random, data)
    length = min(random.choice((4, 16, 188, 1000, len(data) // 4)), len(data) - start)
    put = random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))
    return data[:start] + put + data[start + length :]


def _truncate(random: Random, data: bytes) -> bytes:
    return data[: _place(random, data) + 1]


def _header_alone(random: Random, data: bytes) -> bytes:
    return data[: random.choice((1, 4, 8, 12, 16, 32, 64, 200, 600))]


def _take_out(random: Random, data: bytes) -> bytes:
    start = _place(random, data)
    return data[:start] + data[start + random.choice((1, 4, 16, 188, 1000)) :]


def _double(random: Random, data: bytes) -> bytes:
    start = _place(random, data)
    part = data[start : start + random.choice((4, 16, 188, 1000, len(data)))]
    return data[:start] + part * random.choice((2, 2, 3, 50)) + data[start + len(part) :]


def _splice(random: Random, data: bytes, tail: bytes) -> bytes:
    return data[: _place(random, data)] + tail[_place(random, tail) :]


def _extreme(random: Random, data: bytes) -> bytes:
    """A length, count or offset beside a name becomes one that no writer would write."""
    damaged = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        found = [at for name in _FIELDS if (at := data.find(name)) >= 0]
        at = random.choice(found) if found else random.randrange(len(data) or 1)
        at = max(0, at + random.choice((-4, -4, 2, 4, 4, 8, 12, 16, 20, 24, 28)))
        width = random.choice((1, 2, 4, 4, 4, 8))
        value = random.choice((*_EXTREMES, len(data), random.getrandbits(32)))
        order = random.choice(("big", "big", "little"))
        put = (value % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]
        damaged[at : at + width] = put
    return bytes(damaged)


def _rename(random: Random, data: bytes) -> bytes:
    """A box of one kind says that it is one of another."""
    found = [name for name in _VALUABLE if name in data]
    if not found:
        return _flip(random, data)
    name = random.choice(found)
    return data.replace(name, random.choice(_VALUABLE), random.choice((1, -1)))


def _nest(random: Random, data: bytes) -> bytes:
    """Boxes in boxes in boxes, deeper than anybody needs."""
    name = random.choice((b"moov", b"trak", b"udta", b"meta", b"LIST", b"moof"))
    depth = random.choice((10, 200, 3000))
    sizes = [8 * (depth - level) + len(data) for level in range(depth)]
    order = "little" if name == b"LIST" else "big"
    if name == b"LIST":
        boxes = b"".join(name + size.to_bytes(4, order) for size in sizes)  # type: ignore[arg-type]
    else:
        boxes = b"".join(size.to_bytes(4, order) + name for size in sizes)  # type: ignore[arg-type]
    start = random.choice((0, 32, _place(random, data)))
    return data[:start] + boxes + data[start:]


DAMAGES: tuple[Callable[..., bytes], ...] = (
    _flip, _flip, _overwrite, _overwrite, _truncate, _header_alone, _take_out, _double, _splice,
    _extreme, _extreme, _extreme, _rename, _nest,
)  # fmt: skip
