"""The command line of `vedette weights`; what it does is in `weights.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

weights = cyclopts.App(name="weights", help="Get, convert and look at weights files.")


@weights.command(name="import")
def import_(
    checkpoint: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    variant: str | None = None,
    names: Path | None = None,
) -> None:
    """Fold an official checkpoint into a weights file.

    Parameters
    ----------
    checkpoint
        A `.pt` of the original project, or safetensors under its key names.
    output
        The weights file to write: OUT.safetensors.
    variant
        Which network it is (see `weights list`), where the file cannot tell.
    names
        A file of class names, one per line.
    """
    from workers.weights import import_checkpoint

    import_checkpoint(checkpoint, output, variant=variant, names=names)


@weights.command
def quantize(
    file: Path,
    /,
    *,
    data: str,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    validate: str | None = None,
    names: str | None = None,
    input_size: Annotated[
        tuple[int, int] | None, Parameter(name=("--input-size", "--size"), negative=())
    ] = None,
) -> None:
    """Make weights fit for int8 on a CPU, if it finds the same on your pictures.

    Parameters
    ----------
    file
        The weights file.
    data
        Labelled pictures, as `train` takes them: a folder, its data.yaml, or scenes.
    output
        The weights file to write: OUT.safetensors.
    validate
        Pictures to compare on. Default: the val part of the data, or the same.
    names
        A file of class names, one per line, or coco. Default: as data.yaml says.
    input_size
        Height and width that it will run at. Default: as the weights say.
    """
    from workers.quantize import Options
    from workers.quantize import quantize as run

    run(Options(file, data, output, validate, names, input_size))


@weights.command
def show(file: Path, /) -> None:
    """Say what a weights file is."""
    from workers import weights as files

    files.show(file)


@weights.command(name="list")
def list_() -> None:
    """List the variants that a weights file may hold."""
    from workers import weights as files

    files.list_variants()


@weights.command
def fetch(
    variant: str, /, *, output: Annotated[Path | None, Parameter(name=("--output", "-o"))] = None
) -> None:
    """Download the original's weights (GPL-3.0) and import them.

    Parameters
    ----------
    variant
        Which (see `weights list`).
    output
        The weights file to write. Default: VARIANT.safetensors here.
    """
    from workers import weights as files

    files.fetch(variant, output)
