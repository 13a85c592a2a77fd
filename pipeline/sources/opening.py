"""Opening a stream and its decoder, within limits: or why it is not opened, in one sentence."""

from __future__ import annotations

import errno
import time

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from pipeline.errors import SourceError, SourceRefused
from pipeline.sources.admission import CODECS, OPEN_SECONDS, READ_SECONDS, Admission
from pipeline.sources.hosts import Destination

_USUAL_RATE = 25.0  # pictures per second, where a stream does not say
_ANSWERS = (  # what only somebody who is there can cause
    av.error.HTTPClientError,
    av.error.HTTPServerError,
    av.error.InvalidDataError,
    UnicodeError,
)
_REFUSALS = (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)  # RTSP's as well
_OURS = (errno.EMFILE, errno.ENFILE)  # no descriptor left; no memory is what a forged file causes
_SAME = 0.001  # two rates that differ by less are the same one, measured twice


def open_container(
    admission: Admission, max_pixels: int, accelerator: HWAccel | None = None
) -> InputContainer:
    """Opens and probes it. Raises `SourceError`, or `SourceRefused` for what and where it is."""
    # Probing decodes too, and takes its limits from here; the decoder proper takes them below.
    limits = {"max_pixels": str(max_pixels), "codec_whitelist": ",".join(sorted(CODECS))}
    began = time.monotonic()
    try:
        destination = Destination(admission.address) if admission.format == "rtsp" else None
        container = av.open(
            admission.address,
            mode="r",
            format=admission.format,
            options=limits | admission.options,
            timeout=(OPEN_SECONDS, READ_SECONDS) if admission.network else None,
            hwaccel=accelerator,
        )
        other = None if destination is None else _other_host(destination, container)
    except (av.error.FFmpegError, UnicodeError, OSError) as error:
        raise _open_failure(admission, error, time.monotonic() - began) from None
    if other is not None:
        container.close()
        where = f"sends its readers to another host, {other}"
        raise SourceRefused(f"{admission.shown} {where}; only the one in its URL is read")
    return container


def _other_host(destination: Destination, container: InputContainer) -> str | None:
    try:
        return destination.other()
    except OSError:
        container.close()
        raise


def interval_of(stream: VideoStream) -> float:
    """Seconds between pictures, a guess where the stream does not say."""
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0.01 <= float(rate) <= 1000:
            return 1 / float(rate)
    return 1 / _USUAL_RATE


def constant_interval_of(stream: VideoStream) -> float | None:
    """Seconds between pictures if the stream claims that they are always the same."""
    average, base = stream.average_rate, stream.base_rate
    if not average or not base or abs(float(base / average) - 1) > _SAME:
        return None
    return 1 / float(base)


def video_of(container: InputContainer, admission: Admission) -> VideoStream:
    """The first stream of moving pictures; the cover of a song is none.

    Raises `SourceRefused` where there is none, `SourceError` where there is nothing at all yet.
    """
    shown = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not shown:
        found = " and ".join(sorted({stream.type for stream in container.streams}))
        if not found:
            raise SourceError(f"{admission.shown} holds nothing that can be played")
        raise SourceRefused(f"{admission.shown} holds no video, only {found}")
    return shown[0]


def open_decoder(stream: VideoStream, admission: Admission, max_pixels: int) -> None:
    """Opens the stream's decoder, with one thread. Raises `SourceRefused`."""
    decoder = stream.codec_context
    if decoder is None or decoder.name not in CODECS:
        name = "an unknown codec" if decoder is None else f"the codec {decoder.name!r}"
        accepted = "H.264, HEVC, AV1, VP8, VP9, MPEG-1, -2, -4 and Motion JPEG are accepted"
        raise SourceRefused(f"{admission.shown} has {name}; {accepted}")
    if decoder.width * decoder.height > max_pixels:
        size = f"{decoder.width}x{decoder.height} pixels"
        raise SourceRefused(f"{admission.shown} is {size}, and {max_pixels} in all are accepted")
    try:
        _set_up(decoder, max_pixels)
    except av.error.FFmpegError as error:
        text = f"the {decoder.name} decoder does not take it: {error.strerror}"
        raise SourceRefused(
            f"{admission.shown} cannot be decoded: {text}", fault="decoder"
        ) from None


def another_decoder(stream: VideoStream, max_pixels: int) -> VideoCodecContext:
    """One more for the same stream, on the CPU. Raises FFmpegError."""
    decoder = VideoCodecContext.create(stream.codec_context.name, "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.extradata = stream.codec_context.extradata
    _set_up(decoder, max_pixels)
    return decoder


def _set_up(decoder: VideoCodecContext, max_pixels: int) -> None:
    decoder.thread_type = "NONE"
    decoder.thread_count = 1
    decoder.copy_opaque = True
    decoder.options = {"max_pixels": str(max_pixels)}
    decoder.open()


def ticks_of(stream: VideoStream) -> int:
    """Ticks of the stream's time stamps from one picture to the next, at least 1."""
    per_second = float(stream.time_base or 0) * float(stream.base_rate or 0)
    return max(1, round(1 / per_second)) if per_second else 1


def _open_failure(admission: Admission, error: Exception, waited: float) -> SourceError:
    text = getattr(error, "strerror", None) or "its name is not text"
    answered = isinstance(error, _ANSWERS)
    if getattr(error, "errno", None) in _OURS:
        return SourceError(f"{admission.shown} cannot be opened: {text}", fault="us")
    if not admission.network and not isinstance(error, OSError):
        return SourceRefused(f"{admission.shown} is damaged or not {admission.format}: {text}")
    if admission.network and isinstance(error, _REFUSALS):
        return SourceRefused(f"{admission.shown} refuses these credentials: {text}")
    if waited >= READ_SECONDS:  # what FFmpeg says of a silent peer is often beside the point
        text, answered = f"no answer within {waited:.0f} s", False
    fault = "camera" if answered or not admission.network else "network"
    return SourceError(f"{admission.shown} cannot be opened: {text}", fault=fault)
