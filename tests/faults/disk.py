"""Disks that are small, read-only or failing, in a mount namespace of their own."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest


@contextmanager
def tmpfs(at: Path, options: str) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A tmpfs over the folder `at`; skips where nothing may be mounted.

    Gives the folder as this process sees it, and what a command must begin with to see it at `at`.
    """
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("needs unshare and nsenter (util-linux)")
    at.mkdir()
    script = f"mount -t tmpfs -o {options} tmpfs {at} && echo up && exec sleep 600"
    keeper = subprocess.Popen(["unshare", "-m", "sh", "-c", script], stdout=subprocess.PIPE)
    assert keeper.stdout is not None
    try:
        if keeper.stdout.readline() != b"up\n":
            pytest.skip("nothing may be mounted here: needs root or CAP_SYS_ADMIN")
        seen = Path(f"/proc/{keeper.pid}/root{at}")
        yield seen, ("nsenter", "-t", str(keeper.pid), "-m")
    finally:
        keeper.stdout.close()
        keeper.kill()
        keeper.wait()


@contextmanager
def failing(process: int, fault: str, *more: str) -> Iterator[None]:
    """System calls of a process fail as strace's `-e inject=FAULT` says; skips without it."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace, to let system calls fail")
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(process)]
    tracer = subprocess.Popen([*command, "-e", f"inject={fault}", *more], stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 5
        while not _is_traced(process):
            if tracer.poll() is not None or time.monotonic() > deadline:
                pytest.skip("strace may not attach to a process here")
            time.sleep(0.01)
        yield
    finally:
        tracer.terminate()
        tracer.communicate()


def _is_traced(process: int) -> bool:
    states = Path(f"/proc/{process}/task").glob("*/status")
    return all("TracerPid:\t0\n" not in state.read_text() for state in states)


def sequences(segment: Path) -> list[int]:
    """The frames in a segment up to its first bad record; the format, read by other eyes."""
    data, start, found = segment.read_bytes(), 0, []
    while start + 24 <= len(data):
        length, checksum = struct.unpack_from("<II", data, start)
        body = data[start + 8 : start + 24 + length]
        if len(body) < 16 + length or zlib.crc32(body) != checksum:
            break
        payload: list[Any] = msgspec.msgpack.decode(body[16:])
        if payload[3] is None:  # no state: a frame
            found.append(int(payload[5]))
        start += 24 + length
    return found
