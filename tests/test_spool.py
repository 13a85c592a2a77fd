"""Records on disk: what survives a death, what a damaged or a full disk costs, and nothing more."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from pipeline.errors import SinkUnavailable
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.segment import pack, unpack
from pipeline.sinks.spool import Spool
from pipeline.sinks.window import Keys
from tests.published import ended, frame
from tests.servers import RedisServer

KEYS = Keys.of("vedette", "gate")
ROOT = Path(__file__).parents[1]


class Publisher:
    """A sink with a spool, over and over in the same folder."""

    def __init__(self, url: str, folder: Path, **bounds: Any) -> None:
        self.said: list[str] = []
        self.spool = Spool(folder, notice=self.said.append, **bounds)
        self.sink = RedisSink(url, spool=self.spool)
        self.stream: Stream = self.sink.open(KEYS, live=True, maxlen=None, limit=2_000)
        self.shed = 0

    def take_in(self, frames: range, session: str = "1-ab") -> None:
        for seq in frames:
            self.shed += self.stream.window.append(frame(seq, session=session))
        self.stream.window.queue.sync()

    def drain(self) -> int:
        confirmed, deadline = 0, time.monotonic() + 20
        while not self.stream.in_step or len(self.stream.window):
            assert time.monotonic() < deadline
            try:
                confirmed += self.sink.write(self.stream)
            except SinkUnavailable:
                time.sleep(0.01)
        return confirmed

    def close(self) -> None:
        self.sink.close()
        self.spool.close()


@contextmanager
def publisher(url: str, folder: Path, **bounds: Any) -> Iterator[Publisher]:
    one = Publisher(url, folder, **bounds)
    try:
        yield one
    finally:
        one.close()


def entries(client: redis.Redis) -> list[dict[str, Any]]:
    return [json.loads(fields[b"data"]) for _, fields in client.xrange(KEYS.detections)]


def sequences(client: redis.Redis) -> list[int]:
    return [entry["seq"] for entry in entries(client)]


def is_lawful(found: list[dict[str, Any]]) -> bool:
    """The jump in seq equals the sum of dropped, message by message."""
    due = 0
    for entry in found:
        if entry["seq"] != due + sum(entry["dropped"].values()):
            return False
        due = entry["seq"] + 1
    return True


def segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.seg"))


def test_what_redis_never_saw_is_published_first_by_the_next_process(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.client() as client:
        with publisher(redis_server.url, tmp_path) as first:
            first.take_in(range(100))
            assert first.drain() == 100
            first.take_in(range(100, 300))
        assert sequences(client) == list(range(100))
        with publisher(redis_server.url, tmp_path) as second:
            assert second.stream.accounted is not None
            assert second.stream.accounted.seq == 299
            second.take_in(range(20), session="2-cd")
            assert second.drain() == 20  # the others are frames of another process

        found = entries(client)
        assert [entry["seq"] for entry in found] == [*range(300), *range(20)]
        assert is_lawful(found[:300])
        assert is_lawful(found[300:])


PROGRAM = """
import sys
from pathlib import Path
from tests.test_spool import Publisher, range
one = Publisher(sys.argv[1], Path(sys.argv[2]))
print("up", flush=True)
seq = int(sys.argv[3])
while True:
    one.take_in(range(seq, seq + 7))
    seq += 7
    for _ in range(3):
        try:
            one.sink.write(one.stream)
        except Exception:
            break
    print(seq, flush=True)
"""


def test_a_publisher_that_is_killed_again_and_again_leaves_no_hole_and_no_duplicate(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    program = PROGRAM.replace(", range", "")
    taken_in = 0
    for rounds in (30, 5, 60):
        command = [sys.executable, "-c", program, redis_server.url, str(tmp_path), str(taken_in)]
        child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        for _ in range(rounds):
            child.stdout.readline()
        child.kill()
        child.wait()
        child.stdout.close()
        with publisher(redis_server.url, tmp_path) as after:
            assert after.stream.accounted is not None
            taken_in = after.stream.accounted.seq + 1
            after.drain()

    with redis_server.client() as client:
        assert sequences(client) == list(range(taken_in))
    assert taken_in >= 7 * 95


def test_an_outage_is_bounded_by_the_spool_and_not_by_memory(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.client() as client, publisher(redis_server.url, tmp_path) as one:
        one.take_in(range(10))
        one.drain()
        with redis_server.frozen():
            one.take_in(range(10, 8_000))
            assert one.stream.window.size < 2**20
            assert len(one.stream.window) == one.stream.window.frames == 7_990

        assert one.drain() == 7_990
        assert one.shed == 0
        assert sequences(client) == list(range(8_000))


def test_over_its_bytes_the_oldest_goes_and_is_counted_in_the_messages_and_in_what_is_shed(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.client() as client:
        with publisher(redis_server.url, tmp_path, limit=400_000) as one:
            one.take_in(range(3_000))
            size = sum(path.stat().st_size for path in segments(tmp_path))
            assert size <= 400_000
            confirmed = one.drain()

            assert one.shed > 1_000
            assert confirmed == 3_000 - one.shed
        found = entries(client)

    assert sum(entry["dropped"].get("window", 0) for entry in found) == one.shed
    assert is_lawful(found)


def test_the_oldest_of_all_cameras_goes_first(redis_server: RedisServer, tmp_path: Path) -> None:
    with publisher(redis_server.url, tmp_path, limit=300_000) as one:
        yard = one.sink.open(Keys.of("vedette", "yard"), live=True, maxlen=None, limit=100)
        one.take_in(range(300))
        for seq in range(2_000):
            yard.window.append(frame(seq, camera="yard"))

        assert one.stream.window.frames < 300
        assert yard.window.frames > 200
        one.take_in(range(300, 301))
        assert one.shed == 301 - one.stream.window.frames


def test_what_is_too_old_goes(redis_server: RedisServer, tmp_path: Path) -> None:
    now = time.time()
    with publisher(redis_server.url, tmp_path, seconds=60, clock=lambda: now) as one:
        one.take_in(range(50))
        now += 61
        one.take_in(range(50, 100))
        one.take_in(range(100, 101))

        assert one.shed == 100 - 50


def test_a_segment_goes_a_minute_after_redis_has_all_of_it(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    now = time.time()
    with publisher(redis_server.url, tmp_path, limit=600_000, clock=lambda: now) as one:
        for first in range(0, 600, 100):
            one.take_in(range(first, first + 100))
            one.drain()
        before = len(segments(tmp_path))
        assert before >= 4
        now += 61
        one.take_in(range(600, 601))
        one.drain()

        assert len(segments(tmp_path)) <= 2
        assert one.shed == 0


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_tail_that_is_cut_short_costs_that_record_only(
    redis_server: RedisServer, tmp_path: Path, cut: int
) -> None:
    with publisher(redis_server.url, tmp_path) as one:
        one.take_in(range(20))
    (path,) = segments(tmp_path)
    os.truncate(path, path.stat().st_size - cut)

    with redis_server.client() as client, publisher(redis_server.url, tmp_path) as one:
        one.take_in(range(20, 22))  # of the same session, to see it counted
        one.drain()
        found = entries(client)

    assert [entry["seq"] for entry in found] == [*range(19), 20, 21]
    assert found[-2]["dropped"] == {"window": 1}
    assert one.said == []
    assert list(tmp_path.rglob("*.bad")) == []


@pytest.mark.parametrize("where", ["length", "checksum", "id", "payload"])
def test_a_flipped_byte_costs_what_is_behind_it_in_its_segment_which_is_set_aside(
    redis_server: RedisServer, tmp_path: Path, where: str
) -> None:
    with publisher(redis_server.url, tmp_path) as one:
        one.take_in(range(20))
    (path,) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    eleventh = [end for _, _, end in unpack(bytes(data))][9]
    data[eleventh + {"length": 3, "checksum": 4, "id": 9, "payload": 60}[where]] ^= 0x10
    path.write_bytes(data)

    with redis_server.client() as client, publisher(redis_server.url, tmp_path) as one:
        one.take_in(range(20, 22))
        one.drain()
        found = entries(client)

    assert [entry["seq"] for entry in found] == [*range(10), 20, 21]
    assert found[10]["dropped"] == {"window": 10}
    assert path.with_suffix(".bad").read_bytes() == data[eleventh:]
    assert one.said == [f"{path} is damaged: its last {len(data) - eleventh} bytes are left out"]


def test_a_segment_that_is_missing_is_counted(redis_server: RedisServer, tmp_path: Path) -> None:
    with publisher(redis_server.url, tmp_path, limit=600_000) as one:
        one.take_in(range(400))
    _, second, *_ = segments(tmp_path)
    second.unlink()

    with redis_server.client() as client, publisher(redis_server.url, tmp_path) as one:
        one.drain()
        found = entries(client)

    assert 200 < len(found) < 400
    assert found[-1]["seq"] == 399
    assert is_lawful(found)


def test_a_segment_that_vanishes_under_a_running_publisher_is_counted(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.client() as client:
        with publisher(redis_server.url, tmp_path, limit=600_000) as one:
            one.take_in(range(400))
            segments(tmp_path)[1].unlink()
            confirmed = one.drain()
            one.take_in(range(400, 401))
            confirmed += one.drain()
        found = entries(client)

    assert confirmed == len(found) == 401 - one.shed
    assert is_lawful(found)


def test_garbage_among_the_segments_stops_nothing(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with publisher(redis_server.url, tmp_path) as one:
        one.take_in(range(3))
    (path,) = segments(tmp_path)
    path.with_name("000000000009.seg").write_bytes(os.urandom(5_000))
    path.with_name("000000000010.seg").write_bytes(b"")
    path.with_name("notes.seg").write_bytes(b"mine")
    path.with_name("000000000011.seg").write_bytes(pack((9, 9), b"no draft"))

    with redis_server.client() as client, publisher(redis_server.url, tmp_path) as one:
        one.drain()

        assert sequences(client) == [0, 1, 2]


def test_an_error_of_the_disk_costs_no_frame(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fdatasync fails: what it left is unknown, so the batch goes into a new segment as well."""
    sync, failures = os.fdatasync, iter([False, True, False, True, True, True])

    def fdatasync(descriptor: int) -> None:
        sync(descriptor)
        if next(failures, False):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr("pipeline.sinks.spool.RETRY", 0.1)
    with redis_server.client() as client:
        with publisher(redis_server.url, tmp_path) as one:
            for first in range(0, 40, 10):
                one.take_in(range(first, first + 10))
            assert one.said == [
                f"the spool in {tmp_path} cannot be used: Input/output error; records wait in "
                "memory"
            ]
            time.sleep(0.1)
            one.take_in(range(40, 50))
            assert one.said[1:] == [f"the spool in {tmp_path} works again"]
            assert one.drain() == 50
        with publisher(redis_server.url, tmp_path) as one:
            one.drain()

        assert sequences(client) == list(range(50))


def test_a_disk_that_takes_nothing_leaves_the_records_in_memory(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    with redis_server.client() as client:
        with publisher(redis_server.url, tmp_path / "file" / "spool") as one:
            one.take_in(range(3_000))
            assert one.shed == 1_000
            assert one.drain() == 2_000
        found = entries(client)

    assert found[0]["dropped"] == {"window": 1_000}
    assert is_lawful(found)
    assert len(one.said) == 1
    assert "Not a directory; records wait in memory" in one.said[0]


def test_a_file_that_may_not_grow_is_a_full_disk(redis_server: RedisServer, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with redis_server.client() as client:
        with publisher(redis_server.url, tmp_path) as one:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
            try:
                one.take_in(range(10))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert one.drain() == 10

        assert sequences(client) == list(range(10))
        assert "File too large" in one.said[0]


FULL = """
import sys
from pathlib import Path
from tests.test_spool import Publisher
one = Publisher(sys.argv[1], Path("/mnt/spool"))
one.take_in(range(6_000))
assert one.said == [], one.said
print(one.shed, one.drain())
one.close()
"""


def test_on_a_full_disk_the_oldest_goes_and_is_counted(redis_server: RedisServer) -> None:
    mount = "mount -t tmpfs -o size=1m none /mnt"
    inside = ["unshare", "-rm", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    command = [*inside, sys.executable, "-c", FULL, redis_server.url]

    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    shed, confirmed = map(int, answer.stdout.split())
    assert shed > 2_000
    assert shed + confirmed == 6_000
    with redis_server.client() as client:
        found = entries(client)
    assert len(found) == confirmed
    assert is_lawful(found)


def test_events_are_spooled_with_the_frames(redis_server: RedisServer, tmp_path: Path) -> None:
    with publisher(redis_server.url, tmp_path) as one:
        one.take_in(range(2))
        one.stream.window.append(ended(2))
    with redis_server.client() as client, publisher(redis_server.url, tmp_path) as one:
        one.drain()

        ((_, event),) = client.xrange(KEYS.events)
        last = client.xrevrange(KEYS.detections, count=1)[0][0].decode()
        assert json.loads(event[b"data"])["last_id"] == last


def test_nobody_else_can_read_the_spool(redis_server: RedisServer, tmp_path: Path) -> None:
    with publisher(redis_server.url, tmp_path / "spool") as one:
        one.take_in(range(2))

        for path in (tmp_path / "spool", *(tmp_path / "spool").rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), path


def test_two_publishers_never_share_a_spool(redis_server: RedisServer, tmp_path: Path) -> None:
    with publisher(redis_server.url, tmp_path) as one:
        one.take_in(range(2))
        with publisher(redis_server.url, tmp_path) as other:
            other.take_in(range(5))

            assert "is used by another process" in other.said[0]
            assert len(segments(tmp_path)) == 1


def test_a_files_records_are_not_spooled(redis_server: RedisServer, tmp_path: Path) -> None:
    with publisher(redis_server.url, tmp_path) as one:
        yard = one.sink.open(Keys.of("vedette", "yard"), live=False, maxlen=None, limit=None)
        yard.window.append(frame(0, camera="yard"))
        assert one.sink.write(yard) == 1

    assert segments(tmp_path) == []


def test_a_record_is_read_as_it_was_written_or_not_at_all() -> None:
    written = [((1, 0), b"one"), ((1, 1), b""), ((2**64 - 1, 2**64 - 1), b"\0" * 70_000)]
    data = b"".join(pack(entry, payload) for entry, payload in written)

    assert [(entry, payload) for entry, payload, _ in unpack(data)] == written
    for cut in range(len(data) - 70_100, len(data), 997):
        with suppress(IndexError):
            whole = [(entry, payload) for entry, payload, _ in unpack(data[:cut])]
            assert whole == written[: len(whole)]
