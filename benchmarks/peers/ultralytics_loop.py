"""Ultralytics as its documentation runs it: a model, sources, `stream=True`, one XADD a frame.

Runs in the environment of `requirements.txt`: python ultralytics_loop.py JSON (see `loop.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path

import torch
import ultralytics
from loop import Given, measured
from ultralytics import YOLO
from ultralytics.utils.nms import TorchNMS


def main() -> None:
    given = Given.read()
    _without_torchvision()
    torch.manual_seed(0)
    model = YOLO("yolov6n.yaml", task="detect")
    with tempfile.TemporaryDirectory() as folder, _precision(given.precision):
        found = measured(given, _frames(model, given, Path(folder)))
    print(json.dumps({**found, "version": f"ultralytics {ultralytics.__version__}"}))


def _frames(model: YOLO, given: Given, folder: Path) -> Iterator[tuple[str, list[list[float]]]]:
    """Of each frame, its source and its boxes."""
    source = given.clip
    if given.cameras > 1:
        names = folder / "all.streams"
        names.write_text(f"{given.clip}\n" * given.cameras)
        source = str(names)
    while True:
        for result in model.predict(
            source,
            stream=True,
            stream_buffer=True,  # every frame, as a file's are to be
            imgsz=tuple(given.input_size),
            device="cpu",
            verbose=False,
            conf=0.25,
            iou=0.45,
        ):
            yield str(result.path), result.boxes.data.tolist()


def _without_torchvision() -> None:
    """Where it does not fit the torch that is there, Ultralytics' own NMS does its part.

    A stream imports it for its NMS; on PyPI it is built for the torch with CUDA.
    """
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        sys.modules["torchvision"] = stand_in = types.ModuleType("torchvision")
        stand_in.ops = types.SimpleNamespace(nms=TorchNMS.nms)  # type: ignore[attr-defined]


def _precision(name: str) -> contextlib.AbstractContextManager[object]:
    """It takes no bfloat16 by itself (`half` is for GPUs); autocast is what a user can do."""
    if name == "bf16":
        return torch.autocast("cpu", torch.bfloat16)
    return contextlib.nullcontext()


if __name__ == "__main__":
    main()
