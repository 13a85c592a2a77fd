"""The command line of `vedette train`; what it does is in `train.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

_count = Parameter(validator=cyclopts.validators.Number(gte=1))
_rate = Parameter(validator=cyclopts.validators.Number(gt=0, lte=10))
_flag = Parameter(negative=())
_whole = cyclopts.validators.Number(gte=0, lt=2**63)
Size = Annotated[tuple[int, int], Parameter(name=("--input-size", "--size"), negative=())]


def train(  # noqa: PLR0913 — the options of a command
    *,
    data: str,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    validate: str | None = None,
    names: str | None = None,
    variant: str = "vedette-p",
    plain: Annotated[bool, _flag] = False,
    epochs: Annotated[int, _count] = 300,
    batch: Annotated[int, _count] = 16,
    input_size: Size = (640, 640),
    optimiser: Literal["sgd", "muon"] = "sgd",
    learning_rate: Annotated[float, _rate] = 0.02,
    augment: Literal["strong", "mild", "light", "none"] = "strong",
    calm_epochs: Annotated[int, Parameter(validator=_whole)] = 15,
    seed: Annotated[int, Parameter(validator=_whole)] = 0,
    precision: Literal["fp32", "bf16"] = "fp32",
    device: str = "auto",
    workers: Annotated[int, Parameter(validator=cyclopts.validators.Number(gte=0, lte=64))] = 0,
    evaluate_every: Annotated[int, _count] = 1,
    half: Annotated[bool, _flag] = False,
    start: Path | None = None,
    resume: Annotated[bool, _flag] = False,
) -> int:
    """Train a network on labelled pictures, with all its branches, and fold it.

    Parameters
    ----------
    data
        A folder with images/ and labels/, its data.yaml, or scenes (scenes?seed=1&length=4000).
    output
        The folder for the checkpoint, the history, its curves and the weights.
    validate
        Pictures to validate with. Default: the val part of the data, or other scenes.
    names
        A file of class names, one per line, or coco. Default: as data.yaml says.
    variant
        Which network (see `weights list`).
    plain
        Train one 3x3 in place of a block's branches, to compare with.
    epochs
        How often the pictures are gone through; what fills no batch waits for another turn.
    batch
        Pictures in one step.
    input_size
        Height and width of the network's input.
    optimiser
        What moves the weights: sgd as in the original, or muon, which needs half the steps.
    learning_rate
        The highest, after the warm-up; it falls along a cosine.
    augment
        How much pictures are changed; light: sides and colours alone, nothing resized.
    calm_epochs
        How many epochs at the end are without mosaic.
    seed
        What all randomness is drawn from.
    precision
        Number format of convolutions; bf16 by autocast.
    device
        Where to train: auto, cpu, cuda or cuda:N.
    workers
        Processes that load pictures. Default: this one does.
    evaluate_every
        Epochs between two evaluations; the last is always evaluated.
    half
        Store the weights in float16.
    start
        Begin with what the training in this folder has learned, of the same variant and classes;
        or with a weights file of the same variant.
    resume
        Go on from the last checkpoint in the output folder.
    """
    from pipeline.yolov6.train.recipe import Recipe
    from workers import train as training

    recipe = Recipe(
        variant=variant, plain=plain, epochs=epochs, batch=batch, input_size=input_size,
        optimiser=optimiser, learning_rate=learning_rate, augment=augment,
        calm_epochs=calm_epochs, precision=precision, seed=seed,
    )  # fmt: skip
    options = training.Options(
        data=data, output=output, validate=validate, names=names, device=device, workers=workers,
        evaluate_every=evaluate_every, half=half, start=start, resume=resume,
    )  # fmt: skip
    return training.train(recipe, options)
