"""A stream's decoder: NVDEC for as long as it can, then the CPU, and no picture between them lost.

What NVDEC fails at is given to the CPU again from a keyframe on that lies so far back that all that
may still be owed can be decoded; what has been shown is left out. So a GPU that
fails is no fault of the stream, and a stream that only NVDEC refuses is none that is damaged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import av.error
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from pipeline.sources.gpu import excuse, is_nvdec

_BEHIND = 32  # packets that NVDEC may be behind at most: it has as many surfaces


class Decoder:
    """Packets in, pictures out. A packet's `opaque` must be its own: it names its picture."""

    def __init__(
        self, context: VideoCodecContext, another: Callable[[], VideoCodecContext], *, on_gpu: bool
    ) -> None:
        """`another`: makes one like it on the CPU. `on_gpu`: it was opened for NVDEC."""
        self.excuse: str | None = None  # why NVDEC does not decode it, though it should
        self._context = context
        self._another = another
        self._on_gpu = on_gpu
        self._packets: list[Any] = []  # that NVDEC has taken, from a keyframe on
        self._keys: list[int] = []  # which of them are keyframes
        self._shown: set[Any] = set()  # what the pictures are named by that have come of them
        self._owed: list[VideoFrame] = []

    def decode(self, packet: Any) -> list[VideoFrame]:
        """The pictures that are ready; None for a packet: all that are left.

        Raises FFmpegError; what was owed then comes the next time.
        """
        if self._on_gpu:
            try:
                return self._by_nvdec(packet)
            except av.error.ExternalError as error:  # what CUDA's own errors become
                self._leave(f"it failed: {error.strerror}")
        frames = self._context.decode(packet)
        owed, self._owed = self._owed, []
        return owed + frames

    def _by_nvdec(self, packet: Any) -> list[VideoFrame]:
        frames = self._context.decode(packet)
        if frames and not is_nvdec(self._context):  # FFmpeg goes back to the CPU without a word
            self.excuse = f"NVDEC does not decode this {self._context.name}"
            self._forget()
            return frames
        if packet is not None:
            self._remember(packet)
        self._shown.update(frame.opaque for frame in frames)
        return frames

    def _remember(self, packet: Any) -> None:
        if packet.is_keyframe:
            self._keys.append(len(self._packets))
            far = [key for key in self._keys if key <= len(self._packets) - _BEHIND]
            start = far[-1] if far else 0
            self._shown.difference_update(old.opaque for old in self._packets[:start])
            self._packets = self._packets[start:]
            self._keys = [key - start for key in self._keys if key >= start]
        self._packets.append(packet)

    def _leave(self, reason: str) -> None:
        """For the CPU, which decodes what NVDEC still owed."""
        self.excuse = excuse(reason)
        self._context = self._another()
        for packet in self._packets:
            with contextlib.suppress(av.error.FFmpegError):  # NVDEC has taken it, however
                frames = self._context.decode(packet)
                self._owed += [frame for frame in frames if frame.opaque not in self._shown]
        self._forget()

    def _forget(self) -> None:
        self._on_gpu = False
        self._packets, self._keys, self._shown = [], [], set()
