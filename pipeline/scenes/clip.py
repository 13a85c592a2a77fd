"""Scenes as files: an H.264 clip, and its truth beside it, a line of JSON for each frame.

{"frame":0,"width":640,"height":384,"objects":[
 {"class_id":2,"label":"car","box":[311.0,120.0,371.0,160.0],"visible":0.83}],"ignored":[]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from pipeline.errors import VedetteError
from pipeline.scenes.coding import x264_options
from pipeline.scenes.painter import Truth
from pipeline.scenes.scene import NAMES, Scene
from pipeline.scenes.setting import Setting

_KEYFRAMES = 50  # frames from one to the next


class Object(msgspec.Struct, frozen=True):
    """One thing in a frame."""

    class_id: int
    label: str
    box: list[float]  # x1 y1 x2 y2, pixels, around what is seen of it
    visible: float  # share, 0 to 1


class Line(msgspec.Struct, frozen=True):
    """The truth about one frame."""

    frame: int
    width: int
    height: int
    objects: list[Object]  # to be found
    ignored: list[Object]  # too little shows of these: found or not, neither is wrong


def write_clip(path: Path, setting: Setting, frames: int, *, crf: int = 28) -> Path:
    """Writes `frames` of a scene to `path` (its ending says the container), and the truth.

    `crf`: x264's quality; 24 to 30 is what surveillance has (see `coding.py`). Returns the
    path of the truth, which ends in .jsonl. Raises `VedetteError` where nothing can be written.
    """
    import av
    import av.error

    scene = Scene(setting)
    lines = path.with_suffix(".jsonl")
    try:
        with av.open(str(path), "w") as output, lines.open("wb") as truth:
            stream = output.add_stream(
                "libx264", rate=round(setting.rate), options=x264_options(crf)
            )
            stream.height, stream.width = setting.size
            stream.pix_fmt, stream.gop_size = "yuv420p", _KEYFRAMES
            stream.codec_context.thread_count = 1
            for index in range(frames):
                sample = scene.frame(index)
                frame: Any = av.VideoFrame.from_ndarray(sample.image, format="rgb24")
                frame.pts = index
                output.mux(stream.encode(frame))
                truth.write(
                    msgspec.json.encode(line_of(index, setting, scene.truth(index))) + b"\n"
                )
            output.mux(stream.encode(None))
    except (OSError, av.error.FFmpegError) as error:
        raise VedetteError(f"{path} cannot be written: {error.strerror or error}") from None
    return lines


def read_truth(path: Path) -> list[Line]:
    """What `write_clip` said of each frame."""
    return msgspec.json.Decoder(Line).decode_lines(path.read_bytes())


def line_of(index: int, setting: Setting, truth: Truth) -> Line:
    """The truth about a frame as it is written."""
    found, ignored = _objects(truth.of(~truth.ignored)), _objects(truth.of(truth.ignored))
    height, width = setting.size
    return Line(index, width, height, found, ignored)


def _objects(truth: Truth) -> list[Object]:
    return [
        Object(int(class_id), NAMES[class_id], box, round(float(visible), 3))
        for box, class_id, visible in zip(
            truth.boxes.tolist(), truth.class_ids, truth.visible, strict=True
        )
    ]
