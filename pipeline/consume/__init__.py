"""Reading what is published.

`follow` is for one reader that keeps its own place: every entry behind it, as they come.
`Consumer` and `AsyncConsumer` are for services: Redis keeps the place of their group, an entry is
theirs until they say that it is done, and what they do not get comes as a `Gap` or as `Lost`.
"""

from __future__ import annotations

from pipeline.consume.asynchronous import AsyncConsumer
from pipeline.consume.consumer import Consumer
from pipeline.consume.entries import Entry, Gap, Lag, Lost, Notice, Raw, log_notice, understand
from pipeline.consume.following import follow, follow_raw
from pipeline.consume.steps import Item, Settings

__all__ = [
    "AsyncConsumer",
    "Consumer",
    "Entry",
    "Gap",
    "Item",
    "Lag",
    "Lost",
    "Notice",
    "Raw",
    "Settings",
    "follow",
    "follow_raw",
    "log_notice",
    "understand",
]
