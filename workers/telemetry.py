"""What a run says of itself to machines: `/metrics` for Prometheus, OTLP for a collector.

The supervisor alone has an OpenTelemetry SDK; the workers count in shared memory and send stamps
(`journeys.py`). Nothing here is waited for: a collector that is dead or silent costs no frame, and
the end of a run at most `CLOSE_SECONDS`.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from prometheus_client import CollectorRegistry, generate_latest

from config.schema import Config
from pipeline.errors import redact
from pipeline.messages import Stamps
from workers.figures import Figures
from workers.meters import Meters
from workers.tracing import Tracer

CLOSE_SECONDS = 3.0
_EXPORT_SECONDS = 2.0  # for one answer of the collector
_QUIET = 60.0  # seconds between two complaints about it


class Telemetry:
    """One run's. `show`, `record` and `close` are for one thread, the rest for any."""

    def __init__(self, config: Config, say: Callable[[str], None]) -> None:
        settings = config.telemetry
        self._files: set[str] = set()  # cameras that are files
        resource = _resource(config.name)
        self._registry = CollectorRegistry()
        self._reading = threading.Lock()
        readers: list[MetricReader] = [
            PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)
        ]
        self._tracer: Tracer | None = None
        if settings.otlp is not None:
            url = settings.otlp.get_secret_value().rstrip("/")
            _listen_to_exporters(f"the collector at {redact(url)}", say)
            readers.append(_metric_exporter(url))
            self._tracer = _tracer(url, config, resource)
        self._meters = Meters(readers, resource)

    @property
    def figures(self) -> Figures:
        return self._meters.figures

    def page(self) -> bytes:
        """All metrics in Prometheus' text format, version 0.0.4."""
        with self._reading:  # two readers at once would share the data of one
            return generate_latest(self._registry)

    def show(self, figures: Figures) -> None:
        """The run as it is now."""
        self._meters.show(figures)
        self._files = {camera.camera for camera in figures.cameras if not camera.live}

    def record(self, frames: Sequence[Stamps]) -> None:
        """Frames that Redis has."""
        for stamps in frames:
            self._meters.record(stamps)
            if self._tracer is not None:
                self._tracer.trace(stamps, live=stamps.camera not in self._files)

    def close(self) -> None:
        """Sends what there is, for a few seconds: the SDK itself would wait half a minute."""
        last = threading.Thread(target=self._close, daemon=True)
        last.start()
        last.join(CLOSE_SECONDS)

    def _close(self) -> None:
        if self._tracer is not None:
            self._tracer.close()
        self._meters.close()


def _resource(name: str) -> Resource:
    """What this run is; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME may say otherwise."""
    host = platform.node()
    ours = Resource.create(
        {
            "service.name": "vedette",
            "service.instance.id": f"{host}/{name}",
            "service.version": version("vedette"),
            "host.name": host,
        }
    )
    return ours.merge(OTELResourceDetector().detect())


def _metric_exporter(url: str) -> MetricReader:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    exporter = OTLPMetricExporter(f"{url}/v1/metrics", timeout=_EXPORT_SECONDS)
    return PeriodicExportingMetricReader(exporter)


def _tracer(url: str, config: Config, resource: Resource) -> Tracer:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(f"{url}/v1/traces", timeout=_EXPORT_SECONDS)
    return Tracer(
        BatchSpanProcessor(exporter),
        resource,
        slow_ms=config.telemetry.slow_ms,
        trace_one_in=config.telemetry.trace_one_in,
        prefix=config.redis.prefix,
    )


class _Complaints(logging.Handler):
    """What the SDK logs, which is that a collector does not answer: one sentence a minute."""

    def __init__(self, whose: str, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._whose = whose
        self._say = say
        self._said_at: float | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self._said_at is None or time.monotonic() > self._said_at + _QUIET:
            self._said_at = time.monotonic()
            self._say(f"{self._whose} does not take what it is sent; frames are not affected")


def _listen_to_exporters(whose: str, say: Callable[[str], None]) -> None:
    """Takes over the SDK's logger: its lines hold tracebacks, and URLs with what is in them."""
    logger = logging.getLogger("opentelemetry")
    logger.handlers = [_Complaints(whose, say)]
    logger.propagate = False
