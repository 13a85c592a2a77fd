from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from pipeline.sinks.connection import Link
from pipeline.sinks.fence import Fence
from pipeline.sinks.lease import LEASE, RENEW, Lease, LeaseTaken, Owner
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.window import Keys
from tests.published import frame
from tests.servers import RedisServer

KEYS = Keys.of("vedette", "gate")
OURS = Owner.here()


def lease(owner: Owner = OURS) -> Lease:
    return Lease(KEYS.owner, "gate", owner)


def value_of(owner: Owner) -> bytes:
    return msgspec.json.encode(owner)


@contextmanager
def process(program: str = "import time; time.sleep(60)") -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


@contextmanager
def sink(url: str, owner: Owner | None = None) -> Iterator[tuple[RedisSink, Stream]]:
    one = RedisSink(url, owner=owner)
    try:
        yield one, one.open(KEYS, live=True, maxlen=None, limit=100)
    finally:
        one.close()


def test_a_key_that_is_free_or_ours_may_be_taken() -> None:
    lease().judge(None, -2, 0)
    lease().judge(value_of(OURS), 5, 0)


def test_a_publisher_that_its_run_started_again_takes_its_key_at_once() -> None:
    before = msgspec.structs.replace(OURS, writer="another")

    lease().judge(value_of(before), 5, 0)


def test_a_process_of_this_machine_that_is_gone_owns_nothing() -> None:
    with process() as child:
        other = Owner.of(child.pid, "another run")
        with pytest.raises(LeaseTaken) as caught:
            lease().judge(value_of(other), 5, 0)

    assert str(caught.value) == (
        f"camera 'gate' is already published by process {other.pid} on {other.host}"
    )
    assert caught.value.retry_after is None
    lease().judge(value_of(other), 5, 0)


def test_a_zombie_owns_nothing() -> None:
    with process("") as child:
        other = Owner.of(child.pid, "another run")
        deadline = time.monotonic() + 10
        while ") Z " not in Path(f"/proc/{child.pid}/stat").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)

        lease().judge(value_of(other), 5, 0)


def test_a_pid_that_is_used_again_is_another_process() -> None:
    other = msgspec.structs.replace(OURS, token="another run", start=OURS.start - 1)

    lease().judge(value_of(other), 5, 0)


@pytest.mark.parametrize("field", ["host", "boot", "space"])
def test_a_pid_of_another_machine_boot_or_container_means_nothing_here(field: str) -> None:
    changes = {field: "another", "token": "another run", "start": 0}
    other = value_of(msgspec.structs.replace(OURS, **changes))

    with pytest.raises(LeaseTaken, match="waiting for a sign of life") as caught:
        lease().judge(other, 5, 0)

    assert caught.value.retry_after is not None
    assert RENEW < caught.value.retry_after < LEASE


def test_an_owner_elsewhere_that_renews_is_alive_and_one_that_does_not_runs_out() -> None:
    other = value_of(msgspec.structs.replace(OURS, host="another", token="another run"))
    alive, dead = lease(), lease()
    for one in (alive, dead):
        with pytest.raises(LeaseTaken):
            one.judge(other, 8, 100)

    with pytest.raises(LeaseTaken) as caught:
        alive.judge(other, 9, 104)
    assert caught.value.retry_after is None
    with pytest.raises(LeaseTaken) as caught:
        dead.judge(other, 4, 104)
    assert caught.value.retry_after is not None
    dead.judge(None, -2, 109)


@pytest.mark.parametrize("value", [b"mine", b"{}", b'{"host": 5}'])
def test_a_key_that_somebody_else_uses_is_not_overwritten(value: bytes) -> None:
    with pytest.raises(LeaseTaken, match="holds no lease of ours"):
        lease().judge(value, -1, 0)


def test_the_key_names_the_process_and_is_gone_after_an_end_in_order(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client:
        with sink(redis_server.url, OURS) as (one, stream):
            one.step_in(stream)
            stored = client.get(KEYS.owner)
            assert isinstance(stored, bytes)
            assert msgspec.json.decode(stored, type=Owner).pid == os.getpid()
            assert 0 < client.pttl(KEYS.owner) <= LEASE * 1000

        assert client.get(KEYS.owner) is None


def test_the_second_of_two_publishers_is_refused_and_its_other_cameras_go_on(
    redis_server: RedisServer,
) -> None:
    with sink(redis_server.url) as (first, stream), sink(redis_server.url) as (second, rival):
        first.step_in(stream)
        yard = second.open(Keys.of("vedette", "yard"), live=True, maxlen=None, limit=100)
        rival.window.append(frame(0))
        yard.window.append(frame(0, camera="yard"))

        with pytest.raises(LeaseTaken, match=f"process {os.getpid()} on "):
            second.write(rival)
        assert second.write(yard) == 1
        stream.window.append(frame(0))
        assert first.write(stream) == 1

    with redis_server.client() as client:
        assert client.xlen(KEYS.detections) == 1


def test_an_idle_publisher_keeps_its_key(redis_server: RedisServer) -> None:
    with redis_server.client() as client, sink(redis_server.url) as (one, stream):
        one.step_in(stream)
        client.pexpire(KEYS.owner, 5_000)
        assert one.renew() == []
        assert client.pttl(KEYS.owner) <= 5_000  # it is too early

        stream.lease.renewed -= RENEW
        assert one.renew() == []

        assert client.pttl(KEYS.owner) > 5_000


def test_a_key_that_ran_out_is_taken_back_and_nothing_is_written_in_between(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client, sink(redis_server.url) as (one, stream):
        stream.window.append(frame(0))
        assert one.write(stream) == 1
        client.delete(KEYS.owner)
        stream.window.append(frame(1))

        assert one.write(stream) == 0
        assert client.xlen(KEYS.detections) == 1
        assert one.write(stream) == 1
        assert client.xlen(KEYS.detections) == 2


def test_what_was_lost_while_idle_is_noticed_and_put_back(redis_server: RedisServer) -> None:
    with redis_server.client() as client, sink(redis_server.url) as (one, stream):
        stream.window.append(frame(0))
        assert one.write(stream) == 1
        for lose in (client.flushall, lambda: client.delete(KEYS.detections)):
            lose()
            stream.lease.renewed -= RENEW

            assert one.renew() == [stream]
            assert one.write(stream) == 0

            assert client.xlen(KEYS.detections) == 1


def test_one_renewal_is_for_all_cameras_and_says_which_were_lost(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as client, sink(redis_server.url) as (one, gate):
        yard = one.open(Keys.of("vedette", "yard"), live=True, maxlen=None, limit=100)
        for stream in (gate, yard):
            one.step_in(stream)
            stream.lease.renewed -= RENEW
        client.set(KEYS.owner, value_of(msgspec.structs.replace(OURS, token="another run")))

        assert one.renew() == [gate]
        with pytest.raises(LeaseTaken):
            one.write(gate)


def test_a_batch_on_a_connection_that_was_given_up_is_void_once_the_lease_is_taken(
    redis_server: RedisServer,
) -> None:
    """Also where it is the same publisher that takes it, over a new connection."""
    links = [Link(redis_server.url, timeout=5) for _ in range(2)]
    before, after = map(Fence, links)
    ours, add = lease(), ("XADD", KEYS.detections, "1-1", "data", "{}")
    before.look(ours)
    assert before.take(ours) == []
    assert before.transact(ours, [("EXISTS", KEYS.detections)]) == [0]  # armed for the next one
    after.look(ours)
    assert after.take(ours) == []

    assert before.transact(ours, [add]) is None
    assert after.transact(ours, [add]) == [b"1-1"]
    for link in links:
        link.close()


# A publisher of its own that says when it is in step, and writes a frame for each line it reads.
PUBLISHER = """
import sys
from pipeline.sinks.redis import RedisSink
from pipeline.sinks.window import Keys
from tests.published import frame

sink = RedisSink(sys.argv[1])
stream = sink.open(Keys.of("vedette", "gate"), live=True, maxlen=None, limit=100)
sink.step_in(stream)
print("in step", flush=True)
for seq, _ in enumerate(sys.stdin):
    stream.window.append(frame(seq, session="first"))
    try:
        while len(stream.window):
            sink.write(stream)
        print("written", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


@contextmanager
def publisher(url: str) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", PUBLISHER, url]
    child = subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "in step\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def write_one(child: subprocess.Popen[str]) -> str:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def test_a_publisher_that_was_killed_loses_its_cameras_at_once(redis_server: RedisServer) -> None:
    with publisher(redis_server.url) as child:
        assert write_one(child) == "written"
    with sink(redis_server.url) as (one, stream):
        stream.window.append(frame(0))

        assert one.write(stream) == 1


def test_a_publisher_that_was_stopped_past_its_lease_writes_nothing_any_more(
    redis_server: RedisServer,
) -> None:
    with publisher(redis_server.url) as child, sink(redis_server.url) as (one, stream):
        assert write_one(child) == "written"
        child.send_signal(signal.SIGSTOP)
        with redis_server.client() as client:
            with pytest.raises(LeaseTaken):
                one.step_in(stream)
            client.delete(KEYS.owner)  # ten seconds have gone by
            stream.window.append(frame(0, session="second"))
            assert one.write(stream) == 1
            child.send_signal(signal.SIGCONT)

            assert write_one(child) == "LeaseTaken"

            assert client.xlen(KEYS.detections) == 2
