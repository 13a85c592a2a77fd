"""Decoding on a GPU by NVDEC, where there is one: FFmpeg's own decoders, their arithmetic there.

Parsing stays FFmpeg's, and with it what it says of damage, of keyframes and of which packet a
picture came with; so nothing else here knows where a picture was decoded. Pictures come back into
memory as NV12, and are resized on the CPU. A process has one context on the GPU, its primary one.
"""

from __future__ import annotations

from functools import cache

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame

_PROBED = "h264"  # which every NVDEC decodes
_FORMATS = frozenset(("nv12", "p010le", "p016le", "nv16", "p210le", "nv24", "p410le"))


@cache
def accelerator() -> HWAccel | str:
    """For `av.open`; or why there is none, as every time after. Making a context takes a moment."""
    nvdec = HWAccel("cuda", allow_software_fallback=True, options={"primary_ctx": "1"})
    try:
        nvdec.create(av.Codec(_PROBED))
    except (av.error.FFmpegError, NotImplementedError) as error:
        return excuse(getattr(error, "strerror", None) or str(error))
    return nvdec


def excuse(reason: str) -> str:
    """Why NVDEC is not what decodes, in a sentence."""
    return f"NVDEC cannot be had: {reason[:1].lower()}{reason[1:]}"


def excuse_of(frame: VideoFrame, codec: str) -> str | None:
    """Whether NVDEC gave this picture: FFmpeg goes back to the CPU without a word. None: it did."""
    return None if frame.format.name in _FORMATS else f"NVDEC does not decode this {codec}"
