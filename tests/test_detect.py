from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.yolov6 import weights
from pipeline.yolov6.importer import import_weights
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.variants import VARIANTS
from tests import media, reference
from workers.cli import main

INPUT = ("--input-size", "64", "64")


@dataclass(frozen=True)
class Outcome:
    code: int | str | None
    lines: list[dict[str, Any]]
    stderr: str


Vedette = Callable[..., Outcome]


@pytest.fixture
def vedette(capsys: pytest.CaptureFixture[str]) -> Vedette:
    """Calls the command in this process."""

    def call(*arguments: str | Path) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Outcome(ended.value.code or 0, [json.loads(line) for line in out.splitlines()], err)

    return call


@pytest.fixture(scope="module")
def random(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network that sees something everywhere."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    state = reference.state_of(YOLOv6(VARIANTS["0.4.x-lite_s"], 3))
    for level in range(4):
        state[f"detect.cls_preds.{level}.bias"] = np.zeros(3, np.float32)
        state[f"detect.reg_preds.{level}.bias"] = np.full(4, 3, np.float32)  # stride units
    description = {
        "variant": "0.4.x-lite_s",
        "classes": "abc",
        "input_size": (64, 64),
        "source": "e3b0",
    }
    weights.save(path, state, description)
    return path


@pytest.fixture(scope="module")
def lite_l(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "lite_l.safetensors"
    import_weights(shared / "yolov6" / "pretrained" / "yolov6lite_l.safetensors", path)
    return path


def picture(path: Path, *, width: int = 80, height: int = 60) -> Path:
    Image.fromarray(media.noise(3, width, height)).save(path)
    return path


def clip(path: Path, *, frames: int = 10) -> Path:
    media.encode(path, frames=frames, container={"movflags": "faststart"})
    return path


def cut(path: Path, *, share: float = 0.5) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def overlap(first: list[float], second: list[float]) -> float:
    a, b = np.array(first), np.array(second)
    sides = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)
    shared = sides.prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))


@pytest.mark.parametrize("name", ["image1.jpg", "image2.jpg", "image3.jpg"])
def test_pictures_show_what_the_original_sees(
    vedette: Vedette, shared: Path, lite_l: Path, name: str
) -> None:
    folder = shared / "yolov6" / "pretrained"
    expected = json.loads((folder / "yolov6lite_l.expected_detections.json").read_text())[name]
    size = [str(side) for side in expected["model_input_hw"]]
    options = ("--confidence", "0.4", "--precision", "fp32", "--input-size", *size)

    outcome = vedette("detect", folder / "images" / name, "--weights", lite_l, *options)

    assert outcome.code == 0
    (line,) = outcome.lines
    assert [line["height"], line["width"]] == expected["source_hw"]
    assert len(line["detections"]) == len(expected["detections"])
    for wanted in expected["detections"]:
        best = max(line["detections"], key=lambda found: overlap(found["box"], wanted["box_xyxy"]))
        assert best["label"] == wanted["label"]
        assert best["class_id"] == wanted["class_id"]
        assert overlap(best["box"], wanted["box_xyxy"]) >= 0.9
        assert abs(best["confidence"] - wanted["score"]) <= 0.05


def test_every_picture_is_a_line_in_the_order_of_the_sources(
    vedette: Vedette, random: Path, tmp_path: Path
) -> None:
    first, second = clip(tmp_path / "z.mp4", frames=11), picture(tmp_path / "a.png")
    third = clip(tmp_path / "b.mkv", frames=7)

    outcome = vedette("detect", first, second, third, "--weights", random)

    assert outcome.code == 0
    order = [(line["source"], line["frame"]) for line in outcome.lines]
    assert order == (
        [(str(first), frame) for frame in range(11)]
        + [(str(second), 0)]
        + [(str(third), frame) for frame in range(7)]
    )
    assert (outcome.lines[0]["width"], outcome.lines[0]["height"]) == (160, 120)
    assert (outcome.lines[11]["width"], outcome.lines[11]["height"]) == (80, 60)


def test_a_line_holds_detections_as_in_the_published_message(
    vedette: Vedette, random: Path, tmp_path: Path
) -> None:
    outcome = vedette("detect", picture(tmp_path / "a.png"), "--weights", random)

    (line,) = outcome.lines
    assert list(line) == ["source", "frame", "width", "height", "detections"]
    assert line["detections"]
    confidences = [found["confidence"] for found in line["detections"]]
    assert confidences == sorted(confidences, reverse=True)
    for found in line["detections"]:
        assert list(found) == ["class_id", "label", "confidence", "box"]
        assert found["label"] == "abc"[found["class_id"]]
        x1, y1, x2, y2 = found["box"]
        assert 0 <= x1 <= x2 <= 80
        assert 0 <= y1 <= y2 <= 60


def test_a_picture_s_boxes_do_not_depend_on_its_company(
    vedette: Vedette, random: Path, tmp_path: Path
) -> None:
    wide = picture(tmp_path / "wide.png", width=120, height=40)
    tall = picture(tmp_path / "tall.png", width=40, height=120)
    options = ("--weights", random, "--precision", "fp32", "--max-detections", "5")

    together = vedette("detect", tall, wide, tall, *options).lines
    alone = vedette("detect", wide, *options).lines

    assert together[0] == together[2]
    for found, wanted in zip(together[1]["detections"], alone[0]["detections"], strict=True):
        assert found["box"] == pytest.approx(wanted["box"], abs=0.05)


def test_a_folder_is_its_pictures_and_clips_by_name(
    vedette: Vedette, random: Path, tmp_path: Path
) -> None:
    for name in ("b.png", "a.JPG", ".hidden.png"):
        picture(tmp_path / name)
    clip(tmp_path / "c.mp4", frames=2)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "d.png").mkdir()

    outcome = vedette("detect", tmp_path, "--weights", random)

    assert outcome.code == 0
    names = [Path(line["source"]).name for line in outcome.lines]
    assert names == ["a.JPG", "b.png", "c.mp4", "c.mp4"]


@pytest.mark.parametrize("name", ["-x", "nothing", "empty.png", "folder"])
def test_a_source_that_is_not_there_does_not_stop_the_others(
    vedette: Vedette, random: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    good = picture(tmp_path / "good.png")

    outcome = vedette("detect", tmp_path / name, good, "--weights", random)

    assert outcome.code == 1
    assert [line["source"] for line in outcome.lines] == [str(good)]
    assert str(tmp_path / name) in outcome.stderr.splitlines()[0]


@pytest.mark.parametrize("name", ["nothing", "empty.png", "folder"])
def test_nothing_starts_where_no_source_is_there(
    vedette: Vedette, random: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()

    outcome = vedette("detect", tmp_path / name, "--weights", random)

    assert (outcome.code, outcome.lines) == (2, [])
    assert len(outcome.stderr.splitlines()) == 1
    assert str(tmp_path / name) in outcome.stderr


def test_a_file_that_is_no_video_is_said_and_the_others_go_on(
    vedette: Vedette, random: Path, tmp_path: Path
) -> None:
    text, good = tmp_path / "text.mp4", picture(tmp_path / "good.png")
    text.write_text("hello")

    outcome = vedette("detect", text, good, "--weights", random)

    assert outcome.code == 1
    assert len(outcome.lines) == 1
    assert f"{text} is not an mp4" in outcome.stderr


def test_a_clip_that_is_cut_short_gives_what_it_holds_and_then_the_reason(
    vedette: Vedette, random: Path, tmp_path: Path
) -> None:
    short = cut(clip(tmp_path / "short.mp4", frames=40))

    outcome = vedette("detect", short, picture(tmp_path / "good.png"), "--weights", random)

    assert outcome.code == 1
    frames = [line["frame"] for line in outcome.lines if line["source"] == str(short)]
    assert frames == list(range(len(frames)))
    assert 10 <= len(frames) < 40
    assert f"{short}: ended after {len(frames)} of 40 frames: the file is cut" in outcome.stderr
    assert outcome.lines[-1]["source"].endswith("good.png")


def test_an_address_shows_no_password(vedette: Vedette, random: Path) -> None:
    outcome = vedette("detect", "rtsp://user:hunter2@127.0.0.1:9/x", "--weights", random)

    assert outcome.code == 1
    assert "rtsp://***@127.0.0.1:9/… cannot be opened" in outcome.stderr
    assert "hunter2" not in outcome.stderr


def test_multi_label_reports_several_classes_of_one_box(
    vedette: Vedette, random: Path, tmp_path: Path
) -> None:
    arguments = ("detect", picture(tmp_path / "a.png"), "--weights", random, "--iou", "1")

    (single,) = vedette(*arguments).lines
    (several,) = vedette(*arguments, "--multi-label").lines

    assert len(several["detections"]) > len(single["detections"])
    boxes = [tuple(found["box"]) for found in several["detections"]]
    assert len(set(boxes)) < len(boxes)


def test_options_limit_what_is_reported(vedette: Vedette, random: Path, tmp_path: Path) -> None:
    arguments = ("detect", picture(tmp_path / "a.png"), "--weights", random)

    (few,) = vedette(*arguments, "--max-detections", "2").lines
    (none,) = vedette(*arguments, "--confidence", "1").lines

    assert len(few["detections"]) == 2
    assert none["detections"] == []


def test_json_goes_to_a_file_instead_of_stdout(
    vedette: Vedette, random: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"

    outcome = vedette(
        "detect", clip(tmp_path / "a.mp4"), "--weights", random, "--json", output, *INPUT
    )

    assert (outcome.code, outcome.lines) == (0, [])
    assert len([json.loads(line) for line in output.read_text().splitlines()]) == 10


def test_drawn_pictures_are_named_for_their_source_and_frame(
    vedette: Vedette, random: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    sources = (
        picture(tmp_path / "a.png"),
        picture(tmp_path / "other" / "a.png", width=50),
        clip(tmp_path / "b.mp4", frames=2),
    )
    drawn = tmp_path / "new" / "drawn"

    outcome = vedette("detect", *sources, "--weights", random, "--draw", drawn)

    assert outcome.code == 0
    names = sorted(path.name for path in drawn.iterdir())
    assert names == ["a.jpg", "a~2.jpg", "b-000000.jpg", "b-000001.jpg"]
    sizes = [cv2.imread(str(drawn / name)).shape for name in names]  # type: ignore[union-attr]
    assert sizes == [(60, 80, 3), (60, 50, 3), (120, 160, 3), (120, 160, 3)]


def test_drawing_never_replaces_a_source(vedette: Vedette, random: Path, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.jpg")
    before = source.read_bytes()

    outcome = vedette("detect", source, "--weights", random, "--draw", tmp_path)

    assert outcome.code == 2
    assert "give another folder" in outcome.stderr
    assert source.read_bytes() == before


def test_output_never_replaces_a_source(vedette: Vedette, random: Path, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.jpg")

    outcome = vedette("detect", source, "--weights", random, "--json", source)

    assert outcome.code == 2
    assert "is one of the sources" in outcome.stderr
    assert source.stat().st_size > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input-size", "60", "64"], "must be multiples of 64"),
        (["--input-size", "0", "64"], "must be multiples of 64"),
        (["--input-size", "64"], "--input-size requires 2"),
        (["--device", "gpu"], "known are auto, cpu, cuda and cuda:N"),
        (["--device", "cuda:77"], "cuda:77"),
        (["--precision", "int3"], "--precision"),
        (["--confidence", "1.5"], "--confidence"),
        (["--confidence", "nan"], "--confidence"),
        (["--iou", "-1"], "--iou"),
        (["--max-detections", "0"], "--max-detections"),
        (["--frobnicate"], "--frobnicate"),
        (["--draw", "/dev/null/x"], "/dev/null/x cannot be made"),
        (["--json", "/dev/null/x"], "/dev/null/x cannot be written"),
        (["--weights", "/nowhere"], "/nowhere does not exist"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(
    vedette: Vedette, random: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    known = () if "--weights" in arguments else ("--weights", random)

    outcome = vedette("detect", picture(tmp_path / "a.png"), *known, *arguments)

    assert (outcome.code, outcome.lines) == (2, [])
    assert len(outcome.stderr.splitlines()) == 1
    assert said in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["detect"], "SOURCES requires"),
        (["detect", "a.png"], "--weights requires"),
        (["dtect", "a.png"], 'Unknown command "dtect"'),
        (["--frobnicate"], "--frobnicate"),
        (["run"], "requires an argument. See `vedette run --help`."),
    ],
)
def test_a_call_that_lacks_something_says_what(
    vedette: Vedette, arguments: list[str], said: str
) -> None:
    outcome = vedette(*arguments)

    assert outcome.code == 2
    assert len(outcome.stderr.splitlines()) == 1
    assert said in outcome.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["detect", "--help"], ["-h"]])
def test_help_and_version_are_exit_code_0(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert not ended.value.code
    out, err = capsys.readouterr()
    assert out.strip()
    assert not err


def test_a_full_disk_is_one_sentence(vedette: Vedette, random: Path, tmp_path: Path) -> None:
    source = picture(tmp_path / "a.png")

    outcome = vedette("detect", source, "--weights", random, "--json", "/dev/full")

    assert outcome.code == 1
    assert outcome.stderr == "/dev/full cannot be written: No space left on device\n"


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(
    random: Path, tmp_path: Path
) -> None:
    source = clip(tmp_path / "a.mp4", frames=60)
    command = [sys.executable, "-c", "from workers.cli import main; main()"]
    command += ["detect", str(source), "--weights", str(random)]

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[1]
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["frame"] == 0
        process.stdout.close()
        said = process.stderr.read()

    assert (process.returncode, said) == (0, b"")


def test_a_terminal_gets_a_bar_and_a_pipe_gets_the_data(random: Path, tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", frames=40)
    command = [sys.executable, "-c", "from workers.cli import main; main()"]
    command += ["detect", str(source), "--weights", str(random)]
    terminal, stderr = pty.openpty()

    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=stderr, cwd=Path(__file__).parents[1], check=True
    )
    os.close(stderr)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)

    assert [json.loads(line)["frame"] for line in result.stdout.splitlines()] == list(range(40))
    assert "━" in shown
    assert "40 frames" in shown


@pytest.mark.parametrize(("module", "extra"), [("torch", "torch"), ("PIL", "draw")])
def test_a_part_that_is_not_installed_is_named_with_its_extra(
    random: Path, tmp_path: Path, module: str, extra: str
) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from workers.cli import main; main()"
    source = picture(tmp_path / "a.png")
    arguments = ["detect", str(source), "--weights", str(random), "--draw", str(tmp_path / "drawn")]

    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )

    assert (result.returncode, result.stdout) == (2, "")
    assert f"pip install '.[{extra}]' in the clone" in result.stderr
    assert len(result.stderr.splitlines()) == 1
