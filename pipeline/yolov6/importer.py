"""Anybody's weights → our weights file: which variant they are, folded, with the class names.

Decided here, from the file itself: the variant (`identity.py`), the number of classes (from the
head), and their names (`names`, else the checkpoint's, else COCO's for 80 classes, else class_0,
class_1 …).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.errors import WeightsError
from pipeline.yolov6 import checkpoint, weights
from pipeline.yolov6.fold import fold
from pipeline.yolov6.identity import identify, traces
from pipeline.yolov6.variants import VARIANTS

# The 80 classes of COCO in the order of their training labels.
_COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,"
    "banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO = tuple(_COCO.split(","))


def import_weights(
    source: Path, output: Path, *, variant: str | None = None, names: Path | None = None
) -> weights.WeightsInfo:
    """Fold `source` (an official `.pt`, or safetensors under official keys) into `output`.

    `variant` is a row of the table, or the part of its name behind the release; it is needed only
    where keys and shapes fit several. `names` is a file with one class name per line. Raises
    `WeightsError`, and then leaves nothing behind.
    """
    weights.check_output(output)
    candidates = _candidates(variant)
    with weights.open_file(source) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        is_checkpoint = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    found = checkpoint.read(source) if is_checkpoint else _read_safetensors(source)
    seen = traces(source, weights.shapes_of(found.state), found.modules)
    state = _folded(source, found.state)
    shapes = weights.shapes_of(state)
    variant = identify(source, shapes, candidates, seen)
    description = {
        "variant": variant,
        "classes": _class_names(source, weights.head_size(shapes)[0], names, found.names),
        "input_size": VARIANTS[variant].input_size,
        "source": digest,
    }
    weights.save(output, state, description)
    return weights.inspect(output)


def _candidates(variant: str | None) -> list[str]:
    """The rows that may be meant: all, or those called `variant` with or without their release."""
    named = [n for n in VARIANTS if variant in (None, n, n.partition("-")[2])]
    if not named:
        raise WeightsError(f"no variant {variant!r}; known are {', '.join(VARIANTS)}")
    return named


def _read_safetensors(source: Path) -> checkpoint.Checkpoint:
    with weights.open_file(source) as file:
        if file.read(2) == b"\x80\x02":
            raise WeightsError(f"{source} is a pickle of before torch 1.6, which is not read here")
    metadata, state = weights.read(source)
    try:
        names = json.loads(metadata.get("names", "null"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{source} has class names in its metadata that are not JSON") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        names = None
    return checkpoint.Checkpoint(state, tuple(names) if names else None, {})


def _folded(source: Path, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    try:
        folded = fold(state)
    except WeightsError as error:
        raise WeightsError(f"{source} cannot be folded: {error}") from error
    for key, array in folded.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{source} has weights that are not finite, in {key[:80]}")
    return folded


def _class_names(
    source: Path, count: int, file: Path | None, own: tuple[str, ...] | None
) -> tuple[str, ...]:
    if file is not None:
        names = _lines(file)
        if len(names) != count:
            raise WeightsError(f"{file} has {len(names)} names; {source} predicts {count} classes")
        return names
    if own is not None and len(own) == count:
        return own
    return COCO if count == len(COCO) else tuple(f"class_{i}" for i in range(count))


def _lines(file: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{file} cannot be read as a list of class names: {error}") from error
    return tuple(line for line in lines if line)
