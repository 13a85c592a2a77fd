"""The command line of `vedette bench`; what it does is in `workers/bench/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

_count = Parameter(validator=cyclopts.validators.Number(gte=1, lte=1024))
_several = Parameter(negative=(), consume_multiple=True)
_ABOUT = (1, 2, 4, 8, 16, 32, 64)


def bench(  # noqa: PLR0913 — the options of a command
    *,
    clip: cyclopts.types.ExistingFile | None = None,
    weights: Path | None = None,
    variant: str = "0.4.x-n",
    input_size: Annotated[tuple[int, int], Parameter(negative=())] = (384, 640),
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto",
    device: str = "auto",
    cameras: Annotated[tuple[Annotated[int, _count], ...], _several] = _ABOUT,
    rounds: Annotated[int, _count] = 3,
    seconds: Annotated[float, Parameter(validator=cyclopts.validators.Number(gte=1))] = 8.0,
    slo: str | None = None,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None,
) -> int:
    """Measure this machine: each part alone, and the whole pipeline, in turn.

    Parameters
    ----------
    clip
        The clip that every camera plays in a loop. Default: one that is drawn, 1280x720.
    weights
        Weights to measure with. Default: random ones.
    variant
        Which network the random ones are of (see `weights list`).
    input_size
        Height and width of the network's input.
    precision
        As in the config; the network alone is measured in fp32, too.
    device
        As in the config: auto, cpu, cuda or cuda:N.
    cameras
        Numbers of cameras to measure with: as files at full speed, and live.
    rounds
        How often everything is measured, in turn; the medians are printed.
    seconds
        How long each pipeline is measured.
    slo
        Instead: how many live cameras this machine holds, as in p95=100ms (frame to Redis).
    output
        A folder for bench.json and bench.png.
    """
    from workers.bench.bench import Options
    from workers.bench.bench import bench as run
    from workers.bench.slo import Slo

    return run(
        Options(
            clip=None if clip is None else clip.absolute(),
            weights=weights,
            variant=variant,
            input_size=input_size,
            precision=precision,
            device=device,
            cameras=cameras,
            rounds=rounds,
            seconds=seconds,
            slo=None if slo is None else Slo.parse(slo),
            output=output,
        )
    )
