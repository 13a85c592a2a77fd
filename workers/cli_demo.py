"""The command line of `vedette demo`; what it does is in `demo.py`."""

from __future__ import annotations

from typing import Annotated

import cyclopts
from cyclopts import Parameter

_MOST_CAMERAS = 16


def demo(
    *,
    seconds: Annotated[float, Parameter(validator=cyclopts.validators.Number(gt=0))] = 75.0,
    cameras: Annotated[
        int, Parameter(validator=cyclopts.validators.Number(gte=1, lte=_MOST_CAMERAS))
    ] = 4,
) -> int:
    """Run the pipeline on drawn streets, and say how much of the truth it found.

    Parameters
    ----------
    seconds
        When the run is told to drain, if its scenes have not ended by then.
    cameras
        How many scenes.
    """
    from workers.demo import demo as run_demo

    return run_demo(seconds=seconds, cameras=cameras)
