"""The command. What each command does is in a module of its own, imported when it is called."""

from __future__ import annotations

import sys
from pathlib import Path

import cyclopts

from config.errors import ConfigMistakes
from pipeline.errors import ConfigError, VedetteError, WeightsError

app = cyclopts.App(name="vedette", help="Cameras in, detections out of Redis Streams.")


def main() -> None:
    """Runs the command; one sentence and an exit code for whatever goes wrong.

    0 done · 1 the run failed · 2 the config or the call is wrong · 3 frames were abandoned.
    """
    try:
        code = app()
    except (ConfigMistakes, ConfigError, WeightsError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except VedetteError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code)


@app.command
def run(file: Path, /) -> int:
    """Run the pipeline of a config file until its sources end, or SIGTERM."""
    from workers.run import run as run_file

    return run_file(file)


@app.command
def bench(
    *,
    clip: Path,
    weights: Path | None = None,
    input_size: tuple[int, int] = (384, 640),
    cameras: tuple[int, ...] = (1, 8),
    rounds: int = 3,
    seconds: float = 8.0,
) -> int:
    """Measure this machine: the network, decoding, and the whole pipeline on one clip.

    Parameters
    ----------
    clip
        The clip that every camera plays in a loop, at full speed.
    weights
        Weights to measure with. Default: YOLOv6-N with random ones.
    input_size
        Height and width of the network's input.
    cameras
        Numbers of cameras to measure with.
    rounds
        How often everything is measured, in turn; the medians are printed.
    seconds
        How long each pipeline is measured.
    """
    from workers.bench import bench as run_bench

    return run_bench(
        clip.absolute(),
        weights=weights,
        input_size=input_size,
        cameras=cameras,
        rounds=rounds,
        seconds=seconds,
    )
