"""A stream's decoder: NVDEC for as long as it can, then the CPU.

What NVDEC fails at is given to the CPU again, from a keyframe on that lies so far back that all
that may still be owed can be decoded, so that no picture is lost; what has been shown is left out.
Where keyframes are too far apart to keep all that came since, the CPU begins at the next one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import av.error
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from pipeline.sources.gpu import is_nvdec

_BEHIND = 32  # packets that NVDEC may be behind at most: it has as many surfaces
_MOST_PACKETS, _MOST_BYTES = 300, 32 << 20  # that are kept: a second or two of a CPU
_CUDA_FAILED = (av.error.ExternalError, av.error.MemoryError)  # what its errors become


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
        self._packets: list[Any] = []  # the last ones, from a keyframe on; none: it is too far back
        self._keys: list[int] = []  # which of them are keyframes
        self._bytes = 0  # of them
        self._last: Any = None  # what the last picture is named by
        self._owed: list[VideoFrame] = []

    def decode(self, packet: Any) -> list[VideoFrame]:
        """The pictures that are ready; None for a packet: all that are left.

        Raises FFmpegError; what was owed then comes the next time.
        """
        if self._on_gpu:
            self._remember(packet)
            try:
                return self._by_nvdec(packet)
            except _CUDA_FAILED as error:
                self.excuse = f"NVDEC failed: {error.strerror}"
                self._leave(packet)
        frames = self._context.decode(packet)
        owed, self._owed = self._owed, []
        return owed + frames

    def _by_nvdec(self, packet: Any) -> list[VideoFrame]:
        frames = self._context.decode(packet)
        if frames and not is_nvdec(self._context):  # FFmpeg goes back to the CPU without a word
            self.excuse = f"NVDEC does not decode this {self._context.name}"
            self._forget()
            return frames
        self._last = frames[-1].opaque if frames else self._last
        return frames

    def _remember(self, packet: Any) -> None:
        if packet is None or not (self._packets or packet.is_keyframe):
            return
        if packet.is_keyframe:
            self._keys.append(len(self._packets))
            far = [key for key in self._keys if key <= len(self._packets) - _BEHIND]
            self._drop(far[-1] if far else 0)
        self._packets.append(packet)
        self._bytes += packet.size
        if len(self._packets) > _MOST_PACKETS or self._bytes > _MOST_BYTES:
            self._drop(self._keys[-1] or len(self._packets))

    def _drop(self, count: int) -> None:
        """Forgets the first ones, up to a keyframe."""
        self._bytes -= sum(packet.size for packet in self._packets[:count])
        self._packets = self._packets[count:]
        self._keys = [key - count for key in self._keys if key >= count]

    def _leave(self, packet: Any) -> None:
        """For the CPU, which decodes what NVDEC still owed when it failed at this packet."""
        self._context = self._another()
        taken = self._packets if packet is None else self._packets[:-1]
        for one in taken:
            with contextlib.suppress(av.error.FFmpegError):  # NVDEC has told it
                self._owed += self._context.decode(one)
        names = [frame.opaque for frame in self._owed]
        if self._last in names:
            del self._owed[: names.index(self._last) + 1]
        self._forget()

    def _forget(self) -> None:
        self._on_gpu = False
        self._drop(len(self._packets))
