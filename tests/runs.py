"""Real runs of the real command, and what they left in Redis."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import yaml

VEDETTE = str(Path(sys.executable).with_name("vedette"))


@dataclass(frozen=True)
class Entry:
    """One entry of a stream: its id, and its `data` as a dict."""

    id: str
    data: dict[str, Any]
    fields: dict[bytes, bytes]


def write_config(
    folder: Path, cameras: Sequence[dict[str, Any]], *, weights: Path, redis_url: str, **model: Any
) -> Path:
    """A config file `run.yaml` in `folder`."""
    path = folder / "run.yaml"
    config = {
        "model": {"weights": str(weights), "input_size": [192, 320], "device": "cpu", **model},
        "redis": {"url": redis_url},
        "telemetry": {"listen": "off"},
        "cameras": list(cameras),
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def environment(folder: Path) -> dict[str, str]:
    """Where a run of a test keeps its address and its state: not in anybody's home."""
    return {
        **os.environ,
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_RUNTIME_DIR": str(folder / "runtime"),
    }


def vedette(
    folder: Path, *arguments: str | Path, timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        [VEDETTE, *map(str, arguments)],
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@dataclass(frozen=True)
class Running:
    """A `vedette run` that goes on."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(25)


@contextlib.contextmanager
def running(
    folder: Path,
    config: Path,
    *options: str,
    prefix: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """`vedette run`, going on; killed at the end if the test has not ended it.

    `prefix` is a command that becomes it; `more` is added to its environment.
    """
    log = folder / "run.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*prefix, VEDETTE, "run", str(config), *options],
            env={**environment(folder), **(more or {})},
            stdin=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()


def entries(url: str, camera: str, stream: str = "detections") -> list[Entry]:
    """All of a camera's stream."""
    with redis.Redis.from_url(url, protocol=2) as client:
        rows: Any = client.xrange(f"vedette:{{{camera}}}:{stream}")
    return [Entry(row[0].decode(), json.loads(row[1][b"data"]), row[1]) for row in rows]


def length(url: str, camera: str) -> int:
    with redis.Redis.from_url(url, protocol=2) as client:
        return int(client.xlen(f"vedette:{{{camera}}}:detections"))  # type: ignore[arg-type]


def eventually(rule: Callable[[], object], *, within: float) -> None:
    """Waits until `rule` holds; fails when it does not in so many seconds."""
    deadline = time.monotonic() + within
    while not rule():
        assert time.monotonic() < deadline, f"did not come true within {within} s"
        time.sleep(0.02)


def workers_of(run: Running) -> dict[str, int]:
    """The process ids of a run's children: by role and name, the server as `redis`."""
    found = {}
    for child in children(run.process.pid):
        arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"workers.process" in arguments:
            at = arguments.index(b"workers.process")
            found[f"{arguments[at + 1].decode()}:{arguments[at + 2].decode()}"] = child
        else:
            found["redis"] = child
    return found


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie that nobody has reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@contextlib.contextmanager
def embedded(folder: Path) -> Iterator[str]:
    """The server of an embedded run that has ended, once more, on the data it left."""
    from workers.embedded import EmbeddedRedis

    with EmbeddedRedis(folder / "state" / "vedette" / "run" / "redis") as server:
        yield server.url


def accounts_for_every_frame(url: str, camera: str, *, frames: int | None = None) -> None:
    """A jump in `seq` is the sum of `dropped`, to the last of the `frames` that arrived.

    Of every session, and each has one end.
    """
    published = [entry.data for entry in entries(url, camera)]
    ends = [entry.data for entry in entries(url, camera, "events")]
    assert len({ended["session"] for ended in ends}) == len(ends)
    assert {message["session"] for message in published} <= {ended["session"] for ended in ends}
    for ended in ends:
        expected = 0
        for message in published:
            if message["session"] == ended["session"]:
                assert message["seq"] == expected + sum(message["dropped"].values())
                expected = message["seq"] + 1
        assert ended["frames"] == expected + sum(ended["dropped"].values())
    assert frames is None or sum(ended["frames"] for ended in ends) == frames


def dropped(url: str, camera: str) -> int:
    """How many frames its messages and events say were dropped."""
    said = [*entries(url, camera), *entries(url, camera, "events")]
    return sum(sum(entry.data["dropped"].values()) for entry in said)


@dataclass(frozen=True)
class LastLine:
    """What a run said of itself at the end."""

    published: int
    dropped: dict[str, int]

    @classmethod
    def of(cls, said: str) -> LastLine:
        line = said.splitlines()[-1].replace(",", "")
        published = re.search(r"(\d+) frames published", line)
        reasons = re.search(r"dropped: ([^;]*)", line)
        pairs = re.findall(r"(\d+) (\w+)", reasons[1]) if reasons else []
        assert published is not None, said
        return cls(int(published[1]), {reason: int(frames) for frames, reason in pairs})
