"""Entries per second of the publisher on loopback, beside the two obvious ways of doing it.

    .venv/bin/python benchmarks/publishing.py [--entries 5000] [--rounds 5] [--detections 20]

Every way begins with the same messages, encodes them and writes the same three fields; they take
turns in one run, against one server, so that a busy machine is busy for all of them. Printed are
the medians, and the publisher's ratio to each of the others.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.sinks.connection import connect
from pipeline.sinks.redis import BATCH
from pipeline.wire import DetectionsMessage, to_json, traceparent
from workers.bench.publishing import KEYS, message, publish
from workers.embedded import EmbeddedRedis

Way = Callable[[str, list[DetectionsMessage]], None]


def main() -> None:
    arguments = parse()
    messages = [message(seq, arguments.detections) for seq in range(arguments.entries)]
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder)) as server:
        client = connect(server.url, timeout=30)
        client.config_set("appendonly", "no")  # the clients are measured, not the disk
        for _ in range(arguments.rounds):
            for name, way in WAYS.items():
                client.flushall()
                began = time.perf_counter()
                way(server.url, messages)
                rates[name].append(len(messages) / (time.perf_counter() - began))
                assert client.xlen(KEYS.detections) == len(messages)
        trip = round_trip(client)
        client.close()
    print(f"a PING takes {trip * 1e6:.0f} µs: the less it is, the less a pipeline gains")
    show(rates, arguments)


def one_by_one(url: str, messages: list[DetectionsMessage]) -> None:
    """(a) One blocking XADD for each message."""
    with connect(url, timeout=30) as client:
        for one in messages:
            add(client, one)


def plain_pipeline(url: str, messages: list[DetectionsMessage]) -> None:
    """(b) redis-py's pipeline without a transaction, executed every 50 messages."""
    with connect(url, timeout=30) as client:
        for first in range(0, len(messages), BATCH):
            pipeline = client.pipeline(transaction=False)
            for one in messages[first : first + BATCH]:
                add(pipeline, one)
            pipeline.execute()


def round_trip(client: redis.Redis) -> float:
    """Seconds of the fastest of many PINGs."""
    fastest = float("inf")
    for _ in range(500):
        began = time.perf_counter()
        client.ping()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest


WAYS: dict[str, Way] = {
    "one XADD a message": one_by_one,
    "plain pipeline of 50": plain_pipeline,
    "publisher": publish,
}


def add(client: redis.Redis, one: DetectionsMessage) -> None:
    fields = {
        "schema": one.schema,
        "data": to_json(one),
        "traceparent": traceparent(one.camera, one.session, one.seq),
    }
    client.xadd(KEYS.detections, fields)  # type: ignore[arg-type]


def show(rates: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    ours = median(rates["publisher"])
    size = len(to_json(message(0, arguments.detections)))
    print(
        f"{arguments.entries} entries of {size} bytes, {arguments.rounds} rounds, "
        f"redis-py {redis.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for name, values in rates.items():
        print(
            f"{name:22} {median(values):8,.0f} entries/s  ({min(values):,.0f} … "
            f"{max(values):,.0f})  publisher ÷ this: {ours / median(values):.2f}"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Entries/s of the publisher, and beside it.")
    parser.add_argument("--entries", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--detections", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
