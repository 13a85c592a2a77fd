"""Pictures on their way through the runner: several batches in flight, results in order.

Never more than the runner has blocks for: a long clip takes no more memory than a short one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.letterbox import Letterbox
from pipeline.sources import Picture
from workers.selection import Item

if TYPE_CHECKING:
    from pipeline.runner import Found, Runner, Staging, Thresholds


@dataclass(frozen=True, slots=True)
class Row:
    """One picture of a batch in flight."""

    item: Item
    frame: int
    letterbox: Letterbox
    pixels: NDArray[np.uint8] | None  # uint8 RGB [height, width, 3], where it is to be drawn


@dataclass(slots=True)
class _Batch:
    staging: Staging
    rows: list[Row] = field(default_factory=list)
    afterwards: list[Callable[[], None]] = field(default_factory=list)
    found: Future[list[Found]] | None = None


class Flow:
    """Batches on their way through the runner. `emit` gets every row, in the order of `add`."""

    def __init__(
        self,
        runner: Runner,
        thresholds: Thresholds,
        input_size: tuple[int, int],
        emit: Callable[[Row, Found], None],
    ) -> None:
        self._runner = runner
        self._thresholds = thresholds
        self._input_size = input_size
        self._emit = emit
        self._filling: _Batch | None = None
        self._in_flight: deque[_Batch] = deque()

    def add(self, item: Item, frame: int, picture: Picture, *, full: bool) -> None:
        """Takes the picture's pixels. Raises SourceError where they cannot be converted."""
        if self._filling is None:
            self._filling = _Batch(self._staging())
        batch = self._filling
        letterbox = Letterbox.of(picture.width, picture.height, self._input_size)
        slot = batch.staging.pixels[len(batch.rows)]
        letterbox.paint(slot)
        picture.write(slot[letterbox.region])
        pixels = None
        if full:
            pixels = np.empty((picture.height, picture.width, 3), np.uint8)
            picture.write(pixels)
        batch.rows.append(Row(item, frame, letterbox, pixels))
        if len(batch.rows) == self._runner.plan.batch:
            self._submit()

    def then(self, action: Callable[[], None]) -> None:
        """Does `action` once all rows that were added have been emitted."""
        last = self._filling or (self._in_flight[-1] if self._in_flight else None)
        if last is None:
            action()
        else:
            last.afterwards.append(action)

    def finish(self) -> None:
        self._submit()
        while self._in_flight:
            self._land()

    def _submit(self) -> None:
        batch, self._filling = self._filling, None
        if batch is None:
            return
        if batch.rows:
            batch.found = self._runner.submit(batch.staging, [self._thresholds] * len(batch.rows))
        else:
            self._runner.give_back(batch.staging)
        self._in_flight.append(batch)

    def _staging(self) -> Staging:
        while self._in_flight and _has_landed(self._in_flight[0]):
            self._land()
        while (staging := self._runner.staging()) is None:
            self._land()
        return staging

    def _land(self) -> None:
        batch = self._in_flight.popleft()
        found = batch.found.result() if batch.found is not None else []
        for row, boxes in zip(batch.rows, found, strict=True):
            self._emit(row, boxes)
        for action in batch.afterwards:
            action()


def _has_landed(batch: _Batch) -> bool:
    return batch.found is None or batch.found.done()
