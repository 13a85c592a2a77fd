"""`vedette record` as it is called, and the file that it writes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.consume import Raw
from pipeline.errors import ConfigError
from pipeline.recording import read, write
from pipeline.wire import to_json, traceparent
from tests.published import add, ended, frame
from tests.servers import RedisServer
from workers.cli import main
from workers.rundir import Address, RunDirectory

VEDETTE = str(Path(sys.executable).with_name("vedette"))
KEY = "vedette:{gate}:detections"


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this machine's user are none of the tests' business."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@contextmanager
def recording(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [VEDETTE, "record", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.read()


def eventually(rule: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not rule():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.02)


def ids(path: Path) -> list[tuple[str, str]]:
    return [(entry.key, entry.id) for entry in read(path)]


# ── the file ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.zst"])
def test_what_is_read_is_what_was_written_byte_for_byte(tmp_path: Path, name: str) -> None:
    fields = {b"schema": b"x/1", b"data": '{\n "é": 1}'.encode(), b"odd": b"\xff\x00"}
    with write(tmp_path / name) as recorder:
        recorder.add(Raw(KEY, "1-1", "gate", False, fields))

    (entry,) = read(tmp_path / name)

    assert (entry.key, entry.id, entry.all_fields()) == (KEY, "1-1", fields)


def test_a_recording_is_one_object_a_line_that_jq_can_read(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with write(path) as recorder:
        recorder.add(Raw(KEY, "1-1", "gate", False, {b"data": to_json(frame(0))}))

    (line,) = path.read_text().splitlines()

    assert json.loads(line)["key"] == KEY
    assert json.loads(json.loads(line)["fields"]["data"])["seq"] == 0


def test_zstd_makes_it_small(tmp_path: Path) -> None:
    for name in ("out.jsonl", "out.jsonl.zst"):
        with write(tmp_path / name) as recorder:
            for seq in range(500):
                data = to_json(frame(seq))
                recorder.add(Raw(KEY, f"1-{seq + 1}", "gate", False, {b"data": data}))

    plain, small = (tmp_path / "out.jsonl").stat(), (tmp_path / "out.jsonl.zst").stat()

    assert small.st_size < plain.st_size / 20


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b"{}\n", "a.jsonl:1: is no entry of a recording: Object missing required"),
        ("a.jsonl", b"\xff\n", "a.jsonl:1: is no entry of a recording"),
        ("a.jsonl", b"[[[[\n", "a.jsonl:1: is no entry of a recording"),
        ("a.jsonl", b'{"key":"x","id":"1-1","fields":{}}\n', "'x' is no stream of a camera"),
        (
            "a.jsonl",
            b'{"key":"v:{g}:events","id":"1","fields":{}}\n',
            "a.jsonl:1: is no entry of a recording",
        ),
        ("a.jsonl.zst", b"{}\n", "a.jsonl.zst: is not zstd, as its name says"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x00", "a.jsonl.zst: is cut short"),
    ],
)
def test_what_is_no_recording_is_one_sentence(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        list(read(tmp_path / name))

    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_recording_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    for name in ("none.jsonl", "none.jsonl.zst"):
        with pytest.raises(ConfigError, match=f"{name}: cannot be read: No such file"):
            list(read(tmp_path / name))


# ── the command ───────────────────────────────────────────────────────────────────────────────


def test_everything_is_recorded_as_redis_has_it(redis_server: RedisServer, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl.zst"
    with redis_server.client() as client:
        add(client, *(frame(seq) for seq in range(250)), frame(0, camera="yard"), ended(250))
        client.xadd(KEY, {"of": "a later version"}, id="1-999")

    with recording("--redis", redis_server.url, "-o", out, "--from-start", "--for", "1") as process:
        assert process.wait(20) == 0
        assert said(process).splitlines()[-1] == f"vedette: 253 entries of 2 cameras in {out}"

    entries = list(read(out))
    frames = [entry for entry in entries if entry.key == KEY]
    assert [entry.id for entry in frames] == [*(f"1-{seq + 1}" for seq in range(250)), "1-999"]
    assert frames[7].fields == {
        "schema": "vedette.detections/1",
        "data": to_json(frame(7)).decode(),
        "traceparent": traceparent("gate", "1-ab", 7),
    }
    assert frames[-1].fields == {"of": "a later version"}


def test_only_what_comes_is_recorded_otherwise_and_only_of_the_cameras_named(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    with redis_server.client() as client:
        add(client, frame(0), frame(0, camera="yard"))
        with recording("--redis", redis_server.url, "-o", out, "--camera", "gate") as process:
            eventually(lambda: any(c["cmd"] == "xread" for c in client.client_list()))
            add(client, frame(1), frame(1, camera="yard"), frame(2))
            eventually(lambda: len(out.read_bytes().splitlines()) == 2)
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0

    assert ids(out) == [(KEY, "1-2"), (KEY, "1-3")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_leaves_a_whole_file(
    redis_server: RedisServer, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.jsonl.zst"
    with redis_server.client() as client:
        add(client, frame(0))
    with recording("--redis", redis_server.url, "-o", out, "--from-start") as process:
        eventually(lambda: out.exists() and out.stat().st_size > 50)
        process.send_signal(number)
        assert process.wait(10) == 0

    assert ids(out) == [(KEY, "1-1")]


def test_it_ends_with_the_run(redis_server: RedisServer, tmp_path: Path) -> None:
    config = tmp_path / "cams.yaml"
    config.write_text(
        f"model: {{weights: w.safetensors}}\nredis: {{url: '{redis_server.url}'}}\n"
        "cameras: [{id: gate, url: gate.mp4}]\n"
    )
    out = tmp_path / "out.jsonl"
    with redis_server.client() as client, subprocess.Popen(["sleep", "60"]) as run:
        add(client, frame(0), frame(5, camera="elsewhere"))
        with RunDirectory("cams") as directory:
            directory.announce(Address(run.pid, redis_server.url, "vedette", ("gate",)))
            with recording(config, "-o", out, "--from-start") as process:
                eventually(lambda: out.exists() and out.stat().st_size > 0)
                run.kill()
                run.wait()
                assert process.wait(15) == 0

    assert ids(out) == [(KEY, "1-1")]


def test_an_end_that_was_not_read_is_said(redis_server: RedisServer, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with redis_server.client() as client, subprocess.Popen(["sleep", "60"]) as run:
        add(client, frame(0), frame(0, camera="yard"), ended(1))
        with RunDirectory("cams") as directory:
            directory.announce(Address(run.pid, redis_server.url, "vedette", ("gate", "yard")))
            with recording("-o", out, "--from-start") as process:
                eventually(lambda: out.exists() and out.stat().st_size > 0)
                redis_server.kill()
                run.kill()
                run.wait()
                assert process.wait(15) == 1
                assert said(process).splitlines()[-1] == (
                    "vedette: the run has ended with its Redis before the ends of yard were read: "
                    "their last entries are missing"
                )


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("--redis", "redis://h", "-o", "/none/out.jsonl"), 2, "/none/out.jsonl: cannot be writ"),
        (("--redis", "redis://127.0.0.1:1", "-o", os.devnull), 1, "Redis at 127.0.0.1:1 cannot"),
        (("--redis", "redis://h"), 2, 'Command "record" parameter --output requires an argument'),
        (("-o", os.devnull), 1, "no run is going on in "),
        (("--redis", "redis://h", "-o", os.devnull, "--for", "0"), 2, "Invalid value"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_a_code(
    arguments: tuple[str, ...], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["record", *arguments])

    error = capsys.readouterr().err
    assert caught.value.code == code
    assert error.startswith(expected)
    assert len(error.splitlines()) == 1
