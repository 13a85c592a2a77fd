"""`vedette tail` as it is called: the real command, a real server, real pipes."""

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

import msgspec
import pytest

from pipeline.consume import Entry
from pipeline.wire import CameraMessage, DetectionsMessage, to_json
from tests.published import add, ended, frame
from tests.servers import RedisServer
from workers.cli import main
from workers.rundir import Address, RunDirectory
from workers.tail import line

VEDETTE = str(Path(sys.executable).with_name("vedette"))


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this machine's user are none of the tests' business."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Some process, to stand for a run."""
    with subprocess.Popen(["sleep", "60"]) as standing_in:
        yield standing_in
        standing_in.kill()


def publish(server: RedisServer, *messages: DetectionsMessage | CameraMessage) -> None:
    with server.client() as client:
        add(client, *messages)


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [VEDETTE, "tail", *map(str, arguments)], capture_output=True, text=True, timeout=30
    )


@contextmanager
def tailing(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [VEDETTE, "tail", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as tail:
        try:
            yield tail
        finally:
            tail.kill()


def lines(tail: subprocess.Popen[str], count: int) -> list[str]:
    assert tail.stdout is not None
    return [tail.stdout.readline().rstrip("\n") for _ in range(count)]


def entry(message: DetectionsMessage | CameraMessage) -> Entry:
    return Entry("vedette:{gate}:x", "1-1", message.camera, message, None, to_json(message))


# Lines for eyes


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(
            frame(7, seen=(("person", 0.91), ("car", 0.934), ("person", 0.5))),
            "22:13:20.700  gate  #7  2 person 0.91 0.50, 1 car 0.93",
            id="objects",
        ),
        pytest.param(frame(0, seen=()), "22:13:20.000  gate  #0  nothing", id="nothing"),
        pytest.param(
            frame(0, seen=8 * (("car", 0.5),)),
            "22:13:20.000  gate  #0  8 car 0.50 0.50 0.50 0.50 0.50 0.50 …",
            id="many",
        ),
        pytest.param(
            frame(9, dropped={"superseded": 1_200, "max_fps": 1}, tainted=True),
            "22:13:20.900  gate  #9  1 car 0.90  "
            "[1,201 dropped before it: 1,200 superseded, 1 max_fps]  [damaged picture]",
            id="gap",
        ),
        pytest.param(
            ended(377, dropped={"window": 2}),
            "22:15:00.000  gate  ended: read to its end: 377 frames  "
            "[2 dropped behind its last frame: 2 window]",
            id="end",
        ),
        pytest.param(
            CameraMessage("vedette.camera/1", "gate", "backoff", 1e9, "no answer", fault="network"),
            "01:46:40.000  gate  backoff: no answer (at fault: network)",
            id="fault",
        ),
        pytest.param(
            frame(0, seen=(("\x1b[2Jcar\n", 0.9),)),
            "22:13:20.000  gate  #0  1 �[2Jcar� 0.90",
            id="controls",
        ),
        pytest.param(
            msgspec.structs.replace(frame(0), captured_at=1e300),
            "??:??:??.???  gate  #0  1 car 0.90",
            id="no time",
        ),
    ],
)
def test_a_message_is_one_line_for_eyes(
    message: DetectionsMessage | CameraMessage, expected: str
) -> None:
    time.tzset()

    assert line(entry(message)) == expected


# The command


def test_everything_is_printed_from_the_start_and_then_what_comes(
    redis_server: RedisServer,
) -> None:
    publish(redis_server, frame(0), frame(1))

    with tailing("--redis", redis_server.url, "--from-start") as tail:
        first = lines(tail, 2)
        publish(redis_server, frame(2, dropped={"window": 1}), ended(3))
        more = lines(tail, 2)

    assert first == ["22:13:20.000  gate  #0  1 car 0.90", "22:13:20.100  gate  #1  1 car 0.90"]
    assert more[0].endswith("[1 dropped before it: 1 window]")
    assert more[1].endswith("gate  ended: read to its end: 3 frames")


def test_only_what_comes_is_printed_otherwise(redis_server: RedisServer) -> None:
    publish(redis_server, frame(0))

    with tailing("--redis", redis_server.url) as tail:
        with redis_server.client() as client:
            wait_for(lambda: any(c["cmd"] == "xread" for c in client.client_list()))
        publish(redis_server, frame(1))

        assert lines(tail, 1)[0].endswith("#1  1 car 0.90")


def test_json_is_what_was_published_one_line_each(redis_server: RedisServer) -> None:
    publish(redis_server, frame(0), ended(1))
    pretty = json.dumps(json.loads(to_json(ended(1, camera="yard"))), indent=2)
    with redis_server.client() as client:
        client.xadd("vedette:{yard}:events", {"data": pretty})

    with tailing("--redis", redis_server.url, "--from-start", "--json") as tail:
        found = lines(tail, 3)

    assert found[0] == to_json(frame(0)).decode()
    assert json.loads(found[1])["state"] == "ended"
    assert json.loads(found[2])["camera"] == "yard"


def test_a_camera_may_be_named_and_a_second_one_too(redis_server: RedisServer) -> None:
    publish(redis_server, *(frame(0, camera=camera) for camera in ("gate", "yard", "door")))

    cameras = ("--camera", "yard", "--camera", "door")
    with tailing("--redis", redis_server.url, *cameras, "--from-start") as tail:
        assert [text.split("  ")[1] for text in lines(tail, 2)] == ["yard", "door"]


def test_a_reader_that_has_seen_enough_ends_it_quietly(redis_server: RedisServer) -> None:
    publish(redis_server, *(frame(seq) for seq in range(20)))
    command = f"{VEDETTE} tail --redis {redis_server.url} --from-start | head -20; echo $PIPESTATUS"

    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=30)

    assert len(done.stdout.splitlines()) == 21
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_an_interrupt_ends_it_without_a_word(redis_server: RedisServer) -> None:
    publish(redis_server, frame(0))

    with tailing("--redis", redis_server.url, "--from-start") as tail:
        lines(tail, 1)
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) == 130
        assert tail.stderr is not None
        assert tail.stderr.read() == ""


def test_a_restart_of_redis_is_said_and_survived(kept_redis_server: RedisServer) -> None:
    publish(kept_redis_server, frame(0))

    with tailing("--redis", kept_redis_server.url, "--from-start") as tail:
        lines(tail, 1)
        kept_redis_server.kill()
        assert tail.stderr is not None
        assert "cannot be reached; trying again" in tail.stderr.readline()
        kept_redis_server.start()
        assert tail.stderr.readline().rstrip().endswith("is back")
        publish(kept_redis_server, frame(1))
        assert "#1" in lines(tail, 1)[0]


# Which server


def config(folder: Path, name: str = "cams", redis: str = "embedded") -> Path:
    path = folder / f"{name}.yaml"
    cameras = "cameras: [{id: gate, url: gate.mp4}]"
    path.write_text(f"model: {{weights: w.safetensors}}\nredis: {{url: '{redis}'}}\n{cameras}\n")
    return path


@contextmanager
def announced(name: str, server: RedisServer, pid: int) -> Iterator[None]:
    with RunDirectory(name) as directory:
        directory.announce(Address(pid, server.url, "vedette", ("gate",)))
        yield


def test_the_only_run_is_found_by_itself(redis_server: RedisServer) -> None:
    publish(redis_server, frame(0))

    with announced("cams", redis_server, os.getpid()), tailing("--from-start") as tail:
        assert "#0" in lines(tail, 1)[0]


def test_a_run_is_found_by_its_config_file(redis_server: RedisServer, tmp_path: Path) -> None:
    publish(redis_server, frame(0), frame(5, camera="elsewhere"))

    with (
        announced("other", redis_server, os.getpid()),
        announced("cams", redis_server, os.getpid()),
        tailing(config(tmp_path), "--from-start") as tail,
    ):
        assert "#0" in lines(tail, 1)[0]
        publish(redis_server, frame(1))
        assert "#1" in lines(tail, 1)[0]


def test_a_server_of_the_config_is_read_without_a_run(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    publish(redis_server, frame(0))

    with tailing(config(tmp_path, redis=redis_server.url), "--from-start") as tail:
        assert "#0" in lines(tail, 1)[0]


def test_it_ends_with_the_run_whose_server_it_reads(
    redis_server: RedisServer, process: subprocess.Popen[bytes]
) -> None:
    publish(redis_server, frame(0))

    with (
        announced("cams", redis_server, process.pid),
        tailing("--from-start") as tail,
    ):
        lines(tail, 1)
        redis_server.kill()
        process.kill()
        process.wait()

        assert tail.wait(10) == 0
        assert tail.stderr is not None
        assert tail.stderr.read() == "vedette: the run has ended\n"


def test_which_of_two_runs_is_a_question(redis_server: RedisServer) -> None:
    with (
        announced("yard", redis_server, os.getpid()),
        announced("cams", redis_server, os.getpid()),
    ):
        done = call()

    assert done.returncode == 2
    assert done.stderr == "2 runs are going on here, cams, yard: name the config FILE\n"


def test_a_run_that_was_killed_is_no_run(
    redis_server: RedisServer, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with announced("cams", redis_server, process.pid):
        process.kill()
        process.wait()
        alone, named = call(), call(config(tmp_path))

    assert (alone.returncode, named.returncode) == (1, 1)
    assert alone.stderr.startswith("no run is going on in ")
    assert "XDG_RUNTIME_DIR); start one with `vedette run FILE`" in alone.stderr
    assert named.stderr.startswith(f"no run of {tmp_path}/cams.yaml is going on")


def test_a_camera_that_a_run_does_not_have_is_refused(redis_server: RedisServer) -> None:
    with announced("cams", redis_server, os.getpid()):
        done = call("--camera", "gat")

    assert (done.returncode, done.stderr) == (2, "--camera: found 'gat', must be one of gate\n")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("none.yaml",), 2, "none.yaml: cannot be read: No such file or directory"),
        (("--prefix", "x"), 2, "found --prefix without --redis, which it goes with"),
        (("f.yaml", "--redis", "redis://h"), 2, "found a config file and --redis, must be one"),
        (("--redis", "embedded"), 2, "--redis: found embedded, must be a URL"),
        (("--redis", "ftp://u:hunter2@h"), 2, "--redis: found the scheme ftp:, must be a URL of"),
        (("--redis", "redis://:hunter/2@h"), 2, "--redis: found no valid host and port"),
        (("--redis", "redis://:hunter2@h?timeout=1"), 2, "the Redis URL has an option that is not"),
        (("--redis", "redis://h", "--prefix", "a b"), 2, "--prefix: must be 1 to 64 of A-Z"),
        (("--redis", "redis://:hunter2@127.0.0.1:1"), 1, "Redis at 127.0.0.1:1 cannot be reached"),
        (("--redis", "unix:///none.sock"), 1, "Redis at /none.sock cannot be reached"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_a_code(
    arguments: tuple[str, ...], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["tail", *arguments])

    out, error = capsys.readouterr()
    assert caught.value.code == code
    assert error.startswith(expected)
    assert len(error.splitlines()) == 1
    assert "hunter" not in error + out


def test_a_wrong_password_is_one_sentence_without_it(locked_redis_server: RedisServer) -> None:
    done = call("--redis", f"unix://:wrong-hunter3@{locked_redis_server.socket}")

    assert done.returncode == 1
    assert done.stderr.endswith("refuses the user or password\n")
    assert "hunter" not in done.stderr + done.stdout


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
