"""The errors that cross a module boundary.

    VedetteError
    ├── ConfigError          the file or the call is wrong; nothing has started (exit code 2)
    ├── WeightsError         a weights file is not what it should be (exit code 2 before a run)
    ├── SourceError          a camera or a file cannot be read, or not to its end
    │   └── SourceRefused    …because of what it is, or of who asks: hardly worth another try
    ├── ChannelClosed        the process at the other end of a socket is gone
    └── SinkUnavailable      the place that results go to does not take them now; try again
        └── …                by cause: `pipeline/sinks/lanes.py`

The text of each is one sentence for a person: what was found, where, and what is accepted. No
text holds a password (`redact` is applied where a library's exception is caught).
"""

from __future__ import annotations

import re

_USERINFO = re.compile(r"(?<=://)\S*@")
_SECRET_QUERY = re.compile(r"(?i)\b(pass|passwd|password|pwd|token|secret|auth|key)=[^&\s'\"]+")


class VedetteError(Exception):
    """Anything that Vedette says itself, rather than a library below it."""


class ConfigError(VedetteError):
    """The config file or the command line is wrong, which is knowable before anything starts."""


class WeightsError(VedetteError):
    """A weights file or checkpoint is unreadable, unknown or does not fit."""


class SourceError(VedetteError):
    """A camera or file that cannot be read, or whose end is missing.

    `fault` is who is to blame: network, camera (or the file in its place), decoder.
    """

    def __init__(self, text: str, *, fault: str = "camera") -> None:
        super().__init__(text)
        self.fault = fault


class SourceRefused(SourceError):
    """A source that is refused for what it is (not a video, a playlist, a protocol, a codec), or
    that refuses the credentials.
    """


class ChannelClosed(VedetteError):
    """The peer of a socket has gone: it ended, or it was killed."""


class SinkUnavailable(VedetteError):
    """The sink cannot take records now. `retry_after` is in seconds, None for the usual backoff."""

    def __init__(self, text: str, *, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def host_shown(url: str) -> str:
    """A network URL for people, as far as its host: `rtsp://***@10.0.0.5:554/…`.

    What stands behind it may be a password too, by whatever name a camera has for that.
    """
    scheme, _, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    host, *more = re.split(r"[/?#]", place, maxsplit=1)
    return f"{scheme}://{'***@' if at else ''}{host}{'/…' if any(more) else ''}"


def redact(text: str) -> str:
    """`text` without the credentials of any URL in it: `rtsp://***@host/…`, `?password=***`.

    A password may itself hold `@ / : ? #` and quotes, so everything up to the last `@` before
    white space is taken for user information.
    """
    return _SECRET_QUERY.sub(r"\1=***", _USERINFO.sub("***@", text))
