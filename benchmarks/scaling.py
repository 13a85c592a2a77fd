"""What one more camera costs the supervisor and its ingests, from 8 to 64 of them.

    python -m benchmarks.scaling [--cameras 8 16 32 64] [--seconds 30]

Live cameras of a tiny clip, one frame a second each, so that what is measured is what surrounds
the work. In the network's place stand our weights at 32x32, which take a millisecond. The table is
Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from pipeline.yolov6.weights import OURS
from workers.bench import pipelines
from workers.bench.results import Whole
from workers.embedded import EmbeddedRedis

SIZE = (32, 32)  # of the network's input
_PICTURE = (48, 64)  # height and width of the clip
_FRAMES = 120


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cameras", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.write is not None:
        _write(options.write)
        return 0
    print(
        "| cameras | frames/s | ingest, CPU ms/frame | supervisor, CPU ms/frame |"
        " ingest, MB/camera | supervisor, MB |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for cameras in options.cameras:
        print(_row(measure(cameras, options.seconds)), flush=True)
    return 0


def measure(cameras: int, seconds: float) -> Whole:
    with tempfile.TemporaryDirectory(prefix="vedette-scaling-") as folder:
        clip = Path(folder) / "clip.mp4"
        # Not by this process: it is the supervisor that is measured, and loads no PyAV.
        command = [sys.executable, "-m", "benchmarks.scaling", "--write", str(clip)]
        subprocess.run(command, check=True)
        settings = pipelines.Settings(clip, OURS, SIZE, "auto", "cpu", seconds)
        with EmbeddedRedis(Path(folder) / "redis") as redis:
            return pipelines.measure(settings, redis, cameras, live=True)


def _write(clip: Path) -> None:
    """A frame a second."""
    import av
    import numpy as np

    with av.open(str(clip), "w") as output:
        stream = output.add_stream("libx264", rate=1)
        stream.height, stream.width = _PICTURE
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, 1)
        for number in range(_FRAMES):
            picture = np.full((*_PICTURE, 3), 2 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def _row(found: Whole) -> str:
    cost = {role: 1000 * seconds / max(found.rate, 1e-9) for role, seconds in found.cpu.items()}
    each = found.memory_mb.get("ingest", 0.0) / found.cameras
    return (
        f"| {found.cameras} | {found.rate:.1f} | {cost['ingest']:.2f} | {cost['supervisor']:.2f}"
        f" | {each:.1f} | {found.memory_mb.get('supervisor', 0.0):.0f} |"
    )


if __name__ == "__main__":
    sys.exit(main())
