"""What can be seen of a run from outside: its page, its processes, what they use."""

from __future__ import annotations

import os
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests import runs


def unaccounted(page: str) -> dict[str, int]:
    """What the run's own page says is nowhere, by camera."""
    with urllib.request.urlopen(f"{page}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    counts = [line for line in lines if line.startswith("vedette_frames_unaccounted{")]
    return {line.split('"')[1]: int(float(line.split()[-1])) for line in counts}


def usage(run: runs.Running) -> dict[str, int]:
    """Descriptors, threads and resident memory of the run and its workers."""
    found = Counter({"descriptors": 0, "threads": 0, "MB": 0})
    for pid in (run.process.pid, *runs.workers_of(run).values()):
        with suppress(OSError):
            fields = status(pid)
            found["descriptors"] += len(list(Path(f"/proc/{pid}/fd").iterdir()))
            found["threads"] += int(fields["Threads"])
            found["MB"] += int(fields["VmRSS"].split()[0]) // 1000
    return dict(found)


def growth(before: dict[str, int], run: runs.Running) -> dict[str, int]:
    """What it uses more than before."""
    after = usage(run)
    return {what: after[what] - count for what, count in before.items()}


def status(pid: int) -> dict[str, str]:
    """The fields of proc_pid_status(5). Raises OSError where it is gone."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def cpu_seconds(pid: int) -> float:
    """What a process has worked so far, and the children that it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def memory_files() -> set[str]:
    """The names in /dev/shm: those of ours have none there."""
    return {path.name for path in Path("/dev/shm").iterdir()}
