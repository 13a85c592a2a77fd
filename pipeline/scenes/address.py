"""A scene as a URL: `synthetic://street?seed=3&time=night&weather=rain&frames=600`.

The host is the place, or `any`. What may follow, each once: `seed`, `time`, `weather`, `frames`
(how many there are), `fps`, and `size` as WIDTHxHEIGHT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from pipeline.errors import SourceRefused
from pipeline.scenes.light import TIMES, WEATHERS
from pipeline.scenes.setting import ANY, LARGEST_SIDE, SMALLEST_SIDE, Setting
from pipeline.scenes.street import PLACES

SCHEME = "synthetic"
FRAMES = 1500  # a minute, where the URL does not say
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_ENDS = {"seed": (0, 10**9 - 1), "frames": (1, 10**7), "fps": (1, 60)}
_WORDS = {"time": TIMES, "weather": WEATHERS}


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says."""

    setting: Setting
    frames: int


def parse(url: str) -> Address:
    """Raises `SourceRefused` with what is accepted in place of what was found."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _refusal("what is not a URL", f"like {SCHEME}://street?seed=3") from None
    if parts.netloc not in (ANY, *PLACES) or parts.path not in ("", "/") or parts.fragment:
        raise _refusal("another place", f"{SCHEME}://PLACE, of {_list((ANY, *PLACES))}")
    words: dict[str, str] = {"place": parts.netloc}
    numbers: dict[str, int] = {"seed": 0, "frames": FRAMES, "fps": 25}
    size = Setting(0).size
    seen: set[str] = set()
    for key, value in pairs:
        if key in seen:
            raise _refusal(f"{key} twice", "each once")
        seen.add(key)
        if key in _WORDS:
            words[key] = _word(key, value)
        elif key in _ENDS:
            numbers[key] = _number(key, value)
        elif key == "size":
            size = _size(value)
        else:
            accepted = _list((*_ENDS, *_WORDS, "size"))
            raise _refusal(f"the key {key[:20]!r}", f"one of {accepted}")
    setting = Setting(numbers["seed"], size=size, rate=float(numbers["fps"]), **words)
    return Address(setting, numbers["frames"])


def _word(key: str, value: str) -> str:
    accepted = (ANY, *_WORDS[key])
    if value not in accepted:
        raise _refusal(f"{key}={value[:20]}", _list(accepted))
    return value


def _number(key: str, value: str) -> int:
    low, high = _ENDS[key]
    if not re.fullmatch("[0-9]{1,9}", value) or not low <= int(value) <= high:
        raise _refusal(f"{key}={value[:20]}", f"a whole number from {low} to {high}")
    return int(value)


def _size(value: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(value)
    sides = (int(match[2]), int(match[1])) if match else (0, 0)
    if any(side % 2 or not SMALLEST_SIDE <= side <= LARGEST_SIDE for side in sides):
        ends = f"{SMALLEST_SIDE} to {LARGEST_SIDE}"
        raise _refusal(f"size={value[:20]}", f"WIDTHxHEIGHT, even numbers from {ends}")
    return sides


def _refusal(found: str, accepted: str) -> SourceRefused:
    return SourceRefused(f"a scene's URL has {found}, must be {accepted}")


def _list(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
