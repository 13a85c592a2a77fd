"""What joins an ingest process to the others, also while that changes."""

from __future__ import annotations

import select
import time

import msgspec

from pipeline.channel import Channel
from pipeline.errors import ChannelClosed
from pipeline.messages import Ended, Message, Ready
from pipeline.slots import Slots
from workers import control
from workers.identity import identify

_LOOK_MS = 5  # milliseconds between two looks at what infer has read


class Link:
    """What joins this process to the others now: control, memory, data socket."""

    def __init__(self, channel: Channel) -> None:
        self.stopped = False
        self.may_open = False  # the supervisor has said so, since it was asked
        self.is_new = False  # there is a camera to begin, or a file to begin anew
        self.camera: control.IngestCamera  # with the first one
        self.slots: Slots
        self.ended: Ended | None = None  # the last word of a live camera
        self._excuses: set[str] = set()  # what was said of the decoder
        self._out: Channel | None = None
        self._channel = channel

    @property
    def interrupted(self) -> bool:
        """Whether what is being done should not be gone on with."""
        return self.stopped or self.is_new

    @property
    def is_joined(self) -> bool:
        """Whether infer is there."""
        return self._out is not None

    def hear(self, timeout_ms: int | None = None, *, bell: bool = False) -> bool:
        """Waits for the supervisor (or the bell) and does what it says; `interrupted`."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        if bell:
            poller.register(self.slots.bell, select.POLLIN)
        if self._channel.fileno() in dict(poller.poll(timeout_ms)):
            self._obey()
        return self.interrupted

    def ask_to_open(self) -> bool:
        """Waits until the camera may be opened; False for a stop."""
        if self.stopped:
            return False
        self.may_open = False
        self.tell(control.MayOpen())
        while not (self.may_open or self.stopped):
            self.hear()
        return not self.stopped

    def is_called(self) -> bool:
        """Whether the supervisor has said something that was not heard yet."""
        poller = select.poll()
        poller.register(self._channel, select.POLLIN)
        return bool(poller.poll(0))

    def send(self, message: Message) -> bool:
        """Whether it went to infer; False when infer is gone, or the supervisor interrupts."""
        while self._out is not None:
            try:
                if self._out.send_or_wait(message, self._channel):
                    return True
            except ChannelClosed:
                self._leave()
                return False
            self._obey()
            if self.interrupted:
                return False
        return False

    def tell(self, message: Message) -> None:
        """Says something to the supervisor, which always reads."""
        while not self._channel.send(message):
            time.sleep(0.001)

    def excuse(self, text: str | None) -> None:
        """Says once why pictures are not decoded where they were to be."""
        if text is not None and text not in self._excuses:
            self.tell(control.Decodes(text))
            self._excuses.add(text)

    def wake(self, number: int) -> None:
        """Tells infer of a frame; of a live camera's only if it has heard of the last one."""
        if self.camera.live and self._out is not None and self._out.has_unread():
            return
        self.send(Ready(self.camera.generation, number))

    def _obey(self) -> None:
        message, descriptors = self._channel.receive_with_descriptors()
        match message:
            case control.Stop():
                self.stopped = True
            case control.Go():
                self.may_open = True
            case control.Identify():
                digest = identify(message.url, self.is_called)
                self.tell(control.Identified(digest))
            case control.IngestCamera():
                self._join(message, descriptors)

    def _join(self, camera: control.IngestCamera, descriptors: list[int]) -> None:
        is_first = not hasattr(self, "camera")
        memory, bell, data = descriptors
        slots = Slots.attach(memory, bell, camera.geometry)
        if not is_first:
            if camera.live:
                slots.continue_session(self.slots.session_frames)
            self.slots.close()
        self._leave()
        self.camera, self.slots = camera, slots
        self._out = Channel.adopt(data)
        self.is_new = is_first or not camera.live
        self.tell(control.Began(camera.generation))
        if self.ended is not None:  # infer died with it
            self.send(msgspec.structs.replace(self.ended, generation=camera.generation))
            slots.finish()

    def leave_nothing(self) -> bool:
        """Waits until infer has read the last frame, or is gone itself; False for a stop."""
        while self._out is not None and self.slots.taken < self.slots.sent:
            if self._out.is_cut:
                self._leave()
            elif self.hear(_LOOK_MS):
                return False
        return True

    def _leave(self) -> None:
        if self._out is not None:
            self._out.close()
            self._out = None
