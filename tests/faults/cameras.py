"""One run of many RTSP cameras, nearly all of which are made sick at once, seen from outside."""

from __future__ import annotations

import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests import rtsp, runs
from tests.faults import seen, table
from tests.rtsp import Faults, Film
from tests.servers import RedisServer, free_port

FILM = Film(rate=5, frames=20)
WARM = 10  # frames of each camera that is well at first, before anything is done
WELL = ("well-1", "well-2")
LEAST_SHARE = 0.95  # of its frames that a camera that is well must have published meanwhile


@dataclass(frozen=True)
class Case:
    """What happens to one camera. `id` is that of the list of faults, and a word."""

    id: str
    says: str  # for the table
    states: tuple[str, ...] = ()  # one of which is to be told…
    within: float = 0.0  # …in so many seconds
    at_first: Faults | None = None  # before it is first opened
    then: Callable[[rtsp.Camera, runs.Running], object] | None = None
    film: Film = FILM
    comes_back: bool = True
    tls: ssl.SSLContext | None = None  # the camera speaks it…
    tls_verify: bool | None = None  # …and the config says so


@dataclass
class Patient:
    """A camera of the run, and what was seen of it."""

    case: Case
    camera: rtsp.Camera
    noticed: float | None = None
    state: str = "-"
    back: float | None = None
    had: int = 0  # entries when it was mended
    dropped: Counter[str] = field(default_factory=Counter)
    arrived: int = 0
    ends: int = 0


@dataclass
class Ward:
    """The run, its patients, and the cameras that are well."""

    url: str
    run: runs.Running
    page: str
    patients: list[Patient]
    well: list[rtsp.Camera]
    began: float  # monotonic seconds

    def fall_ill(self) -> None:
        """Everybody who was well until now."""
        for one in self.patients:
            if one.case.then is not None:
                one.case.then(one.camera, self.run)

    def notice(self) -> None:
        """Until each is in a state that it should be in."""
        waiting = [one for one in self.patients if one.case.states]
        began = time.monotonic()
        while waiting:
            for one in list(waiting):
                since = self.began if one.case.then is None else began
                told = self.states_of(one.case.id, since)
                if (found := next((s for s in told if s in one.case.states), None)) is not None:
                    one.noticed, one.state = told[found], found
                    waiting.remove(one)
            late = [o.case.id for o in waiting if time.monotonic() > began + o.case.within]
            assert not late, f"not noticed: {late}; {self.run.said}"
            time.sleep(0.05)

    def recover(self, within: float) -> None:
        """Mends everybody; until frames of all come again."""
        for one in self.patients:
            one.had = self.published(one.case.id)
            one.camera.faults = Faults()
        mended = time.monotonic()
        waiting = [one for one in self.patients if one.case.comes_back]
        while waiting:
            for one in list(waiting):
                if self.published(one.case.id) > one.had + 3:
                    one.back = time.monotonic() - mended
                    waiting.remove(one)
            late = time.monotonic() > mended + within
            assert not late, f"not back: {[one.case.id for one in waiting]}; {self.run.said}"
            time.sleep(0.05)

    def run_through(self, within: float) -> dict[str, int]:
        """All fall ill and are mended, to the end of the run; what its page said is nowhere."""
        self.fall_ill()
        self.notice()
        self.recover(within=within)
        unaccounted = self.unaccounted()
        assert self.run.terminate() == 0, self.run.said
        self.examine()
        self.report(unaccounted)
        return unaccounted

    def states_of(self, camera: str, since: float) -> dict[str, float]:
        """States behind that moment, monotonic seconds: how many seconds behind each was told."""
        at = time.time() - (time.monotonic() - since)
        found: dict[str, float] = {}
        for entry in runs.entries(self.url, camera, "events"):
            told = int(entry.id.split("-")[0]) / 1000 - at
            if told > -0.05 and entry.data["state"] != "ended":
                found.setdefault(entry.data["state"], max(0.0, told))
        return found

    def published(self, camera: str) -> int:
        return runs.length(self.url, camera)

    def unaccounted(self) -> dict[str, int]:
        """What the run's own page says is nowhere, by camera."""
        return seen.unaccounted(self.page)

    def usage(self) -> dict[str, int]:
        """Descriptors, threads and resident memory of the run and its workers."""
        return seen.usage(self.run)

    def examine(self) -> None:
        """Of a run that is over: every session has one end, and accounts for all its frames."""
        for one in self.patients:
            one.dropped, one.arrived, one.ends = account(self.url, one.case.id)

    def report(self, unaccounted: dict[str, int]) -> None:
        for one in self.patients:
            dropped = ", ".join(f"{count} {why}" for why, count in sorted(one.dropped.items()))
            table.CAMERAS.append(
                (
                    one.case.says,
                    _seconds(one.noticed),
                    one.state,
                    _seconds(one.back),
                    str(one.camera.connections),
                    str(one.camera.frames),
                    str(one.arrived),
                    str(self.published(one.case.id)),
                    dropped or "-",
                    str(unaccounted[one.case.id]),
                )
            )


@contextmanager
def ward(cases: list[Case], folder: Path, weights: Path, redis: RedisServer) -> Iterator[Ward]:
    """The run, once every camera that is well at first has been published for a while."""
    films = {case.film for case in cases}
    for film in films:
        rtsp.pictures(film)
    patients = [Patient(case, rtsp.Camera(case.film, user="ops", tls=case.tls)) for case in cases]
    said = {
        case.id: {"tls_verify": case.tls_verify} for case in cases if case.tls_verify is not None
    }
    well = [rtsp.Camera(FILM, user="ops") for _ in WELL]
    for one in patients:
        one.camera.faults = one.case.at_first or Faults()
    named = {one.case.id: one.camera for one in patients} | dict(zip(WELL, well, strict=True))
    try:
        file = runs.write_config(
            folder,
            [
                {"id": name, "url": camera.url, **said.get(name, {})}
                for name, camera in named.items()
            ],
            weights=weights,
            redis_url=redis.url,
            input_size=[96, 160],
        )
        page = f"127.0.0.1:{free_port()}"
        config = yaml.safe_load(file.read_text()) | {"telemetry": {"listen": page}}
        file.write_text(yaml.safe_dump(config))
        began = time.monotonic()
        with runs.running(folder, file) as run:
            healthy = [*WELL, *(case.id for case in cases if case.at_first is None)]
            runs.eventually(
                lambda: all(runs.length(redis.url, name) >= WARM for name in healthy), within=90
            )
            yield Ward(redis.url, run, f"http://{page}", patients, well, began)
    finally:
        for camera in named.values():
            camera.close()


def account(url: str, camera: str) -> tuple[Counter[str], int, int]:
    """What was dropped, how many frames had arrived, and how many sessions there were."""
    ends: dict[str, Any] = {}
    for entry in runs.entries(url, camera, "events"):
        if entry.data["state"] == "ended":
            assert entry.data["session"] not in ends, entry.data
            ends[entry.data["session"]] = entry.data
    expected: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    ids = []
    for entry in runs.entries(url, camera):
        message = entry.data
        ids.append(tuple(map(int, entry.id.split("-"))))
        expected[message["session"]] += sum(message["dropped"].values())
        assert message["seq"] == expected[message["session"]], (camera, message)
        expected[message["session"]] += 1
        dropped.update(message["dropped"])
    assert ids == sorted(set(ids))
    assert set(expected) <= set(ends)
    for session, end in ends.items():
        assert expected[session] + sum(end["dropped"].values()) == end["frames"], end
        dropped.update(end["dropped"])
    return dropped, sum(end["frames"] for end in ends.values()), len(ends)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
