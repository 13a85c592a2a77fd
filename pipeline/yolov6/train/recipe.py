"""What a training is: everything that, with the pictures, decides what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How much pictures are changed. Shares are of 1; each is the largest change in one picture."""

    mosaic: float = 1.0  # how often four pictures become one
    scale: float = 0.5  # larger or smaller
    translate: float = 0.1  # of the input's sides
    flip: float = 0.5  # how often left and right are exchanged
    hue: float = 0.015  # of the colour circle
    saturation: float = 0.7
    value: float = 0.4  # brightness


AUGMENTATIONS = {
    "strong": Augmentation(),
    "mild": Augmentation(
        mosaic=0.5, scale=0.25, translate=0.1, hue=0.01, saturation=0.4, value=0.3
    ),
    # Nothing is resized: to end with, where pictures have the input's own size.
    "light": Augmentation(
        mosaic=0.0, scale=0.0, translate=0.0, hue=0.01, saturation=0.4, value=0.3
    ),
    "none": Augmentation(
        mosaic=0.0, scale=0.0, translate=0.0, flip=0.0, hue=0.0, saturation=0.0, value=0.0
    ),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """The numbers of one training. Two trainings of one recipe on one machine end alike."""

    variant: str = "vedette-p"
    plain: bool = False  # a 3x3 instead of the branches
    epochs: int = 300
    batch: int = 16  # pictures
    input_size: tuple[int, int] = (640, 640)  # height, width
    optimiser: str = "sgd"  # sgd | muon
    learning_rate: float = 0.02  # after the warm-up
    weight_decay: float = 5e-4  # of kernels alone
    augment: str = "strong"  # of AUGMENTATIONS
    calm_epochs: int = 15  # the last ones, without mosaic
    precision: str = "fp32"  # fp32 | bf16
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        return asdict(self) | {"input_size": list(self.input_size)}

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """The fields that another recipe, as a dict, has otherwise."""
        own = self.as_dict()
        return [field.name for field in fields(self) if other.get(field.name) != own[field.name]]

    def augmentation(self, epoch: int) -> Augmentation:
        """Of epoch 0, 1, 2 …"""
        whole = AUGMENTATIONS[self.augment]
        if epoch < self.epochs - self.calm_epochs:
            return whole
        return Augmentation(**(asdict(whole) | {"mosaic": 0.0}))
