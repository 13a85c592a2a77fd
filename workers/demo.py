"""`vedette demo`: the main job with nothing to prepare, and its results held against the truth.

    drawn scenes ─▶ vedette run, our weights ─▶ a Redis of ours ─▶ Consumer ─▶ the scenes' truth

This process is a consumer of an ordinary run: it knows what is published and nothing else. A frame
is found again in its scene by camera and `seq`, as the scenes are files and lose nothing. What the
run keeps lies in a temporary folder, so a demo hinders no other and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import yaml

from pipeline.consume import Consumer, Settings
from pipeline.errors import WeightsError
from pipeline.yolov6.weights import OURS
from workers.audience import Audience
from workers.demo_view import open_view
from workers.embedded import EmbeddedRedis
from workers.process import die_with

CONFIDENCE = 0.5  # precision and recall are best together, on 12 streets of seed 3000003
INPUT_SIZE = (384, 640)  # height, width
FRAMES = 300  # of each scene
# Of seeds that no training has drawn; more cameras get the same streets of later seeds.
STREETS = (
    "street?time=day&weather=clear",
    "avenue?time=dusk&weather=overcast",
    "square?time=night&weather=clear",
    "street?time=day&weather=rain",
)
_FIRST_SEED = 101
_PREFIX = "vedette"

_WAIT = 0.05  # seconds that one look at Redis waits for something new
_JUDGE_SECONDS = 0.1  # at most between two looks
_STRAGGLERS = 4.0  # seconds after the run's end: longer than a consumer overlooks a new stream
_DRAIN = 30.0  # seconds from a signal on; `vedette run` gives up by itself after 20


def demo(*, seconds: float, cameras: int) -> int:
    """The exit code: that of the run, or 1 where something is missing from its streams.

    Raises WeightsError where our weights are not installed, VedetteError where there is no Redis.
    """
    if not OURS.is_file():
        raise WeightsError(
            f"{OURS} is not there: this installation of Vedette came without its own weights"
        )
    urls = scenes(cameras)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vedette-demo-")))
        signals = stack.enter_context(_signals())
        server = stack.enter_context(EmbeddedRedis(folder / "redis"))
        config = write_config(folder / "demo.yaml", urls, server.url)
        run = stack.enter_context(_started(config))
        consumer = stack.enter_context(_consumer(server.url, list(urls)))
        view = stack.enter_context(open_view())
        look = f"vedette tail --redis {server.url} --from-start"
        view.say(f"look at the streams meanwhile: {look}")
        audience = Audience(urls, view)
        code = _Watch(run, consumer, audience, signals).until_it_ends(seconds)
        if code:
            said = config.with_suffix(".log").read_text(errors="replace").strip()
            view.say(f"the run ended with exit code {code}; it said:\n{said}")
        view.say(f"the streams go with this demo's Redis; while one is going on: {look}")
    print(audience.last_line(), flush=True)
    return code or int(audience.is_short)


def scenes(cameras: int) -> dict[str, str]:
    """The URLs of so many scenes, by the names of their cameras."""
    urls = {}
    for number in range(cameras):
        street, seed = STREETS[number % len(STREETS)], _FIRST_SEED + number
        name = f"{street.partition('?')[0]}-{number + 1}"
        urls[name] = f"synthetic://{street}&seed={seed}&frames={FRAMES}"
    return urls


def write_config(path: Path, urls: Mapping[str, str], redis_url: str) -> Path:
    document = {
        "model": {
            "weights": str(OURS), "input_size": list(INPUT_SIZE), "confidence": CONFIDENCE,
        },
        "redis": {"url": redis_url, "prefix": _PREFIX},
        "cameras": [{"id": name, "url": url} for name, url in urls.items()],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def _consumer(url: str, cameras: list[str]) -> Consumer:
    settings = Settings(wait=_WAIT)
    return Consumer(
        url, group="demo", name="demo", prefix=_PREFIX, cameras=cameras, settings=settings
    )


class _Watch:
    """Reads while the run goes on, and ends it when it is time to."""

    def __init__(
        self,
        run: subprocess.Popen[bytes],
        consumer: Consumer,
        audience: Audience,
        signals: Sequence[int],
    ) -> None:
        self._run = run
        self._consumer = consumer
        self._audience = audience
        self._signals = signals
        self._passed_on = 0  # signals
        self._is_told = False  # to end
        self._kill_at: float | None = None

    def until_it_ends(self, seconds: float) -> int:
        """The exit code of the run; 0 where it was stopped before it could hear of it."""
        deadline = time.monotonic() + seconds
        ended_at = None
        while True:
            if ended_at is None and self._run.poll() is not None:
                ended_at = time.monotonic()
            items = self._consumer.take()
            self._audience.hear(items)
            self._consumer.done(*items)
            self._audience.judge(_JUDGE_SECONDS)
            self._audience.show()
            if ended_at is None:
                self._end_in_order(deadline)
            elif not items and self._audience.is_done and self._has_nothing_to_come(ended_at):
                break
        code = self._run.wait()
        if self._is_told and code == -signal.SIGTERM:
            return 0
        return code if code >= 0 else 1

    def _has_nothing_to_come(self, ended_at: float) -> bool:
        return self._audience.has_all or time.monotonic() > ended_at + _STRAGGLERS

    def _end_in_order(self, deadline: float) -> None:
        """SIGTERM after so long, and for every signal that came here."""
        late = not self._is_told and time.monotonic() > deadline
        if late:
            self._audience.say("time is up: the run drains")
        if late or len(self._signals) > self._passed_on:
            self._passed_on = len(self._signals)
            self._kill_at = self._kill_at or time.monotonic() + _DRAIN
            self._is_told = True
            self._run.terminate()
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._run.kill()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The SIGINTs and SIGTERMs that come meanwhile; they end nothing by themselves."""
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _started(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`vedette run`, with all that it keeps beside its config; what it says goes into a log."""
    folder = config.parent
    places = {"XDG_STATE_HOME": folder / "state", "XDG_RUNTIME_DIR": folder / "runtime"}
    with config.with_suffix(".log").open("wb") as log:
        run = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.cli", "run", str(config)],
            env={**os.environ, **{name: str(place) for name, place in places.items()}},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,  # a terminal's Ctrl-C is for this process, which passes it on
            preexec_fn=partial(die_with, os.getpid()),  # this process has no other thread
        )
    try:
        yield run
    finally:
        run.kill()
        run.wait()
