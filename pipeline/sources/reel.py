"""One pass over one opened stream: packets in, pictures out, and what was damaged on the way.

One decoder with one thread: parallelism comes from many cameras, and only so does FFmpeg tell
which picture is damaged. Rotation and mirroring side data are ignored: boxes belong to the
picture as it is coded.
"""

from __future__ import annotations

import errno
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame

from pipeline.errors import SourceError, SourceRefused
from pipeline.sources import opening
from pipeline.sources.admission import READ_SECONDS, Admission
from pipeline.sources.decoder import Decoder
from pipeline.sources.gaps import Gaps, Reach
from pipeline.sources.gpu import nvdec

_READ_ATTEMPTS = 16  # in a row: a reader that finds no way past damage would try for ever
_JOINT = 2  # packets: the parser of a transport stream holds one back
_SEARCHED = 1 << 15  # bytes; a reader of transport streams searches at least these in an attempt


class Arrival(NamedTuple):
    """What is known of a packet when it has come; it travels through the decoder."""

    at: float  # seconds since 1970
    ns: int  # monotonic
    group: int  # from one keyframe to the next
    camera_at: float | None  # seconds since 1970 by the camera's clock
    report: int  # how many times it has said what its clock is


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture of the decoder with its stamps, as in `pipeline.sources.Picture`."""

    frame: VideoFrame | None  # None: it was left out
    seconds: float | None  # its time stamp
    arrival: Arrival
    decode_ns: int
    tainted: bool


class Reel:
    """An open stream that is read once, from its start or from now on. Close it.

    `pictures` have been decoded so far, `lost` packets could not be, at `damaged` places the
    container is broken, and `ends_damaged` if the last picture was not whole; `stopped` says why
    reading ended, if not at the end. A packet that cannot be decoded ends nothing.

    While `keys_only` is set, what leans on a keyframe is left out, from the next keyframe on. When
    it is taken back, what was left out since is decoded, and the next picture is whole again.
    """

    def __init__(
        self, admission: Admission, *, on_gpu: bool, max_pixels: int, clock: Callable[[], int]
    ) -> None:
        """Opens the stream and its decoder. Raises `SourceError` or `SourceRefused`."""
        self.keys_only = False
        self.pictures = 0
        self.lost = 0
        self.damaged = 0
        self.ends_damaged = False
        self.stopped: str | None = None
        self._still = admission.still
        self._cut_still = admission.still and admission.cut_short
        self._network = admission.network
        self._clock = clock
        self._excuse: str | None = None
        self._container, is_on_gpu = self._open(admission, max_pixels, on_gpu=on_gpu)
        try:
            self._stream = stream = opening.video_of(self._container, admission)
            opening.open_decoder(stream, admission, max_pixels)
        except SourceError:
            self.close()
            raise
        self.codec = stream.codec_context.name
        another = partial(opening.another_decoder, stream, max_pixels)
        self._decoder = Decoder(stream.codec_context, another, on_gpu=is_on_gpu)
        self.interval = opening.interval_of(stream)  # seconds between pictures
        ticks = opening.ticks_of(stream) if self._container.format.name == "avi" else None
        # How many pictures the headers promise; 0: unknown.
        self.announced = stream.frames // (ticks or 1) or int(self._still)
        self._reach = Reach(self.announced, entries=len(stream.index_entries), ticks=ticks)
        self._tick = float(stream.time_base or 0)  # seconds
        self._gaps = Gaps(interval=opening.constant_interval_of(stream), tick=self._tick)
        self._torn = 0  # in so many packets, a joint may still explain why one lacks a part
        # Motion JPEG over HTTP has no time stamps: when a picture arrives is when it was taken.
        self._by_arrival = self._network and self._container.format.name == "mpjpeg"
        self._spent_ns = 0  # reading and decoding, since the last picture came out
        self._group = 0  # packets from one keyframe to the next are a group; 0: before the first
        self._shown_group = -1  # that of the last picture
        self._leaves_out: bool | None = None  # the rest of this group; None: to be decided
        self._left_out: list[Any] = []  # packets of this group
        self._reports = 0  # of the camera's clock
        self._damaged_group = -1  # the last one that was seen to be damaged
        self._tainted = True  # of the last picture; what came before the first keyframe is missing

    def _open(
        self, admission: Admission, max_pixels: int, *, on_gpu: bool
    ) -> tuple[InputContainer, bool]:
        """By NVDEC if it is to be and can be: whether it is."""
        self._excuse = nvdec().failure() if on_gpu else None
        if on_gpu and self._excuse is None:
            try:
                return opening.open_container(admission, max_pixels, nvdec().accelerator), True
            except SourceError as error:
                # The GPU is asked again, and not the camera, which may lock out who asks twice.
                self._excuse = nvdec().failure()
                if self._excuse is None or (self._network and isinstance(error, SourceRefused)):
                    raise
        return opening.open_container(admission, max_pixels), False

    @property
    def excuse(self) -> str | None:
        """Why NVDEC does not decode it, though it should."""
        return self._excuse or self._decoder.excuse

    @property
    def missing(self) -> int:
        """Pictures that nothing was found of, beside the lost ones: by the headers or the rate."""
        if self.announced:
            return self._reach.missing
        return max(0, self._gaps.missing - self.lost)

    def close(self) -> None:
        """Frees what FFmpeg holds; pictures that are still held stay valid. Never raises."""
        self._container.close()

    def decode(self) -> Iterator[Decoded]:
        """Every picture that can be decoded, in the order of showing."""
        for packet in self._packets():
            self._examine(packet)
            if packet.size == 0:  # a picture that was left out on purpose
                continue
            arrival = self._arrival(_camera_at(packet))
            if self._is_left_out(packet):
                yield Decoded(None, None, arrival, 0, self._tainted)
                continue
            # Comes back with the packet's own picture, which may be a few packets later.
            packet.opaque = arrival
            yield from self._pictures_of(packet)
            if self._still and self.pictures:
                return
        yield from self._pictures_of(None)

    def _packets(self) -> Iterator[Any]:
        attempts = _READ_ATTEMPTS
        searches = 0 if self._network else self._container.size // _SEARCHED
        packets = self._container.demux(self._stream)
        while attempts > 0:
            try:
                packet = self._next(packets)
            except av.error.FFmpegError as error:
                self.damaged += self.stopped is None  # one place, however wide
                self.stopped = _read_failure(error, network=self._network)
                if self._network:
                    return
                packets = self._container.demux(self._stream)
                if isinstance(error, av.error.BlockingIOError) and searches > 0:
                    searches -= 1  # a stretch of the file without a packet is behind it
                else:
                    attempts -= 1
            else:
                self.stopped = None
                attempts = _READ_ATTEMPTS
                if packet is None or (packet.size == 0 and packet.dts is None):
                    return  # the empty one is a sign of the end, and would end the decoder's work
                yield packet

    def _next(self, packets: Iterator[Any]) -> Any:
        began_ns = self._clock()
        packet = next(packets, None)
        if not self._network:  # there it is the camera that is waited for
            self._spent_ns += self._clock() - began_ns
        return packet

    def _examine(self, packet: Any) -> None:
        """Counts what is wrong with a packet, and what is not there before it."""
        self._group += packet.is_keyframe
        self._reports += packet.has_sidedata("rtcp_sr")
        joint = self._reach.see(packet.dts)
        self.damaged -= joint and self._torn > 0  # no break in two recordings that are whole
        self._torn -= self._torn > 0
        if packet.is_corrupt:
            self._damaged_group = self._group
            if self._group > 0:
                self.damaged += 1
                self._torn = _JOINT

    def _pictures_of(self, packet: Any) -> Iterator[Decoded]:
        began_ns = self._clock()
        try:
            frames = self._decoder.decode(packet)
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            self.ends_damaged = True
            self._damaged_group = self._group
            self.lost += self._group > 0  # before a keyframe there is nothing to lose
            return
        finally:
            self._spent_ns += self._clock() - began_ns
        if frames:
            decode_ns, self._spent_ns = self._spent_ns // len(frames), 0
            for frame in frames:
                yield self._stamped(frame, decode_ns)

    def _stamped(self, frame: VideoFrame, decode_ns: int) -> Decoded:
        arrival = frame.opaque if isinstance(frame.opaque, Arrival) else self._arrival(None)
        if frame.is_corrupt or self._cut_still:
            self._damaged_group = arrival.group
        # Beside its own group, a picture that is shown before a keyframe may lean on the last one.
        leaning = self._tainted and not frame.key_frame
        self._tainted = arrival.group <= self._damaged_group or leaning
        self.pictures += 1
        self.ends_damaged = frame.is_corrupt
        self._shown_group = arrival.group
        seconds = arrival.ns / 1e9 if self._by_arrival else self._seconds(frame)
        self._gaps.see(seconds)
        return Decoded(frame, seconds, arrival, decode_ns, self._tainted)

    def _arrival(self, camera_at: float | None) -> Arrival:
        return Arrival(time.time(), self._clock(), self._group, camera_at, self._reports)

    def _is_left_out(self, packet: Any) -> bool:
        """Whether a packet needs no decoding; decided behind each keyframe for its group.

        Only where the keyframe's own picture is out by then: a decoder that puts pictures into
        order, or a group that needs more than its first picture, would keep it until the next one.
        """
        if packet.is_keyframe:
            self._leaves_out = None
            self._left_out.clear()
            return False
        if self._leaves_out is None:
            self._leaves_out = self.keys_only and self._shown_group == self._group
        elif self._leaves_out and not self.keys_only:
            self._leaves_out = False
            self._catch_up()
        if self._leaves_out:
            self._left_out.append(packet)
        return self._leaves_out

    def _catch_up(self) -> None:
        """Decodes what was left out, for the pictures that lean on it: it was counted already."""
        for packet in self._left_out:
            for _ in self._pictures_of(packet):
                pass
        self._left_out.clear()

    def _seconds(self, frame: VideoFrame) -> float | None:
        # `frame.time_base` is unknown of the pictures that come out at the very end.
        return frame.pts * self._tick if frame.pts is not None and self._tick else None


def _camera_at(packet: Any) -> float | None:
    """Its time on the camera's clock: AVProducerReferenceTime begins with the microseconds."""
    if not packet.has_sidedata("prft"):
        return None
    (microseconds,) = struct.unpack_from("q", bytes(packet.get_sidedata("prft")))
    return float(microseconds / 1e6)


def _read_failure(error: av.error.FFmpegError, *, network: bool) -> str:
    if not network:
        lost = isinstance(error, av.error.BlockingIOError)  # an end of the search for a packet
        return "the rest of it is damaged" if lost else error.strerror or type(error).__name__
    if isinstance(error, (av.error.ExitError, av.error.TimeoutError)):
        return f"nothing came for {READ_SECONDS:.0f} s or more"
    if error.errno == errno.EIO:  # how FFmpeg sees the end of an HTTP answer of unknown length
        return "the connection was closed"
    return error.strerror or type(error).__name__
