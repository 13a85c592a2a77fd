"""What a run measures, as OpenTelemetry instruments; docs/metrics.md says how to read them.

Counters are read from the last `Figures`, so a page is of one moment and costs the pipeline
nothing. Durations come as stamps, since the SDK has no histogram that could be read off.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource

from pipeline.messages import Stamps
from workers.figures import ENDED, STATES, Figures

# Seconds. A batch on a GPU takes 2 ms, a camera that is too slow seconds.
BOUNDS = tuple(
    milliseconds / 1000
    for milliseconds in (1, 2, 5, 10, 20, 35, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000, 10_000)
)
_Read = Callable[[Figures], Iterable[Observation]]


class Meters:
    """The instruments. `show` and `record` are for one thread, readers for any."""

    def __init__(self, readers: Sequence[MetricReader], resource: Resource) -> None:
        self._figures = Figures(at=time.monotonic())
        self._provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        self._meter = self._provider.get_meter("vedette")
        self._observe_cameras()
        self._observe_run()
        self._stages = self._meter.create_histogram(
            "vedette.stage.duration",
            unit="s",
            description="what a stage cost a frame: decode, wait for its batch, infer, publish",
            explicit_bucket_boundaries_advisory=BOUNDS,
        )
        self._latency = self._meter.create_histogram(
            "vedette.frame.latency",
            unit="s",
            description="from the arrival of a frame's packet until Redis has its message",
            explicit_bucket_boundaries_advisory=BOUNDS,
        )

        self._tainted = self._meter.create_counter(
            "vedette.frames.tainted",
            unit="{frame}",
            description="frames that Redis has and whose pictures were damaged",
        )

    @property
    def figures(self) -> Figures:
        """The last ones that were shown."""
        return self._figures

    def show(self, figures: Figures) -> None:
        self._figures = figures

    def record(self, stamps: Stamps) -> None:
        """One frame that Redis has."""
        for stage, (begin, end) in stamps.stages.items():
            self._stages.record((end - begin) / 1e9, {"camera": stamps.camera, "stage": stage})
        whole = stamps.published_ns - stamps.begun_ns
        self._latency.record(whole / 1e9, {"camera": stamps.camera})
        self._tainted.add(int(stamps.tainted), {"camera": stamps.camera})

    def close(self) -> None:
        """Sends what there is; may take as long as the exporter does."""
        self._provider.shutdown()

    def _observe_cameras(self) -> None:
        counter, gauge = self._counter, self._gauge
        frames = "{frame}"
        counter("frames.arrived", frames, "frames that came from the camera", _each("arrived"))
        counter("frames.published", frames, "frames that Redis has", _each("frames.published"))
        counter("frames.dropped", frames, "frames that were dropped, by reason", _dropped)
        gauge(
            "frames.in_flight",
            frames,
            "frames between the decoder and Redis",
            _each("frames.in_flight"),
        )
        gauge(
            "frames.unaccounted",
            frames,
            "frames that have arrived and are nowhere: always 0",
            _each("frames.unaccounted"),
        )
        counter(
            "camera.sessions",
            "{session}",
            "connections, or readings of a file, that have begun",
            _each("sessions"),
        )
        gauge("camera.state", "1", "1 for the state that the camera is in", _states)

    def _observe_run(self) -> None:
        self._counter(
            "worker.restarts",
            "{restart}",
            "processes that had died and were started again",
            _restarts,
        )
        self._gauge("ready", "1", "1 while every process is there", _ready)

    def _counter(self, name: str, unit: str, text: str, read: _Read) -> None:
        self._meter.create_observable_counter(
            f"vedette.{name}", [self._reading(read)], unit=unit, description=text
        )

    def _gauge(self, name: str, unit: str, text: str, read: _Read) -> None:
        self._meter.create_observable_gauge(
            f"vedette.{name}", [self._reading(read)], unit=unit, description=text
        )

    def _reading(self, read: _Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda options: list(read(self._figures))


def _each(field: str) -> _Read:
    """One number of each camera, a field of `CameraFigures`."""
    value = attrgetter(field)
    return lambda figures: (
        Observation(value(camera), {"camera": camera.camera}) for camera in figures.cameras
    )


def _dropped(figures: Figures) -> Iterator[Observation]:
    for camera in figures.cameras:
        for reason, frames in camera.frames.dropped.items():
            yield Observation(frames, {"camera": camera.camera, "reason": reason})


def _states(figures: Figures) -> Iterator[Observation]:
    for camera in figures.cameras:
        # A file has no other states.
        for state in STATES if camera.live else (*STATES[:2], ENDED):
            yield Observation(int(camera.state == state), {"camera": camera.camera, "state": state})


def _restarts(figures: Figures) -> Iterator[Observation]:
    for (role, name), count in figures.restarts.items():
        camera = {"camera": name} if role == "ingest" else {}
        yield Observation(count, {"role": role, **camera})


def _ready(figures: Figures) -> Iterator[Observation]:
    yield Observation(int(not figures.missing))
