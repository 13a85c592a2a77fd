"""ONNX Runtime with nothing around it: its best frames/s of our fused network, of several ways.

Runs in the environment of `requirements.txt`: python onnx_alone.py JSON (see `loop.py`).
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime
from loop import Given
from plain_loop import export


def main() -> None:
    given = Given.read()
    cores = len(os.sched_getaffinity(0))
    rates = {}
    with tempfile.TemporaryDirectory() as folder:
        for batch in (1, 2, 4, 8):
            file = Path(folder) / f"{batch}.onnx"
            export(given, file, batch=batch)
            for side_by_side in dict.fromkeys((1, cores)):
                name = f"batches of {batch}, {side_by_side} side by side"
                rates[name] = _rate(file, given, batch, side_by_side, cores // side_by_side)
    best = max(rates, key=lambda name: rates[name])
    version = f"onnxruntime {onnxruntime.__version__}"
    print(json.dumps({"rate": rates[best], "way": best, "version": version}))


def _rate(file: Path, given: Given, batch: int, side_by_side: int, threads: int) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    images = np.random.default_rng(0).random((batch, 3, *given.input_size), np.float32)
    start, done = threading.Barrier(side_by_side + 1), []

    def work() -> None:
        session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"])
        session.run(None, {"images": images})
        start.wait()
        ends, frames = time.monotonic() + given.seconds / 4, 0
        while time.monotonic() < ends:
            session.run(None, {"images": images})
            frames += batch
        done.append(frames)

    workers = [threading.Thread(target=work) for _ in range(side_by_side)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.monotonic()
    for worker in workers:
        worker.join()
    return sum(done) / (time.monotonic() - began)


if __name__ == "__main__":
    main()
