"""Credentials, other writers, slow networks and consumers that fall behind."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.consume import Consumer, Entry, Gap
from tests import runs
from tests.faults import table
from tests.faults.checker import Findings
from tests.faults.conftest import Make
from tests.faults.stage import GATE, Stage

USER = ("ACL", "SETUSER", "vedette", "on", ">first", "~*", "+@all")
ROTATIONS = {  # what somebody does, how they mend it, after how long, what the run says
    "WRONGPASS": (("resetpass", ">second"), (">first",), 70, "refuses the user or password"),
    "NOPERM": (("-xadd",), ("+xadd",), 30, "does not allow this user what Vedette needs"),
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ROTATIONS)
def test_refused_credentials_are_tried_once_a_minute_until_they_are_mended(
    make_stage: Make, kind: str
) -> None:
    broken, mended, seconds, said = ROTATIONS[kind]
    with make_stage(f"R11 {kind}, mended after {seconds} s") as stage:
        stage.server.do(*USER)
        stage.config["redis"]["url"] = stage.proxy.url.replace("//", "//vedette:first@")
        with stage.running() as run:
            before = stage.wait_for(stage.schedule.entries())
            connections = stage.proxy.connections
            stage.server.do("ACL", "SETUSER", "vedette", *broken)
            stage.server.do("CLIENT", "KILL", "USER", "vedette")
            time.sleep(seconds)
            logins = stage.proxy.connections - connections
            stage.server.do("ACL", "SETUSER", "vedette", *mended)
            recovery = stage.recover(before, within=80)
            stage.end(run)
        assert said in run.said
        assert "first" not in run.said
        assert logins <= 1 + seconds // 60  # none, where it was refused before it was cut off
        stage.report(recovery, f"{logins} logins in {seconds} s")


@pytest.mark.slow
def test_an_entry_from_the_future_costs_a_live_camera_nothing(make_stage: Make) -> None:
    with make_stage("R13 an id one hour ahead") as stage, stage.running() as run:
        before = stage.wait_for(stage.schedule.entries())
        ahead = f"{int((time.time() + 3600) * 1000)}-7"
        stage.server.do("XADD", f"vedette:{{{GATE}}}:detections", ahead, "somebody", "else")
        recovery = stage.recover(before)
        stage.end(run)
        assert "in the future: its time is kept" in run.said
        stage.report(recovery)


@pytest.mark.slow
def test_the_second_of_two_publishers_of_a_camera_is_refused(
    make_stage: Make, tmp_path: Path
) -> None:
    with make_stage("R14 two publishers of a camera") as stage, stage.running() as run:
        stage.proxy.rate = 30_000  # so that the file is not done before the second has looked
        before = stage.wait_for(stage.schedule.entries())
        other = tmp_path / "other"
        other.mkdir()
        second = runs.vedette(other, "run", stage.folder / "run.yaml")
        stage.proxy.rate = 0
        stage.end(run)
        assert second.returncode == 1
        for camera in before:
            said = f"camera '{camera}' is already published by process {run.process.pid}"
            assert said in second.stderr
        stage.report(remark="the second run exits 1")


@pytest.mark.slow
def test_a_slow_network_holds_nothing_up_for_good(make_stage: Make) -> None:
    with make_stage("R15 200 ms, 50 kB/s") as stage, stage.running() as run:
        stage.wait_for(stage.schedule.entries())
        stage.proxy.delay, stage.proxy.rate = 0.1, 50_000
        stage.end(run, within=100)
        stage.report(remark="until the end of the run")


@pytest.mark.slow
def test_a_consumer_that_stalls_past_maxlen_is_told_what_it_has_lost(make_stage: Make) -> None:
    with make_stage("R16 a consumer stalled past MAXLEN") as stage:
        stage.only(GATE)
        stage.config["cameras"][0]["maxlen"] = 20
        url = f"unix://{stage.server.socket}"
        with (
            stage.running() as run,
            Consumer(url, group="slow", name="slow-1", prefix="vedette") as consumer,
        ):
            stage.wait_for(1)
            received: list[Entry | Gap] = []
            while sum(isinstance(one, Entry) for one in received) < 10:
                received += take(consumer)
            stage.end(run)
            trimmed, delivered = trimmed_of(stage), messages(received)
            lag = consumer.lag()[f"vedette:{{{GATE}}}:detections"]
            while fresh := take(consumer):
                received += fresh
        assert trimmed - delivered > 0
        assert lag.lost == trimmed - delivered
        stage_row(stage, received, f"lag says {lag.lost} lost, {trimmed - delivered} are")


def take(consumer: Consumer) -> list[Entry | Gap]:
    items = consumer.take()
    consumer.done(*items)
    return [one for one in items if isinstance(one, Entry | Gap)]


def messages(received: list[Entry | Gap]) -> int:
    return sum(isinstance(one, Entry) and one.key.endswith(":detections") for one in received)


def trimmed_of(stage: Stage) -> int:
    """How many entries have left the stream, as Redis counts them."""
    with stage.server.client() as client:
        state = client.xinfo_stream(f"vedette:{{{GATE}}}:detections")
    return int(state["entries-added"]) - int(state["length"])


def stage_row(stage: Stage, received: list[Entry | Gap], remark: str) -> None:
    """What the consumer had and what it was told, against the frames of the clip."""
    dropped: Counter[str] = Counter()
    for one in received:
        if isinstance(one, Gap):
            dropped.update(one.dropped or {one.kind: one.frames or 0})
    read, numbers = messages(received), [
        one.message.seq
        for one in received
        if isinstance(one, Entry) and one.key.endswith(":detections")
    ]  # fmt: skip
    lost = stage.clips.gate.frames - read - sum(dropped.values())
    findings = Findings(
        published=read,
        missing=max(0, lost),
        duplicate=read - len(set(numbers)),
        disordered=int(numbers != sorted(numbers)),
        unaccounted=abs(lost),
        dropped=dropped,
    )
    table.add(stage.row, findings, remark=remark)
