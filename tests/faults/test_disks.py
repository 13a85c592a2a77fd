"""The spool of a live camera while Redis is away and its disk is full, damaged or failing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from tests import media, runs
from tests.faults import checker, disk, table
from tests.faults.conftest import Make
from tests.faults.stage import GATE, Stage
from tests.faults.test_processes import kill_all

NOWHERE = "/nonexistent"  # for the proxy: every connection is closed at once

pytestmark = pytest.mark.slow


@contextmanager
def outage(stage: Stage) -> Iterator[None]:
    """Redis is away for the length of the block, once the camera has some entries."""
    stage.wait_for(stage.schedule.entries())
    stage.proxy.target = NOWHERE
    stage.server.do("CLIENT", "KILL", "TYPE", "normal")
    yield
    stage.proxy.target = stage.server.socket


def spool_in(stage: Stage, folder: Path) -> None:
    stage.only(GATE)
    stage.config["redis"] |= {"durability": "disk", "spool": str(folder)}


def segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.seg"))


def test_a_full_disk_costs_the_oldest_and_they_are_counted(
    make_stage: Make, tmp_path: Path
) -> None:
    with (
        make_stage("D01 spool full (1 MB tmpfs)") as stage,
        disk.tmpfs(tmp_path / "spool", "size=1m") as (seen, prefix),
    ):
        (seen / "ballast").write_bytes(bytes(840 * 1024))
        stage.prefix = prefix
        spool_in(stage, tmp_path / "spool")
        media.encode(tmp_path / "long.mp4", frames=600, size=(320, 192), draw=media.bars, rate=25)
        stage.config["cameras"][0]["url"], stage.frames[GATE] = str(tmp_path / "long.mp4"), 600
        with stage.running() as run:
            with outage(stage):
                time.sleep(18)
            recovery = stage.recover(stage.lengths())
            stage.end(run)
        assert stage.findings().dropped["window"] > 0
        stage.report(recovery, "outside the window: counted")


def cut_a_tail(paths: list[Path], random: Random) -> None:
    data = paths[-1].read_bytes()
    paths[-1].write_bytes(data[: len(data) - random.randint(1, 200)])


def flip_a_byte(paths: list[Path], random: Random) -> None:
    data = bytearray(paths[1].read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    paths[1].write_bytes(data)


def take_one_away(paths: list[Path], random: Random) -> None:
    paths[1].unlink()


DAMAGE: dict[str, Callable[[list[Path], Random], None]] = {
    "torn tail": cut_a_tail,
    "flipped byte": flip_a_byte,
    "missing segment": take_one_away,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_costs_what_is_damaged_and_nothing_else(
    make_stage: Make, tmp_path: Path, kind: str
) -> None:
    with (
        make_stage(f"D02 {kind}, then another run") as stage,
        disk.tmpfs(tmp_path / "spool", "size=1m") as (seen, prefix),
    ):
        (seen / "ballast").write_bytes(bytes(450 * 1024))
        stage.prefix = prefix
        spool_in(stage, tmp_path / "spool")
        stage.config["cameras"][0]["loop"] = True
        with stage.running() as run, outage(stage):
            runs.eventually(lambda: len(segments(seen)) >= 3, within=60)
            time.sleep(1)
            kill_all(run)
        written = sum(len(disk.sequences(path)) for path in segments(seen))
        DAMAGE[kind](segments(seen), stage.schedule.random)
        whole = [seq for path in segments(seen) for seq in disk.sequences(path)]
        stage.config["cameras"][0]["loop"] = False
        with stage.running() as run:
            recovery = stage.recover(stage.lengths())
            stage.end(run)
        remark = f"{written - len(whole)} of {written} spooled frames damaged"
        report_two_sessions(stage, whole, recovery, remark)


def report_two_sessions(stage: Stage, whole: list[int], recovery: float, remark: str) -> None:
    """The first was killed, and is there as far as the disk was whole; the second has an end."""
    with stage.server.client() as client:
        entries = [data for _, data in checker.read(client, GATE)]
        found = checker.check(client, GATE, {1: stage.clips.gate.frames})
    first = {data["seq"] for data in entries if data["session"] == entries[0]["session"]}
    assert set(whole) <= first
    table.add(stage.row, found, recovery, remark)


@pytest.mark.parametrize("call", ["fdatasync", "write"])
def test_an_error_of_the_disk_costs_no_frame(make_stage: Make, tmp_path: Path, call: str) -> None:
    with make_stage(f"D03 {call} EIO") as stage:
        folder = tmp_path / "spool"
        spool_in(stage, folder)
        with stage.running() as run:
            with outage(stage):
                publish = runs.workers_of(run)["publish:publish"]
                paths = [f"--trace-path={path}" for path in segments(folder)]
                with disk.failing(publish, f"{call}:error=EIO", *paths):
                    time.sleep(2)
                time.sleep(1)
            recovery = stage.recover(stage.lengths())
            stage.end(run)
        count = len(segments(folder))
        assert count > 1
        stage.report(recovery, f"{count} segments")


@pytest.mark.parametrize(
    ("kind", "options"), [("read-only", "size=1m,ro"), ("no inode", "size=1m,nr_inodes=2")]
)
def test_a_disk_that_takes_nothing_costs_no_frame(
    make_stage: Make, tmp_path: Path, kind: str, options: str
) -> None:
    with (
        make_stage(f"D04 {kind} spool") as stage,
        disk.tmpfs(tmp_path / "spool", options) as (_, prefix),
    ):
        stage.prefix = prefix
        spool_in(stage, tmp_path / "spool")
        with stage.running() as run:
            with outage(stage):
                time.sleep(3)
            recovery = stage.recover(stage.lengths())
            stage.end(run)
        assert "cannot be used" in run.said
        assert "records wait in memory" in run.said
        stage.report(recovery, "in memory, and said")
