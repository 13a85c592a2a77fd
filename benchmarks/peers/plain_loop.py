"""The loop that one writes first: PyAV, ONNX Runtime, NMS in numpy, one XADD a frame.

Runs in the environment of `requirements.txt`: python plain_loop.py JSON (see `loop.py`). The
network is our fused YOLOv6-N, exported, so its structure is the same.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import onnxruntime
import torch
from loop import Given, measured

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.letterbox import Letterbox
from pipeline.yolov6 import load


def main() -> None:
    given = Given.read()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        export(given, file)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        found = measured(given, _frames(session, given))
    print(json.dumps({**found, "version": f"onnxruntime {onnxruntime.__version__}"}))


def export(given: Given, file: Path, *, batch: int = 1) -> None:
    images = torch.zeros(batch, 3, *given.input_size)
    names = {"input_names": ["images"], "output_names": ["boxes", "scores"]}
    torch.onnx.export(load(given.weights), (images,), str(file), dynamo=False, **names)


def _frames(
    session: onnxruntime.InferenceSession, given: Given
) -> Iterator[tuple[str, list[list[float]]]]:
    cameras = [_pictures(given.clip) for _ in range(given.cameras)]
    for number, pictures in itertools.cycle(enumerate(cameras)):
        picture = next(pictures)
        box = Letterbox.of(picture.width, picture.height, given.input_size)
        image = np.full((*given.input_size, 3), 114, np.uint8)
        height, width = box.resized
        image[box.region] = picture.reformat(width, height, "rgb24").to_ndarray()
        tensor = image.transpose(2, 0, 1)[None].astype(np.float32) / 255
        boxes, scores = session.run(None, {"images": tensor})
        yield f"camera-{number}", _suppressed(boxes[0], scores[0])


def _pictures(clip: str) -> Iterator[av.VideoFrame]:
    while True:
        with av.open(clip) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield from container.decode(stream)


def _suppressed(boxes: np.ndarray, scores: np.ndarray) -> list[list[float]]:
    """Greedy NMS, class by class: x1, y1, x2, y2, confidence, class."""
    best, labels = scores.max(1), scores.argmax(1)
    order = np.flatnonzero(best > 0.25)
    order = order[np.argsort(-best[order])]
    kept: list[list[float]] = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append([*boxes[first].tolist(), float(best[first]), float(labels[first])])
        low, high = (
            np.maximum(boxes[first, :2], boxes[rest, :2]),
            np.minimum(boxes[first, 2:], boxes[rest, 2:]),
        )
        shared = np.clip(high - low, 0, None).prod(1)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        overlap = shared / (areas[first] + areas[rest] - shared)
        order = rest[(overlap <= 0.45) | (labels[rest] != labels[first])]
    return kept


if __name__ == "__main__":
    main()
