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
