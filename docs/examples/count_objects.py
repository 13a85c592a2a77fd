"""Counts what every camera saw, by label, into an SQLite file: python count_objects.py URL FILE

Kill it whenever you like, and start it again: every frame counts exactly once. Redis promises that
a frame comes at least once; the primary key of `frames` sees to it that it counts at most once,
because the frame and its counts are written in one transaction.
"""

from __future__ import annotations

import sqlite3
import sys

from pipeline.consume import Consumer, Gap, Item, Lost
from pipeline.errors import SinkUnavailable
from pipeline.wire import DetectionsMessage

TABLES = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS frames (
        camera TEXT, session TEXT, seq INTEGER, PRIMARY KEY (camera, session, seq)
    );
    CREATE TABLE IF NOT EXISTS counts (
        camera TEXT, label TEXT, objects INTEGER, PRIMARY KEY (camera, label)
    );
    CREATE TABLE IF NOT EXISTS gaps (
        stream TEXT, before TEXT, kind TEXT, frames INTEGER, PRIMARY KEY (stream, before, kind)
    );
"""


def main() -> None:
    url, file = sys.argv[1:]
    database = sqlite3.connect(file)
    database.executescript(TABLES)
    # The name is this process' own, and the same after a restart: what it had not done comes first.
    with Consumer(url, group="counter", name="counter-1", prefix="vedette") as consumer:
        for item in consumer:
            with database:  # one transaction
                take_in(database, item)
            consumer.done(item)


def take_in(database: sqlite3.Connection, item: Item) -> None:
    if isinstance(item, Gap):
        row = (item.key, item.before, item.kind, item.frames)
        database.execute("INSERT OR IGNORE INTO gaps VALUES (?, ?, ?, ?)", row)
    elif isinstance(item, Lost):  # trimmed, unreadable or dead
        print(item, file=sys.stderr)
    elif isinstance(item.message, DetectionsMessage):
        count(database, item.message)
    else:
        print(f"{item.camera}: {item.message.state}: {item.message.reason}")


def count(database: sqlite3.Connection, message: DetectionsMessage) -> None:
    row = (message.camera, message.session, message.seq)
    if not database.execute("INSERT OR IGNORE INTO frames VALUES (?, ?, ?)", row).rowcount:
        return  # it has been counted before
    for detection in message.detections:
        database.execute(
            "INSERT INTO counts VALUES (?, ?, 1) "
            "ON CONFLICT (camera, label) DO UPDATE SET objects = objects + 1",
            (message.camera, detection.label),
        )


if __name__ == "__main__":
    try:
        main()
    except SinkUnavailable as error:  # it was never there: whoever started this tries again
        sys.exit(str(error))
