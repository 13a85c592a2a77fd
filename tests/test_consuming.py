"""What docs/consuming.md shows: a service that is killed, redis-cli, another language."""

from __future__ import annotations

import random
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.published import add, frame
from tests.servers import RedisServer, free_port
from tests.servers import redis_server as serve

DOCS = Path(__file__).parents[1] / "docs"
KEY = "vedette:{gate}:detections"


def counted(file: Path) -> int:
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
            (frames,) = database.execute("SELECT count(*) FROM frames").fetchone()
        database.close()
        return int(frames)
    except sqlite3.OperationalError:
        return 0


def eventually(rule: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not rule():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.01)


@contextmanager
def running(*command: object, **options: Any) -> Iterator[None]:
    """A process that is killed at the end of the block, as hard as can be."""
    with subprocess.Popen([str(word) for word in command], **options) as process:
        try:
            yield
        finally:
            process.kill()


def test_every_frame_counts_once_in_a_service_that_is_killed_again_and_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    dice, file, log = random.Random(seed), tmp_path / "counts.db", tmp_path / "log"
    command = [sys.executable, str(DOCS / "examples" / "count_objects.py"), redis_server.url, file]
    with redis_server.client() as client, log.open("w") as stderr:
        for part in range(8):
            before = counted(file)
            with running(*command, stderr=stderr):
                seqs = range(50 * part, 50 * part + 50)
                add(client, *(frame(seq, seen=(("car", 0.9), ("person", 0.8))) for seq in seqs))
                eventually(lambda least=before + 1: counted(file) >= least)
                time.sleep(dice.uniform(0, 0.02))
        with running(*command, stderr=stderr):
            eventually(lambda: counted(file) == 400)
            eventually(lambda: client.xpending(KEY, "counter")["pending"] <= 1)  # type: ignore[index]

    with sqlite3.connect(file) as database:
        counts = database.execute("SELECT label, objects FROM counts ORDER BY label").fetchall()
        seqs_seen = [row[0] for row in database.execute("SELECT seq FROM frames ORDER BY seq")]
        gaps = database.execute("SELECT count(*) FROM gaps").fetchone()
    database.close()
    assert counts == [("car", 400), ("person", 400)], f"seed {seed}"
    assert (seqs_seen, gaps) == (list(range(400)), (0,))
    assert log.read_text() == ""


def test_the_commands_for_redis_cli_are_understood(redis_server: RedisServer) -> None:
    (block,) = re.findall(r"^```sh\n(.*?)^```$", (DOCS / "consuming.md").read_text(), re.M | re.S)
    ids = iter(("1-1", "1-2", "1-2"))
    block = re.sub(r"\bID$", lambda _: next(ids), block, flags=re.M)
    commands = [shlex.split(line)[1:] for line in block.splitlines() if line.startswith("redis-")]
    with redis_server.client() as client:
        add(client, frame(0), frame(1))
        answers = [said(client, command) for command in commands]
        pending: Any = client.xpending(KEY, "by-hand")

        assert len(commands) == 12
        assert b"1-1" in repr(answers[2]).encode()
        assert client.xlen("vedette:{gate}:dead") == 1
        assert pending["pending"] == 0


def said(client: redis.Redis, command: list[str]) -> Any:
    """The answer, over one connection and without the client's own understanding of it."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*command)
        return connection.read_response()
    finally:
        client.connection_pool.release(connection)


@pytest.mark.usefixtures("_server_binary")
def test_the_example_for_node_prints_every_frame_once(tmp_path: Path) -> None:
    node = shutil.which("node")
    if (
        node is None
        or subprocess.run([node, "-e", "require('redis')"], capture_output=True).returncode
    ):
        pytest.skip("no node with the package redis here: npm install redis, and NODE_PATH")
    out = tmp_path / "out"
    with serve(port=free_port()) as server, server.client() as client, out.open("w") as stdout:
        add(client, *(frame(seq) for seq in range(3)), frame(5, dropped={"crash": 2}))
        command = [node, str(DOCS / "examples" / "print_frames.cjs"), server.url, "gate"]
        with running(*command, stdout=stdout):
            eventually(lambda: out.read_text().count("\n") >= 5)
            add(client, frame(6))
            eventually(lambda: out.read_text().count("\n") >= 6)
            eventually(lambda: client.xpending(KEY, "printer")["pending"] == 0)  # type: ignore[index]

    assert out.read_text().splitlines() == [
        *("1-1 #0 car", "1-2 #1 car", "1-3 #2 car"),
        *("2 frames were dropped before #5", "1-6 #5 car", "1-7 #6 car"),
    ]
