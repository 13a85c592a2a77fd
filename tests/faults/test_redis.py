"""What happens to Redis and on the way to it, and that every frame is there once all the same."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests import runs
from tests.faults.conftest import Make
from tests.faults.proxy import FaultProxy
from tests.faults.server import KEEP, server
from tests.faults.stage import GATE, YARD, Stage

Fault = Callable[[Stage], str | None]  # a figure of its own, if it has one

PACE = (
    60_000  # bytes a second until the fault is over, so that it finds the file half done anywhere
)


def be_killed(stage: Stage) -> None:
    stage.server.kill()
    time.sleep(stage.schedule.seconds(0.5, 2))
    stage.server.start()


def freeze(stage: Stage) -> None:
    stage.server.signal(signal.SIGSTOP)
    time.sleep(5)
    stage.server.signal(signal.SIGCONT)


def hold(stage: Stage) -> str:
    """What was sent meanwhile arrives late, on connections that were given up."""
    stage.proxy.held = True
    noticed = be_noticed(stage)
    time.sleep(stage.schedule.seconds(2, 4))
    stage.proxy.held = False
    return noticed


def go_deaf(stage: Stage) -> str:
    stage.proxy.deaf = True
    noticed = be_noticed(stage)
    time.sleep(stage.schedule.seconds(0.5, 2))
    stage.proxy.deaf = False
    return noticed


def be_noticed(stage: Stage) -> str:
    """An answer is waited for for 2 s, and a connection too."""
    since = time.monotonic()
    runs.eventually(lambda: "does not answer" in stage.said, within=4)
    return f"noticed after {time.monotonic() - since:.1f} s"


def lose_answers(stage: Stage) -> None:
    """Two to four in a row; more only make the waits between them longer."""
    left, proxy = 20, stage.proxy
    while left:
        count = min(left, stage.schedule.random.randint(2, 4))
        left -= count
        proxy.lose = count
        runs.eventually(lambda: proxy.lose <= 0, within=30)
        executed = proxy.executed  # stepping in is one of these, and must not be the last
        runs.eventually(lambda then=executed: proxy.executed > then + 1, within=30)


def reset(stage: Stage) -> None:
    stage.proxy.resets = 10
    runs.eventually(lambda: stage.proxy.resets <= 0, within=90)


def fill_up(stage: Stage) -> None:
    with memory_of(stage):
        time.sleep(4)


def fill_up_now_and_then(stage: Stage) -> None:
    for _ in range(12):
        with memory_of(stage):
            time.sleep(stage.schedule.seconds(0.02, 0.3))
        time.sleep(stage.schedule.seconds(0.02, 0.2))


class memory_of:  # noqa: N801
    """A server with no memory left, for the length of the block."""

    def __init__(self, stage: Stage) -> None:
        self._server = stage.server

    def __enter__(self) -> None:
        self._server.do("CONFIG", "SET", "maxmemory", "1")

    def __exit__(self, *exception: object) -> None:
        self._server.do("CONFIG", "SET", "maxmemory", "0")


def load(stage: Stage) -> None:
    """20,000 keys, 300 µs each."""
    with stage.server.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(20_000):
            pipe.set(f"ballast:{number}", "x")
        pipe.execute()
        client.save()
    stage.server.kill()
    stage.server.options = (
        *KEEP["RDB"], "--key-load-delay", "300", "--loading-process-events-interval-bytes", "1024",
    )  # fmt: skip
    stage.server.start()
    with pytest.raises(redis.exceptions.BusyLoadingError):
        stage.server.do("DBSIZE")
    runs.eventually(lambda: sum(stage.lengths().values()), within=60)


def fail_to_save(stage: Stage) -> None:
    """MISCONF: its folder is gone."""
    stage.server.do("CONFIG", "SET", "save", "3600 1")
    shutil.rmtree(stage.server.data)
    stage.server.do("BGSAVE")
    time.sleep(4)
    stage.server.data.mkdir()
    stage.server.do("CONFIG", "SET", "dir", str(stage.server.data))
    stage.server.do("BGSAVE")


def run_a_script(stage: Stage) -> None:
    """BUSY."""
    stage.server.do("CONFIG", "SET", "busy-reply-threshold", "50")

    def loop() -> None:
        with pytest.raises(redis.ResponseError, match="killed"):
            stage.server.do("EVAL", "while true do end", "0")

    thread = threading.Thread(target=loop)
    thread.start()
    time.sleep(4)
    stage.server.do("SCRIPT", "KILL")
    thread.join()


def want_replicas(stage: Stage) -> None:
    stage.server.do("CONFIG", "SET", "min-replicas-to-write", "1")
    time.sleep(4)
    stage.server.do("CONFIG", "SET", "min-replicas-to-write", "0")


def have_too_many_clients(stage: Stage) -> None:
    with stage.server.client() as client:
        client.config_set("maxclients", 1)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(4)
        client.config_set("maxclients", 1000)


def flush(stage: Stage) -> None:
    stage.server.do("FLUSHALL")


def delete(stage: Stage) -> None:
    for _ in range(5):
        stage.server.do("DEL", *(f"vedette:{{{camera}}}:detections" for camera in (YARD, GATE)))
        time.sleep(stage.schedule.seconds(0.05, 0.3))


def evict(stage: Stage) -> None:
    """Whole streams go, the owner's key and the job's too."""
    stage.server.do("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    for _ in range(3):
        with memory_of(stage):
            time.sleep(0.3)
        time.sleep(stage.schedule.seconds(0.1, 0.3))


FAULTS: list[tuple[str, Fault, tuple[str, ...], bool]] = [  # the last: in the short suite
    *((f"R02 kill -9, {kind}", be_killed, keep, False) for kind, keep in KEEP.items()),
    ("R03 SIGSTOP 5 s", freeze, (), True),
    ("R04 blackhole", hold, (), False),
    ("R04 half-open", go_deaf, (), False),
    ("R05 20 lost answers", lose_answers, (), False),
    ("R06 RST in mid-pipeline, 10 times", reset, (), False),
    ("R07 OOM 4 s", fill_up, (), False),
    ("R07 OOM flapping", fill_up_now_and_then, (), False),
    ("R09 LOADING", load, (), False),
    ("R10 MISCONF", fail_to_save, (), False),
    ("R10 BUSY", run_a_script, (), False),
    ("R10 NOREPLICAS", want_replicas, (), False),
    ("R10 maxclients", have_too_many_clients, (), False),
    ("R12 FLUSHALL", flush, (), False),
    ("R12 DEL, 5 times", delete, (), False),
    ("R12 eviction", evict, (), False),
]


def rows() -> list[Any]:
    return [
        pytest.param(name, fault, keep, id=name, marks=[] if short else [pytest.mark.slow])
        for name, fault, keep, short in FAULTS
    ]


@pytest.mark.parametrize(("name", "fault", "keep"), rows())
def test_every_frame_is_there_once_whatever_happens_to_redis(
    make_stage: Make, name: str, fault: Fault, keep: tuple[str, ...]
) -> None:
    with make_stage(name, *keep) as stage, stage.running() as run:
        stage.proxy.rate = PACE
        before = stage.wait_for(stage.schedule.entries())
        remark = fault(stage)
        stage.proxy.rate = 0
        recovery = stage.recover(before)
        stage.end(run)
        stage.report(recovery, remark or "")


@pytest.mark.slow
def test_a_redis_that_comes_late_gets_everything(make_stage: Make) -> None:
    with make_stage("R01 down at start, up after 6 s") as stage:
        stage.server.kill()
        with stage.running() as run:
            runs.eventually(lambda: "cannot be reached; waiting for it" in run.said, within=60)
            time.sleep(6)
            stage.server.start()
            recovery = stage.recover({YARD: 0, GATE: 0})
            stage.end(run)
            stage.report(recovery)


@pytest.mark.slow
def test_a_replica_that_lacks_the_tail_gets_it_when_it_takes_over(make_stage: Make) -> None:
    name = "R08 failover to a stalled replica"
    with make_stage(name) as stage, server() as second, FaultProxy(stage.server.socket) as link:
        second.start()
        second.do("REPLICAOF", "127.0.0.1", link.port)
        runs.eventually(
            lambda: b"master_link_status:up" in info(second.do, "replication"), within=20
        )
        with stage.running() as run:
            stage.proxy.rate = PACE
            stage.wait_for(stage.schedule.entries())
            link.deaf = True
            before = stage.wait_for(min(stage.lengths().values()) + 40)
            first, stage.server = stage.server, second
            behind = sum(before.values()) - sum(stage.lengths().values())
            first.do("REPLICAOF", "127.0.0.1", "1")  # demoted: READONLY
            time.sleep(1)
            second.do("REPLICAOF", "NO", "ONE")
            stage.proxy.target, stage.proxy.rate = second.socket, 0
            recovery = stage.recover(before)
            stage.end(run)
        first.kill()
        assert behind >= 40
        stage.report(recovery, f"the replica lacked {behind} entries")


def info(ask: Callable[..., Any], section: str) -> bytes:
    return b" ".join(f"{k}:{v}".encode() for k, v in ask("INFO", section).items())
