"""What the publisher costs alone, beside the least that one can do.

Both are given the same messages, the least has them as bytes; they take turns, against one server.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from pipeline.sinks.connection import connect
from pipeline.sinks.redis import BATCH, RedisSink
from pipeline.sinks.window import Keys
from pipeline.wire import (
    Detection,
    DetectionsMessage,
    Model,
    Timing,
    to_json,
    traceparent,
)

DETECTIONS = 5  # in a message
KEYS = Keys.of("benchmark", "gate")
_MESSAGES = 2_000
_PLAIN = "benchmark:plain"


def measure(url: str, seconds: float) -> dict[str, float]:
    """Messages/s of both, and CPU µs a message of the publisher: medians of some rounds."""
    messages = [message(seq, DETECTIONS) for seq in range(_MESSAGES)]
    ready = fields_of(messages)
    rates: dict[str, list[float]] = {"publish_rate": [], "plain_rate": []}
    spent: list[float] = []
    ends = time.monotonic() + seconds
    with connect(url, timeout=30) as client:
        while time.monotonic() < ends or len(spent) < 2:
            began, cpu = time.perf_counter(), time.process_time()
            publish(url, messages)
            rates["publish_rate"].append(len(messages) / (time.perf_counter() - began))
            spent.append(time.process_time() - cpu)
            began = time.perf_counter()
            send_ready(url, ready)
            rates["plain_rate"].append(len(messages) / (time.perf_counter() - began))
            client.delete(_PLAIN, KEYS.detections)
    middle = {name: median(found[1:]) for name, found in rates.items()}  # the first is to warm up
    return {**middle, "publish_us": 1e6 * median(spent[1:]) / len(messages)}


def publish(url: str, messages: list[DetectionsMessage]) -> None:
    """Our way: explicit ids, a lease, MULTI/EXEC, confirmations, the replay window."""
    sink = RedisSink(url)
    stream = sink.open(KEYS, live=True, maxlen=None, limit=BATCH)
    for one in messages:
        stream.window.append(one)
        if len(stream.window) == BATCH:
            sink.write(stream)
    while len(stream.window):
        sink.write(stream)
    sink.close()


def fields_of(messages: list[DetectionsMessage]) -> list[dict[str, Any]]:
    """What the entries hold, as bytes."""
    return [
        {
            "schema": one.schema.encode(),
            "data": to_json(one),
            "traceparent": traceparent(one.camera, one.session, one.seq).encode(),
        }
        for one in messages
    ]


def send_ready(url: str, entries: list[dict[str, Any]]) -> None:
    """redis-py's pipeline without a transaction, executed every 50 entries: the least there is."""
    with connect(url, timeout=30) as client:
        for first in range(0, len(entries), BATCH):
            pipeline = client.pipeline(transaction=False)
            for entry in entries[first : first + BATCH]:
                pipeline.xadd(_PLAIN, entry)
            pipeline.execute()


def message(seq: int, detections: int) -> DetectionsMessage:
    """A frame with so many boxes."""
    return DetectionsMessage(
        schema="vedette.detections/1",
        camera="gate",
        session="1-benchmark",
        seq=seq,
        segment=0,
        media_time=seq / 25,
        captured_at=1_700_000_000 + seq / 25,
        width=1920,
        height=1080,
        model=Model("0.4.x-n", "0123456789ab", (384, 640), 0.25),
        timing_ms=Timing(1.512, 0.481, 20.113),
        dropped={},
        tainted=False,
        detections=[_detection(i) for i in range(detections)],
    )


def _detection(i: int) -> Detection:
    return Detection(2, "car", round(0.9 - i / 100, 4), (10.25 * i, 20.5, 10.25 * i + 99.75, 120.1))
