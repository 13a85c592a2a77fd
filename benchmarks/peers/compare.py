"""Vedette beside its peers on a CPU, end to end, in turns in one run: the same clip and size.

    make peers

ONNX Runtime runs our own network, exported. Ultralytics' yolov6n.yaml is its own drawing of
YOLOv6-N, without BiFusion and with its own head; both have random weights. The peers run in an
environment of their own (`requirements.txt`), one after another, so that each has the machine to
itself. Medians of the rounds; the table is Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.yolov6.weights import inspect
from workers.bench import pipelines, usage
from workers.bench.bench import run_yardstick
from workers.embedded import EmbeddedRedis

HERE = Path(__file__).parent
SIZE = (384, 640)  # height, width
VARIANT = "0.4.x-n"
CAMERAS = (1, 8)
OURS = {"Vedette": "auto", "Vedette, float32": "fp32", "Vedette, int8": "int8"}  # and precision
COMPARED = tuple(OURS)[:2]  # with everybody; no peer is given int8
PEERS = (  # what the table says, the program, the precision
    ("Ultralytics, float32", "ultralytics_loop.py", "fp32"),
    ("Ultralytics, bfloat16 by autocast", "ultralytics_loop.py", "bf16"),
    ("PyAV + ONNX Runtime, float32", "plain_loop.py", "fp32"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", required=True, help="of the peers' environment")
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    versions: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="vedette-peers-") as folder:
        weights, ranges = (Path(folder) / f"{name}.safetensors" for name in ("random", "ranges"))
        for path in (weights, ranges):
            given = {"path": str(path), "variant": VARIANT, "input_size": SIZE}
            run_yardstick("weights", {**given, "ranges": path == ranges})
        with EmbeddedRedis(Path(folder) / "redis") as server:
            ways = _ways(options, (weights, ranges), server, versions)
            alone = [_alone(options, weights) for _ in range(options.rounds)]
            rates: dict[tuple[str, int], list[float]] = {}
            for _ in range(options.rounds):
                for cameras in CAMERAS:
                    for name, measure in ways.items():
                        rates.setdefault((name, cameras), []).append(measure(cameras))
                        print(f"{name}, {cameras}: {rates[name, cameras][-1]:.1f}", file=sys.stderr)
        print(f"{inspect(weights).variant} at {SIZE[0]}x{SIZE[1]}, {options.clip.name}, ", end="")
    name, instructions = usage.processor()
    cores = len(os.sched_getaffinity(0))
    print(f"{name}, {cores} cores ({' '.join(instructions)}), {', '.join(sorted(versions))}\n")
    _table(rates, list(ways))
    ours, theirs = (median(one) for one in zip(*alone, strict=True))
    ratio = median(one / other for one, other in alone)
    print("\nThe network alone, float32, best of its ways: ", end="")
    print(f"{ours:.1f} frames/s, in ONNX Runtime {theirs:.1f}: {ratio:.2f}")


def _ways(
    options: argparse.Namespace,
    files: tuple[Path, Path],
    server: EmbeddedRedis,
    versions: set[str],
) -> dict[str, Callable[[int], float]]:
    """Each takes a number of cameras and gives frames/s. Of the files the second has ranges."""
    clip, (weights, ranges) = options.clip.absolute(), files

    def ours(precision: str) -> Callable[[int], float]:
        file = ranges if precision == "int8" else weights
        settings = pipelines.Settings(clip, file, SIZE, precision, "cpu", options.seconds)
        return lambda cameras: pipelines.measure(settings, server, cameras, live=False).rate

    def peer(program: str, precision: str) -> Callable[[int], float]:
        def measure(cameras: int) -> float:
            given = {
                **{"clip": str(clip), "weights": str(weights), "input_size": SIZE},
                **{"cameras": cameras, "precision": precision, "redis": server.url},
                "seconds": options.seconds,
            }
            found = _run(options.python, program, given)
            versions.add(found["version"])
            return float(found["rate"])

        return measure

    return {
        **{name: ours(precision) for name, precision in OURS.items()},
        **{name: peer(program, precision) for name, program, precision in PEERS},
    }


def _alone(options: argparse.Namespace, weights: Path) -> tuple[float, float]:
    """Frames/s of the network in float32, the best of several ways: ours, and ONNX Runtime's."""
    given = {"clip": "", "weights": str(weights), "input_size": SIZE, "precision": "fp32"}
    given |= {"redis": "", "device": "cpu", "seconds": options.seconds / 4}
    ours = max(rate["rate"] for rate in run_yardstick("network", given)["rates"])
    del given["device"]
    given |= {"cameras": 1, "seconds": options.seconds}
    return ours, _run(options.python, "onnx_alone.py", given)["rate"]


def _run(python: str, program: str, given: dict[str, Any]) -> Any:
    done = subprocess.run(
        [python, str(HERE / program), json.dumps(given)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{program} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _table(rates: dict[tuple[str, int], list[float]], ways: list[str]) -> None:
    heads = [
        f"{n} camera{'s' * (n > 1)}, frames/s | ours ÷ this | ours in float32 ÷ this"
        for n in CAMERAS
    ]
    print(f"| | {' | '.join(heads)} |\n|---|" + "---|---|---|" * len(CAMERAS))
    for name in ways:
        cells = []
        for cameras in CAMERAS:
            cells.append(f"{median(rates[name, cameras]):.1f}")
            for ours in COMPARED:
                pairs = zip(rates[ours, cameras], rates[name, cameras], strict=True)
                cells.append(f"{median(one / other for one, other in pairs):.2f}")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
