"""Who is let in: a URL becomes exactly what FFmpeg is told to open, or is refused.

FFmpeg understands much more than video: text files that name other files, URL schemes that
join, cut or fetch. So the scheme is parsed here, a file's format is known by its first bytes
before FFmpeg sees it and is then the only one it may try.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import SourceError, SourceRefused, host_shown, redact
from pipeline.sources import USUAL, Access, ends

OPEN_SECONDS = 10.0  # a camera that has not answered by then is not there
READ_SECONDS = 5.0  # a live stream that is silent for so long has stalled
_MICROSECONDS = str(round(READ_SECONDS * 1e6))

_VIDEO = ("h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4")
_OLD_AVI = ("msmpeg4v1", "msmpeg4v2", "msmpeg4")  # the last is version 3
_STILL = ("mjpeg", "png", "bmp", "webp")
CODECS = frozenset((*_VIDEO, *_OLD_AVI, *_STILL))  # by FFmpeg's names of its decoders
ACCEPTED = "an mp4, mov, mkv, webm, avi or MPEG-TS video, or a JPEG, PNG, BMP or WebP picture"
_SCHEMES = "rtsp, rtsps, http, https, synthetic, or the path of a regular file"
_PICTURES = {b"\xff\xd8\xff": "jpeg_pipe", b"\x89PNG\r\n\x1a\n": "png_pipe", b"BM": "bmp_pipe"}
_MOV_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
_OF_A_KIND = {  # what else is not a regular file, in words
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Admission:
    """What was let in, and all that `av.open` is told about it."""

    shown: str  # for people: no credentials
    address: str = field(repr=False)
    format: str | None  # the only one to try; None: one of the options' white list
    options: dict[str, str]
    network: bool
    still: bool = False  # one picture, whatever follows it
    cut_short: bool = False  # the file ends before its own headers say


def admit(url: str, *, loop: bool, access: Access = USUAL) -> Admission:
    """What `url` stands for. Raises `SourceRefused`, or `SourceError` for what may yet come."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _admit_file(url)
    if scheme == "file":
        return _admit_file(rest)
    if scheme not in ("rtsp", "rtsps", "http", "https"):
        shown = f"{redact(url)!r} has the scheme {scheme!r}"
        raise SourceRefused(f"{shown}, which is not one of {_SCHEMES}")
    if loop:
        raise SourceRefused(f"{host_shown(url)} is a stream, and only a file can loop")
    is_rtsp = scheme.startswith("rtsp")
    options, only = _rtsp(scheme, access) if is_rtsp else _http(scheme, access)
    return Admission(host_shown(url), url, only, options, network=True)


def _rtsp(scheme: str, access: Access) -> tuple[dict[str, str], str]:
    options = {
        "rtsp_transport": access.transport,  # of UDP, lost packets are smears in the picture
        "timeout": _MICROSECONDS,  # of the socket; `stimeout` and `rw_timeout` are ignored
        "allowed_media_types": "video",  # packets of sound would hide that the video has stopped
        "protocol_whitelist": "rtsp,rtp,tcp" + ",udp" * (access.transport == "udp"),
        "analyzeduration": "500000",
    }
    if scheme == "rtsps":
        options |= {"protocol_whitelist": "rtsp,rtsps,rtp,tcp,tls", **_tls(access)}
    return options, "rtsp"


def _http(scheme: str, access: Access) -> tuple[dict[str, str], None]:
    options = {
        "timeout": _MICROSECONDS,
        "max_redirects": "0",  # the config says which host is read, not the host
        "format_whitelist": "mpjpeg,mpegts",
        "protocol_whitelist": "http,tcp",
        "analyzeduration": "500000",
    }
    if scheme == "https":
        options |= {"protocol_whitelist": "https,tls,tcp", **_tls(access)}
    return options, None


def _tls(access: Access) -> dict[str, str]:
    """FFmpeg believes any certificate unless it is told not to."""
    if not access.tls_verify:
        return {}
    authorities = ssl.get_default_verify_paths().cafile
    return {"tls_verify": "1"} | ({"ca_file": authorities} if authorities else {})


def _admit_file(path: str) -> Admission:
    size = _regular_size(path)
    try:
        with Path(path).open("rb") as file:
            kind = _kind(file.read(1024))
            if kind is None:
                raise SourceRefused(f"{path} is not {ACCEPTED}")
            names, cut_short = ends.outline(file, kind, size)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    if kind == "mov" and b"moov" not in names:
        missing = "its index (moov) is missing: the file is cut short, or was never finished"
        raise SourceError(f"{path} cannot be played, {missing}")
    # `file:` makes the rest a name and nothing else, whatever it looks like.
    options = {"protocol_whitelist": "file", "format_whitelist": _whitelist(kind)}
    moving = Path(path).suffix.lower() in (".mjpeg", ".mjpg")
    return Admission(
        shown=path,
        address=f"file:{path}",
        format=kind,
        options=options,
        network=False,
        still=kind.endswith("_pipe") and not moving,
        cut_short=cut_short,
    )


def _regular_size(path: str) -> int:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise SourceError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path!r} cannot be opened: {error}") from None
    if not stat.S_ISREG(status.st_mode):
        found = _OF_A_KIND.get(stat.S_IFMT(status.st_mode), "something else")
        raise SourceRefused(f"{path} is {found}, not a regular file")
    if status.st_size == 0:
        raise SourceRefused(f"{path} is empty")
    return status.st_size


def _whitelist(kind: str) -> str:
    names = {"mov": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm"}
    return names.get(kind, kind)


def _kind(head: bytes) -> str | None:
    """FFmpeg's name of the format that a file's first bytes show, None for anything else."""
    if head[4:8] in _MOV_BOXES:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF"):
        return {b"AVI ": "avi", b"WEBP": "webp_pipe"}.get(head[8:12])
    for magic, name in _PICTURES.items():
        if head.startswith(magic):
            return name
    return "mpegts" if _is_transport_stream(head) else None


def _is_transport_stream(head: bytes) -> bool:
    """A byte 0x47 begins each packet of 188 bytes, or of 192 with a time code before it."""
    return any(
        start + 3 * length < len(head) and all(head[start + n * length] == 0x47 for n in range(4))
        for length in (188, 192)
        for start in range(length)
    )
