"""What publish measures: the stamps of each frame, from its result until Redis has it.

Measuring is never waited for: what the supervisor does not take in time is forgotten, oldest first.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict, deque

import msgspec

from pipeline.channel import Channel
from pipeline.errors import ChannelClosed
from pipeline.messages import Result, Stamps
from pipeline.sinks.window import Record
from pipeline.wire import traceparent
from workers import control

_EVERY = 0.25  # seconds between two messages
_MOST = 100  # frames in one
_HELD = 20_000  # frames that are under way, or wait to be told


class Journeys:
    """The frames that this process holds, by their `traceparent`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._going: OrderedDict[bytes, Stamps] = OrderedDict()
        self._done: deque[Stamps] = deque(maxlen=_HELD)
        self._told_at = 0.0  # monotonic seconds

    def begin(self, stamps: Stamps) -> None:
        """A frame goes into its camera's window."""
        name = traceparent(stamps.camera, stamps.session, stamps.seq).encode()
        self._going[name] = stamps
        if len(self._going) > _HELD:
            self._going.popitem(last=False)

    def end(self, record: Record) -> None:
        """Redis has it. Of one that an earlier publisher has taken nothing is known."""
        stamps = self._going.pop(record.fields.get("traceparent", b""), None)
        if stamps is not None:
            self._done.append(msgspec.structs.replace(stamps, published_ns=time.monotonic_ns()))

    def tell(self, *, now: bool = False) -> None:
        """What has been confirmed, to the supervisor: a few times a second, or `now`."""
        if not self._done or not (now or time.monotonic() >= self._told_at + _EVERY):
            return
        self._told_at = time.monotonic()
        with contextlib.suppress(ChannelClosed):
            while self._done:
                frames = [self._done[i] for i in range(min(_MOST, len(self._done)))]
                if not self._channel.send(control.Measured(tuple(frames))):
                    return
                for _ in frames:
                    self._done.popleft()


def stamps_of(result: Result) -> Stamps:
    """Of a frame that is not published yet."""
    frame = result.frame
    return Stamps(
        camera=frame.camera,
        session=frame.session,
        seq=frame.seq,
        captured_ns=frame.captured_ns,
        decode_ns=result.decode_ns,
        written_ns=result.written_ns,
        batched_ns=result.batched_ns,
        inferred_ns=result.inferred_ns,
        published_ns=0,
        dropped=result.dropped,
        tainted=frame.tainted,
    )
