"""Processes that are killed, and runs that are started again."""

from __future__ import annotations

import os
import signal

import pytest

from tests import runs
from tests.faults.conftest import Make
from tests.faults.stage import GATE, YARD, Stage

WORKERS = (f"ingest:{YARD}", "infer:infer", "publish:publish")


def kill(run: runs.Running, worker: str) -> None:
    runs.eventually(lambda: worker in runs.workers_of(run), within=20)
    os.kill(runs.workers_of(run)[worker], signal.SIGKILL)


def kill_all(run: runs.Running) -> None:
    workers = runs.workers_of(run)
    run.process.kill()
    run.process.wait()
    runs.eventually(lambda: not any(map(runs.is_running, workers.values())), within=10)


def kill_one_after_the_other(stage: Stage, run: runs.Running, *workers: str) -> None:
    for worker in workers:
        stage.wait_for(stage.lengths()[YARD] + stage.schedule.entries(20, 60))
        kill(run, worker)


def test_a_file_is_complete_whoever_is_killed_and_when_all_are_after_another_run(
    make_stage: Make,
) -> None:
    with make_stage("F06 kill -9 of each worker, then of all") as stage:
        stage.only(YARD)
        with stage.running() as run:
            kill_one_after_the_other(stage, run, *WORKERS)
            before = stage.wait_for(stage.lengths()[YARD] + stage.schedule.entries(10, 40))
            kill_all(run)
        with stage.running() as run:
            recovery = stage.recover(before)
            stage.end(run)
        stage.report(recovery)


@pytest.mark.slow
@pytest.mark.parametrize("worker", WORKERS)
def test_a_file_is_complete_when_a_worker_is_killed_again_and_again(
    make_stage: Make, worker: str
) -> None:
    with make_stage(f"F06 kill -9 of {worker.partition(':')[0]}, 3 times") as stage:
        stage.only(YARD)
        with stage.running() as run:
            kill_one_after_the_other(stage, run, worker, worker, worker)
            recovery = stage.recover(stage.lengths())
            stage.end(run)
        stage.report(recovery)


@pytest.mark.slow
def test_a_file_is_complete_when_its_run_is_killed_again_and_again(make_stage: Make) -> None:
    with make_stage("F06 kill -9 of all, 4 times") as stage:
        stage.only(YARD)
        before = {YARD: 0}
        for _ in range(4):
            with stage.running() as run:
                before = stage.wait_for(before[YARD] + stage.schedule.entries(20, 60))
                kill_all(run)
        with stage.running() as run:
            recovery = stage.recover(before)
            stage.end(run)
        stage.report(recovery)


@pytest.mark.slow
def test_a_publisher_that_is_killed_costs_a_file_nothing_and_live_frames_are_counted(
    make_stage: Make,
) -> None:
    with make_stage("P07 kill -9 of publish") as stage, stage.running() as run:
        before = stage.wait_for(stage.schedule.entries())
        kill(run, "publish:publish")
        recovery = stage.recover(before)
        stage.end(run)
        found = stage.findings_of(GATE)
        stage.report(recovery, f"yard misses {stage.findings_of(YARD).missing}")
        assert set(found.dropped) <= {"superseded", "surplus", "too_old", "crash"}
        assert not stage.findings_of(YARD).dropped
