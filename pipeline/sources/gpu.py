"""NVDEC, where there is a GPU that has it: FFmpeg's own decoders, their arithmetic there.

Parsing stays FFmpeg's, and with it what is said of keyframes, of missing references and of which
packet a picture came with. What is damaged inside of a picture is not seen: FFmpeg hands slices on
without looking into them, and does not ask NVDEC how they went. Pictures come back into memory as
NV12, and are resized on the CPU.
"""

from __future__ import annotations

import ctypes
from functools import cache

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

_PROBED = "h264"  # which every NVDEC decodes
# Of the driver, and not of CUDA: a container may have the one without the other.
_LIBRARY = "libnvcuvid.so.1"


class Nvdec:
    """NVDEC of the first GPU, as this process has it: by one context, the GPU's primary one."""

    def __init__(self) -> None:
        self.accelerator = HWAccel(
            "cuda", allow_software_fallback=True, options={"primary_ctx": "1"}
        )
        self._context: HWAccel | None = None  # kept: to make it takes a moment, and may fail

    def failure(self) -> str | None:
        """Why it cannot be had now, in a sentence; None: it can."""
        try:
            ctypes.CDLL(_LIBRARY)
            self._context = self.accelerator.create(av.Codec(_PROBED))
        except (OSError, av.error.FFmpegError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return f"NVDEC cannot be had: {reason[:1].lower()}{reason[1:]}"
        return None


@cache
def nvdec() -> Nvdec:
    """This process' own."""
    return Nvdec()


def is_nvdec(context: VideoCodecContext) -> bool:
    """Whether NVDEC makes its pictures; known once there is one."""
    return context.pix_fmt == "cuda"
