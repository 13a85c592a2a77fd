"""Texts and references that would have FFmpeg open what the config does not name, in disguise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.faults.canary import HOST

_BEGINNINGS = {  # by what `pipeline.sources.admission` knows a container
    "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "mov": b"\0\0\0\x08wide\0\0\0\x08moov",
    "mkv": b"\x1a\x45\xdf\xa3\x80",
    "avi": b"RIFF\xff\xff\0\0AVI LIST",
    "webp": b"RIFF\xff\xff\0\0WEBPVP8 ",
    "jpg": b"\xff\xd8\xff\xfe\xff\xff",
    "png": b"\x89PNG\r\n\x1a\n",
    "bmp": b"BM",
    "": b"",
}
_NAMES = ("{}", "file:{}", "file://{}", "concat:{}|{}", "subfile,,start,0,end,0,,:{}", "crypto:{}")


@dataclass(frozen=True)
class Named:
    """What a disguised file names: a clip that nobody may open, a port that nobody may call."""

    path: Path
    port: int

    def words(self, random: Random) -> str:
        """One way or another to say it."""
        if random.random() < 0.3:
            scheme = random.choice(("http", "rtsp", "tcp", "ftp", "rtmp", "hls+http"))
            return f"{scheme}://{HOST}:{self.port}/{self.path.name}"
        if random.random() < 0.5:
            return self.path.name  # there is one beside the disguised file, too
        path = random.choice((str(self.path), f"../{'/'.join(self.path.parts[-2:])}"))
        return random.choice(_NAMES).format(path, path)


def disguised(random: Random, name: str, whole: bytes, canary: Named) -> tuple[str, bytes, str]:
    """Name and bytes of a file that names the canary, and how."""
    if random.random() < 0.25:
        return name, _referring(random, whole, canary), f"{name}: refers to the canary"
    kind = random.choice((*_TEXTS, "ffconcat", "ffconcat", "m3u8", "m3u8"))
    text = _TEXTS[kind].format(canary.words(random), canary.words(random)).encode()
    if random.random() < 0.2:
        return "list.ts", _striped(text), f"{kind} as a transport stream"
    suffix = random.choice(list(_BEGINNINGS)) if random.random() < 0.7 else ""
    front = _BEGINNINGS[suffix] + (random.choice((b"", b"\n", bytes(8))) if suffix else b"")
    behind = random.choice((b"", whole, bytes(2000))) if suffix else b""
    ending = random.choice((suffix or "mp4", "mp4", "m3u8", "ffconcat", "sdp", "mjpeg"))
    return f"list.{ending}", front + text + behind, f"{kind} as {suffix or 'itself'}, .{ending}"


_TEXTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{0}'\nfile '{1}'\n",
    "m3u8": (
        '#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MAP:URI="{0}"\n'
        '#EXT-X-KEY:METHOD=AES-128,URI="{1}"\n#EXTINF:1,\n{0}\n#EXT-X-ENDLIST\n'
    ),
    "mpd": (
        '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet><Representation id="1">'
        "<BaseURL>{0}</BaseURL></Representation></AdaptationSet></Period></MPD>\n"
    ),
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n"
    "a=control:{0}\r\n",
    "url": "{0}\n{1}\n",
    "ism": '<SmoothStreamingMedia><StreamIndex Url="{0}"/></SmoothStreamingMedia>\n',
    "asx": '<asx version="3.0"><entry><ref href="{0}"/></entry></asx>\n',
    "rtsptext": "rtsptext{0}\r\n",
    "vobsub": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 0\n",
    "mlt": "[playlist]\nFile1={0}\nNumberOfEntries=1\n",
}


def _striped(text: bytes) -> bytes:
    """The text with a byte 0x47 wherever a transport stream has one."""
    padded = text.ljust(188 * 5 - 5, b"\n")
    return b"".join(b"G" + padded[start : start + 187] for start in range(0, len(padded), 187))


def _referring(random: Random, whole: bytes, canary: Named) -> bytes:
    """A QuickTime movie whose samples lie in another file (`dref`); else, a name in the middle."""
    name = str(random.choice((canary.path, canary.path.name))).encode()
    at = whole.find(b"dref")
    if at < 4:
        middle = random.randrange(len(whole))
        return whole[:middle] + canary.words(random).encode() + b"\0" + whole[middle:]
    start, end = at - 4, at - 4 + int.from_bytes(whole[at - 4 : at], "big")
    entry = random.choice((_alias(name), _box(b"url ", bytes(4) + name + b"\0")))
    put = _box(b"dref", bytes(4) + (1).to_bytes(4, "big") + entry)
    grown = bytearray(whole[:start] + put + whole[end:])
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        place = grown.find(parent) - 4
        size = int.from_bytes(grown[place : place + 4], "big") + len(put) - (end - start)
        grown[place : place + 4] = size.to_bytes(4, "big")
    return bytes(grown)


def _alias(name: bytes) -> bytes:
    """As FFmpeg reads it (`mov_read_dref`): volume, file name, and paths by type and length."""
    base = name.rpartition(b"/")[2][:63]
    fixed = bytes(10) + b"\x04disk".ljust(28, b"\0") + bytes(12)
    fixed += bytes([len(base)]) + base.ljust(63, b"\0") + bytes(16)
    fixed += (1).to_bytes(2, "big") + (1).to_bytes(2, "big") + bytes(16)  # levels from and to
    paths = b"".join(
        kind.to_bytes(2, "big") + len(name).to_bytes(2, "big") + name + bytes(len(name) % 2)
        for kind in (2, 18)
    )
    return _box(b"alis", bytes(4) + fixed + paths + b"\xff\xff\0\0")


def _box(name: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + name + content
