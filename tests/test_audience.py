"""How a demo holds what is published against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from pipeline.agreement import Tally
from pipeline.consume import Entry
from pipeline.scenes import NAMES, Scene
from pipeline.scenes.address import parse
from pipeline.wire import Detection
from tests.published import frame
from workers.audience import Audience
from workers.demo_view import open_view

URL = "synthetic://square?seed=300&frames=60"


@dataclass(frozen=True)
class Moment:
    """A frame that shows something that is ignored."""

    seq: int
    objects: list[tuple[str, tuple[float, float, float, float]]]
    ignored: list[tuple[str, tuple[float, float, float, float]]]


def moment() -> Moment:
    scene = Scene(parse(URL).setting)
    return next(
        Moment(seq, objects, ignored)
        for seq in range(60)
        for objects, ignored in [scene.objects(seq)]
        if objects and ignored
    )


def test_what_is_ignored_is_no_mistake_of_whoever_finds_it() -> None:
    there = moment()
    boxes = [*there.objects, *there.ignored]
    found = [Detection(NAMES.index(label), label, 0.9, box) for label, box in boxes]
    message = msgspec.structs.replace(frame(there.seq), detections=found)

    with open_view() as view:
        audience = Audience({"gate": URL}, view)
        audience.hear([Entry("key", "1-0", "gate", message, None, b"")])
        audience.judge(10)

    count = len(there.objects)
    assert audience.is_done
    assert audience.tally == Tally(right=count, found=count, there=count)
