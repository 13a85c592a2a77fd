"""`${env:NAME}` and `${file:PATH}` in a text value: secrets stay elsewhere, the file names them.

Decided here: a value is put in once and not looked through again; `$${` is a literal `${`; what is
put before the `@` of a URL is percent-encoded (RFC 3986, section 3.2.1), because FFmpeg and
redis-py decode user and password there. So the variable holds the password as it is, with any of
`@ : / % # ?`, and each part has a reference of its own: `rtsp://${env:USER}:${env:PASSWORD}@host/`.
Of a file the text is put in, without the end of its last line; paths count from the config file.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from config.document import Document
from config.errors import Place, quoted

_ESCAPE_OR_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)\}|\$\{")
_ENVIRONMENT = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)")
_FILE = re.compile(r"file:(?P<path>[^\x00-\x1f]+)")
_MOST_BYTES = 65_536  # of a secret
_USERINFO = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?P<userinfo>[^/?#]*)@")


def expand(document: Document, environment: Mapping[str, str], folder: Path) -> None:
    """Resolve the references in every text of `document`, in place; mistakes are noted there.

    `folder` is what paths count from.
    """
    for place, text in _texts(document.value, ()):
        if "${" in text and not document.is_broken(place):
            _expand_text(document, place, text, environment, folder)


def _expand_text(
    document: Document, place: Place, text: str, environment: Mapping[str, str], folder: Path
) -> None:
    names: list[str] = []
    userinfo = _userinfo_span(text)

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        try:
            value = _value(match["inside"], environment, document, folder)
        except ValueError as error:
            document.refuse(place, str(error))
            return match[0]
        names.append(match[0])
        return quote(value, safe="") if match.start() in userinfo else value

    document.put(place, _ESCAPE_OR_REFERENCE.sub(replacement, text))
    if names:
        document.references[place] = " and ".join(dict.fromkeys(names))


def _value(
    inside: str | None, environment: Mapping[str, str], document: Document, folder: Path
) -> str:
    """What a reference stands for. Raises ValueError with what is wrong with it."""
    if inside is None:
        raise ValueError("found ${ without its }; write $${ for the two characters themselves")
    if (reference := _ENVIRONMENT.fullmatch(inside)) is not None:
        if reference["name"] not in environment:
            raise ValueError(f"the environment variable {reference['name']} is not set")
        return environment[reference["name"]]
    if (reference := _FILE.fullmatch(inside)) is not None:
        path = (folder / reference["path"]).absolute()
        document.files.append(path)
        return _secret(path)
    kind, colon, _ = inside.partition(":")
    accepted = "must be ${env:NAME} or ${file:PATH}"
    if colon and kind not in ("env", "file"):
        raise ValueError(f"found a reference of kind {quoted(kind)}, {accepted}")
    raise ValueError(f"found ${{…}} without a name or a path, {accepted}")


def _secret(path: Path) -> str:
    """The text of a file. Raises ValueError with what is wrong with it."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(f"found no file at {path}, must be a file with a secret in it")
        if mode & stat.S_IWOTH:
            raise ValueError(f"{path} may be written to by everybody: chmod o-w it")
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{path} holds more than {_MOST_BYTES:,} bytes, must be a secret")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError(f"{path} holds what is no text in UTF-8") from None


def _userinfo_span(text: str) -> range:
    """Where the user information of a URL stands; what is inside of references does not count."""
    masked = _ESCAPE_OR_REFERENCE.sub(lambda match: "x" * len(match[0]), text)
    match = _USERINFO.match(masked)
    return range(0) if match is None else range(*match.span("userinfo"))


def _texts(value: Any, place: Place) -> list[tuple[Place, str]]:
    if isinstance(value, str):
        return [(place, value)]
    steps: Any = ()
    if isinstance(value, dict):
        steps = value.items()
    elif isinstance(value, list):
        steps = enumerate(value)
    return [text for step, item in steps for text in _texts(item, (*place, step))]
