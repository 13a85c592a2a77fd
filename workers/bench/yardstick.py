"""What one part of the pipeline does alone on this machine: `python -m workers.bench.yardstick`.

Each is a process of its own, as the parts are in a run. It is given the part's name and a JSON
object of what to measure, and its answer is one JSON value on stdout.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline.runner import Plan
    from pipeline.wire import DetectionsMessage
    from pipeline.yolov6.network import YOLOv6

BATCHES = {"cpu": (1, 2, 4, 8), "gpu": (1, 4, 8, 16, 32)}
DETECTIONS = 5  # in a message
_CLASSES = 80
_NOTHING = -4.6  # bias of the class scores: 1 %, where training begins, so that nothing is found
_LOOKED_AT = 16  # pictures of the clip, for what NMS costs
_MESSAGES = 2_000


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured; not every part asks for everything."""

    clip: str
    weights: str
    input_size: tuple[int, int]
    precision: str
    redis: str  # its URL
    seconds: float  # for one figure


def network(subject: Subject) -> dict[str, object]:
    """Frames/s of the network alone, its input being there: by precision, batch and way."""
    import torch

    from pipeline.runner import as_run, plan
    from pipeline.yolov6 import load

    chosen = plan(device="auto", precision=subject.precision, max_batch=32)
    is_cpu = chosen.device.type == "cpu"
    rates = []
    for precision in dict.fromkeys((chosen.precision, "fp32")):
        batches = BATCHES["cpu" if is_cpu else "gpu"]
        this = replace(chosen, precision=precision, batch=batches[-1])
        ready = as_run(load(subject.weights), this, subject.input_size)
        ways = [(batch, chosen.threads) for batch in batches]
        for batch, side_by_side in (*ways, (batches[-1], 1)):
            rate = _rate(ready, this, subject, batch, side_by_side)
            way = {"precision": precision, "batch": batch, "side_by_side": side_by_side}
            rates.append({**way, "rate": round(rate, 2)})
    return {"plan": str(chosen), "torch": torch.__version__, "rates": rates}


def _rate(network: YOLOv6, plan: Plan, subject: Subject, batch: int, side_by_side: int) -> float:
    """Frames/s; one batch at a time has all cores of a CPU, those side by side one each."""
    import torch

    from pipeline.runner import noise

    images = noise(batch, subject.input_size, plan)
    done: list[int] = []
    start = threading.Barrier(side_by_side + 1)

    @torch.inference_mode()
    def work() -> None:
        torch.set_num_threads(plan.threads if side_by_side == 1 else 1)
        stream = _stream(plan)
        with stream:
            network(images)
            _finish(plan)
            start.wait()
            ends, frames = time.monotonic() + subject.seconds, 0
            while time.monotonic() < ends:
                network(images)
                frames += batch
                _finish(plan)
        done.append(frames)

    workers = [threading.Thread(target=work) for _ in range(side_by_side)]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.monotonic()
    for worker in workers:
        worker.join()
    return sum(done) / (time.monotonic() - began)


def _stream(plan: Plan) -> Any:
    import contextlib

    import torch

    return contextlib.nullcontext() if plan.device.type == "cpu" else torch.Stream(plan.device)


def _finish(plan: Plan) -> None:
    """Waits for a GPU."""
    import torch

    if plan.device.type != "cpu":
        torch.accelerator.current_stream().synchronize()


def reading(subject: Subject) -> dict[str, float]:
    """CPU ms per frame of decoding a clip, and of resizing what comes out, on one thread."""
    frames, whole, resizing = 0, 0.0, 0.0
    ends = time.monotonic() + subject.seconds
    while time.monotonic() < ends:
        began = time.process_time()
        for write in _pictures(subject):
            before = time.process_time()
            write()
            resizing += time.process_time() - before
            frames += 1
        whole += time.process_time() - began
    return {"decode_ms": 1000 * (whole - resizing) / frames, "resize_ms": 1000 * resizing / frames}


def _pictures(
    subject: Subject, slot: NDArray[np.uint8] | None = None
) -> Iterator[Callable[[], None]]:
    """Of the clip once: calls that write each into the slot, uint8 [height, width, 3]."""
    import numpy as np

    from pipeline.letterbox import GREY, Letterbox
    from pipeline.sources import open_source

    place = np.full((*subject.input_size, 3), GREY, np.uint8) if slot is None else slot
    with open_source(subject.clip, live=False, loop=False) as source:
        for picture in source:
            box = Letterbox.of(picture.width, picture.height, subject.input_size)
            yield lambda picture=picture, box=box: picture.write(place[box.region])  # type: ignore[misc]


def nms(subject: Subject) -> dict[str, float]:
    """CPU µs per picture of suppression, on what the network says of pictures of the clip."""
    import torch

    from pipeline.yolov6.nms import select

    torch.set_num_threads(1)
    answers = list(_answers(subject))
    found, spent, pictures = 0, 0.0, 0
    ends = time.monotonic() + subject.seconds
    while time.monotonic() < ends:
        for boxes, scores in answers:
            began = time.process_time()
            kept = select(boxes, scores, confidence=0.25, iou=0.45, max_detections=300)
            spent += time.process_time() - began
            found += len(kept[0][0])
            pictures += 1
    return {"nms_us": 1e6 * spent / pictures, "nms_found": found / pictures}


def _answers(subject: Subject) -> Iterator[tuple[Tensor, Tensor]]:
    import numpy as np
    import torch

    from pipeline.yolov6 import load

    ready = load(subject.weights)
    slot = np.full((*subject.input_size, 3), 114, np.uint8)
    for number, write in enumerate(_pictures(subject, slot)):
        if number >= _LOOKED_AT:
            return
        write()
        with torch.inference_mode():
            yield ready(torch.from_numpy(slot)[None].permute(0, 3, 1, 2) / 255)


def publishing(subject: Subject) -> dict[str, float]:
    """The publisher, beside redis-py's pipeline of as many messages that are bytes already."""
    messages = [message(seq, DETECTIONS) for seq in range(_MESSAGES)]
    rates: dict[str, list[float]] = {"publish_rate": [], "plain_rate": []}
    spent, sent = 0.0, 0
    ends = time.monotonic() + subject.seconds
    while time.monotonic() < ends or not sent:
        began, cpu = time.perf_counter(), time.process_time()
        publish(subject.redis, messages)
        rates["publish_rate"].append(len(messages) / (time.perf_counter() - began))
        spent, sent = spent + time.process_time() - cpu, sent + len(messages)
        began = time.perf_counter()
        send_ready(subject.redis, fields_of(messages))
        rates["plain_rate"].append(len(messages) / (time.perf_counter() - began))
    middle = {name: sorted(found)[len(found) // 2] for name, found in rates.items()}
    return {**middle, "publish_us": 1e6 * spent / sent}


def message(seq: int, detections: int) -> DetectionsMessage:
    """A frame with so many boxes."""
    from pipeline.wire import Detection, DetectionsMessage, Model, Timing

    return DetectionsMessage(
        schema="vedette.detections/1",
        camera="gate",
        session="1-benchmark",
        seq=seq,
        segment=0,
        media_time=seq / 25,
        captured_at=1_700_000_000 + seq / 25,
        width=1920,
        height=1080,
        model=Model("0.4.x-n", "0123456789ab", (384, 640), 0.25),
        timing_ms=Timing(1.512, 0.481, 20.113),
        dropped={},
        tainted=False,
        detections=[
            Detection(
                2, "car", round(0.9 - i / 100, 4), (10.25 * i, 20.5, 10.25 * i + 99.75, 120.13)
            )
            for i in range(detections)
        ],
    )


def publish(url: str, messages: list[DetectionsMessage]) -> None:
    """Our way: explicit ids, a lease, MULTI/EXEC, confirmations, the replay window."""
    from pipeline.sinks.redis import BATCH, RedisSink
    from pipeline.sinks.window import Keys

    sink = RedisSink(url)
    stream = sink.open(Keys.of("benchmark", "gate"), live=True, maxlen=None, limit=BATCH)
    for one in messages:
        stream.window.append(one)
        if len(stream.window) == BATCH:
            sink.write(stream)
    while len(stream.window):
        sink.write(stream)
    sink.close()


def fields_of(messages: list[DetectionsMessage]) -> list[dict[str, Any]]:
    """What the entries hold, as bytes."""
    from pipeline.wire import to_json, traceparent

    return [
        {
            "schema": one.schema.encode(),
            "data": to_json(one),
            "traceparent": traceparent(one.camera, one.session, one.seq).encode(),
        }
        for one in messages
    ]


def send_ready(url: str, entries: list[dict[str, Any]]) -> None:
    """redis-py's pipeline without a transaction, executed every 50 entries: the least there is."""
    from pipeline.sinks.connection import connect
    from pipeline.sinks.redis import BATCH

    with connect(url, timeout=30) as client:
        for first in range(0, len(entries), BATCH):
            pipeline = client.pipeline(transaction=False)
            for entry in entries[first : first + BATCH]:
                pipeline.xadd("benchmark:plain", entry)
            pipeline.execute()
        client.delete("benchmark:plain", "benchmark:{gate}:detections")


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


def main(part: str, text: str) -> None:
    """`network`, `reading`, `nms` or `publishing` with a Subject; `weights` with its arguments."""
    given = json.loads(text)
    if part == "weights":
        random_weights(Path(given["path"]), given["variant"], tuple(given["input_size"]))
        return
    parts: dict[str, Callable[[Subject], object]] = {
        "network": network,
        "reading": reading,
        "nms": nms,
        "publishing": publishing,
    }
    given["input_size"] = tuple(given["input_size"])
    print(json.dumps(parts[part](Subject(**given))))


if __name__ == "__main__":
    main(*sys.argv[1:])
