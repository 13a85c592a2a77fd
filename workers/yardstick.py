"""What one part of the pipeline does alone on this machine: `python -m workers.yardstick …`.

Each is a process of its own, as the parts are in a run; the answer is one JSON object on stdout.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path

BATCHES = (1, 2, 4, 8)
_CLASSES = 80
_NOTHING = -4.6  # bias of the class scores: 1 %, where training begins, so that nothing is found


def network(weights: str, height: int, width: int, seconds: float) -> dict[str, object]:
    """Frames/s of the network by batch size: as many batches side by side as there are cores.

    `all_threads` is the other way to use the cores: one batch of 8 on all of them.
    """
    import torch

    from pipeline.runner import Plan, open_runner, plan

    chosen = plan(device="auto", precision="auto", max_batch=BATCHES[-1])
    rates = {}
    for batch in BATCHES:
        of_this_size = Plan(chosen.device, chosen.precision, batch, chosen.threads)
        runner = open_runner(
            weights, of_this_size, input_size=(height, width), iou=0.45, max_detections=300
        )
        rates[batch] = _rate(runner, seconds)
        runner.close()
    alone = Plan(chosen.device, chosen.precision, BATCHES[-1], 1)
    runner = open_runner(weights, alone, input_size=(height, width), iou=0.45, max_detections=300)
    runner.use_threads(chosen.threads)
    result = {
        "plan": str(chosen),
        "torch": torch.__version__,
        "side_by_side": rates,
        "all_threads": _rate(runner, seconds),
    }
    runner.close()
    return result


def decode(clip: str, height: int, width: int, seconds: float) -> dict[str, object]:
    """CPU ms per frame of decoding a clip and resizing it into a slot, on one thread."""
    import numpy as np

    from pipeline.letterbox import Letterbox
    from pipeline.sources import open_source

    slot = np.empty((height, width, 3), np.uint8)
    frames, spent, ends = 0, 0.0, time.monotonic() + seconds
    while time.monotonic() < ends:
        started = time.process_time()
        with open_source(clip, live=False, loop=False) as source:
            for picture in source:
                box = Letterbox.of(picture.width, picture.height, (height, width))
                picture.write(slot[box.region])
                frames += 1
        spent += time.process_time() - started
    return {"cpu_ms": 1000 * spent / frames}


def random_weights(path: Path, variant: str, input_size: tuple[int, int]) -> None:
    """A weights file that sees nothing and costs what a trained one does."""
    import torch

    from pipeline.yolov6.network import YOLOv6
    from pipeline.yolov6.variants import VARIANTS
    from pipeline.yolov6.weights import save

    torch.manual_seed(0)
    state = YOLOv6(VARIANTS[variant], _CLASSES).state_dict()
    for key, tensor in state.items():
        if "cls_preds" in key and key.endswith("bias"):
            tensor.fill_(_NOTHING)
    save(
        path,
        {key: tensor.numpy() for key, tensor in state.items()},
        {
            "variant": variant,
            "classes": [f"class_{index}" for index in range(_CLASSES)],
            "input_size": input_size,
            "source": "random",
        },
    )


def _rate(runner: object, seconds: float) -> float:
    from pipeline.runner import Found, Runner, Thresholds

    assert isinstance(runner, Runner)
    frames, started = 0, time.monotonic()
    flying: deque[Future[list[Found]]] = deque()
    while time.monotonic() < started + seconds or flying:
        staging = runner.staging() if time.monotonic() < started + seconds else None
        if staging is None:
            frames += len(flying.popleft().result())
        else:
            flying.append(runner.submit(staging, [Thresholds(0.25)] * runner.plan.batch))
    return frames / (time.monotonic() - started)


def main(part: str, subject: str, height: str, width: str, amount: str) -> None:
    """`network WEIGHTS H W SECONDS`, `decode CLIP H W SECONDS` or `weights PATH H W VARIANT`."""
    if part == "weights":
        random_weights(Path(subject), amount, (int(height), int(width)))
        return
    measure = {"network": network, "decode": decode}[part]
    print(json.dumps(measure(subject, int(height), int(width), float(amount))))


if __name__ == "__main__":
    main(*sys.argv[1:])
