"""`synthetic://PLACE?key=value&…`: what a camera's URL may say of a scene that is drawn.

The words are those of `pipeline/scenes/address.py`, which this room may not import; a test
compares the two.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

PLACES = ("any", "street", "avenue", "square")
_WORDS = {
    "time": ("any", "day", "dusk", "night"),
    "weather": ("any", "clear", "overcast", "rain"),
}
_NUMBERS = {"seed": (0, 10**9 - 1), "frames": (1, 10**7), "fps": (1, 60)}
_SIDES = (64, 4096)
KEYS = (*_NUMBERS, *_WORDS, "size")


def problem(url: str) -> str | None:
    """What is wrong with a `synthetic:` URL, as "found …, must be …"; None: nothing."""
    try:
        parts = urlsplit(url)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return "found no keys and values behind the ?, must be like seed=3&time=night"
    if parts.netloc not in PLACES or parts.path not in ("", "/") or parts.fragment:
        return f"found another place, must be synthetic://PLACE, of {', '.join(PLACES)}"
    keys = [key for key, _ in pairs]
    for key, value in pairs:
        accepted = _accepted(key, value)
        if accepted is not None:
            return f"found {key[:16]}={value[:16]}, must be {accepted}"
        if keys.count(key) > 1:
            return f"found {key} twice, must be there once"
    return None


def _accepted(key: str, value: str) -> str | None:
    """What must stand in place of a key's value; None: it is right."""
    if key in _WORDS:
        words = _WORDS[key]
        return None if value in words else f"one of {', '.join(words)}"
    if key in _NUMBERS:
        low, high = _NUMBERS[key]
        right = re.fullmatch("[0-9]{1,9}", value) and low <= int(value) <= high
        return None if right else f"a whole number from {low} to {high}"
    if key == "size":
        match = re.fullmatch("([0-9]{1,4})x([0-9]{1,4})", value)
        sides = [int(side) for side in match.groups()] if match else [1]
        right = all(_SIDES[0] <= side <= _SIDES[1] and side % 2 == 0 for side in sides)
        return None if right else f"WIDTHxHEIGHT, even numbers from {_SIDES[0]} to {_SIDES[1]}"
    return f"one of the keys {', '.join(KEYS)}"
