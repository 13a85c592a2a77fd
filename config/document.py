"""YAML text → plain data and the line of everything in it. Hostile files end in a sentence.

PyYAML only scans and parses here; nothing of its constructors or resolvers runs. Decided here:
- plain scalars mean what the core schema of YAML 1.2 says (https://yaml.org/spec/1.2.2/#103-core-
  schema): `no`, `on`, `12:34:56` and dates are text; how a number was written is remembered, so
  that a text field can have `0123` as it stands in the file;
- anchors, aliases, tags, a second document, a key twice in one mapping and more than 16 levels
  are mistakes. Reading goes on where that makes sense, so that all mistakes come at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from config.errors import Mistake, Place, field_name, quoted

MOST_LEVELS = 16

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,30}")
_BASED = re.compile(r"0o[0-7]{1,30}|0x[0-9a-fA-F]{1,30}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_CLEARER = {
    "found character '\\t' that cannot start any token": "found a tab; indent with spaces",
    "could not find expected ':'": "found a key without ':' behind it",
    "mapping values are not allowed here": (
        "found ': ' where no key may stand; check the indentation, or put the text in quotes"
    ),
    "expected <block end>, but found '<block mapping start>'": (
        "found an indentation that does not fit the lines above"
    ),
    "expected <block end>, but found '-'": "found an indentation that does not fit the lines above",
}


@dataclass(slots=True)
class Document:
    """A file as plain data (`value`: dict, list, str, int, float, bool, None) with its lines."""

    value: Any = field(default=None, repr=False)  # may hold passwords
    readable: bool = False  # False: there is nothing to validate, see `mistakes`
    lines: dict[Place, int] = field(default_factory=dict)
    written: dict[Place, str] = field(default_factory=dict)  # numbers, true, false: their text
    references: dict[Place, str] = field(default_factory=dict)  # values made of `${…}`: which ones
    files: list[Path] = field(default_factory=list)  # that references name
    mistakes: list[Mistake] = field(default_factory=list)
    broken: set[Place] = field(default_factory=set)  # told about already; what lies below, too

    def line(self, place: Place) -> int | None:
        """The line of `place`, or of the nearest thing around it that stands in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place) if place else None

    def mistake(self, place: Place, text: str) -> Mistake:
        """A mistake at `place`, with its line."""
        return Mistake(self.line(place), field_name(place), text)

    def refuse(self, place: Place, text: str) -> None:
        """Note a mistake at `place`; nothing more is said about it or what lies below it."""
        self.mistakes.append(self.mistake(place, text))
        self.broken.add(place)

    def is_broken(self, place: Place) -> bool:
        """Whether a mistake at `place`, or at something around it, has been noted."""
        return any(place[:end] in self.broken for end in range(len(place) + 1))

    def at(self, place: Place) -> Any:
        """The value at `place`, None where there is none."""
        value = self.value
        for step in place:
            inside = isinstance(value, dict) and step in value
            inside = inside or (isinstance(value, list) and step in range(len(value)))
            if not inside:
                return None
            value = value[step]
        return value

    def put(self, place: Place, value: Any) -> None:
        """Replace the value at `place`, which exists."""
        around = self.value
        for step in place[:-1]:
            around = around[step]
        around[place[-1]] = value


def read(text: str) -> Document:
    """The one document in `text`. Never raises: what is wrong is in `mistakes`."""
    document = Document()
    try:
        events = _Events(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.mistakes.append(Mistake(line, "", "found a control character; YAML is text"))
        return document
    try:
        _read_stream(events, document)
    except yaml.MarkedYAMLError as error:
        document.mistakes.append(_syntax_mistake(error))
        document.readable = False
    except (ValueError, OverflowError):  # PyYAML's, for "\U99999999" and a %YAML version too long
        line = events.line()
        document.mistakes.append(Mistake(line, "", "found a character number that does not exist"))
        document.readable = False
    return document


class _Events:
    """The parser's events, one by one, read no further than asked for."""

    def __init__(self, text: str) -> None:
        self._loader = yaml.SafeLoader(text)

    def next(self) -> Any:
        return self._loader.get_event()  # type: ignore[no-untyped-call]

    def peek(self) -> Any:
        return self._loader.peek_event()  # type: ignore[no-untyped-call]

    def line(self) -> int:
        """The line that the scanner has come to, from 1."""
        return int(self._loader.get_mark().line) + 1


class _TooDeep(yaml.MarkedYAMLError):
    """More levels than any config needs; stops the reading before they cost anything."""


def _read_stream(events: _Events, document: Document) -> None:
    events.next()  # the stream's start
    if isinstance(events.next(), yaml.StreamEndEvent):
        document.mistakes.append(Mistake(None, "", "the file is empty, must hold a pipeline"))
        return
    document.value = _read_node(events, document, ())
    document.readable = True
    events.next()  # the document's end
    if isinstance(events.peek(), yaml.DocumentStartEvent):
        line = events.peek().start_mark.line + 1
        text = "found a second document ('---'), must be one document"
        document.mistakes.append(Mistake(line, "", text))


def _read_node(events: _Events, document: Document, place: Place) -> Any:
    event = events.next()
    mark = event.start_mark
    document.lines.setdefault(place, mark.line + 1)
    if len(place) > MOST_LEVELS:
        raise _TooDeep(problem=f"more than {MOST_LEVELS} levels", problem_mark=mark)
    _refuse_indirection(event, document, place)
    if isinstance(event, yaml.ScalarEvent):
        return _read_scalar(event, document, place)
    if isinstance(event, yaml.SequenceStartEvent):
        return _read_list(events, document, place)
    if isinstance(event, yaml.MappingStartEvent):
        return _read_mapping(events, document, place)
    return None  # an alias, which has been refused


def _refuse_indirection(event: yaml.Event, document: Document, place: Place) -> None:
    if isinstance(event, yaml.AliasEvent):
        document.refuse(place, "found an alias (*), must be written out")
    elif isinstance(event, yaml.NodeEvent) and event.anchor is not None:
        document.refuse(place, "found an anchor (&), must be written without")
    tag = getattr(event, "tag", None)
    if tag is not None:
        name = quoted(tag.replace("tag:yaml.org,2002:", "!!"))
        document.refuse(place, f"found the tag {name}, must be written without")


def _read_list(events: _Events, document: Document, place: Place) -> list[Any]:
    items: list[Any] = []
    while not isinstance(events.peek(), yaml.SequenceEndEvent):
        items.append(_read_node(events, document, (*place, len(items))))
    events.next()
    return items


def _read_mapping(events: _Events, document: Document, place: Place) -> dict[str, Any]:
    items: dict[str, Any] = {}
    while not isinstance(events.peek(), yaml.MappingEndEvent):
        line = events.peek().start_mark.line + 1
        key = _read_key(events, document, place)
        at = (*place, key)
        if key in items:
            text = f"found this key again, line {document.lines[at]} has it, must stand once"
            document.mistakes.append(Mistake(line, field_name(at), text))
            _read_node(events, Document(), at)  # the first value stays, with its lines
            continue
        document.lines[at] = line
        items[key] = _read_node(events, document, at)
    events.next()
    return items


def _read_key(events: _Events, document: Document, place: Place) -> str:
    event = events.peek()
    if isinstance(event, yaml.ScalarEvent) and event.anchor is None and event.tag is None:
        events.next()
        return event.value
    line = event.start_mark.line + 1
    text = "found a key that is not plain text; a text that begins with { [ * & or ! needs quotes"
    document.mistakes.append(Mistake(line, field_name(place), text))
    _read_node(events, Document(), (*place, ""))
    key = f"line {line}"  # so that reading goes on; never looked at
    document.broken.add((*place, key))
    return key


def _read_scalar(event: yaml.ScalarEvent, document: Document, place: Place) -> Any:
    text = event.value
    if event.style is not None:  # quoted, or a block: always text
        return text
    value = _resolve(text)
    if value is not None and not isinstance(value, str):
        document.written[place] = text
    return value


def _resolve(text: str) -> str | int | float | bool | None:
    """A plain scalar by the core schema of YAML 1.2; ints beyond 30 digits become floats."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, base=0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _syntax_mistake(error: yaml.MarkedYAMLError) -> Mistake:
    problem = error.problem or "not YAML"
    mark = error.problem_mark or error.context_mark
    if problem == "could not find expected ':'":  # noticed a line late
        mark = error.context_mark
    text = _CLEARER.get(problem, f"not readable as YAML: {problem}")
    return Mistake(None if mark is None else mark.line + 1, "", text)
