"""What a refusal of Redis means for us: which lane it belongs to, and the one sentence for it.

    transient       it is away, silent, loading, failing over: the usual backoff
    configuration   a person must change something: at most one login a minute
    capacity        it has no room: trim what is ours once, then the usual backoff

Only the leading code word of a server's answer is kept, and the command that a user lacks: the rest
may quote the payload, and differs between Redis and Valkey.
"""

from __future__ import annotations

import re
from typing import Literal

import redis

from pipeline.errors import SinkUnavailable

Lane = Literal["transient", "configuration", "capacity"]

SLOW_LANE = 60.0  # seconds between attempts that need a person to change something
_COMMAND = re.compile(r"the '([\w|-]{1,40})' command")  # in a refusal for want of its right
_CODES: dict[type[BaseException], str] = {  # where redis-py does not keep the word
    redis.exceptions.OutOfMemoryError: "OOM",
    redis.exceptions.ReadOnlyError: "READONLY",
    redis.exceptions.ExecAbortError: "EXECABORT",
}


class Unavailable(SinkUnavailable):
    """SinkUnavailable with the lane that its cause belongs to."""

    def __init__(
        self, text: str, *, lane: Lane = "transient", retry_after: float | None = None
    ) -> None:
        super().__init__(text, retry_after=retry_after)
        self.lane = lane


class StreamRefused(SinkUnavailable):
    """The sink answers, and does not take this one camera's records; the others go on."""


def unavailable(error: BaseException, where: str) -> Unavailable:
    """A library's exception as one sentence in its lane."""
    if isinstance(error, redis.AuthenticationError):
        return _configuration(f"Redis at {where} refuses the user or password")
    if isinstance(error, redis.exceptions.NoPermissionError):
        wanted = _COMMAND.search(_own_words(error))
        right = f": {wanted[1].upper()}" if wanted else ""
        return _configuration(
            f"Redis at {where} does not allow this user what Vedette needs{right} (docs/redis.md)"
        )
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return Unavailable(f"Redis at {where} does not answer")
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return Unavailable(f"Redis at {where} is loading its data")
    if isinstance(error, redis.ConnectionError | OSError):
        return Unavailable(f"Redis at {where} cannot be reached")
    code = code_of(error)
    lane: Lane = "capacity" if code == "OOM" else "transient"
    return Unavailable(f"Redis at {where} refuses: {code}", lane=lane)


def code_of(error: BaseException) -> str:
    """The code word of a server's refusal: OOM, READONLY, MISCONF …

    redis-py takes the words that it knows out of the text.
    """
    known = getattr(error, "status_code", None) or _CODES.get(type(error))
    word = _own_words(error).partition(" ")[0]
    return known or (word if word.isalpha() and word.isupper() else type(error).__name__)


def is_missing(error: object) -> bool:
    """The answer of XINFO about a key that does not exist."""
    return isinstance(error, redis.ResponseError) and "no such key" in str(error)


def is_below_top(error: object) -> bool:
    """XADD was given an id that is not above the stream's last one."""
    return isinstance(error, redis.ResponseError) and "equal or smaller than" in str(error)


def _own_words(error: BaseException) -> str:
    """The server's: a pipeline puts the whole command, payload and all, in front of them."""
    return str(error).rpartition(" caused error: ")[2]


def _configuration(text: str) -> Unavailable:
    return Unavailable(text, lane="configuration", retry_after=SLOW_LANE)
