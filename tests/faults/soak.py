"""A long run of cameras on the network that are never left alone: a seed says what happens when."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import rtsp, runs
from tests.faults import seen
from tests.faults.proxy import FaultProxy
from tests.faults.server import KEEP, Server, server
from tests.rtsp import Faults, Film
from tests.servers import free_port

FILM = Film(rate=5, frames=20)
STILL = Film(rate=5, frames=20, still=True)
LARGE = Film(rate=5, frames=20, size=(640, 384))
CAMERAS = tuple(f"gate-{number}" for number in range(8))
ALL_WELL = 60.0  # seconds between two looks at a run that is left alone until all is well
BACK = 120.0  # seconds in which all must be well again


@dataclass(frozen=True)
class Look:
    """What a run in which all is well takes."""

    at: float  # seconds since the start
    descriptors: int
    threads: int
    supervisor_mb: float  # resident
    tree_mb: int  # resident, of the run and its workers
    shm_bytes: int  # of files in /dev/shm


@dataclass
class Soak:
    """The run, and everything that can be done to it."""

    folder: Path
    random: random.Random
    server: Server
    proxy: FaultProxy
    cameras: dict[str, rtsp.Camera]
    page: str
    file: Path
    run: runs.Running
    began: float = field(default_factory=time.monotonic)
    done: Counter[str] = field(default_factory=Counter)
    looks: list[Look] = field(default_factory=list)

    def suffer(self, seconds: float) -> None:
        """Deed after deed, with a look about once a minute."""
        until = time.monotonic() + seconds
        self.be_well()
        while time.monotonic() < until:
            next_look = time.monotonic() + ALL_WELL
            while time.monotonic() < min(next_look, until):
                self._do(self.random.choice(DEEDS))
            self.be_well()

    def be_well(self) -> None:
        """Mends everything; until every camera is published again, then a look."""
        for camera in self.cameras.values():
            camera.faults = Faults()
        had = {name: self.published(name) for name in CAMERAS}
        runs.eventually(
            lambda: all(self.published(name) > had[name] + 5 for name in CAMERAS), within=BACK
        )
        runs.eventually(lambda: len(runs.workers_of(self.run)) == len(CAMERAS) + 2, within=20)
        assert set(seen.unaccounted(self.page).values()) == {0}
        self.looks.append(self._look())

    def published(self, camera: str) -> int:
        with suppress(Exception), self.server.client() as client:
            return int(client.xlen(f"vedette:{{{camera}}}:detections"))
        return 0

    def _do(self, deed: Deed) -> None:
        self.done[deed.says] += 1
        mend = deed.do(self)
        time.sleep(self.random.uniform(1, 6))
        if mend is not None:
            mend()
        time.sleep(self.random.uniform(0.5, 4))

    def _look(self) -> Look:
        usage = seen.usage(self.run)
        supervisor = int(seen.status(self.run.process.pid)["VmRSS"].split()[0]) / 1000
        return Look(
            at=time.monotonic() - self.began,
            descriptors=usage["descriptors"],
            threads=usage["threads"],
            supervisor_mb=supervisor,
            tree_mb=usage["MB"],
            shm_bytes=sum(path.stat().st_size for path in Path("/dev/shm").rglob("*")),
        )

    def some_camera(self) -> rtsp.Camera:
        return self.cameras[self.random.choice(CAMERAS)]

    def signal(self, number: int, worker: str) -> int | None:
        """To a worker, if it is there; its process."""
        pid = runs.workers_of(self.run).get(worker)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid


Mend = Callable[[], object]


@dataclass(frozen=True)
class Deed:
    """`do` gives back how it is mended, if it does not mend by itself."""

    says: str
    do: Callable[[Soak], Mend | None]


def _sick(says: str, **faults: Any) -> Deed:
    def do(soak: Soak) -> Mend:
        camera = soak.some_camera()
        vars(camera.faults).update(faults)
        return lambda: setattr(camera, "faults", Faults())

    return Deed(says, do)


def _killed(role: str) -> Deed:
    def do(soak: Soak) -> None:
        soak.signal(
            signal.SIGKILL,
            f"ingest:{soak.random.choice(CAMERAS)}" if role == "ingest" else f"{role}:{role}",
        )

    return Deed(f"kill -9 of {role}", do)


def _stopped(soak: Soak) -> Mend | None:
    pid = soak.signal(signal.SIGSTOP, f"ingest:{soak.random.choice(CAMERAS)}")

    def mend() -> None:
        with suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGCONT)

    return mend


def _redis_stopped(soak: Soak) -> Mend:
    soak.server.signal(signal.SIGSTOP)
    return lambda: soak.server.signal(signal.SIGCONT)


def _redis_killed(soak: Soak) -> Mend:
    soak.server.kill()
    return soak.server.start


def _network(says: str, **faults: Any) -> Deed:
    def do(soak: Soak) -> Mend:
        before = {name: getattr(soak.proxy, name) for name in faults}
        vars(soak.proxy).update(faults)
        return lambda: vars(soak.proxy).update(before)

    return Deed(says, do)


def _reloaded(soak: Soak) -> None:
    config = yaml.safe_load(soak.file.read_text())
    camera = soak.random.choice(config["cameras"])
    camera["confidence"] = round(soak.random.uniform(0.3, 0.6), 2)
    soak.file.write_text(yaml.safe_dump(config, sort_keys=False))
    soak.run.process.send_signal(signal.SIGHUP)


DEEDS = (
    _sick("a camera stalls", stall_after=0),
    _sick("RTCP comes, no video", stall_after=0, rtcp_while_stalled=True),
    _sick("FIN", fin_after=3),
    _sick("RST", rst_after=3),
    _sick("5 % of packets lost", loss=0.05),
    _sick("20 % of packets corrupt", corrupt=0.2),
    _sick("another resolution", film_after=(0, LARGE)),
    _sick("time stamps jump", jump=(50, -10.0)),
    _sick("five times too fast", speed=5.0),
    _sick("frozen", film_after=(0, STILL)),
    _sick("refuses connections", refuse=True, fin_after=0),
    _sick("accepts, and is silent", accept_silent=True, fin_after=0),
    Deed("SIGSTOP of an ingest", _stopped),
    Deed("SIGSTOP of Redis", _redis_stopped),
    Deed("kill -9 of Redis", _redis_killed),
    Deed("a config with one other camera", _reloaded),
    _killed("ingest"),
    _killed("infer"),
    _killed("publish"),
    _network("Redis is held back", held=True),
    _network("RST from Redis", resets=2),
    _network("Redis is slow", delay=0.2),
)


@contextmanager
def soak(folder: Path, weights: Path, seed: int) -> Iterator[Soak]:
    """The run, its cameras and its Redis."""
    for film in (FILM, STILL, LARGE):
        rtsp.pictures(film)
    choice = random.Random(seed)
    cameras = {name: rtsp.Camera(FILM, user="ops") for name in CAMERAS}
    try:
        with server(*KEEP["AOF everysec"]) as one, FaultProxy(one.socket, choice) as proxy:
            one.start()
            listed = [{"id": name, "url": camera.url} for name, camera in cameras.items()]
            file = runs.write_config(
                folder, listed, weights=weights, redis_url=proxy.url, input_size=[96, 160]
            )
            page = f"127.0.0.1:{free_port()}"
            config = yaml.safe_load(file.read_text()) | {"telemetry": {"listen": page}}
            file.write_text(yaml.safe_dump(config))
            with runs.running(folder, file) as run:
                runs.eventually(lambda: len(runs.workers_of(run)) == len(CAMERAS) + 2, within=60)
                yield Soak(folder, choice, one, proxy, cameras, f"http://{page}", file, run)
    finally:
        for camera in cameras.values():
            camera.close()


def slope(points: list[tuple[float, float]]) -> float:
    """A second, by Theil and Sen: the median over all pairs, which one odd look does not move."""
    pairs = [(a, b) for n, a in enumerate(points) for b in points[n + 1 :] if b[0] > a[0]]
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs)
