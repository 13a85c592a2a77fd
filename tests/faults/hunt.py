"""Thousands of hostile sources, two at a time, each read in a process that it may kill."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from pipeline.sources.admission import OPEN_SECONDS, READ_SECONDS
from tests.faults.canary import Canary
from tests.faults.disguise import Named
from tests.faults.liar import Liar
from tests.faults.mutation import Clips
from tests.faults.schedule import SEED
from tests.faults.taster import Outcome, Task, Taster

AT_ONCE = 2
CLIP_SECONDS = 20.0  # for one clip of a few kilobytes, on a machine that does other things
# FFmpeg has the first limit for connecting and again for probing; the rest is for a slow machine.
CALL_SECONDS = 2 * OPEN_SECONDS + READ_SECONDS + 5
MOST_MB = (
    1200.0  # of resident memory: 17 pictures of the most pixels that are let in, and ourselves
)

# FFmpeg 8.1's reader of RealVideo follows a null pointer where that comes as RTP; in FFmpeg nothing
# can be told to leave it out. The process of that one camera dies of it, and no other.
KNOWN_DEADLY = "X-PN-REALVIDEO"


@dataclass
class Bag:
    """What a hunt brings home."""

    outcomes: list[tuple[str, Outcome]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # each says how to have it again
    deaths: int = 0  # of which FFmpeg is known

    def take(self, story: str, outcome: Outcome, touched: Iterable[str]) -> None:
        self.outcomes.append((story, outcome))
        dies = outcome.kind == "died" and outcome.says.startswith("SIGSEGV")
        if dies and KNOWN_DEADLY in story:
            self.deaths += 1
        elif outcome.kind in ("died", "hung"):
            self.wrong.append(f"{story}: {outcome.kind}: {outcome.says}")
        elif not outcome.is_a_sentence:
            self.wrong.append(f"{story}: not a sentence: {outcome.says!r}")
        if outcome.peak_mb > MOST_MB:
            self.wrong.append(f"{story}: {outcome.peak_mb:.0f} MB")
        if touched := sorted(touched):
            self.wrong.append(f"{story}: touched {touched}")

    def __str__(self) -> str:
        kinds = Counter(outcome.kind for _, outcome in self.outcomes)
        slowest = max((one for _, one in self.outcomes), key=lambda one: one.seconds)
        largest = max(one.peak_mb for _, one in self.outcomes)
        read = sum(one.pictures > 0 for _, one in self.outcomes)
        pictures = sum(one.pictures for _, one in self.outcomes)
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
        return (
            f"{len(self.outcomes):,} (seed {SEED}): {told}; {read:,} of them gave {pictures:,}"
            f" pictures; at most {slowest.seconds:.1f} s and {largest:.0f} MB; {self.deaths} deaths"
            f" by what FFmpeg is known for; {len(self.wrong)} findings"
        )


def clips(folder: Path, count: int) -> Bag:
    """So many clips, each in a folder beside files that it might name."""
    (folder / "whole").mkdir()
    whole = Clips(folder / "whole")

    def hunt(numbers: Iterator[int], room: Path, bag: Bag) -> None:
        aviary = room / "aviary"
        aviary.mkdir(parents=True)
        for named in (room / "canary.mp4", aviary / "canary.mp4"):
            named.write_bytes(whole.whole["h264.mp4"])
        staged = folder / f"{room.name}.staged"
        with Canary(room, aviary) as canary, Taster(limit=CLIP_SECONDS) as taster:
            for number in numbers:
                clip = whole.tampered(number, SEED, Named(aviary / "canary.mp4", canary.port))
                staged.write_bytes(clip.data)
                path = staged.rename(room / clip.name)  # which opens nothing
                outcome = taster.taste(_task(str(path), number))
                touched = {*(canary.opened() - {clip.name}), *canary.called()}
                before = len(bag.wrong)
                bag.take(f"clip {number} ({clip.story})", outcome, touched)
                if len(bag.wrong) > before:
                    shutil.copy(path, folder / f"{number}-{clip.name}")
                    canary.opened()
                path.unlink()

    return _together(hunt, count, folder)


def conversations(folder: Path, count: int) -> Bag:
    """So many cameras that lie."""
    with Canary() as canary, Liar(SEED, canary.port) as liar:

        def hunt(numbers: Iterator[int], room: Path, bag: Bag) -> None:
            with Taster(limit=CALL_SECONDS) as taster:
                for number in numbers:
                    one = liar.conversation(number)
                    transport = "udp" if one.is_udp else "tcp"
                    outcome = taster.taste(Task(liar.url(number), live=True, transport=transport))
                    bag.take(f"conversation {number} ({one.story})", outcome, canary.called())

        return _together(hunt, count, folder)


def _together(hunt: Callable[[Iterator[int], Path, Bag], None], count: int, folder: Path) -> Bag:
    """One line of numbers, from which each takes the next."""
    numbers, bag = iter(range(count)), Bag()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        rooms = [folder / f"room-{index}" for index in range(AT_ONCE)]
        hunts = [pool.submit(hunt, numbers, room, bag) for room in rooms]
        for one in hunts:
            one.result()
    return bag


def _task(url: str, number: int) -> Task:
    """Most are read as files are; a few as cameras, in a loop, or by their keyframes."""
    random = Random(number)
    return Task(
        url,
        live=random.random() < 0.1,
        loop=random.random() < 0.1,
        keys_only=random.random() < 0.1,
    )
