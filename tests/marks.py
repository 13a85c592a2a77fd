"""Which rows of a table are for `make test`, and which for `make test-slow`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

WAYS = [  # codec and transport
    ("h264", "tcp"),
    ("h264", "udp"),
    *(
        pytest.param(codec, transport, marks=pytest.mark.slow)
        for codec in ("hevc", "mjpeg")
        for transport in ("tcp", "udp")
    ),
]


def first_now(values: Sequence[Any]) -> list[Any]:
    """The first in `make test`, the others in `make test-slow`."""
    return [values[0], *(pytest.param(value, marks=pytest.mark.slow) for value in values[1:])]


def first_row_now(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """The same for several arguments at once."""
    return [rows[0], *(pytest.param(*row, marks=pytest.mark.slow) for row in rows[1:])]
