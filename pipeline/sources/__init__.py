"""Where pictures come from: the contract of every source, and the door to them.

    with open_source("clips/yard.mp4", live=False, loop=False) as source:
        for picture in source:
            picture.write(slot[letterbox.region])
    print(source.complete, source.reason)

Only opening raises (`SourceError`, or `SourceRefused` where another try cannot help). From then
on, whatever happens ends the iteration, after every picture that could be decoded, and
`complete`, `reason` and `fault` say how; `Picture.write` raises `SourceError` for a picture that
cannot be converted, which ends nothing either. A source never sleeps: reading may wait for the
network, within limits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SourceRefused
from pipeline.sources.camera_clock import CameraTime

# DCI 8K. A decoder keeps up to 17 pictures, which at this size is 0.9 GB in 8-bit 4:2:0; cameras
# and clips are smaller, and a forged header must not be able to take more.
MAX_PIXELS = 8192 * 4320
SYNTHETIC = "synthetic://"
# To be raised when the same scene gives other pictures: jobs are known by it.
SYNTHETIC_VERSION = 1


@dataclass(frozen=True, slots=True)
class Access:
    """How a source is reached and decoded; the first two mean nothing for a file."""

    transport: str = "tcp"  # tcp | udp: how RTSP's video comes
    tls_verify: bool = True  # of rtsps and https: whether its certificate must be a good one
    decoder: str = "cpu"  # cpu | gpu: where it is decoded, if that can be; a scene is drawn


USUAL = Access()


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture whose pixels are still the decoder's: let it go once it is written.

    `decode_ns` is work, not waiting: neither the time between two calls of `next` is in it, nor
    what a camera kept the reader waiting for a packet. Pictures that come out together share it.
    """

    width: int  # of the camera picture, pixels
    height: int
    segment: int  # +1 at each discontinuity of time stamps and each turn of a loop
    lap: int  # how often a loop has begun anew
    media_time: float  # seconds from the segment's start, >= 0
    tainted: bool  # the decoder saw damage since the last keyframe
    arrived_at: float  # when its packet arrived, seconds since 1970
    arrived_ns: int  # the same, monotonic; for a paced picture both are when it is due
    decode_ns: int  # what reading and decoding took since the last picture came out
    due_ns: int | None  # a paced picture is to be held back until then, monotonic
    write: Callable[[NDArray[np.uint8]], None]  # resizes into uint8 RGB [height, width, 3], exactly
    is_sound: bool = False  # writing it cannot fail: it need not be tried
    is_key: bool = False  # a keyframe: it needs no other to be decoded
    is_left_out: bool = False  # it was not decoded, and cannot be written
    camera_time: CameraTime | None = None  # when it was taken, where the camera says so


class Source(Protocol):
    """Pictures in the order in which they are shown, until the end."""

    keys_only: bool  # set it while keyframes are enough: the rest is left out where that is safe
    complete: bool  # once the iteration has ended: nothing is missing of what there was
    reason: str  # once the iteration has ended: how, in one sentence
    fault: str | None  # of an end that is not as it should be: network, camera or decoder
    codec: str  # FFmpeg's name of the decoder
    announced: int | None  # how many pictures the file says it has, None where it does not

    @property
    def excuse(self) -> str | None:
        """Why it is not decoded where it was to be; the first picture tells."""

    def __iter__(self) -> Iterator[Picture]: ...
    def __next__(self) -> Picture: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def close(self) -> None: ...


def open_source(
    url: str,
    *,
    live: bool,
    loop: bool,
    access: Access = USUAL,
    max_pixels: int = MAX_PIXELS,
    clock: Callable[[], int] = time.monotonic_ns,
) -> Source:
    """Opens `url`: rtsp, rtsps, http, https, synthetic, or the path of a regular file.

    `live` paces a file by its time stamps, and makes the end of a stream a lost connection;
    `loop` starts a file anew at its end, for ever. Raises `SourceError` or `SourceRefused`.
    """
    if is_synthetic(url):
        try:
            from pipeline.sources.synthetic import SceneSource
        except ModuleNotFoundError as error:
            text = f"a scene needs {error.name}: pip install '.[draw]' in the clone"
            raise SourceRefused(text) from None
        return SceneSource(url, live=live, loop=loop, max_pixels=max_pixels, clock=clock)
    from pipeline.sources.admission import admit
    from pipeline.sources.av import VideoSource  # the contract alone needs no FFmpeg

    admission = admit(url, loop=loop, access=access)
    return VideoSource(
        admission,
        live=live,
        loop=loop,
        on_gpu=access.decoder == "gpu",
        max_pixels=max_pixels,
        clock=clock,
    )


def is_synthetic(url: str) -> bool:
    """Whether `url` is a scene that is drawn on the spot (see `pipeline/scenes/address.py`)."""
    return url[: len(SYNTHETIC)].lower() == SYNTHETIC
