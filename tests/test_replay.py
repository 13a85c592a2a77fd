"""`vedette replay` as it is called: publishing a recording again, and comparing two."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.comparison import Tolerance, compare, overlap
from pipeline.consume import Raw
from pipeline.errors import ConfigError
from pipeline.recording import split_key, write
from pipeline.replaying import load, publish
from pipeline.wire import CameraMessage, Detection, DetectionsMessage, to_json
from tests.published import ended, frame
from tests.servers import RedisServer
from workers.cli import main

VEDETTE = str(Path(sys.executable).with_name("vedette"))
KEY = "vedette:{gate}:detections"


def made(path: Path, *messages: DetectionsMessage | CameraMessage) -> Path:
    """A recording of these messages."""
    with write(path) as recorder:
        for number, message in enumerate(messages, start=1):
            kind = "detections" if isinstance(message, DetectionsMessage) else "events"
            epoch = (message.session or "1").partition("-")[0]
            place = f"{epoch}-{message.seq + 1}" if kind == "detections" else f"1700-{number}"
            key = f"vedette:{{{message.camera}}}:{kind}"
            fields = {b"schema": message.schema.encode(), b"data": to_json(message)}
            recorder.add(Raw(key, place, message.camera, kind == "events", fields))
    return path


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VEDETTE, "replay", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def stream(server: RedisServer, key: str = KEY) -> list[tuple[str, dict[str, Any]]]:
    with server.client() as client:
        rows: Any = client.xrange(key)
    return [(row[0].decode(), json.loads(row[1][b"data"])) for row in rows]


def seen(*boxes: tuple[str, float, Sequence[float]], seq: int = 0) -> DetectionsMessage:
    detections = [Detection(0, label, score, tuple(box)) for label, score, box in boxes]
    return msgspec.structs.replace(frame(seq), detections=detections)


# ── publishing ────────────────────────────────────────────────────────────────────────────────


def test_the_same_ids_and_bytes_are_published_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    messages = [*(frame(seq) for seq in range(120)), frame(0, camera="yard"), ended(120)]
    path = made(tmp_path / "r.jsonl.zst", *messages)

    done = call(path, "--redis", redis_server.url, "--speed", "max")

    assert (done.returncode, done.stderr) == (
        0,
        "vedette: 122 entries of 2 cameras, 100.0 s, as fast as it goes\n",
    )
    with redis_server.client() as client:
        rows: Any = client.xrange(KEY)
        assert client.xlen("vedette:{yard}:detections") == 1
        assert client.xlen("vedette:{gate}:events") == 1
    assert [row[0].decode() for row in rows] == [f"1-{seq + 1}" for seq in range(120)]
    assert [row[1][b"data"] for row in rows] == [to_json(frame(seq)) for seq in range(120)]


def test_a_stream_that_is_ahead_is_refused_and_nothing_is_written(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    path = made(tmp_path / "r.jsonl", frame(0, camera="aaa"), frame(0), frame(1))
    with redis_server.client() as client:
        client.xadd(KEY, {"data": "{}"}, id="1-1")

    done = call(path, "--redis", redis_server.url, "--speed", "max")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"{KEY} at {redis_server.socket} is ahead: its last id is 1-1, and the recording begins "
        "with 1-1; use --fresh-ids, another --prefix, or a Redis that is empty"
    )
    assert stream(redis_server, "vedette:{aaa}:detections") == []


def test_a_stream_that_a_run_is_publishing_is_left_alone(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    path = made(tmp_path / "r.jsonl", frame(0))
    with redis_server.client() as client:
        client.set("vedette:{gate}:owner", "{}")

    done = call(path, "--redis", redis_server.url, "--fresh-ids")

    assert done.returncode == 1
    assert "is being published by a run" in done.stderr
    assert stream(redis_server) == []


def test_another_prefix_is_another_stream(redis_server: RedisServer, tmp_path: Path) -> None:
    path = made(tmp_path / "r.jsonl", frame(0))

    done = call(path, "--redis", redis_server.url, "--prefix", "test")

    assert done.returncode == 0
    assert [row[0] for row in stream(redis_server, "test:{gate}:detections")] == ["1-1"]


def test_fresh_ids_go_behind_what_is_there_and_an_end_names_the_new_last_one(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    end = msgspec.structs.replace(ended(2), last_id="1-2")
    path = made(tmp_path / "r.jsonl", frame(0), frame(1), end)

    for _ in range(2):
        done = call(path, "--redis", redis_server.url, "--speed", "max", "--fresh-ids")
        assert done.returncode == 0, done.stderr

    rows = stream(redis_server)
    assert [data["seq"] for _, data in rows] == [0, 1, 0, 1]
    ends = [data["last_id"] for _, data in stream(redis_server, "vedette:{gate}:events")]
    assert ends == [rows[1][0], rows[3][0]]


def test_entries_come_at_the_times_of_the_cameras(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    later = msgspec.structs.replace(frame(0, camera="yard"), captured_at=1_700_000_000.25)
    path = made(tmp_path / "r.jsonl", *(frame(seq) for seq in range(5)), ended(5), later)
    now, order = 50.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        with redis_server.client() as client:
            order.append((round(now - 50, 2), client.xlen(KEY)))
        now += seconds

    entries = load(path, prefix=None)
    publish(entries, redis_server.url, speed=2.0, fresh_ids=False, clock=lambda: now, sleep=sleep)

    assert [round(entry.due, 2) for entry in entries] == [0, 0.1, 0.2, 0.25, 0.3, 0.4, 100]
    assert order == [(0, 1), (0.05, 2), (0.1, 3), (0.12, 3), (0.15, 4), (0.2, 5)]
    assert stream(redis_server, "vedette:{gate}:events")


def test_an_entry_without_a_time_goes_with_the_one_before_it(tmp_path: Path) -> None:
    path = made(tmp_path / "r.jsonl", frame(0), frame(9))
    odd = b'{"key":"vedette:{gate}:detections","id":"1-11","fields":{"data":"[]"}}\n'
    path.write_bytes(path.read_bytes() + odd)

    due = [entry.due for entry in load(path, prefix=None)]

    assert due == sorted(due)
    assert due[-1] == due[-2]


def test_the_camera_s_order_is_kept_whatever_its_clock_did(tmp_path: Path) -> None:
    messages = [
        msgspec.structs.replace(frame(seq), captured_at=at) for seq, at in enumerate((9.0, 3.0, 12))
    ]

    entries = load(made(tmp_path / "r.jsonl", *messages), prefix=None)

    assert [entry.id for entry in entries] == ["1-1", "1-2", "1-3"]
    assert all(first.due <= second.due for first, second in pairwise(entries))


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ((), 2, "found neither of --redis and --compare, must be one of them"),
        (("--redis", "redis://h", "--compare", "r.jsonl"), 2, "found both of --redis and"),
        (("--redis", "redis://h", "--speed", "fast"), 2, "--speed: found 'fast', must be a numb"),
        (("--redis", "redis://h", "--speed", "0"), 2, "--speed: found '0', must be a number abo"),
        (("--redis", "redis://h", "--speed", "nan"), 2, "--speed: found 'nan', must be a number"),
        (("--redis", "redis://:hunter/2@h"), 2, "--redis: found no valid host and port"),
        (("--redis", "redis://h", "--prefix", "a b"), 2, "--prefix: must be 1 to 64 of A-Z"),
        (("--redis", "redis://:hunter2@127.0.0.1:1"), 1, "Redis at 127.0.0.1:1 cannot be reached"),
        (("--compare", "none.jsonl"), 2, "none.jsonl: cannot be read: No such file or directory"),
        (("--compare", "r.jsonl", "--iou", "2"), 2, 'Invalid value "2.0" for --iou'),
    ],
)
def test_a_wrong_call_is_one_sentence_and_a_code(
    arguments: tuple[str, ...],
    code: int,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    made(Path("r.jsonl"), frame(0))

    with pytest.raises(SystemExit) as caught:
        main(["replay", "r.jsonl", *arguments])

    error = capsys.readouterr().err.splitlines()[-1]
    assert caught.value.code == code
    assert error.startswith(expected)
    assert "hunter" not in error


def test_an_empty_recording_is_said(tmp_path: Path, redis_server: RedisServer) -> None:
    done = call(made(tmp_path / "r.jsonl"), "--redis", redis_server.url)

    assert (done.returncode, done.stderr) == (2, f"{tmp_path}/r.jsonl: there is nothing in it\n")


def test_ids_that_fall_are_said(tmp_path: Path, redis_server: RedisServer) -> None:
    path = made(tmp_path / "r.jsonl", frame(1), frame(0))

    done = call(path, "--redis", redis_server.url)

    assert done.returncode == 2
    assert f"the ids of {KEY} do not rise: 1-1 comes after 1-2; use --fresh-ids" in done.stderr


# ── comparing ─────────────────────────────────────────────────────────────────────────────────


def test_the_same_frames_agree_whatever_their_sessions_and_prefixes_are_called(
    tmp_path: Path,
) -> None:
    first = made(tmp_path / "a.jsonl", *(frame(seq) for seq in range(9)), ended(9))
    other = made(tmp_path / "b.jsonl", *(frame(seq, session="7-cd") for seq in range(9)))

    done = call(first, "--compare", other)

    assert (done.returncode, done.stdout) == (0, "9 frames agree\n")


def test_a_difference_is_a_sentence_that_one_can_look_up(tmp_path: Path) -> None:
    golden = made(
        tmp_path / "golden.jsonl",
        seen(("car", 0.91, (10, 10, 50, 50)), ("person", 0.8, (60, 60, 70, 90))),
        seen(("car", 0.9, (0, 0, 9, 9)), seq=1),
        seen(seq=2),
    )
    now = made(
        tmp_path / "now.jsonl",
        seen(("car", 0.71, (10, 10, 50, 48)), ("dog", 0.8, (60, 60, 70, 90))),
        seen(("car", 0.9, (0, 0, 9, 9)), seq=1),
    )

    done = call(now, "--compare", golden)

    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "gate #0: car 0.91 at [10, 10, 50, 50] has the confidence 0.71 now (IoU 0.95)",
        "gate #0: person 0.80 at [60, 60, 70, 90] is gone; nearest is dog 0.80 at "
        "[60, 60, 70, 90], IoU 1.00",
        "gate #0: dog 0.80 at [60, 60, 70, 90] is new; nearest is person 0.80 at "
        "[60, 60, 70, 90], IoU 1.00",
        f"gate #2: is not in {now}",
        "2 of 3 frames differ",
    ]


@pytest.mark.parametrize(
    ("mine", "tolerance", "agrees"),
    [
        (("car", 0.86, (0, 0, 10, 10)), Tolerance(), True),
        (("car", 0.84, (0, 0, 10, 10)), Tolerance(), False),
        (("car", 0.84, (0, 0, 10, 10)), Tolerance(confidence=0.1), True),
        (("car", 0.9, (0, 0, 10, 6)), Tolerance(), True),
        (("car", 0.9, (0, 0, 10, 4)), Tolerance(), False),
        (("car", 0.9, (0, 0, 10, 4)), Tolerance(iou=0.3), True),
        (("cat", 0.9, (0, 0, 10, 10)), Tolerance(), False),
    ],
)
def test_the_tolerance_is_what_counts_as_the_same(
    tmp_path: Path, mine: Any, tolerance: Tolerance, agrees: bool
) -> None:
    golden = made(tmp_path / "golden.jsonl", seen(("car", 0.9, (0, 0, 10, 10))))

    comparison = compare(made(tmp_path / "now.jsonl", seen(mine)), golden, tolerance)

    assert (comparison.differences == []) is agrees


def test_what_hardly_passes_the_threshold_may_come_and_go(tmp_path: Path) -> None:
    golden = made(tmp_path / "golden.jsonl", seen(("car", 0.26, (0, 0, 10, 10))), seen(seq=1))
    now = made(tmp_path / "now.jsonl", seen(), seen(("car", 0.29, (0, 0, 10, 10)), seq=1))

    assert compare(now, golden, Tolerance()).differences == []
    assert len(compare(now, golden, Tolerance(confidence=0.02)).differences) == 1


def test_one_box_is_matched_once_and_with_its_best(tmp_path: Path) -> None:
    left, right = ("car", 0.9, (0, 0, 10, 10)), ("car", 0.5, (3, 0, 13, 10))
    golden = made(tmp_path / "golden.jsonl", seen(left, right))

    swapped = compare(made(tmp_path / "a.jsonl", seen(right, left)), golden, Tolerance())
    once = compare(made(tmp_path / "b.jsonl", seen(left)), golden, Tolerance())

    assert swapped.differences == []
    assert len(once.differences) == 1


def test_many_differences_are_cut_short(tmp_path: Path) -> None:
    golden = made(tmp_path / "golden.jsonl", *(frame(seq) for seq in range(50)))
    now = made(tmp_path / "now.jsonl", *(frame(seq, seen=()) for seq in range(50)))

    lines = call(now, "--compare", golden).stdout.splitlines()

    assert len(lines) == 22
    assert lines[-2:] == ["… and 30 more differences", "50 of 50 frames differ"]


def test_a_recording_without_frames_agrees_with_nothing(tmp_path: Path) -> None:
    path = made(tmp_path / "r.jsonl", ended(0))

    with pytest.raises(ConfigError, match="there are no frames in it"):
        compare(path, path, Tolerance())


def test_overlap_is_intersection_over_union() -> None:
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


@pytest.mark.parametrize("key", ["x", "v:{a}:dead", ":{a}:events", "v:{}:events", "v:a:events"])
def test_a_key_of_something_else_is_none_of_a_camera(key: str) -> None:
    with pytest.raises(ValueError, match="is no stream of a camera"):
        split_key(key)


def test_a_key_says_whose_it_is() -> None:
    assert split_key("a:b:{gate}:events") == ("a:b", "gate", "events")
