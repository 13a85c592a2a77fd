"""The fixtures that other teams' tests use, as a test uses them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.consume import Consumer, Entry, Settings
from pipeline.wire import DetectionsMessage
from tests.published import ended, frame
from tests.test_replay import made, seen
from workers.embedded import EmbeddedRedis
from workers.pytest_plugin import Compare, Replay

pytestmark = pytest.mark.usefixtures("_server_binary")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return made(tmp_path / "gate.jsonl.zst", *(frame(seq) for seq in range(41)), ended(41))


def test_a_recording_is_there_to_be_read(
    vedette_redis: EmbeddedRedis, vedette_replay: Replay, recording: Path
) -> None:
    replayed = vedette_replay(recording)

    settings = Settings(wait=0.1)
    with Consumer(
        vedette_redis.url, group="g", name="a", prefix="vedette", settings=settings
    ) as consumer:
        entries = [item for item in consumer.take() if isinstance(item, Entry)]

    assert (replayed.entries, replayed.cameras) == (42, 1)
    cars = [e.message.seq for e in entries if isinstance(e.message, DetectionsMessage)]
    assert cars == list(range(41))


def test_a_recording_may_be_replayed_twice_with_fresh_ids(
    vedette_replay: Replay, recording: Path
) -> None:
    vedette_replay(recording)

    assert vedette_replay(recording, fresh_ids=True).entries == 42


def test_two_recordings_that_agree_pass(vedette_compare: Compare, recording: Path) -> None:
    vedette_compare(recording, recording)


def test_two_recordings_that_differ_fail_with_the_difference(
    vedette_compare: Compare, tmp_path: Path
) -> None:
    golden = made(tmp_path / "golden.jsonl", seen(("car", 0.9, (0, 0, 10, 10))))
    now = made(tmp_path / "now.jsonl", seen(("car", 0.9, (0, 0, 10, 4))))

    vedette_compare(now, golden, iou=0.3)
    with pytest.raises(pytest.fail.Exception, match=r"gate #0: car 0\.90 at .* is gone"):
        vedette_compare(now, golden)


def test_the_plugin_imports_nothing_that_no_test_has_asked_for() -> None:
    program = "import sys, workers.pytest_plugin; print(*sys.modules)"

    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert {"redis", "msgspec", "numpy", "torch", "av"} & set(answer.stdout.split()) == set()
