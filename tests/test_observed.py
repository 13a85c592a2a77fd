"""A real run as machines see it: scraped, and by a collector that answers, does not, or is gone."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests import media, runs
from tests.servers import RedisServer, free_port

FRAMES = 150
SERIES = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    media.encode(path, frames=FRAMES, size=(320, 192), rate=25)
    return path


def config_of(folder: Path, clip: Path, weights: Path, redis_url: str, **telemetry: object) -> Path:
    """A file, and the same played like a camera."""
    cameras = [
        {"id": "yard", "url": str(clip)},
        {"id": "gate", "url": str(clip), "live": True, "max_fps": 10},
    ]
    path = runs.write_config(folder, cameras, weights=weights, redis_url=redis_url)
    config = yaml.safe_load(path.read_text())
    config["telemetry"] = {"listen": "off", **telemetry}
    path.write_text(yaml.safe_dump(config))
    return path


def scrape(url: str) -> dict[tuple[str, frozenset[str]], float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    found = {}
    for line in lines:
        if not line.startswith("#") and (match := SERIES.fullmatch(line)):
            found[match[1], frozenset((match[2] or "").split(","))] = float(match[3])
    return found


def of(page: dict[tuple[str, frozenset[str]], float], name: str, *labels: str) -> float:
    wanted = {f'{k}="{v}"' for k, v in (label.split("=") for label in labels)}
    found = [value for (n, has), value in page.items() if n == name and wanted <= has]
    assert found or name.endswith("_dropped_total"), f"{name} is not on the page"
    return sum(found)


def test_the_page_counts_what_redis_has_and_loses_nothing(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    port = free_port()
    config = config_of(tmp_path, clip, ours, redis_server.url, listen=f"127.0.0.1:{port}")
    url, pages = f"http://127.0.0.1:{port}", []

    with runs.running(tmp_path, config) as run:
        runs.eventually(lambda: "metrics:" in run.said, within=20)
        while run.process.poll() is None:
            with contextlib.suppress(OSError):
                pages.append(scrape(url))
            time.sleep(0.02)
        assert run.process.returncode == 0, run.said

    pages = [page for page in pages if any(n == "vedette_frames_unaccounted" for n, _ in page)]
    unaccounted = [of(page, "vedette_frames_unaccounted", f"camera={c}") for page in pages
                   for c in ("yard", "gate")]  # fmt: skip
    assert len(pages) > 20
    assert set(unaccounted) == {0}
    last = pages[-1]
    for camera in ("yard", "gate"):
        published = of(last, "vedette_frames_published_total", f"camera={camera}")
        dropped = of(last, "vedette_frames_dropped_total", f"camera={camera}")
        in_flight = of(last, "vedette_frames_in_flight", f"camera={camera}")
        assert published + dropped + in_flight == FRAMES
        assert 0 <= runs.length(redis_server.url, camera) - published <= in_flight
    decoded = of(last, "vedette_stage_duration_seconds_count", "camera=yard", "stage=decode")
    assert decoded >= FRAMES - 50  # those of the last moment may come behind the last page
    assert of(last, "vedette_frame_latency_seconds_count", "camera=yard") == decoded
    assert any(of(page, "vedette_ready") == 1 for page in pages)


@pytest.mark.slow
def test_a_collector_gets_every_figure_and_traces_that_consumers_can_find(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    with collector() as (url, got):
        config = config_of(
            tmp_path, clip, ours, redis_server.url, otlp=url, trace_one_in=1, slow_ms=1
        )
        done = runs.vedette(tmp_path, "run", config)
        assert done.returncode == 0, done.stderr

    entries = [e for camera in ("yard", "gate") for e in runs.entries(redis_server.url, camera)]
    spans = [
        span for request in got["traces"] for r in request.resource_spans
        for s in r.scope_spans for span in s.spans
    ]  # fmt: skip
    frames = {f"00-{s.trace_id.hex()}-{s.span_id.hex()}-01" for s in spans if s.name == "frame"}
    assert frames == {entry.fields[b"traceparent"].decode() for entry in entries}
    assert set(Counter(span.name for span in spans).values()) == {len(entries)}
    last = {}
    for request in got["metrics"]:
        for r in request.resource_metrics:
            assert {a.key for a in r.resource.attributes} >= {"service.name"}
            last |= {m.name: m for s in r.scope_metrics for m in s.metrics}
    published = last["vedette.frames.published"].sum.data_points
    assert sum(point.as_int for point in published) == len(entries)
    latencies = last["vedette.frame.latency"].histogram.data_points
    assert sum(point.count for point in latencies) == len(entries)


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True], ids=["refused", "silent"])
def test_a_collector_that_does_not_answer_costs_no_frame_and_little_time(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer, answers: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        if not answers:
            door.close()
        url = f"http://ops:hunter2@127.0.0.1:{port}"
        config = config_of(tmp_path, clip, ours, redis_server.url, otlp=url, trace_one_in=1)
        with runs.running(tmp_path, config) as run:
            runs.eventually(lambda: "gate: read to its end" in run.said, within=60)
            runs.eventually(lambda: "yard: read to its end" in run.said, within=60)
            ended = time.monotonic()
            code = run.process.wait(30)
            took = time.monotonic() - ended

    assert code == 0
    assert took < 8
    assert runs.length(redis_server.url, "yard") == FRAMES
    sentence = "the collector at http://***@127.0.0.1:{} does not take what it is sent"
    assert run.said.count(sentence.format(port)) == 1
    assert "hunter2" not in run.said
    assert "Traceback" not in run.said


@pytest.mark.slow
def test_without_the_extra_a_run_says_so_and_goes_on(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    config = config_of(tmp_path, clip, ours, redis_server.url, listen="127.0.0.1:0")
    named = _without_telemetry(tmp_path, config)
    kept = yaml.safe_load(config.read_text())
    del kept["telemetry"]
    config.write_text(yaml.safe_dump(kept))
    unnamed = _without_telemetry(tmp_path, config)

    assert (named.returncode, named.stderr.splitlines()[-1]) == (
        2,
        "opentelemetry is not installed, and this command needs it:"
        " pip install '.[telemetry]' in the clone",
    )
    assert unnamed.returncode == 0, unnamed.stderr
    assert "vedette: no /metrics: pip install '.[telemetry]' in the clone" in unnamed.stderr
    assert runs.length(redis_server.url, "yard") == FRAMES


def _without_telemetry(folder: Path, config: Path) -> Any:
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'opentelemetry':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from workers.cli import main\n"
        f"main(['run', {str(config)!r}])\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env=runs.environment(folder),
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_an_address_that_is_taken_stops_a_run_before_it_starts(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = config_of(tmp_path, clip, ours, redis_server.url, listen=address)
        done = runs.vedette(tmp_path, "run", config)

    assert done.returncode == 2
    assert f"telemetry.listen: {address} cannot be had (Address already in use)" in done.stderr


@contextlib.contextmanager
def collector() -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """An OTLP receiver, and what it got."""
    got: dict[str, list[Any]] = {"metrics": [], "traces": []}
    kinds = {"metrics": ExportMetricsServiceRequest, "traces": ExportTraceServiceRequest}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            name = self.path.rpartition("/")[2]
            got[name].append(kinds[name].FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
def test_the_address_of_the_page_is_in_the_run_directory(
    tmp_path: Path, clip: Path, ours: Path, redis_server: RedisServer
) -> None:
    config = config_of(tmp_path, clip, ours, redis_server.url, listen="127.0.0.1:0")
    with runs.running(tmp_path, config) as run:
        address = tmp_path / "runtime" / "vedette" / "run" / "run.json"
        runs.eventually(address.exists, within=20)
        page = json.loads(address.read_text())["page"]
        with urllib.request.urlopen(f"{page}/healthz", timeout=5) as answer:
            assert answer.read() == b"ok\n"
        run.process.wait(60)
