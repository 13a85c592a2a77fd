"""The state of a training between two epochs, as safetensors: read without running anything.

    network.*, average.*, momentum.*   tensors, by the names of the network's state dict
    training                           in the metadata, JSON: everything else

That is all that the next epoch depends on, as randomness is drawn anew from seed, epoch and index.
The file is written beside and renamed, so a kill leaves the one before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as serialised
from torch import Tensor

from pipeline.errors import ConfigError, WeightsError
from pipeline.yolov6 import weights

FORMAT = "vedette.training/1"
_PLAIN = {
    **{"recipe": dict, "names": list, "pictures": int, "identity": str, "epoch": int},
    **{"history": list},
}
_TENSORS = ("network", "average", "momentum")


@dataclass(frozen=True, slots=True)
class Progress:
    """A training that has come to the end of an epoch."""

    recipe: dict[str, Any]  # Recipe.as_dict
    names: list[str]  # of the classes
    pictures: int  # in the data set
    identity: str  # of the data set, see `samples.Pictures`
    epoch: int  # epochs that are done
    history: list[dict[str, Any]]  # a row for each of them
    network: Mapping[str, Tensor]  # its state dict
    average: Mapping[str, Tensor]  # likewise
    momentum: Mapping[str, Tensor]  # the optimiser's, of each parameter


def save(path: Path, progress: Progress) -> None:
    """Raises WeightsError where the place cannot be written."""
    plain = {name: getattr(progress, name) for name in _PLAIN}
    tensors = {
        f"{group}.{key}": tensor.cpu().contiguous()
        for group in _TENSORS
        for key, tensor in getattr(progress, group).items()
    }
    metadata = {"format": FORMAT, "training": json.dumps(plain)}
    weights.write_whole(path, serialised(tensors, metadata))


def load(path: Path) -> Progress:
    """Raises ConfigError for anything that `save` has not written."""
    try:
        metadata, arrays = weights.read(path)
        plain = json.loads(metadata.get("training", "null"))
    except (WeightsError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not the checkpoint of a training: {error}") from None
    is_ours = metadata.get("format") == FORMAT and isinstance(plain, dict)
    if not is_ours or not all(isinstance(plain.get(k), kind) for k, kind in _PLAIN.items()):
        raise ConfigError(f"{path} is not the checkpoint of a training of Vedette")
    groups: dict[str, Any] = {group: {} for group in _TENSORS}
    for key, array in arrays.items():
        group, _, name = key.partition(".")
        if group in groups:
            groups[group][name] = torch.from_numpy(array)
    return Progress(**{name: plain[name] for name in _PLAIN}, **groups)
