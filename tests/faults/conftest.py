"""The clips of the suite, and its table at the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests import media
from tests.faults import deed, table
from tests.faults.deed import Place
from tests.faults.stage import Clip, Clips, Stage, stage
from tests.servers import RedisServer

Make = Callable[..., AbstractContextManager[Stage]]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if table.ROWS:
        terminalreporter.section(f"faults (seed {table.SEED})")
        for line in table.lines():
            terminalreporter.write_line(line)
    if table.CAMERAS or table.REMARKS:
        terminalreporter.section("cameras on the network")
        for line in table.camera_lines():
            terminalreporter.write_line(line)
    if table.HOSTILE:
        terminalreporter.section("hostile input")
        for line in table.HOSTILE:
            terminalreporter.write_line(line)
    if table.DEEDS:
        terminalreporter.section("files, processes, limits, clocks")
        for line in table.deed_lines():
            terminalreporter.write_line(line)
    table.write()


@pytest.fixture(scope="session")
def clips(shared: Path, lite_s: Path, tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """The file is a real one, 377 frames; the live camera's is 8 s at 25 frames a second."""
    gate = tmp_path_factory.mktemp("clips") / "gate.mp4"
    media.encode(gate, frames=200, size=(320, 192), draw=media.bars, rate=25)
    return Clips(Clip(shared / "media" / "car-detection.mp4", 377), Clip(gate, 200), lite_s)


@pytest.fixture
def make_stage(tmp_path: Path, clips: Clips, _server_binary: str) -> Make:
    """`with make_stage("R03 …", *options) as stage`."""
    return lambda row, *options: stage(row, tmp_path, clips, *options)


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deed.film(tmp_path_factory.mktemp("film"))


@pytest.fixture
def place(tmp_path: Path, ours: Path, redis_server: RedisServer, film: Path) -> Place:
    """`with place.run(place.live("gate")) as deed`."""
    return Place(tmp_path, ours, redis_server, film)
