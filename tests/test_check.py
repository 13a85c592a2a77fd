"""`vedette check`: every mistake at once, and with --probe what every part really is."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import SourceError
from pipeline.yolov6.network import shapes
from pipeline.yolov6.variants import VARIANTS
from pipeline.yolov6.weights import save
from tests.media import encode, encode_sound, rtsp_camera
from tests.servers import RedisServer, free_port
from tests.servers import redis_server as serve
from workers.cli import main
from workers.look import look

CANARY = "c4n@:/%#?ry"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest network of the family, with weights of zero."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    found = shapes(VARIANTS["0.4.x-lite_s"], 2, 1)
    state = {key: np.zeros(shape, np.float32) for key, shape in found.items()}
    about = {"variant": "0.4.x-lite_s", "classes": ["person", "car"], "input_size": (320, 320)}
    save(path, state, about | {"source": "0" * 64})
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    encode(path, rate=25)
    return path


@pytest.fixture
def config(tmp_path: Path, weights: Path) -> Config:
    return Config(tmp_path, weights)


class Config:
    """Writes config files."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.folder = folder
        self._weights = weights

    def write(
        self, *cameras: str | Path, redis: str = "embedded", more: str = "", model: str = ""
    ) -> Path:
        """A file with cameras a, b, c … of these sources; `more` is put into their mappings."""
        names = "abcdefghijklmnopqrstuvwxyz"
        lines = [f"model: {{weights: {self._weights}, input_size: [192, 320]{model}}}"]
        lines += [f"redis: {{url: '{redis}'}}", "cameras:"]
        for name, url in zip(names, cameras, strict=False):
            lines.append(f"- {{id: {name}, url: '{url}'{more}}}")
        path = self.folder / "cams.yaml"
        path.write_text("\n".join(lines))
        return path


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Checker:
    return Checker(capsys)


class Checker:
    """Calls the command."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> SimpleNamespace:
        with pytest.raises(SystemExit) as caught:
            main(["check", *map(str, arguments)])
        out, error = self._capsys.readouterr()
        return SimpleNamespace(code=caught.value.code, out=out, error=error)

    def probe(self, file: Path) -> SimpleNamespace:
        """With --probe; `findings` are its lines by what they are about."""
        done = self(file, "--probe")
        lines = [text for text in done.out.splitlines() if text[:2] in ("ok", "fa")]
        done.findings = dict(text.split(": ", 1) for text in lines)
        return done


def test_a_config_without_mistakes_is_summed_up(
    config: Config, check: Checker, weights: Path, clip: Path
) -> None:
    file = config.write(clip, "rtsp://user:pw@10.0.0.5/stream?a=1", more=", max_fps: 5")

    done = check(file)

    assert (done.code, done.error) == (0, "")
    digest = re.search(r"\(([0-9a-f]{12})\)", done.out)
    assert digest
    assert done.out.splitlines() == [
        f"config: {file} has no mistakes",
        f"weights: {weights}: 0.4.x-lite_s ({digest[1]}), 2 classes, input 192 high and 320 wide",
        "device: auto, precision auto (--probe says what auto comes to)",
        "redis: embedded, starts and ends with the run, prefix vedette",
        f"camera a: file, {clip}, at most 5 frames/s",
        "camera b: live, rtsp://***@10.0.0.5/…, at most 5 frames/s",
    ]


def test_a_live_file_in_a_loop_is_called_that(config: Config, check: Checker, clip: Path) -> None:
    file = config.write(clip, more=", live: true, loop: true, classes: [car]")

    assert f"camera a: live, {clip}, in a loop, only car" in check(file).out


def test_checking_needs_no_torch_and_no_decoder(config: Config, clip: Path) -> None:
    program = (
        "import sys; from workers.check import check; from pathlib import Path\n"
        "check(Path(sys.argv[1]), probe=False)\n"
        "sys.exit(bool({'torch', 'av'} & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, config.write(clip)], capture_output=True, timeout=30
    )

    assert done.returncode == 0, done.stderr


def test_every_mistake_is_said_at_once_with_its_line(
    config: Config, check: Checker, clip: Path
) -> None:
    file = config.write(clip, "none.mp4", "ftp://x", more=", max_fps: 0")

    done = check(file)

    assert (done.code, done.out) == (2, "")
    assert [text.split(": ")[:2] for text in done.error.splitlines()] == [
        [f"{file}:4", "cameras[0].max_fps"],
        [f"{file}:5", "cameras[1].max_fps"],
        [f"{file}:5", "cameras[1].url"],
        [f"{file}:6", "cameras[2].url"],
        [f"{file}:6", "cameras[2].max_fps"],
    ]


def test_what_does_not_fit_the_weights_is_a_mistake(
    config: Config, check: Checker, clip: Path
) -> None:
    done = check(config.write(clip, more=", classes: [person, bird]"))

    assert done.code == 2
    assert "cameras[0].classes[1]: found 'bird', must be a class of the weights" in done.error


def test_half_floats_on_a_cpu_are_refused_before_anything_starts(
    config: Config, check: Checker, clip: Path
) -> None:
    done = check(config.write(clip, model=", device: cpu, precision: fp16"))

    assert done.code == 2
    assert "model.precision: found fp16 with device: cpu, must be auto, fp32" in done.error

    done = check(config.write(clip, model=", device: cuda, precision: int8"))

    assert "model.precision: found int8 with device: cuda, must be auto, fp32" in done.error
    assert "found int8, must be another for weights without ranges: `vedette weights" in done.error


def test_a_redis_url_that_would_change_how_we_speak_is_refused(
    config: Config, check: Checker, clip: Path
) -> None:
    done = check(config.write(clip, redis="redis://:hunter2@localhost?socket_timeout=1"))

    assert done.code == 2
    assert "cams.yaml:2: redis.url: the Redis URL has an option that is not one" in done.error


# Probing


def test_probing_says_what_everything_is(
    config: Config, check: Checker, clip: Path, redis_server: RedisServer
) -> None:
    with rtsp_camera(frames=10) as url:
        done = check.probe(config.write(clip, url, redis=redis_server.url))

    assert (done.code, done.error) == (0, "")
    assert re.fullmatch(
        r"0.4.x-lite_s is loaded, would run on \w+, (fp32|bf16|fp16), \d+ × \d+ frames",  # noqa: RUF001
        done.findings["ok      weights"],
    )
    assert re.fullmatch(
        rf"(valkey|redis) [\d.]+ at {redis_server.socket}, answers in [\d.]+ ms",
        done.findings["ok      redis"],
    )
    assert done.findings["ok      camera a"] == "h264, 160x120, 25 frames/s"
    assert done.findings["ok      camera b"] == "h264, 160x120, 10 frames/s"
    assert "hunter2" not in done.out


def test_probing_an_embedded_redis_finds_its_binary(
    config: Config, check: Checker, clip: Path, redis_server: RedisServer
) -> None:
    done = check.probe(config.write(clip))

    assert re.search(r"(valkey|redis)-server [\d.]+$", done.findings["ok      redis"])


def test_one_thing_that_fails_is_said_beside_what_does_not(
    config: Config, check: Checker, clip: Path
) -> None:
    text, sound = config.folder / "text.mp4", config.folder / "sound.mp4"
    text.write_text("ffconcat version 1.0\nfile /etc/passwd\n")
    encode_sound(sound)
    away = f"rtsp://user:hunter2@127.0.0.1:{free_port()}/stream"

    done = check.probe(config.write(clip, text, sound, away))

    assert done.code == 2
    assert done.findings["ok      camera a"] == "h264, 160x120, 25 frames/s"
    assert done.findings["failed  camera b"].startswith(f"{text} is not an mp4")
    assert done.findings["failed  camera c"].endswith("holds no video, only audio")
    assert done.findings["failed  camera d"].endswith("Connection refused")
    assert "hunter2" not in done.out + done.error


def test_a_redis_that_is_away_fails(config: Config, check: Checker, clip: Path) -> None:
    port = free_port()

    done = check.probe(config.write(clip, redis=f"redis://127.0.0.1:{port}"))

    assert done.code == 2
    assert done.findings["failed  redis"] == f"Redis at 127.0.0.1:{port} cannot be reached"


def test_a_wrong_password_fails(
    config: Config, check: Checker, clip: Path, locked_redis_server: RedisServer
) -> None:
    url = f"unix://:wrong-hunter3@{locked_redis_server.socket}"

    done = check.probe(config.write(clip, redis=url))

    assert done.code == 2
    assert done.findings["failed  redis"].endswith("refuses the user or password")
    assert "hunter" not in done.out + done.error


def test_a_replica_fails(
    config: Config, check: Checker, clip: Path, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.replicaof("127.0.0.1", str(free_port()))

    done = check.probe(config.write(clip, redis=redis_server.url))

    assert done.code == 2
    assert "is a replica, must be one that can be written to" in done.findings["failed  redis"]


def test_a_server_that_may_delete_streams_is_warned_of(
    config: Config, check: Checker, clip: Path, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")

    done = check.probe(config.write(clip, redis=redis_server.url))

    assert done.code == 0
    assert "warning: maxmemory-policy allkeys-lru deletes" in done.findings["ok      redis"]


def test_a_user_who_may_not_ask_is_enough(
    config: Config, check: Checker, clip: Path, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "camera", "on", ">pw", "-@all")

    done = check.probe(config.write(clip, redis=f"unix://camera:pw@{redis_server.socket}"))

    assert done.code == 0
    assert "INFO is not allowed" in done.findings["ok      redis"]


@pytest.mark.slow
def test_a_redis_that_does_not_answer_does_not_hold_it_up(
    config: Config, check: Checker, clip: Path, redis_server: RedisServer
) -> None:
    file = config.write(clip, redis=redis_server.url)
    with redis_server.frozen():
        began = time.monotonic()
        done = check.probe(file)

    assert time.monotonic() - began < 12
    assert done.code == 2
    assert done.findings["failed  redis"].endswith("does not answer")


def test_cameras_that_do_not_answer_are_waited_for_side_by_side(
    config: Config, check: Checker, clip: Path
) -> None:
    with silence() as address:
        urls = [f"rtsp://user:hunter2@{address}/{number}" for number in range(4)]
        urls += [f"http://user:hunter2@{address}/{number}" for number in range(3)]
        began = time.monotonic()
        done = check.probe(config.write(clip, *urls))

    assert time.monotonic() - began < 20
    assert done.code == 2
    assert len([name for name in done.findings if name.startswith("failed  camera")]) == 7
    assert "ok      camera a" in done.findings
    assert "hunter2" not in done.out + done.error


def test_a_source_that_hangs_is_ended() -> None:
    began = time.monotonic()
    with silence() as address, pytest.raises(SourceError, match=r"^no picture within 1 s$"):
        look(f"rtsp://{address}/", network=True, limit=1)

    assert time.monotonic() - began < 3


def test_no_password_is_shown_whatever_is_in_it(
    config: Config,
    check: Checker,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CANARY", CANARY)
    camera = "://u:${env:CANARY}@127.0.0.1:1/s"
    with serve(password="another", port=free_port()) as server:
        redis = server.url.replace("redis://", "redis://u:${env:CANARY}@")
        done = check.probe(config.write(clip, f"rtsp{camera}", f"http{camera}", redis=redis))

    assert done.code == 2
    assert len(done.findings) == 5
    for part in ("c4n", "ry@", "%3Fry", "?ry"):
        assert part not in done.out + done.error


@contextmanager
def silence() -> Iterator[str]:
    """The address of somebody who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
