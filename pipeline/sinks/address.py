"""The URL of a Redis: what of it is accepted, and what of it may be shown. Imports no redis."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlsplit

from pipeline.errors import ConfigError

_OPTIONS = frozenset(("db", "username", "password"))
_TLS_OPTIONS = frozenset(
    ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")  # none that verifies less
)
UNREADABLE = (
    "the Redis URL cannot be read, must be like redis://user:password@host:6379/0 "
    "(in a password: / as %2F, # as %23, ? as %3F, @ as %40)"
)


def check_url(url: str) -> None:
    """Raises ConfigError for a URL that is none, or whose options would overrule ours.

    redis-py lets a URL's query set every argument of the connection, retries and timeouts too.
    """
    parts = _split(url)
    accepted = _OPTIONS | (_TLS_OPTIONS if parts.scheme == "rediss" else frozenset())
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if name not in accepted:
            raise ConfigError(
                f"the Redis URL has an option that is not one of {', '.join(sorted(accepted))}"
            )


def place(url: str) -> str:
    """Where a Redis URL points, without its credentials. Raises ConfigError."""
    parts = _split(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it is what checks it
        (parts.hostname or "").encode("idna")  # as the resolver will
    except ValueError:  # its text quotes what may be a part of the password
        raise ConfigError(UNREADABLE) from None
    return parts
