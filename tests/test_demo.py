"""`vedette demo` as it is called, in a pipe and on a terminal; and the door that leads to it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import scenes as accepted
from pipeline.scenes import NAMES
from pipeline.yolov6.weights import inspect
from tests import runs
from workers import demo, demo_view
from workers.cli import main
from workers.demo_view import Row, open_view

LINE = re.compile(
    r"(\d+) frames of 2 cameras, \d+\.\d frames/s; precision [01]\.\d{3}, recall [01]\.\d{3} "
    r"at confidence 0\.\d+ and IoU 0\.5, of [\d,]+ objects at least 25% visible\n"
)


@contextlib.contextmanager
def going_on(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo whose temporary files lie in `folder`, in a pipe."""
    process = subprocess.Popen(
        [runs.VEDETTE, "demo", "--cameras", "2"],
        env={**os.environ, "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_ctrl_c_ends_a_demo_in_order(tmp_path: Path, ours: Path) -> None:
    with going_on(tmp_path) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        going: set[str] = set()
        while len(going) < 2:  # until both cameras have been seen
            line = process.stderr.readline()
            if found := re.match(r"vedette: (\S+): [1-9][\d,]* of .* frames/s, ", line):
                going.add(found[1])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert LINE.fullmatch(out), out
    assert "vedette tail --redis redis://127.0.0.1:" in said
    assert list(tmp_path.iterdir()) == []


def test_without_our_weights_a_demo_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "OURS", tmp_path / "vedette-p.safetensors")

    with pytest.raises(SystemExit) as left:
        main(["demo"])

    assert left.value.code == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith(f"{tmp_path / 'vedette-p.safetensors'} is not there")


def test_every_camera_has_a_scene_of_its_own() -> None:
    urls = demo.scenes(16)

    assert len(urls) == len(set(urls.values())) == 16
    assert [accepted.problem(url) for url in urls.values()] == [None] * 16


def test_our_weights_are_small_and_know_the_scenes(ours: Path) -> None:
    assert ours.stat().st_size <= 3_000_000
    assert inspect(ours).classes == NAMES


def test_the_lines_of_a_pipe_say_how_far_each_camera_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = Row("gate", "street, day, rain", 300, 51, {"person": 3, "car": 1}, 10.0, 15.0)
    ended = Row("yard", "square, dusk, clear", 300, 300, has_ended=True)
    with open_view() as view:
        view.update([row])  # too early for another line
        monkeypatch.setattr(demo_view, "_PLAIN_SECONDS", 0.0)
    with open_view() as view:
        view.update([row, ended])

    (line,) = capsys.readouterr().err.splitlines()
    assert line == "vedette: gate: 51 of 300 frames, 10.0 frames/s, 4: 1 car, 3 person"


@pytest.mark.slow
def test_a_demo_on_a_terminal_shows_a_table_until_its_time_is_up(
    tmp_path: Path, ours: Path
) -> None:
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        [runs.VEDETTE, "demo", "--cameras", "1", "--seconds", "4"],
        env={**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "120", "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError), process:  # EIO: the other end has gone
        while data := os.read(screen, 1 << 16):
            shown += data
    os.close(screen)

    assert process.wait() == 0
    assert "objects now" in shown.decode()
    assert "street, day, clear" in shown.decode()
    assert "time is up: the run drains" in shown.decode()
    assert list(tmp_path.iterdir()) == []
