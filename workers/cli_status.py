"""The command line of `vedette status`; what it does is in `status.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def status(
    file: Path | None = None,
    /,
    *,
    redis: str | None = None,
    prefix: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Print what each camera is like now, the sick first; exit code 1 if any is, or none is there.

    Parameters
    ----------
    file
        The config file of a run. Default: the one that is going on.
    redis
        The URL of a server, instead of a run's.
    prefix
        The first part of the keys there. Default: vedette.
    json
        Print one JSON object per camera.
    """
    from workers.places import find
    from workers.status import status as status_of

    return status_of(find(file, redis, prefix), as_json=json)
