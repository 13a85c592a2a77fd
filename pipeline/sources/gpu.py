"""Decoding on a GPU by NVDEC, where there is one: FFmpeg's own decoders, their arithmetic there.

Parsing stays FFmpeg's, and with it what it says of damage, of keyframes and of which packet a
picture came with; so nothing else here knows where a picture was decoded. Pictures come back into
memory as NV12, and are resized on the CPU. Every process that decodes has a context on the GPU.
"""

from __future__ import annotations

from functools import cache

import av
import av.error
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel

_PROBED = "h264"  # which every NVDEC decodes


@cache
def accelerator() -> HWAccel | str:
    """For `av.open`; or why there is none, as every time after. Making a context takes a moment."""
    nvdec = HWAccel("cuda", allow_software_fallback=True)
    try:
        nvdec.create(av.Codec(_PROBED))
    except (av.error.FFmpegError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"NVDEC cannot be had: {reason[:1].lower()}{reason[1:]}"
    return nvdec


def excuse(decoder: CodecContext) -> str | None:
    """Why this decoder, opened with the accelerator, does not use it."""
    return None if decoder.is_hwaccel else f"NVDEC does not decode {decoder.name}"
