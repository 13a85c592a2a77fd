"""`${env:NAME}` in a text value: secrets stay in the environment, the file holds their names.

Decided here: a value is put in once and not looked through again; `$${` is a literal `${`; what is
put before the `@` of a URL is percent-encoded (RFC 3986, section 3.2.1), because FFmpeg and
redis-py decode user and password there. So the variable holds the password as it is, with any of
`@ : / % # ?`, and each part has a reference of its own: `rtsp://${env:USER}:${env:PASSWORD}@host/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from config.document import Document
from config.errors import Place, quoted

_ESCAPE_OR_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)\}|\$\{")
_ENVIRONMENT = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)")
_USERINFO = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?P<userinfo>[^/?#]*)@")


def expand(document: Document, environment: Mapping[str, str]) -> None:
    """Resolve the references in every text of `document`, in place; mistakes are noted there."""
    for place, text in _texts(document.value, ()):
        if "${" in text and not document.is_broken(place):
            _expand_text(document, place, text, environment)


def _expand_text(
    document: Document, place: Place, text: str, environment: Mapping[str, str]
) -> None:
    names: list[str] = []
    userinfo = _userinfo_span(text)

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        try:
            name = _variable(match)
            value = environment[name]
        except ValueError as error:
            document.refuse(place, str(error))
            return match[0]
        except KeyError:
            document.refuse(place, f"the environment variable {name} is not set")
            return match[0]
        names.append(f"${{env:{name}}}")
        return quote(value, safe="") if match.start() in userinfo else value

    document.put(place, _ESCAPE_OR_REFERENCE.sub(replacement, text))
    if names:
        document.references[place] = " and ".join(dict.fromkeys(names))


def _variable(match: re.Match[str]) -> str:
    inside = match["inside"]
    if inside is None:
        raise ValueError("found ${ without its }; write $${ for the two characters themselves")
    reference = _ENVIRONMENT.fullmatch(inside)
    if reference is not None:
        return reference["name"]
    kind, colon, _ = inside.partition(":")
    if colon and kind != "env":
        raise ValueError(f"found a reference of kind {quoted(kind)}, must be ${{env:NAME}}")
    raise ValueError("found ${…} without the name of a variable, must be ${env:NAME}")


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
