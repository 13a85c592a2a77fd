"""What is measured, traced and said to machines; the whole of it is in test_observed.py."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from config.schema import Config, Telemetry
from pipeline.channel import Channel, pair
from pipeline.errors import ConfigError
from pipeline.messages import Frame, Stamps, Ticket
from pipeline.sinks.window import Record
from pipeline.slots import REASONS, Geometry, Slots
from pipeline.wire import traceparent
from workers import control, telemetry
from workers.figures import STATES, CameraFigures, Figures
from workers.journeys import Journeys
from workers.meters import Meters
from workers.totals import Look, Totals
from workers.tracing import Tracer
from workers.web import Web, listen

MS = 1_000_000
CONFIG = {
    "name": "site",
    "model": {"weights": "w.safetensors"},
    "cameras": [{"id": "gate", "url": "rtsp://10.0.0.5/"}, {"id": "yard", "url": "yard.mp4"}],
}


def stamps(seq: int = 0, *, whole_ms: int = 60, camera: str = "gate", **more: object) -> Stamps:
    """A frame that came 5 ms before it was decoded, which took 4, and waited 1 ms, was inferred
    in 20; publishing took the rest of `whole_ms`."""
    begin = time.monotonic_ns() - 10_000 * MS
    made = Stamps(
        camera=camera,
        session="1-ab",
        seq=seq,
        captured_ns=begin,
        decode_ns=4 * MS,
        written_ns=begin + 9 * MS,
        batched_ns=begin + 10 * MS,
        inferred_ns=begin + 30 * MS,
        published_ns=begin + whole_ms * MS,
        dropped={},
        tainted=False,
    )
    return msgspec.structs.replace(made, **more)


# ── accounting ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=[True, False], ids=["live", "file"])
def counted(request: pytest.FixtureRequest) -> Iterator[tuple[Totals, Slots]]:
    """The supervisor's view of a camera, and the memory as its ingest has it."""
    totals = Totals(live=request.param)
    slots = Slots.create("gate", Geometry(3, 32, 64, live=request.param))
    theirs = Slots.attach(os.dup(slots.fd), os.dup(slots.bell), slots.geometry)
    totals.move(slots, owed=0)
    yield totals, theirs
    totals.close()
    theirs.close()


def test_every_frame_is_in_some_count(counted: tuple[Totals, Slots]) -> None:
    totals, slots = counted
    steps = [
        lambda: slots.count_arrived(1),
        lambda: slots.count_ingest_drop("max_fps"),
        lambda: slots.count_arrived(2),
        lambda: slots.commit(Ticket(Frame("gate", "1", 1, 0, 0.0, 0.0, 0, 64, 32), 0, 0, {})),
        lambda: (slots.count_taken(1), slots.count_read()),
        slots.count_inferred,
        slots.count_received,
        lambda: slots.count_published(1, (1, 0)),
    ]

    looks = []
    for step in steps:
        step()
        looks.append(totals.look())

    assert [look.unaccounted for look in looks] == [0] * len(steps)
    assert [look.arrived for look in looks] == [1, 1, *[2] * 6]
    assert [look.in_flight for look in looks] == [1, 0, *[1] * 5, 0]
    assert looks[-1] == Look(published=1, dropped={"max_fps": 1}, in_flight=0, unaccounted=0)


def test_a_frame_that_is_in_no_count_shows(counted: tuple[Totals, Slots]) -> None:
    totals, slots = counted

    slots.count_arrived(1)
    slots.let_go()  # and put nowhere
    totals.look()  # one look alone may be in the middle of something

    assert totals.look() == Look(published=0, dropped={}, in_flight=0, unaccounted=1)


# ── from publish to the supervisor ────────────────────────────────────────────────────────────


@contextmanager
def joined() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = pair()
    with ours, theirs:
        yield Channel(theirs), Channel(ours, control.to_supervisor["publish"])


def record(frame: Stamps) -> Record:
    name = traceparent(frame.camera, frame.session, frame.seq).encode()
    return Record("key", (1, 0), {"data": b"{}", "traceparent": name}, is_frame=True)


def test_a_confirmed_frame_is_told_with_the_time_of_it() -> None:
    with joined() as (publish, supervisor):
        journeys, frame = Journeys(publish), stamps(7, published_ns=0)

        journeys.begin(frame)
        before = time.monotonic_ns()
        journeys.end(record(frame))
        journeys.end(record(stamps(8)))  # an earlier publisher's
        journeys.tell(now=True)

        (told,) = supervisor.receive().frames
        assert before <= told.published_ns <= time.monotonic_ns()
        assert msgspec.structs.replace(told, published_ns=0) == frame


def test_what_the_supervisor_does_not_take_waits_and_is_bounded() -> None:
    with joined() as (publish, supervisor):
        journeys = Journeys(publish)
        for seq in range(30_000):
            journeys.begin(stamps(seq))
            journeys.end(record(stamps(seq)))
        journeys.tell(now=True)
        told = []
        while (message := supervisor.receive()) is not None:
            told += [frame.seq for frame in message.frames]
            journeys.tell(now=True)

        assert told == list(range(10_000, 30_000))


# ── metrics ───────────────────────────────────────────────────────────────────────────────────


def figures(**frames: Look) -> Figures:
    cameras = [
        CameraFigures(name, True, "live", 1, look.arrived, look) for name, look in frames.items()
    ]
    return Figures(time.monotonic(), cameras, {("ingest", "gate"): 2}, ())


def test_durations_of_milliseconds_fall_into_buckets_of_milliseconds() -> None:
    reader = InMemoryMetricReader()
    meters = Meters([reader], Resource.get_empty())
    for _ in range(3):
        meters.record(stamps())

    points = {}
    for metric in _metrics(reader):
        for point in metric.data.data_points:
            name = point.attributes.get("stage") if hasattr(point, "bucket_counts") else None
            points[metric.name, name] = point
    meters.close()

    sums = {stage: points["vedette.stage.duration", stage].sum for stage in _STAGES}
    assert sums == pytest.approx({"decode": 0.012, "wait": 0.003, "infer": 0.06, "publish": 0.09})
    latency = points["vedette.frame.latency", None]
    assert latency.sum == pytest.approx(0.18)
    full = latency.bucket_counts.index(3)
    assert latency.explicit_bounds[full - 1] < 0.06 <= latency.explicit_bounds[full]


def test_frames_with_damaged_pictures_are_counted() -> None:
    reader = InMemoryMetricReader()
    meters = Meters([reader], Resource.get_empty())
    for tainted in (True, False, True):
        meters.record(stamps(tainted=tainted))

    (metric,) = [m for m in _metrics(reader) if m.name == "vedette.frames.tainted"]  # type: ignore[attr-defined]
    meters.close()

    assert [point.value for point in metric.data.data_points] == [2]  # type: ignore[attr-defined]


_STAGES = ("decode", "wait", "infer", "publish")


def _metrics(reader: InMemoryMetricReader) -> list[object]:
    data = reader.get_metrics_data()
    assert data is not None
    return [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]


# ── traces ────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def tracer(one_in: int = 10**9) -> Iterator[tuple[Tracer, InMemorySpanExporter]]:
    kept = InMemorySpanExporter()
    made = Tracer(
        SimpleSpanProcessor(kept),
        Resource.get_empty(),
        slow_ms=500,
        trace_one_in=one_in,
        prefix="vedette",
    )
    yield made, kept
    made.close()


def test_a_trace_has_the_ids_of_the_message_and_its_stages_follow_each_other() -> None:
    frame = stamps(3)
    with tracer(one_in=1) as (made, kept):
        made.trace(frame, live=True)
        spans = {span.name: span for span in kept.get_finished_spans()}

    _, trace, span, _ = traceparent("gate", "1-ab", 3).split("-")
    root = spans.pop("frame")
    assert (f"{root.context.trace_id:032x}", f"{root.context.span_id:016x}") == (trace, span)
    assert root.parent is None
    assert list(spans) == list(_STAGES)
    assert {s.parent.span_id for s in spans.values() if s.parent} == {root.context.span_id}
    assert {s.context.trace_id for s in spans.values()} == {root.context.trace_id}
    assert len({s.context.span_id for s in spans.values()}) == 4
    ends = [(s.start_time, s.end_time) for s in spans.values()]
    assert [end for _, end in ends[:-1]] == [begin for begin, _ in ends[1:]]
    assert ends[-1][1] == root.end_time
    assert root.end_time - root.start_time == 60 * MS
    assert abs(time.time_ns() - 10_000 * MS - root.start_time) < 2_000 * MS


@pytest.mark.parametrize(
    ("frame", "live", "reason"),
    [
        (stamps(whole_ms=501), True, "slow"),
        (stamps(whole_ms=501), False, None),  # a file waits, rightly
        (stamps(whole_ms=499), True, None),
        (stamps(tainted=True), True, "tainted"),
        (stamps(dropped={"crash": 2}), True, "loss"),
        (stamps(dropped={"superseded": 2, "max_fps": 1}), True, None),
    ],
)
def test_a_frame_with_which_something_is_the_matter_is_always_traced(
    frame: Stamps, live: bool, reason: str | None
) -> None:
    with tracer() as (made, kept):
        made.trace(frame, live=live)
        reasons = [
            (span.attributes or {})["vedette.kept_for"]
            for span in kept.get_finished_spans()
            if span.name == "frame"
        ]

    assert reasons == ([reason] if reason else [])


def test_of_the_others_one_in_so_many_is_traced_by_its_id() -> None:
    with tracer(one_in=10) as (made, kept):
        for seq in range(2000):
            made.trace(stamps(seq), live=True)
        spans = [span for span in kept.get_finished_spans() if span.name == "frame"]

    assert 150 < len(spans) < 250
    assert all(span.context.trace_id % 2**64 < 2**64 // 10 for span in spans)


# ── the page ──────────────────────────────────────────────────────────────────────────────────


@contextmanager
def served(token: str | None = None) -> Iterator[tuple[telemetry.Telemetry, str]]:
    made = telemetry.Telemetry(Config.model_validate(CONFIG), print)
    listener = listen(Telemetry.model_validate({"listen": "127.0.0.1:0"}))
    web = Web(listener, made, token)
    yield made, web.url
    web.close()
    made.close()


def get(url: str, token: str | None = None) -> tuple[int, str]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_page_has_every_count_of_the_last_figures() -> None:
    look = Look(published=90, dropped={"superseded": 7, "crash": 1}, in_flight=2, unaccounted=0)
    with served() as (made, url):
        made.show(figures(gate=look))
        made.record([stamps()])
        code, page = get(f"{url}/metrics")

    lines = set(page.splitlines())
    assert code == 200
    assert {
        'vedette_frames_arrived_total{camera="gate"} 100.0',
        'vedette_frames_published_total{camera="gate"} 90.0',
        'vedette_frames_dropped_total{camera="gate",reason="superseded"} 7.0',
        'vedette_frames_dropped_total{camera="gate",reason="crash"} 1.0',
        'vedette_frames_in_flight{camera="gate"} 2.0',
        'vedette_frames_unaccounted{camera="gate"} 0.0',
        'vedette_camera_sessions_total{camera="gate"} 1.0',
        'vedette_camera_state{camera="gate",state="live"} 1.0',
        'vedette_camera_state{camera="gate",state="frozen"} 0.0',
        'vedette_worker_restarts_total{camera="gate",role="ingest"} 2.0',
        "vedette_ready 1.0",
        'vedette_frame_latency_seconds_bucket{camera="gate",le="0.075"} 1.0',
        'vedette_frame_latency_seconds_bucket{camera="gate",le="0.05"} 0.0',
    } <= lines


def test_the_page_its_table_and_its_alerts_speak_of_the_same() -> None:
    text = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text()
    names = re.findall(r"^\| `(vedette_\w+)` \|([\w, ]*)\|", text, re.MULTILINE)
    with served() as (made, url):
        made.show(figures(gate=Look(1, {"superseded": 1}, 0, 0)))
        made.record([stamps(tainted=True)])
        page = get(f"{url}/metrics")[1]
    exported = {
        (name, frozenset(re.findall(r"(\w+)=", labels)) - {"le"})
        for name, labels in re.findall(r"^(vedette_\w+?)(?:_bucket)?(?:{(.*)})? ", page, re.M)
        if not name.endswith(("_count", "_sum", "_created"))
    }

    described = {(name, frozenset(re.findall(r"\w+", labels))) for name, labels in names}
    alerts = set(re.findall(r"vedette_\w+", text.partition("## Alerts")[2]))
    assert described == exported
    values = set(re.findall(r'(?:state|reason)=~?"([^"]+)"', text))
    assert {one for value in values for one in value.split("|")} <= {*STATES, *REASONS}
    assert alerts <= {end for name, _ in names for end in (name, f"{name}_bucket")}


def test_two_who_ask_at_once_both_get_the_whole_page(monkeypatch: pytest.MonkeyPatch) -> None:
    look = Look(published=9, dropped={}, in_flight=0, unaccounted=0)
    collect = PrometheusMetricReader.collect

    def slowly(reader: PrometheusMetricReader, **options: object) -> None:
        collect(reader, **options)  # type: ignore[arg-type]
        time.sleep(0.01)  # between what is taken in and what is given out

    monkeypatch.setattr(PrometheusMetricReader, "collect", slowly)
    made = telemetry.Telemetry(Config.model_validate(CONFIG), print)
    with ThreadPoolExecutor(8) as threads:
        made.show(figures(**{f"camera-{number}": look for number in range(4)}))
        pages = list(threads.map(lambda _: made.page().decode(), range(32)))
    made.close()

    assert {page.count("vedette_frames_published_total{") for page in pages} == {4}


def test_ready_and_healthy_are_two_things() -> None:
    with served() as (made, url):
        starting = get(f"{url}/readyz"), get(f"{url}/healthz")[0]
        made.show(Figures(time.monotonic(), missing=("infer is not up",)))
        loading = get(f"{url}/readyz"), get(f"{url}/healthz")
        made.show(Figures(time.monotonic(), missing=()))
        up = get(f"{url}/readyz")
        made.show(Figures(time.monotonic() - 11, missing=()))
        hanging = get(f"{url}/healthz")

    assert (starting[0][0], starting[1]) == (503, 200)
    assert (loading[0][0], json.loads(loading[0][1])) == (
        503,
        {"ready": False, "missing": ["infer is not up"]},
    )
    assert loading[1] == (200, "ok\n")
    assert (up[0], json.loads(up[1])) == (200, {"ready": True, "missing": []})
    assert hanging == (503, "the supervisor has stood still for 11 s\n")


def test_metrics_are_for_who_bears_the_token() -> None:
    token = "0123456789abcdef"
    with served(token) as (made, url):
        made.show(Figures(time.monotonic(), missing=()))
        codes = [get(f"{url}/metrics", who)[0] for who in (None, "x" * 16, token)]
        others = [get(f"{url}/{page}")[0] for page in ("healthz", "readyz")]

    assert codes == [401, 401, 200]
    assert others == [200, 200]


def test_an_address_that_is_taken_is_told_where_the_config_names_it() -> None:
    taken = listen(Telemetry.model_validate({"listen": "127.0.0.1:0"}))
    with taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"telemetry.listen: {address} cannot be had"):
            listen(Telemetry.model_validate({"listen": address}))


def test_a_default_address_that_is_taken_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with listen(Telemetry.model_validate({"listen": "127.0.0.1:0"})) as taken:
        port = taken.getsockname()[1]
        default = Telemetry.model_construct(_fields_set=set(), listen=f"127.0.0.1:{port}")
        with listen(default) as other:
            assert other.getsockname()[1] != port


# ── the config ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "value", ["9464", "localhost:9464", ":9464", "127.0.0.1", "::1:9464", "127.0.0.1:70000", ""]
)
def test_an_address_is_an_ip_address_and_a_port(value: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="listen"):
        Telemetry.model_validate({"listen": value})


def test_strangers_need_a_token() -> None:
    with pytest.raises(ValueError, match=r"found none with telemetry.listen 0\.0\.0\.0:9464"):
        Telemetry.model_validate({"listen": "0.0.0.0:9464"})
    Telemetry.model_validate({"listen": "0.0.0.0:9464", "token": "0123456789abcdef"})
    Telemetry.model_validate({"listen": "[::1]:9464"})
