"""What pydantic found, said for a person: what stands there, and what is accepted instead."""

from __future__ import annotations

from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.document import Document
from config.errors import Place, quoted
from config.kinds import NotAcceptedError
from config.schema import REPEATED_IDS, accepted_at, keys_of, section_at

TEXT_EXPECTED = ("string_type", "path_type")


def refuse_all(document: Document, error: ValidationError) -> None:
    """Note every error in `document`, but for places that have a mistake already."""
    for details in error.errors():
        place = details["loc"]
        if details["type"] == "missing" and isinstance(place[-1], int):
            place = place[:-1]  # a list that is too short
        if details["type"] != REPEATED_IDS and not document.is_broken(place):
            document.refuse(place, _sentence(document, place, details))


def found(document: Document, place: Place) -> str:
    """The value at `place` as a person wrote it; none that came out of the environment."""
    value = document.at(place)
    if place in document.references:
        return f"the value of {document.references[place]}"
    if isinstance(value, bool | int | float):
        return quoted(document.written[place]).strip("'")
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return quoted(str(value))


def unknown_key(place: Place) -> str:
    """What is said of a key that the section around it does not have."""
    section = section_at(place[:-1])
    known = [] if section is None else keys_of(section)
    close = get_close_matches(str(place[-1]).lower(), known, n=1)
    if close:
        return f"unknown key; did you mean {close[0]}?"
    return f"unknown key, must be one of {', '.join(known)}"


def _sentence(document: Document, place: Place, details: ErrorDetails) -> str:
    if details["type"] == "extra_forbidden":
        return unknown_key(place)
    if details["type"] == "missing" and place not in document.lines:
        return f"is missing, must be {accepted_at(place)}"
    mistake = details.get("ctx", {}).get("error")
    if isinstance(mistake, ValueError) and str(mistake):
        hidden = isinstance(mistake, NotAcceptedError) and place in document.references
        if not hidden:
            return str(mistake)
    return f"found {found(document, place)}, must be {accepted_at(place)}"
