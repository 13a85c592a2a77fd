"""Traces of frames: spans made at the end, from stamps, under the ids that messages carry.

    frame ── decode, wait, infer, publish

A trace is kept where something is the matter with the frame (slow, tainted, or others were lost
before it), and of the rest by its id, so that every service that asks in the same way keeps the
same ones (OpenTelemetry, "TraceIdRatioBased": the lower 8 bytes of the id against a bound).
"""

from __future__ import annotations

import hashlib
import time

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, set_span_in_context
from opentelemetry.util.types import AttributeValue

from pipeline.messages import Stamps
from pipeline.sinks.window import Keys
from pipeline.wire import traceparent

_HARMLESS = {"superseded", "surplus", "max_fps"}  # reasons to drop that are as they should be

Attributes = dict[str, AttributeValue]


class Tracer:
    """Makes spans of stamps, in one thread. `prefix` is that of the keys in Redis."""

    def __init__(
        self,
        processor: SpanProcessor,
        resource: Resource,
        *,
        slow_ms: float,
        trace_one_in: int,
        prefix: str,
    ) -> None:
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("vedette")
        self._slow_ns = slow_ms * 1e6
        self._below = 2**64 // trace_one_in
        self._prefix = prefix

    def trace(self, stamps: Stamps, *, live: bool) -> None:
        """One frame's spans, or none."""
        _, trace, span, _ = traceparent(stamps.camera, stamps.session, stamps.seq).split("-")
        reason = self._reason(stamps, int(trace[16:], 16), live=live)
        if reason is None:
            return
        offset = time.time_ns() - time.monotonic_ns()
        self._ids.give(int(trace, 16), int(span, 16))
        frame = self._tracer.start_span(
            "frame",
            Context(),
            attributes=_attributes(stamps, reason),
            start_time=stamps.begun_ns + offset,
        )
        inside = set_span_in_context(frame, Context())
        for name, (begin, end) in stamps.stages.items():
            is_sending = name == "publish"
            kind = SpanKind.PRODUCER if is_sending else SpanKind.INTERNAL
            attributes = self._destination(stamps) if is_sending else {}
            self._ids.give(int(trace, 16), _span_id(trace, name))
            stage = self._tracer.start_span(
                name, inside, kind, attributes=attributes, start_time=begin + offset
            )
            stage.end(end + offset)
        frame.end(stamps.published_ns + offset)

    def close(self) -> None:
        """Sends what there is; may take as long as the exporter does."""
        self._provider.shutdown()

    def _reason(self, stamps: Stamps, low: int, *, live: bool) -> str | None:
        """Why its trace is kept; None: it is not."""
        if live and stamps.published_ns - stamps.captured_ns > self._slow_ns:
            return "slow"
        if stamps.tainted:
            return "tainted"
        if stamps.dropped.keys() - _HARMLESS:
            return "loss"
        return "sample" if low < self._below else None

    def _destination(self, stamps: Stamps) -> Attributes:
        """OpenTelemetry's semantic conventions of messaging, which know no Redis Streams."""
        return {
            "messaging.system": "redis",
            "messaging.operation.type": "send",
            "messaging.operation.name": "xadd",
            "messaging.destination.name": Keys.of(self._prefix, stamps.camera).detections,
        }


class _GivenIds(IdGenerator):
    """The ids of the next span are known before it is made."""

    def __init__(self) -> None:
        self._trace_id = self._span_id = 0

    def give(self, trace_id: int, span_id: int) -> None:
        self._trace_id, self._span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        return self._span_id


def _attributes(stamps: Stamps, reason: str) -> Attributes:
    return {
        "vedette.camera": stamps.camera,
        "vedette.session": stamps.session,
        "vedette.seq": stamps.seq,
        "vedette.tainted": stamps.tainted,
        "vedette.kept_for": reason,
        **{f"vedette.dropped.{reason}": frames for reason, frames in stamps.dropped.items()},
    }


def _span_id(trace: str, name: str) -> int:
    """The same wherever and whenever it is made."""
    digest = hashlib.blake2b(f"{trace}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
