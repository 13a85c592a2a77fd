"""Runs that get less memory, shared memory or open files than they need."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import runs
from tests.faults import checker, seen, table
from tests.faults.deed import FRAMES, Place

CGROUP = Path("/sys/fs/cgroup/memory")


@contextmanager
def memory_group(name: str) -> Iterator[Path]:
    """A memory cgroup of its own (cgroup v1); skips where none can be made."""
    group = CGROUP / name
    try:
        group.mkdir()
        (group / "memory.swappiness").write_text("0")
    except OSError:
        pytest.skip("no memory cgroup can be made here: needs root and cgroup v1")
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (CGROUP / "cgroup.procs").write_text(pid)
        group.rmdir()


def kills(group: Path) -> int:
    """How many processes the kernel has killed for this group's limit."""
    return int((group / "memory.oom_control").read_text().split()[-1])


@pytest.mark.slow
def test_an_ingest_that_is_out_of_memory_comes_back_and_hurts_nobody_else(place: Place) -> None:
    with place.run(place.live("sick", "well")) as deed, memory_group(f"vedette-{os.getpid()}") as g:
        deed.wait("sick", "well")
        deed.strike()
        ingest = runs.workers_of(deed.run)["ingest:sick"]
        (g / "memory.limit_in_bytes").write_text("65536")
        (g / "cgroup.procs").write_text(str(ingest))
        deed.notice(lambda: "ingest of sick (process" in deed.said, within=40)
        deed.recover("sick")
        deed.go_on(deed.noticed + 5)
        killed = kills(g)
        assert deed.unaccounted() == 0
        deed.stop()
    deed.report(
        "P13 out-of-memory kill of an ingest",
        {"sick": None, "well": None},
        others=["well"],
        remark=f"by the kernel, in a cgroup of 64 kB ({killed} kill)",
    )
    assert killed == 1
    assert "was killed by SIGKILL" in deed.said


def test_a_small_shared_memory_is_not_even_used(place: Place) -> None:
    script = 'mount -t tmpfs -o size=8m none /dev/shm && exec "$@"'
    prefix = ["unshare", "-m", "sh", "-c", script, "-"]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("nothing may be mounted here: needs root or CAP_SYS_ADMIN")
    names = seen.memory_files()
    cameras = [{"id": "yard", "url": str(place.film)}]
    with place.run(cameras, prefix=prefix) as deed:
        deed.end()
    deed.report(
        "P14 /dev/shm of 8 MB",
        {"yard": FRAMES},
        remark="memory files have no name and no place there",
    )
    assert not seen.memory_files() - names


def test_memory_that_cannot_be_had_is_refused_in_words(place: Place) -> None:
    """A memory file may not be longer than `ulimit -f`, as it may not where memory is full."""
    cameras = [{"id": "yard", "url": str(place.film)}]
    with place.run(cameras, prefix=["prlimit", f"--fsize={1 << 17}"]) as deed:
        deed.end(code=1)
    last = deed.said.splitlines()[-1]
    table.add_deed(
        "P14 no memory file may grow", checker.Findings(), (None, None), None,
        f"exit 1: {last.partition('failed: ')[2]}",
    )  # fmt: skip
    assert "no memory for the 1 MB of camera yard" in last


def test_a_few_open_files_are_refused_in_words_and_at_once(place: Place) -> None:
    began = time.monotonic()
    with place.run(place.live("gate"), prefix=["prlimit", "--nofile=64"]) as deed:
        deed.end(code=2, within=20)
    sentence = deed.said.strip()
    table.add_deed(
        "P15 64 open files", checker.Findings(), (time.monotonic() - began, None), None,
        f"exit 2: {sentence}",
    )  # fmt: skip
    assert "1 cameras need 76 open files and the limit is 64" in sentence
    assert len(sentence.splitlines()) == 1


@pytest.mark.slow
def test_open_files_that_run_out_under_way_are_no_end(place: Place) -> None:
    with place.run(place.live("sick", "well")) as deed:
        deed.wait("sick", "well")
        supervisor = deed.run.process.pid
        limits = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (8, limits[1]))
        deed.strike()
        os.kill(runs.workers_of(deed.run)["ingest:sick"], signal.SIGKILL)
        sentence = "sick cannot be started: Too many open files"
        deed.notice(lambda: sentence in deed.said, within=10)
        deed.go_on(6)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limits)
        deed.recover("sick", within=70)
        assert deed.unaccounted() == 0
        deed.stop()
    tries = deed.said.count(sentence)
    deed.report(
        "P15 no open file left under way",
        {"sick": None, "well": None},
        others=["well"],
        remark=f"for 6 s of a start: tried {tries} times",
    )
    assert tries < 6


@pytest.mark.slow
def test_a_camera_for_which_no_file_can_be_opened_waits_and_goes_on(place: Place) -> None:
    with place.run(place.live("gate")) as deed:
        deed.wait("gate")
        supervisor, before = deed.run.process.pid, runs.workers_of(deed.run)["infer:infer"]
        limits = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
        deed.strike()
        os.kill(before, signal.SIGKILL)
        runs.eventually(
            lambda: runs.workers_of(deed.run).get("infer:infer", before) != before, within=10
        )
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (8, limits[1]))
        sentence = "gate: it waits for 5 s: Too many open files"
        deed.notice(lambda: sentence in deed.said, within=30)
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limits)
        deed.recover("gate")
        assert deed.unaccounted() == 0
        deed.stop()
    remark = "noticed once the network was up again"
    deed.report("P15 no open file left for a camera", {"gate": None}, remark=remark)
    assert deed.said.count(sentence) == 1
