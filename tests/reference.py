"""What the original computes, and weights to compute it with."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.yolov6.branches import Scale
from pipeline.yolov6.variants import VARIANTS, Variant


def with_random_statistics(module: nn.Module, seed: int = 0) -> nn.Module:
    """`module` in eval mode, its BatchNorms as if they had seen data."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low, high in (
                (norm.weight.data, 0.5, 1.5),
                (norm.bias.data, -0.5, 0.5),
                (norm.running_mean, -0.5, 0.5),
                (norm.running_var, 0.3, 3.0),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
        elif isinstance(norm, Scale):
            norm.weight.data.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def state_of(module: nn.Module) -> dict[str, np.ndarray]:
    """The state dict as arrays."""
    return {key: tensor.numpy() for key, tensor in module.state_dict().items()}


# A few of every kind; the other goldens are slow.
_FAST = {
    *("0.1.0-n", "0.2.x-n_hs", "0.2.x-n_opt", "0.2.x-s_base", "0.2.x-l", "0.3.x-n.distill_ns"),
    *("0.3.x-s.fuse_ab", "0.4.x-n", "0.4.x-n.dfl", "0.4.x-n.distill_ns", "0.4.x-n.fuse_ab"),
    *("0.4.x-n6", "0.4.x-n_qa", "0.4.x-s_mbla", "0.4.x-m_base"),
    *("0.4.x-lite_s", "0.4.x-lite_m", "0.4.x-lite_l"),
}


def golden_names() -> list[str]:
    """All goldens in the shared folder, while tests are collected; none without the folder."""
    root = Path(os.environ.get("VEDETTE_SHARED", Path(__file__).parents[1] / ".." / "shared"))
    files = (root / "yolov6" / "golden").glob("*.manifest.json")
    return sorted(file.name.removesuffix(".manifest.json") for file in files)


def goldens() -> list[Any]:
    """All of them as parameters of a test."""
    marks = {name: () if name in _FAST else pytest.mark.slow for name in golden_names()}
    return [pytest.param(name, marks=marks[name]) for name in marks]


class Golden:
    """What the original computes with given weights, from the shared folder `yolov6`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._filler = _module(folder / "fill_weights.py")
        self.manifest: dict[str, Any] = json.loads(
            (folder / "golden" / f"{name}.manifest.json").read_text()
        )
        with np.load(folder / "golden" / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)
        found = re.match(r"[0-9.x]+-[a-z0-9_]+", name)  # what follows is the head's training
        assert found is not None
        self.variant_name = found[0]

    @property
    def variant(self) -> Variant:
        return VARIANTS[self.variant_name]

    @property
    def tolerances(self) -> tuple[float, float]:
        """Pixels, and score: Lite's float32 noise is larger, in the original too."""
        return (5e-3, 5e-5) if self.variant.head == "LiteHead" else (2e-3, 2e-5)

    def training_state(self) -> dict[str, np.ndarray]:
        state: dict[str, np.ndarray] = self._filler.fill_manifest(self.manifest)
        return state

    def outline(self) -> dict[str, np.ndarray]:
        """As `training_state`, of zeros, which take no memory."""
        shapes = self.manifest["training"].items()
        return {key: np.broadcast_to(np.float32(0), shape) for key, (_, shape) in shapes}

    def images(self) -> Tensor:
        _, _, height, width = self.manifest["input"]
        return golden_images(self._filler, height, width)


def golden_images(filler: Any, height: int, width: int) -> Tensor:
    pixels = filler.image_batch(height, width).astype(np.float32) / 255
    return torch.from_numpy(pixels)


def checkpoint_images(folder: Path) -> Tensor:
    """The input on which the sample checkpoints' results were computed."""
    return golden_images(_module(folder / "fill_weights.py"), 256, 320)


def to_corners(rows: np.ndarray) -> np.ndarray:
    """cx, cy, w, h, … → x1, y1, x2, y2."""
    centre, half = rows[..., :2], rows[..., 2:4] / 2
    return np.concatenate((centre - half, centre + half), -1)


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
