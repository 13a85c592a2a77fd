"""The bench measures, and what it says follows from what it has measured."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.yolov6.weights import OURS
from tests import media, runs
from workers.bench import report, results
from workers.bench.results import (
    STAGES,
    Machine,
    Parts,
    Quantiles,
    Rate,
    Report,
    Round,
    Subject,
    Whole,
)
from workers.bench.slo import Slo, most_held

PARTS = Parts(
    decode_ms=3.0, resize_ms=1.0, bare_ms=3.6, nms_us=300, nms_found=4, publish_us=80,
    publish_rate=9000, plain_rate=11000,
)  # fmt: skip


NO_CLIP = ("--clip", __file__)


def whole(cameras: int, rate: float, *, live: bool = False, p95: float = 40.0) -> Whole:
    return Whole(
        cameras=cameras,
        live=live,
        rate=rate,
        offered=rate,
        latency=dict.fromkeys(STAGES, Quantiles(20.0, p95, p95)),
        cpu={"infer": 1.5},
        memory_mb={"infer": 400.0, "ingest": 40.0 * cameras},
        gpu_memory_mb=None,
    )


def found(*rates: float, precision: str = "bf16") -> Report:
    """A round for each rate of one camera; the network alone does 50."""
    machine = Machine(
        processor="a processor", cores=2, instructions=["avx2"], memory_gb=24.0, gpu=None,
        system="Linux 6", python="3.11", torch="2.13",
    )  # fmt: skip
    subject = Subject(
        clip="a.mp4", codec="h264", width=1280, height=720, rate=25.0, variant="0.4.x-n",
        weights="0123", input_size=(384, 640), plan=f"cpu, {precision}, 2 × 4 frames",  # noqa: RUF001
    )  # fmt: skip
    network = [Rate(precision, 4, 2, 50.0), Rate(precision, 8, 1, 48.0), Rate("fp32", 4, 2, 60.0)]
    rounds = [
        Round(network, 45.0, PARTS, [whole(1, rate), whole(1, rate / 2, live=True)])
        for rate in rates
    ]
    return Report("2026-01-01T00:00:00+00:00", machine, subject, rounds)


def test_what_shares_the_cores_adds_up() -> None:
    """A frame takes 4 ms of one core and, at 50 a second on two, 40 ms of one: 2 / 0.044."""
    assert results.ideal(50.0, PARTS, 2, is_gpu=False) == pytest.approx(2 / 0.044)
    assert "the network: 91%" in results.limit(50.0, PARTS, 2, is_gpu=False)
    assert "decoding" in results.limit(5000.0, PARTS, 2, is_gpu=False)


def test_beside_a_gpu_the_slower_part_decides() -> None:
    assert results.ideal(2000.0, PARTS, 2, is_gpu=True) == pytest.approx(500)
    assert results.ideal(300.0, PARTS, 2, is_gpu=True) == pytest.approx(300)
    assert results.limit(2000.0, PARTS, 2, is_gpu=True).startswith("decoding on the cores (500")


def test_efficiency_is_against_the_best_way_in_the_precision_that_runs() -> None:
    efficiencies = found(44.0, 22.0).efficiencies(0)

    assert efficiencies == pytest.approx([44 / (2 / 0.044), 22 / (2 / 0.044)])


def test_the_tables_say_medians(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(found(44.0, 30.0, 20.0))

    lines = capsys.readouterr().out.splitlines()
    (files, live) = [line for line in lines if line.startswith("│ 1 ")]
    assert [cell.strip() for cell in files.split("│")[2:6]] == ["30.0", "0.66", "100.0%", "20.0"]
    assert "15.0" in live
    assert any("limit: the network: 91%" in line for line in lines)


def test_the_files_can_be_read_again(tmp_path: Path) -> None:
    measured = found(44.0)

    report.write(measured, tmp_path)

    again = msgspec.json.decode((tmp_path / "bench.json").read_bytes(), type=Report)
    assert again == measured
    assert again.schema == "vedette.bench/1"
    with Image.open(tmp_path / "bench.png") as picture:
        assert picture.width > picture.height


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match=r"--output: .* cannot be made"):
        report.check_folder(tmp_path / "file" / "below")


@pytest.mark.parametrize("most", [1, 2, 7, 64, 100])
def test_the_most_that_is_held_is_found(most: int) -> None:
    for limit in range(most + 1):
        asked: list[int] = []

        def holds(cameras: int, limit: int = limit, asked: list[int] = asked) -> bool:
            asked.append(cameras)
            return cameras <= limit

        assert most_held(holds, most) == limit
        assert len(asked) == len(set(asked)) <= 2 * most.bit_length() + 1
        assert max(asked) <= most


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("p95=100ms", Slo("p95", 100)),
        ("p50=0.25s", Slo("p50", 250)),
        ("p99 = 33.3 ms", Slo("p99", 33.3)),
    ],
)
def test_a_bound_is_read(text: str, slo: Slo) -> None:
    assert Slo.parse(text) == slo


@pytest.mark.parametrize("text", ["100ms", "p90=100ms", "p95=100", "p95=-1ms", "p95=0ms", ""])
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be like p95=100ms"):
        Slo.parse(text)


def test_a_bound_is_of_latency_and_of_frames() -> None:
    slo = Slo("p95", 100)
    late, lossy = whole(8, 200, live=True, p95=101), whole(8, 200, live=True)
    silent = msgspec.structs.replace(lossy, latency={}, rate=0.0)

    assert slo.is_met(whole(8, 200, live=True, p95=100), 200)
    assert slo.is_met(lossy, 201)
    assert not any(slo.is_met(one, 200) for one in (late, silent))
    assert not slo.is_met(lossy, 210)  # whatever has arrived of what was due
    assert "nothing came through" in report.of_held(8, silent, slo)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    media.encode(tmp_path / "clip.mp4", frames=50)
    return tmp_path / "clip.mp4"


def bench(folder: Path, *arguments: object) -> Any:
    size = () if "--input-size" in arguments else ("--input-size", "128", "128")
    return runs.vedette(folder, "bench", *size, "--seconds", "1", *arguments)


@pytest.mark.slow
def test_the_bench_measures_the_parts_and_the_pipeline(tmp_path: Path, clip: Path) -> None:
    output = tmp_path / "found"

    done = bench(tmp_path, "--clip", clip, "--cameras", "1", "2", "--rounds", "1", "-o", output)

    assert done.returncode == 0, done.stderr
    measured = msgspec.json.decode((output / "bench.json").read_bytes(), type=Report)
    (one,) = measured.rounds
    assert {rate.batch for rate in one.network} == {1, 2, 4, 8}
    assert min(rate.rate for rate in one.network) > 0
    assert one.unpacked > 0
    assert one.parts.nms_found == 0  # of random weights
    assert all(
        value > 0
        for name, value in msgspec.structs.asdict(one.parts).items()
        if name != "nms_found"
    )
    assert [(w.cameras, w.live) for w in one.wholes] == [
        (1, False),
        (2, False),
        (1, True),
        (2, True),
    ]
    for files, live in zip(one.wholes[:2], one.wholes[2:], strict=True):
        assert files.rate > live.rate > 0
        assert live.rate == pytest.approx(25 * live.cameras, rel=0.25)  # frames/s of the clip
        assert live.latency["whole"].p95 < 1000
        assert {"ingest", "infer", "publish", "supervisor", "redis"} <= set(files.cpu)
        assert min(files.memory_mb.values()) > 0
    subject = measured.subject
    assert (subject.codec, subject.width, subject.height) == ("h264", 160, 120)
    assert "limit: " in done.stdout


@pytest.mark.slow
def test_the_bench_says_how_many_live_cameras_are_held(tmp_path: Path, clip: Path) -> None:
    done = bench(tmp_path, "--clip", clip, "--slo", "p95=0.001ms")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "held within p95 0.001 ms: 0 live cameras"
    assert "1 camera: p95 " in done.stdout


@pytest.mark.slow
def test_a_signal_ends_the_bench_and_its_processes(tmp_path: Path, clip: Path) -> None:
    command = [runs.VEDETTE, "bench", "--clip", clip, "--weights", OURS, "--slo", "p95=1s"]
    going = subprocess.Popen(
        [*command, "--seconds", "60"], env=runs.environment(tmp_path), stderr=subprocess.PIPE
    )
    runs.eventually(lambda: len(runs.children(going.pid)) >= 4, within=60)  # a pipeline, and Redis
    below = runs.children(going.pid)

    going.send_signal(signal.SIGINT)
    _, said = going.communicate(timeout=40)

    assert going.returncode == 130
    assert b"Traceback" not in said
    runs.eventually(lambda: not any(map(runs.is_running, below)), within=5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--clip", "none.mp4"), "none.mp4"),
        (("--slo", "fast"), "--slo: found 'fast', must be like p95=100ms"),
        (("--variant", "9.9"), "--variant: no '9.9'"),
        (("--slo", "p95=1s", "-o", "out"), "--slo writes no files"),
        (
            ("--weights", OURS, "--input-size", "0", "0"),
            "--input-size: found 0 0, must be multiples",
        ),
        (
            ("--weights", OURS, "--precision", "fp16", "--device", "cpu", *NO_CLIP),
            "fp16 needs a GPU",
        ),
        (("--weights", OURS, *NO_CLIP), "test_bench.py"),
    ],
)
def test_a_wrong_call_is_said_at_once(
    tmp_path: Path, arguments: tuple[object, ...], said: str
) -> None:
    done = bench(tmp_path, *arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
