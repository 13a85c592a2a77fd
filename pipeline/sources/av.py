"""Cameras and files through FFmpeg: one decoder and one scaler each, both with one thread.

A picture goes from the decoder's own layout to RGB at the network's size in one pass of swscale
(area averaging) and is then copied into the slot; the copy is 2 % of the cost. Colours follow
the stream's matrix and range; without a word of it, BT.601 in limited range, as in OpenCV.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from typing import Self

import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipeline.errors import SourceError
from pipeline.sources import Picture
from pipeline.sources.admission import Admission
from pipeline.sources.camera_clock import CameraClock
from pipeline.sources.reel import Decoded, Reel
from pipeline.sources.timeline import Pace, Timeline

_LIVE_GAP = 5.0  # seconds between time stamps; a longer step is not time that has passed
_FILE_GAP = 10.0


class VideoSource:
    """A `pipeline.sources.Source` that reads what was admitted, once or in a loop."""

    def __init__(
        self,
        admission: Admission,
        *,
        live: bool,
        loop: bool,
        on_gpu: bool,
        max_pixels: int,
        clock: Callable[[], int],
    ) -> None:
        """Opens it. Raises `SourceError` or `SourceRefused`."""
        self.complete = self.keys_only = False
        self.reason = "not read to its end"
        self.fault: str | None = None
        self._laps = 0
        self._last: Picture | None = None  # that others may be left out behind
        self._admission = admission
        self._live = live
        self._loop = loop
        self._clock = clock
        self._open = partial(Reel, admission, on_gpu=on_gpu, max_pixels=max_pixels, clock=clock)
        self._reel = self._open()
        self.codec = self._reel.codec
        self.announced = self._reel.announced or None
        interval = self._reel.interval
        gap = _LIVE_GAP if admission.network else _FILE_GAP
        self._timeline = Timeline(interval=interval, longest_gap=gap)
        self._pace = Pace(interval=interval) if live and not admission.network else None
        self._camera_clock = CameraClock()
        self._scaler = VideoReformatter()
        self._pictures = self._read()

    @property
    def excuse(self) -> str | None:
        """Of the reel that is read."""
        return self._reel.excuse

    def __iter__(self) -> Iterator[Picture]:
        return self

    def __next__(self) -> Picture:
        return next(self._pictures)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends reading and frees the decoder. May be called twice, not from another thread."""
        self._pictures.close()
        self._reel.close()

    def _read(self) -> Generator[Picture, None, None]:
        while True:
            for decoded in self._reel.decode():
                if decoded.frame is None:
                    yield self._left_out(decoded)
                else:
                    picture = self._picture(decoded, decoded.frame)
                    yield picture
                    self._last = picture if self.keys_only else None
                self._reel.keys_only = self.keys_only
            if not (self._loop and self._reel.pictures):
                self.reason, self.fault = self._ending()
                self.complete = self.fault is None
                return
            if not self._rewind():
                return

    def _rewind(self) -> bool:
        self._reel.close()
        try:
            self._reel = self._open()
        except SourceError as error:
            self.reason, self.fault = str(error), error.fault
            return False
        self._timeline.turn()
        self._laps += 1
        return True

    def _picture(self, decoded: Decoded, frame: VideoFrame) -> Picture:
        segment, media_time = self._timeline.place(decoded.seconds)
        arrival = decoded.arrival
        at, ns, due_ns = arrival.at, arrival.ns, None
        if self._pace is not None:
            now_ns = self._clock()
            ns = due_ns = self._pace.due_ns(segment, media_time, now_ns)
            at = time.time() + (due_ns - now_ns) / 1e9
        return Picture(
            width=frame.width,
            height=frame.height,
            segment=segment,
            lap=self._laps,
            media_time=media_time,
            tainted=decoded.tainted,
            arrived_at=at,
            arrived_ns=ns,
            decode_ns=decoded.decode_ns,
            due_ns=due_ns,
            write=partial(self._write, frame),
            is_key=frame.key_frame,
            camera_time=self._camera_clock.read(
                segment, decoded.seconds, arrival.camera_at, arrival.report
            ),
        )

    def _left_out(self, decoded: Decoded) -> Picture:
        """In the place of the last picture in stream time: that of one moves on with the next."""
        assert self._last is not None  # its keyframe is out
        return replace(
            self._last,
            arrived_at=decoded.arrival.at,
            arrived_ns=decoded.arrival.ns,
            decode_ns=0,
            is_key=False,
            is_left_out=True,
        )

    def _write(self, frame: VideoFrame, out: NDArray[np.uint8]) -> None:
        """Resizes `frame` into `out`, uint8 RGB [height, width, 3] of any strides."""
        height, width = out.shape[:2]
        # One scaler: `frame.reformat` would build another with its threads for each picture.
        try:
            scaled = self._scaler.reformat(
                frame, width, height, "rgb24", interpolation=Interpolation.AREA, threads=1
            )
        except FFmpegError as error:
            what = f"a picture of {frame.width}x{frame.height} in {frame.format.name}"
            text = f"{self._admission.shown}: {what} cannot be converted: {error.strerror}"
            raise SourceError(text, fault="decoder") from None
        np.copyto(out, np.from_dlpack(scaled.planes[0]))  # a view, without the rows' padding

    def _ending(self) -> tuple[str, str | None]:
        """How it ended, and whose fault it is if it did not end as it should."""
        reel = self._reel
        if self._live and self._admission.network:
            fault = "decoder" if reel.lost and not reel.pictures else "network"
            return reel.stopped or "the connection was closed", fault
        frames = _count(reel.pictures, "frame")
        if reel.stopped:
            fault = "network" if self._admission.network else "camera"
            return f"ended after {frames}: {reel.stopped}", fault
        if reel.pictures == 0:
            return "not one frame of it could be decoded", "decoder"
        # A transport stream has no end of its own; half a picture is the only sign.
        half = self._admission.format == "mpegts" and reel.ends_damaged
        if self._admission.cut_short or half:
            some = reel.announced > reel.pictures
            of = f"{reel.pictures} of {reel.announced} frames" if some else frames
            return f"ended after {of}: the file is cut short", "camera"
        return self._whole(frames)

    def _whole(self, frames: str) -> tuple[str, str | None]:
        """The end of what was read from the first byte to the last."""
        reel = self._reel
        wrong = []
        if reel.lost:
            wrong.append(f"{reel.lost} more could not be decoded")
        if reel.missing:
            wrong.append(f"{reel.missing} more seem{'s' * (reel.missing == 1)} to be missing")
        elif reel.damaged:
            wrong.append(f"the file is damaged in {_count(reel.damaged, 'place')}")
        if not wrong:
            return f"read to its end: {frames}", None
        only_lost = not reel.missing and not reel.damaged
        fault = "decoder" if only_lost else "camera"
        return f"read to its end, {frames}, but {' and '.join(wrong)}", fault


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
