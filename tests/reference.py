"""The training form of the blocks, with branches and BatchNorms as the papers draw them.

This is the oracle for `pipeline.yolov6.fold`, and the only place where this form exists. State
dicts carry the official key names.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class ConvBatchNorm(nn.Module):
    """A convolution, then its BatchNorm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return y


class RepVGGBlock(nn.Module):
    """ReLU(BN(conv 3x3) + BN(conv 1x1) + BN(x)), the last only where the sizes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.rbr_dense = ConvBatchNorm(inputs, outputs, 3, stride)
        self.rbr_1x1 = ConvBatchNorm(inputs, outputs, 1, stride)
        if inputs == outputs and stride == 1:
            self.rbr_identity = nn.BatchNorm2d(outputs, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.rbr_dense(x) + self.rbr_1x1(x)
        if hasattr(self, "rbr_identity"):
            y = y + self.rbr_identity(x)
        return F.relu(y)


class RepBlock(nn.Module):
    """RepVGG blocks in a row."""

    def __init__(self, inputs: int, outputs: int, repeats: int) -> None:
        super().__init__()
        self.conv1 = RepVGGBlock(inputs, outputs)
        self.block = nn.Sequential(*(RepVGGBlock(outputs, outputs) for _ in range(repeats - 1)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(self.conv1(x))
        return y


class DPBlock(nn.Module):
    """Lite's depthwise-separable convolution: both halves have a bias and a BatchNorm."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv_dw_1 = nn.Conv2d(channels, channels, 5, stride, 2, groups=channels)
        self.bn_1 = nn.BatchNorm2d(channels, eps=1e-3)
        self.conv_pw_1 = nn.Conv2d(channels, channels, 1)
        self.bn_2 = nn.BatchNorm2d(channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.bn_1(self.conv_dw_1(x)))
        return F.hardswish(self.bn_2(self.conv_pw_1(x)))


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
    return module.eval()


def state_of(module: nn.Module) -> dict[str, np.ndarray]:
    """The state dict as arrays."""
    return {key: tensor.numpy() for key, tensor in module.state_dict().items()}


class Golden:
    """What the original computes with given weights, from the shared folder `yolov6`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._filler = _module(folder / "fill_weights.py")
        self.manifest: dict[str, Any] = json.loads(
            (folder / "golden" / f"{name}.manifest.json").read_text()
        )
        with np.load(folder / "golden" / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)

    def training_state(self) -> dict[str, np.ndarray]:
        state: dict[str, np.ndarray] = self._filler.fill_manifest(self.manifest)
        return state

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
