"""One thing that is done to a run, and what came of it: a row of the table of deeds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests import media, runs
from tests.faults import checker, seen, table
from tests.servers import RedisServer, free_port

RATE = 5  # frames a second of a camera that plays the film…
FRAMES = 100  # …and how many it has
LEAST_SHARE = 0.95  # of its frames that a camera that is well must have published meanwhile
STARTING = 0.5  # seconds
Frames = Mapping[str, int | None]  # of each camera; None: it plays without end


@dataclass(frozen=True)
class Place:
    """Where a run has its folder, its weights and its server."""

    folder: Path
    weights: Path
    server: RedisServer
    film: Path

    def live(self, *names: str) -> list[dict[str, Any]]:
        """Cameras that play the film without end, at its pace."""
        return [{"id": n, "url": str(self.film), "live": True, "loop": True} for n in names]

    def config(self, cameras: Sequence[dict[str, Any]], **more: Any) -> tuple[Path, str]:
        """A config file, and where its run has its page."""
        file = runs.write_config(
            self.folder,
            cameras,
            weights=self.weights,
            redis_url=self.server.url,
            input_size=[96, 160],
        )
        page = f"127.0.0.1:{free_port()}"
        config = yaml.safe_load(file.read_text()) | {"telemetry": {"listen": page}}
        for section, settings in more.items():
            config[section] = {**config.get(section, {}), **settings}
        file.write_text(yaml.safe_dump(config))
        return file, f"http://{page}"

    @contextmanager
    def run(
        self,
        cameras: Sequence[dict[str, Any]],
        *,
        prefix: Sequence[str] = (),
        more: Mapping[str, str] | None = None,
        **config: Any,
    ) -> Iterator[Deed]:
        """`vedette run`, going on: `prefix` and `more` as in `runs.running`."""
        file, page = self.config(cameras, **config)
        with runs.running(self.folder, file, prefix=prefix, more=more) as run:
            yield Deed(self.server, run, page)


@dataclass
class Deed:
    """What is done, and seen; times are of the wall, seconds."""

    server: RedisServer
    run: runs.Running
    page: str
    noticed: float | None = None
    recovery: float | None = None
    struck_at: float = 0.0
    over_at: float = 0.0
    growth: dict[str, int] | None = None  # from the strike to the stop, if the workers are as many
    _struck: float = 0.0  # monotonic seconds
    _before: tuple[set[str], dict[str, int]] | None = None  # the workers, and what they used

    @property
    def said(self) -> str:
        return self.run.said

    def published(self, camera: str) -> int:
        return runs.length(self.server.url, camera)

    def wait(self, *cameras: str, entries: int = 10) -> None:
        """Until each of them has so many."""
        runs.eventually(lambda: all(self.published(c) >= entries for c in cameras), within=60)

    def strike(self) -> None:
        """Now."""
        self._before = set(runs.workers_of(self.run)), seen.usage(self.run)
        self.struck_at, self._struck = time.time(), time.monotonic()

    def notice(self, rule: Callable[[], object], *, within: float) -> None:
        runs.eventually(rule, within=within)
        self.noticed = time.monotonic() - self._struck

    def recover(self, *cameras: str, within: float = 30, frames: int = 3) -> None:
        """From the strike until each has published so many more than it has now."""
        before = {camera: self.published(camera) for camera in cameras}
        runs.eventually(
            lambda: all(self.published(c) >= before[c] + frames for c in cameras), within=within
        )
        self.recovery = time.monotonic() - self._struck

    def go_on(self, seconds: float) -> None:
        """Until so many seconds behind the strike: how long others are looked at."""
        time.sleep(max(0.0, self._struck + seconds - time.monotonic()))
        self.over_at = time.time()

    def share(self, camera: str) -> float:
        """What a camera that is well published of the frames of that time."""
        times = [entry.data["captured_at"] for entry in runs.entries(self.server.url, camera)]
        return min(1.0, sum(self.struck_at <= at < self.over_at for at in times) / self._due)

    @property
    def _due(self) -> int:
        return int((self.over_at - self.struck_at) * RATE)

    def end(self, *, code: int = 0, within: float = 60) -> None:
        """The run comes to its end by itself."""
        assert self.run.process.wait(within) == code, self.said
        self._is_sound()

    def stop(self, *, code: int = 0) -> float:
        """SIGTERM; seconds until it has ended."""
        if self._before is not None and set(runs.workers_of(self.run)) == self._before[0]:
            self.growth = seen.growth(self._before[1], self.run)
        began = time.monotonic()
        assert self.run.terminate() == code, self.said
        took = time.monotonic() - began
        self._is_sound()
        return took

    def _is_sound(self) -> None:
        """Nothing was said that is meant for nobody."""
        assert "Traceback" not in self.said
        assert "non-negative" not in self.said  # a time before its beginning

    def findings(self, frames: Frames) -> checker.Findings:
        """Of all cameras, once the run is over."""
        with self.server.client() as client:
            return sum(
                (checker.check(client, c, {} if n is None else n) for c, n in frames.items()),
                checker.Findings(),
            )

    def unaccounted(self) -> int:
        """By the run's own page."""
        return sum(map(abs, seen.unaccounted(self.page).values()))

    def report(
        self, row: str, frames: Frames, *, others: Sequence[str] = (), remark: str = ""
    ) -> checker.Findings:
        """The row; fails where the checker found anything, or where others were hurt."""
        found = self.findings(frames)
        shares = [self.share(camera) for camera in others]
        times = self.noticed, self.recovery
        table.add_deed(row, found, times, min(shares, default=None), remark, growth=self.growth)
        # What it costs two cores to start a process again is not what is done to the others; and
        # where something else keeps the machine busy, a share says nothing of either.
        start = STARTING * RATE / self._due if shares else 0.0
        is_busy = os.getloadavg()[0] > (os.cpu_count() or 1)
        assert is_busy or min(shares, default=1.0) >= LEAST_SHARE - start, shares
        return found


def film(folder: Path) -> Path:
    """A short one, for cameras that play it without end."""
    path = folder / "film.mp4"
    media.encode(path, frames=FRAMES, size=(320, 192), draw=media.bars, rate=RATE)
    return path
