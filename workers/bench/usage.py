"""What processes use: processor time, and memory, as Linux counts them (proc(5))."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "bf16")

Pids = Iterable[tuple[str, int]]  # roles, and processes of them


def processor_seconds(pids: Pids) -> dict[str, float]:
    """What each role has worked so far; who is gone counts no more."""
    found: Counter[str] = Counter()
    for role, pid in pids:
        with contextlib.suppress(OSError):
            found[role] += _nanoseconds(pid)
    return {role: nanoseconds / 1e9 for role, nanoseconds in found.items()}


def _nanoseconds(pid: int) -> int:
    """Of its threads, where the kernel counts so finely (sched-stats.rst); else in ticks."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    except FileNotFoundError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 10**9 // _TICKS  # utime, stime


def memory(pids: Pids) -> dict[str, float]:
    """Resident megabytes of each role; a page that n processes share counts 1/n for each."""
    found: Counter[str] = Counter()
    for role, pid in pids:
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            pss = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
            found[role] += int(pss.group(1)) * 1024 if pss else 0
    return {role: round(count / 1e6, 1) for role, count in found.items()}


def gpu() -> tuple[str, float | None] | None:
    """The name of the first GPU, and the megabytes in use there if it says; None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    name, _, used = done.stdout.partition("\n")[0].rpartition(", ")
    return (name, float(used) if used.strip().isdecimal() else None) if name else None


def cores() -> float:
    """That this process may use: those it may run on, and of their time what its group is given.

    (cgroup v2, cpu.max; a container has its own at the top.)
    """
    allowed = float(len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return min(allowed, int(quota) / int(period))  # ValueError: "max"
    return allowed


def processor() -> tuple[str, list[str]]:
    """Its name, and those of its instructions that decide how fast a network runs."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    words = set(text.split())
    return name.group(1) if name else "unknown", [w for w in _INSTRUCTIONS if w in words]


def memory_gb() -> float:
    """Of the machine."""
    kilobytes = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return round(int(kilobytes.group(1)) / 1e6, 1) if kilobytes else 0.0
