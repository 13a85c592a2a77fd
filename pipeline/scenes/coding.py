"""Pictures through real encoders and back, as cameras send them.

H.264 is x264 with one thread and no frames that lean on later ones, at a constant quality (`crf`)
of surveillance: at 640x384 and 25 frames a second 24 comes to 0.2 to 2 Mbit/s and 30 to 80 to 200
kbit/s, by how much there is to be seen. The decoder is FFmpeg's.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]


def to_jpeg(image: Bytes, quality: int) -> bytes:
    """`image` is [height, width, 3], RGB."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=quality)
    return out.getvalue()


def from_jpeg(coded: bytes) -> Bytes:
    """[height, width, 3], RGB."""
    with Image.open(io.BytesIO(coded)) as image:
        return np.array(image)


def to_h264(images: Iterable[Bytes], size: tuple[int, int], crf: int) -> list[bytes]:
    """One packet for each of `images` of `size` (height, width), the first a keyframe."""
    import av

    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = size
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    encoder.thread_count = 1
    encoder.options = x264_options(crf)
    packets: list[Any] = []
    for number, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [bytes(packet) for packet in packets]


def from_h264(packets: Sequence[bytes]) -> Iterator[Bytes]:
    """The pictures of packets, [height, width, 3], RGB."""
    import av

    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    for packet in (*(av.Packet(data) for data in packets), None):
        for frame in decoder.decode(packet):
            yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def x264_options(crf: int) -> dict[str, str]:
    """What surveillance cameras do: no look into the future."""
    return {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency", "bf": "0"}
