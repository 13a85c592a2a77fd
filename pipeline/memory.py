"""How much memory this machine has left."""

from __future__ import annotations


def available_megabytes() -> int:
    """What can be allocated without swapping (MemAvailable, proc_meminfo(5))."""
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        kilobytes = next(line.split()[1] for line in meminfo if line.startswith("MemAvailable:"))
    return int(kilobytes) // 1000
