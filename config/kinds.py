"""The kinds of values that keys take: what is accepted, as a check and as words for a person.

URLs are `SecretStr`, since they may hold a password: neither `repr` nor an error shows them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, SecretStr, ValidationInfo

from config import scenes

CAMERA_SCHEMES = ("rtsp", "rtsps", "http", "https")
SYNTHETIC = "synthetic"
REDIS_SCHEMES = ("redis", "rediss", "unix")
EMBEDDED = "embedded"
OFF = "off"

_SCHEME = re.compile(r"([A-Za-z][^/:]*):")  # FFmpeg reads options before the colon: subfile,,…:
_SCHEME_NAME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\xa0]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a key takes, in words that fit behind "must be"."""

    words: str


class NotAcceptedError(ValueError):
    """Not of this kind. A text, where there is one, quotes the value and so is not always shown."""


def file_of(source: str, folder: Path) -> Path | None:
    """The file that a camera's `url` names, None for another URL; `ValueError` for the rest.

    A path counts from `folder`; `file://` URLs are decoded. Text before the first `:` is a scheme
    unless a `/` comes first, so `concat:a|b` is refused and `./concat:a` is a file.
    """
    if not source or _CONTROL.search(source):
        raise ValueError(f"found no text or a control character in it, must be {_SOURCE.words}")
    match = _SCHEME.match(source)
    if match is None:
        return (folder / source).absolute()
    scheme = match[1].lower()
    if scheme == "file":
        return _file_of_url(source[match.end() :])
    if scheme in (*CAMERA_SCHEMES, SYNTHETIC):
        return None
    raise NotAcceptedError(
        f"found {_named(match[1])}, must be {_SOURCE.words}"
        " (a file with a colon in its name: ./name)"
    )


def is_network(source: str) -> bool:
    """Whether a checked `url` is on the network, rather than a scene or the path of a file."""
    return _SCHEME.match(source) is not None and not is_synthetic(source)


def is_synthetic(source: str) -> bool:
    """Whether a checked `url` is a scene that is drawn."""
    match = _SCHEME.match(source)
    return match is not None and match[1].lower() == SYNTHETIC


def _file_of_url(rest: str) -> Path:
    host, slash, path = rest.removeprefix("//").partition("/")
    decoded = unquote(path)
    if not slash or not decoded or host not in ("", "localhost") or _CONTROL.search(decoded):
        raise ValueError("found a file URL without an absolute path, must be like file:///a/b.mp4")
    return Path("/", decoded)


def _named(scheme: str) -> str:
    name = scheme.partition(",")[0]
    known = _SCHEME_NAME.fullmatch(name) is not None and len(name) <= 16
    return f"the scheme {name}:" if known else "an unknown scheme"


def _folder(info: ValidationInfo) -> Path:
    context: Mapping[str, Path] = info.context or {}
    return context.get("folder", Path())


def _check_source(value: SecretStr, info: ValidationInfo) -> SecretStr:
    source = value.get_secret_value()
    file = file_of(source, _folder(info))
    if file is not None:
        return SecretStr(str(file))
    if is_synthetic(source):
        text = scenes.problem(source)
        if text is not None:
            raise NotAcceptedError(text)
        return value
    _split(source)
    return value


def _check_redis(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url == EMBEDDED:
        return value
    scheme, colon, rest = url.partition("://")
    if not colon or scheme.lower() not in REDIS_SCHEMES:
        name = _named(scheme) if colon else "no scheme"
        raise NotAcceptedError(f"found {name}, must be {_REDIS.words}")
    if scheme.lower() != "unix":
        _split(url)
    elif not rest.rpartition("@")[2].startswith("/"):
        raise ValueError("found no absolute path of a socket, must be like unix:///run/redis.sock")
    return value


def address_of(listen: str) -> tuple[str, int]:
    """Host and port of a checked `listen` that is not off."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(listen: str) -> bool:
    """Whether a checked `listen` is for this machine alone."""
    return listen == OFF or ip_address(address_of(listen)[0]).is_loopback


def _check_listen(value: str) -> str:
    if value == OFF:
        return value
    host, colon, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address(bare)
    except ValueError:
        raise NotAcceptedError from None
    has_brackets = bare != host
    if not colon or has_brackets != (address.version == 6) or not port.isascii():
        raise NotAcceptedError
    if not port.isdigit() or not 0 <= int(port) <= 65535:
        raise NotAcceptedError
    return value


def _check_collector(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url.partition("://")[0].lower() not in ("http", "https"):
        raise NotAcceptedError
    _split(url)
    return value


def _check_token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if not (16 <= len(token) <= 256 and token.isascii() and token.isprintable()) or " " in token:
        raise ValueError(
            f"found {len(token)} characters (not shown), must be 16 to 256 printable ones without"
            " a space"
        )
    return value


def _split(url: str) -> SplitResult:
    """The parts of a network URL; no text of these errors holds a part of the URL."""
    if _BLANK_OR_CONTROL.search(url):
        raise ValueError("found a space or a control character, must be percent-encoded (%20)")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = "", -1
    if port is not None and port < 1:
        raise ValueError(
            "found no valid host and port, must be host or host:port, with a port from 1 to 65535"
            " (in a password written here: / as %2F, # as %23, ? as %3F, @ as %40)"
        )
    if not host:
        raise ValueError("found no host, must be like scheme://host/path")
    if parts.fragment:
        raise ValueError("found a #, must be percent-encoded (%23)")
    return parts


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would take true for 1
        raise NotAcceptedError
    return value


def _some_texts(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value or not all(value):
        raise NotAcceptedError
    return value


def _path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    if not value or "://" in value or _CONTROL.search(value):
        raise NotAcceptedError
    return (_folder(info) / value).absolute()


_SOURCE = Accepts(
    "the path of a file, a file:// URL, or a URL of "
    + ", ".join(f"{s}://" for s in (*CAMERA_SCHEMES, SYNTHETIC))
)
_REDIS = Accepts("embedded or a URL of " + ", ".join(f"{s}://" for s in REDIS_SCHEMES))

_NUMBER = BeforeValidator(_no_bool)
_Side = Annotated[int, _NUMBER, Field(ge=1, le=8192)]

SourceUrl = Annotated[SecretStr, AfterValidator(_check_source), _SOURCE]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis), _REDIS]
SpoolFolder = Annotated[Path, BeforeValidator(_path), Accepts("the path of a folder")]
Transport = Annotated[Literal["tcp", "udp"], Accepts("tcp or udp")]
Decoder = Annotated[Literal["cpu", "gpu"], Accepts("cpu or gpu")]
Durability = Annotated[Literal["memory", "disk"], Accepts("memory or disk")]
FilePath = Annotated[Path, BeforeValidator(_path), Accepts("the path of a file")]
CameraId = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"),
    Accepts("1 to 64 of A-Z a-z 0-9 _ . - and not begin with . or -"),
]
KeyPrefix = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$"),
    Accepts("1 to 64 of A-Z a-z 0-9 _ . : -"),
]
Device = Annotated[
    str,
    Field(pattern=r"^(auto|cpu|cuda(:(0|[1-9][0-9]{0,2}))?)$"),
    Accepts("auto, cpu, cuda or cuda:N"),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "int8"], Accepts("auto, fp32, bf16, fp16 or int8")
]
BatchSize = Annotated[int, _NUMBER, Field(ge=1, le=1024), Accepts("a whole number from 1 to 1024")]
MostDetections = Annotated[
    int, _NUMBER, Field(ge=1, le=4000), Accepts("a whole number from 1 to 4000")
]
StreamLength = Annotated[
    int, _NUMBER, Field(ge=1, le=1_000_000_000), Accepts("a whole number from 1 to 1000000000")
]
PictureSize = Annotated[
    tuple[_Side, _Side], Accepts("[height, width], two whole numbers from 1 to 8192")
]
Share = Annotated[FiniteFloat, _NUMBER, Field(ge=0, le=1), Accepts("a number from 0 to 1")]
Rate = Annotated[FiniteFloat, _NUMBER, Field(gt=0), Accepts("a number greater than 0")]
Weight = Annotated[
    FiniteFloat, _NUMBER, Field(ge=0.01, le=100), Accepts("a number from 0.01 to 100")
]
Flag = Annotated[bool, Accepts("true or false")]
Listen = Annotated[
    str,
    AfterValidator(_check_listen),
    Accepts("off, or host:port with the host an IP address, as 127.0.0.1:9464 or [::1]:9464"),
]
CollectorUrl = Annotated[
    SecretStr, AfterValidator(_check_collector), Accepts("a URL of http:// or https://")
]
Token = Annotated[
    SecretStr,
    AfterValidator(_check_token),
    Accepts("16 to 256 printable characters without a space"),
]
OneIn = Annotated[
    int, _NUMBER, Field(ge=1, le=1_000_000_000), Accepts("a whole number from 1 to 1000000000")
]
Labels = Annotated[
    tuple[str, ...],
    AfterValidator(_some_texts),
    Accepts("a list of one or more labels, as [person, car]"),
]
