"""What one part of the pipeline does alone on this machine: `python -m workers.bench.yardstick`.

Each is a process of its own, as the parts are in a run. It is given the part's name and a JSON
object of what to measure; its answer is one JSON value on stdout, {"error": …} where it cannot.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import VedetteError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


_LOOKED_AT = 16  # pictures of the clip, for what NMS costs


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured; not every part asks for everything."""

    clip: str
    weights: str
    input_size: tuple[int, int]
    precision: str
    device: str
    redis: str = ""  # its URL
    seconds: float = 0.0  # for one figure


def about(subject: Subject) -> dict[str, object]:
    """How the network would run, and what the clip is; VedetteError where either cannot be."""
    import torch

    from config.schema import Model
    from pipeline.sources import open_source
    from workers.bench.network import planned

    most = Model.model_fields["max_batch"].default
    chosen = planned(subject, most)
    with open_source(subject.clip, live=False, loop=True) as source:
        pictures = [next(source, None) for _ in range(2)]
        codec = source.codec
    first, second = pictures
    if first is None or second is None:
        raise VedetteError(f"{subject.clip}: {source.reason}")
    interval = second.media_time - first.media_time
    return {
        "plan": str(chosen),
        "torch": torch.__version__,
        **{"codec": codec, "width": first.width, "height": first.height},
        "rate": round(1 / interval, 2) if interval > 0 else 0.0,
    }


def network(subject: Subject) -> dict[str, object]:
    """Frames/s of the network alone, its input being there: by precision, batch and way."""
    from workers.bench.network import rates

    return rates(subject)


def reading(subject: Subject) -> dict[str, float]:
    """CPU ms per frame of decoding a clip, and of resizing what comes out, on one thread."""
    pictures = _pictures(subject)
    next(pictures)()  # imports, the decoder, the scaler
    frames, resizing = 0, 0.0
    ends, began = time.monotonic() + subject.seconds, time.process_time()
    for write in pictures:
        before = time.process_time()
        write()
        resizing += time.process_time() - before
        frames += 1
        if time.monotonic() >= ends:
            break
    decoding = time.process_time() - began - resizing
    return {
        "decode_ms": 1000 * decoding / frames,
        "resize_ms": 1000 * resizing / frames,
        "bare_ms": _bare(subject),
    }


def _bare(subject: Subject) -> float:
    """CPU ms per frame of PyAV with nothing around it: decoding, and one pass to RGB."""
    import av
    from av.video.reformatter import Interpolation, VideoReformatter

    from pipeline.letterbox import Letterbox

    scaler, frames = VideoReformatter(), 0
    ends, began = time.monotonic() + subject.seconds, time.process_time()
    while time.monotonic() < ends:
        with av.open(subject.clip) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for frame in container.decode(video=0):
                box = Letterbox.of(frame.width, frame.height, subject.input_size)
                height, width = box.resized
                scaler.reformat(
                    frame, width, height, "rgb24", interpolation=Interpolation.AREA, threads=1
                )
                frames += 1
                if time.monotonic() >= ends:
                    break
    return 1000 * (time.process_time() - began) / frames


def _pictures(
    subject: Subject, slot: NDArray[np.uint8] | None = None
) -> Iterator[Callable[[], None]]:
    """Of the clip, again and again: calls that write each into the slot, uint8 [H, W, 3]."""
    import numpy as np

    from pipeline.letterbox import GREY, Letterbox
    from pipeline.sources import open_source

    place = np.full((*subject.input_size, 3), GREY, np.uint8) if slot is None else slot
    with open_source(subject.clip, live=False, loop=True) as source:
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

    from pipeline.letterbox import GREY
    from pipeline.yolov6 import load

    ready = load(subject.weights)
    slot = np.full((*subject.input_size, 3), GREY, np.uint8)
    for number, write in enumerate(_pictures(subject, slot)):
        if number >= _LOOKED_AT:
            return
        write()
        with torch.inference_mode():
            yield ready(torch.from_numpy(slot)[None].permute(0, 3, 1, 2) / 255)


def publishing(subject: Subject) -> dict[str, float]:
    """The publisher, beside redis-py's pipeline of as many messages that are bytes already."""
    from workers.bench.publishing import measure

    return measure(subject.redis, subject.seconds)


def main(part: str, text: str) -> None:
    """`weights` and `draw` with their arguments; each other part with a Subject."""
    given = json.loads(text)
    if part in ("weights", "draw"):
        from workers.bench import made

        path = Path(given["path"])
        if part == "draw":
            made.draw(path)
        else:
            size, ranges = tuple(given["input_size"]), given.get("ranges", False)
            made.random_weights(path, given["variant"], size, ranges=ranges)
        return
    parts: dict[str, Callable[[Subject], object]] = {
        **{"about": about, "network": network, "reading": reading},
        **{"nms": nms, "publishing": publishing},
    }
    given["input_size"] = tuple(given["input_size"])
    try:
        answer: Any = parts[part](Subject(**given))
    except VedetteError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
