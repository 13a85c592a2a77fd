"""One pass over one opened stream: packets in, pictures out, and what was damaged on the way.

One decoder with one thread: parallelism comes from many cameras, and only so does FFmpeg tell
which picture is damaged. Rotation and mirroring side data are ignored: boxes belong to the
picture as it is coded.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipeline.errors import SourceError, SourceRefused
from pipeline.sources.admission import CODECS, OPEN_SECONDS, READ_SECONDS, Admission

_READ_ATTEMPTS = 16  # in a row: a reader that finds no way past damage would try for ever
_USUAL_RATE = 25.0  # pictures per second, where a stream does not say


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture of the decoder with its stamps, as in `pipeline.sources.Picture`."""

    frame: VideoFrame
    seconds: float | None  # its time stamp
    arrived_at: float
    arrived_ns: int
    decoded_ns: int
    tainted: bool


class Reel:
    """An open stream that is read once, from its start or from now on. Close it.

    `pictures` have been decoded so far, `lost` packets could not be, and `ends_damaged` if the
    last one was not whole; `stopped` says why reading ended, if not at the end. A packet that
    cannot be decoded ends nothing.
    """

    def __init__(self, admission: Admission, *, max_pixels: int, clock: Callable[[], int]) -> None:
        """Opens the stream and its decoder. Raises `SourceError` or `SourceRefused`."""
        self.pictures = 0
        self.lost = 0
        self.ends_damaged = False
        self.stopped: str | None = None
        self._still = admission.still
        self._network = admission.network
        self._clock = clock
        self._container = _open(admission, max_pixels)
        try:
            self._stream = _video(self._container, admission)
            _open_decoder(self._stream, admission, max_pixels)
        except SourceError:
            self.close()
            raise
        self.interval = 1 / _rate(self._stream)  # seconds between pictures
        self.announced = self._stream.frames  # how many pictures the headers promise; 0: unknown
        # Motion JPEG over HTTP has no time stamps: when a picture arrives is when it was taken.
        self._by_arrival = self._network and self._container.format.name == "mpjpeg"
        self._group = 0  # packets from one keyframe to the next are a group; 0: before the first
        self._damaged_group = -1  # the last one that was seen to be damaged
        self._tainted = True  # of the last picture; what came before the first keyframe is missing

    def close(self) -> None:
        """Frees what FFmpeg holds; pictures that are still held stay valid. Never raises."""
        self._container.close()

    def decode(self) -> Iterator[Decoded]:
        """Every picture that can be decoded, in the order of showing."""
        for packet in self._packets():
            self._group += packet.is_keyframe
            if packet.is_corrupt:
                self._damaged_group = self._group
            # Comes back with the packet's own picture, which may be a few packets later.
            packet.opaque = time.time(), self._clock(), self._group
            yield from self._pictures_of(packet)
            if self._still and self.pictures:
                return
        yield from self._pictures_of(None)

    def _packets(self) -> Iterator[Any]:
        failures = 0
        while failures < _READ_ATTEMPTS:
            try:
                for packet in self._container.demux(self._stream):
                    failures = 0
                    if packet.size:  # the empty one at the end would end the decoder's work
                        yield packet
            except av.error.FFmpegError as error:
                failures += 1
                self.stopped = _read_failure(error)
                if self._network:
                    return
            else:
                self.stopped = None
                return

    def _pictures_of(self, packet: Any) -> Iterator[Decoded]:
        try:
            frames = self._stream.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            self.ends_damaged = True
            self._damaged_group = self._group
            self.lost += self._group > 0  # before a keyframe there is nothing to lose
            return
        decoded_ns = self._clock()
        for frame in frames:
            yield self._stamped(frame, decoded_ns)

    def _stamped(self, frame: VideoFrame, decoded_ns: int) -> Decoded:
        stamps = frame.opaque
        at, ns, group = (
            stamps if isinstance(stamps, tuple) else (time.time(), decoded_ns, self._group)
        )
        if frame.is_corrupt:
            self._damaged_group = group
        # Beside its own group, a picture that is shown before a keyframe may lean on the last one.
        leaning = self._tainted and not frame.key_frame
        self._tainted = group <= self._damaged_group or leaning
        self.pictures += 1
        self.ends_damaged = frame.is_corrupt
        seconds = ns / 1e9 if self._by_arrival else _seconds(frame)
        return Decoded(frame, seconds, at, ns, decoded_ns, self._tainted)


def _seconds(frame: VideoFrame) -> float | None:
    # PyAV 18 has Fraction or None here, PyAV 19 AVRational, which is false where it is unknown.
    return float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else None


def _rate(stream: VideoStream) -> float:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0.01 <= float(rate) <= 1000:
            return float(rate)
    return _USUAL_RATE


def _open(admission: Admission, max_pixels: int) -> InputContainer:
    # Probing decodes too, and takes its limits from here; the decoder proper takes them below.
    limits = {"max_pixels": str(max_pixels), "codec_whitelist": ",".join(sorted(CODECS))}
    began = time.monotonic()
    try:
        return av.open(
            admission.address,
            mode="r",
            format=admission.format,
            options=limits | admission.options,
            timeout=(OPEN_SECONDS, READ_SECONDS) if admission.network else None,
        )
    except (av.error.FFmpegError, UnicodeError) as error:
        raise _open_failure(admission, error, time.monotonic() - began) from None


def _open_failure(admission: Admission, error: Exception, waited: float) -> SourceError:
    text = getattr(error, "strerror", None) or "its name is not text"
    if not admission.network:
        return SourceRefused(f"{admission.shown} is damaged or not {admission.format}: {text}")
    if waited >= READ_SECONDS:  # what FFmpeg says of a silent peer is often beside the point
        text = f"no answer within {waited:.0f} s"
    return SourceError(f"{admission.shown} cannot be opened: {text}")


def _read_failure(error: av.error.FFmpegError) -> str:
    if isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
        return f"nothing came for {READ_SECONDS:.0f} s or more"
    if error.errno == errno.EIO:  # how FFmpeg sees the end of an HTTP answer of unknown length
        return "the connection was closed"
    return error.strerror or type(error).__name__


def _video(container: InputContainer, admission: Admission) -> VideoStream:
    """The first stream of moving pictures; the cover of a song is none."""
    shown = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not shown:
        found = " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceRefused(f"{admission.shown} holds no video, only {found}")
    return shown[0]


def _open_decoder(stream: VideoStream, admission: Admission, max_pixels: int) -> None:
    decoder = stream.codec_context
    if decoder is None or decoder.name not in CODECS:
        name = "an unknown codec" if decoder is None else f"the codec {decoder.name!r}"
        accepted = "H.264, HEVC, AV1, VP8, VP9, MPEG-1, -2, -4 and Motion JPEG are accepted"
        raise SourceRefused(f"{admission.shown} has {name}; {accepted}")
    if decoder.width * decoder.height > max_pixels:
        size = f"{decoder.width}x{decoder.height} pixels"
        raise SourceRefused(f"{admission.shown} is {size}, and {max_pixels} in all are accepted")
    decoder.thread_type = "NONE"
    decoder.thread_count = 1
    decoder.copy_opaque = True
    decoder.options = {"max_pixels": str(max_pixels)}
    try:
        decoder.open()
    except av.error.FFmpegError as error:
        text = f"the {decoder.name} decoder does not take it: {error.strerror}"
        raise SourceRefused(f"{admission.shown} cannot be decoded: {text}") from None
