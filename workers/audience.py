"""Who watches a demo: reads what is published of scenes, and holds it against their truth.

What counts is what the scenes' truth counts: objects of which at least a quarter is visible. A car
of which an eighth looks out from behind a bus is ignored: it is not wrong to find it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence

from pipeline.agreement import IOU, Tally, judge
from pipeline.consume import Entry, Item
from pipeline.scenes import LEAST_VISIBLE, Scene, Setting
from pipeline.scenes.address import parse
from pipeline.wire import CameraMessage, DetectionsMessage
from workers.demo_view import Row, View


class Audience:
    """Who reads the streams: keeps the rows of the table, and judges frame after frame."""

    def __init__(self, urls: Mapping[str, str], view: View) -> None:
        addresses = {name: parse(url) for name, url in urls.items()}
        self.rows = {
            name: Row(name, _words(address.setting), address.frames)
            for name, address in addresses.items()
        }
        self.tally = Tally()
        self.is_short = False  # something is missing from the streams
        self._confidence = 0.0  # the threshold that the messages tell of
        self._view = view
        self._scenes = {name: Scene(address.setting) for name, address in addresses.items()}
        self._seen: deque[DetectionsMessage] = deque()

    @property
    def has_all(self) -> bool:
        """Every camera's end has been read."""
        return all(row.has_ended for row in self.rows.values())

    @property
    def is_done(self) -> bool:
        """Everything that has been read is judged."""
        return not self._seen

    def hear(self, items: Sequence[Item]) -> None:
        for item in items:
            if not isinstance(item, Entry):
                self.is_short = True
                self._view.say(str(item))
            elif isinstance(item.message, DetectionsMessage):
                self._see(self.rows[item.camera], item.message)
            elif item.message.state == "ended":
                self._end(item.camera, item.message)

    def judge(self, seconds: float) -> None:
        """Holds frames against the truth, for about so long."""
        deadline = time.monotonic() + seconds
        while self._seen and time.monotonic() < deadline:
            seen = self._seen.popleft()
            objects, ignored = self._scenes[seen.camera].objects(seen.seq)
            self.tally += judge(seen.detections, objects, ignored)

    def show(self) -> None:
        self._view.update(list(self.rows.values()))

    def say(self, text: str) -> None:
        self._view.say(text)

    def last_line(self) -> str:
        rows = [row for row in self.rows.values() if row.began is not None]
        if not rows:
            return "0 frames: it ended before the first"
        frames, tally = sum(row.frames for row in rows), self.tally
        passed = max(row.latest for row in rows) - min(row.began or 0.0 for row in rows)
        rate = frames / passed if passed else 0.0  # a single moment has none
        cameras = "1 camera" if len(rows) == 1 else f"{len(rows)} cameras"
        return (
            f"{frames:,} frames of {cameras}, {rate:.1f} frames/s; "
            f"precision {tally.precision:.3f}, recall {tally.recall:.3f} "
            f"at confidence {self._confidence:g} and IoU {IOU:g}, "
            f"of {tally.there:,} objects at least {LEAST_VISIBLE:.0%} visible"
        )

    def _see(self, row: Row, message: DetectionsMessage) -> None:
        if message.seq < row.frames:
            return  # again: a consumer may be handed an entry twice
        row.latest = time.monotonic()
        row.began = row.began or row.latest
        row.frames = message.seq + 1
        self._confidence = message.model.confidence
        row.objects = dict(Counter(detection.label for detection in message.detections))
        self._seen.append(message)

    def _end(self, camera: str, message: CameraMessage) -> None:
        self.rows[camera].has_ended = True
        self._view.say(f"{camera}: {message.reason}")


def _words(setting: Setting) -> str:
    """`street, day, clear`."""
    return ", ".join((setting.place, setting.time, setting.weather))
