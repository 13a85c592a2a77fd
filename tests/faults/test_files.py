"""Bad files of all kinds as cameras of one run, beside one that is good."""

from __future__ import annotations

import ctypes
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import pytest

from tests import media, runs
from tests.faults import checker, seen, table
from tests.faults.deed import Place

GOOD = 60  # frames
MOST_MB = 120  # of an ingest that refuses its file
_IN_OPEN = 0x20  # inotify(7)


def boxes(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Where the outermost boxes of an mp4 begin and end."""
    found, at = {}, 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        found[data[at + 4 : at + 8]] = at, at + length
        at += length
    return found


def flipped(data: bytes, box: bytes, share: float) -> bytes:
    """The file with this share of the bytes in a box changed."""
    chance, (start, end) = random.Random(5), boxes(data)[box]
    damaged = bytearray(data)
    for at in chance.sample(range(start + 8, end), int((end - start) * share)):
        damaged[at] ^= chance.randint(1, 255)
    return bytes(damaged)


def bomb(side: int) -> bytes:
    """A PNG of `side` by `side` black pixels in a few hundred kilobytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        sum_ = zlib.crc32(name + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + name + body + sum_

    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def decodable(path: Path) -> int:
    """How many pictures plain PyAV gets out of it."""
    pictures = 0
    with suppress(av.error.FFmpegError), av.open(str(path)) as clip:
        for packet in clip.demux(video=0) if clip.streams.video else ():
            with suppress(av.error.FFmpegError):
                pictures += len(packet.decode())
    return pictures


@contextmanager
def canary(path: Path) -> Iterator[Callable[[], bool]]:
    """Whether anybody has opened the file since it was last asked."""
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(path), _IN_OPEN) >= 0

    def was_opened() -> bool:
        with suppress(BlockingIOError):
            return bool(os.read(watch, 4096))
        return False

    try:
        yield was_opened
    finally:
        os.close(watch)


@pytest.fixture
def whole(tmp_path: Path) -> tuple[bytes, bytes]:
    """The same clip with its index in front, and at its end."""
    clips = []
    for name, flags in (("first", "faststart"), ("last", "disable_chpl")):
        path = tmp_path / f"{name}.mp4"
        media.encode(path, frames=GOOD, size=(320, 192), container={"movflags": flags})
        clips.append(path.read_bytes())
    first, last = clips
    assert boxes(first)[b"moov"] < boxes(first)[b"mdat"]
    assert boxes(last)[b"moov"] > boxes(last)[b"mdat"]
    return first, last


def black(_: int, width: int, height: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def damaged(folder: Path, first: bytes, last: bytes) -> dict[str, tuple[str, Path]]:
    """What each camera is called in the table, and its file."""
    contents = {
        "F01 truncated mp4, moov first": first[: len(first) * 6 // 10],
        "F01 truncated mp4, moov last": last[: len(last) * 6 // 10],
        "F02 flipped bytes in mdat": flipped(first, b"mdat", 0.005),
        "F02 flipped bytes in moov": flipped(first, b"moov", 0.05),
        "F03 garbage": random.Random(5).randbytes(100_000),
        "F04 ffconcat in disguise": b"ffconcat version 1.0\nfile canary.mp4\n",
        "F04 m3u8 in disguise": b"#EXTM3U\n#EXTINF:1,\ncanary.mp4\n#EXT-X-ENDLIST\n",
        "F05 PNG of 20,000 x 20,000": bomb(20_000),
    }
    found = {}
    for number, (row, content) in enumerate(contents.items()):
        path = folder / f"bad-{number}.mp4"
        path.write_bytes(content)
        found[f"bad-{number}"] = row, path
    for name, row, size in (
        ("8k", "F05 7680 x 4320, which is accepted", (7680, 4320)),
        ("beyond", "F05 8704 x 4352", (8704, 4352)),
    ):
        path = folder / f"{name}.mp4"
        media.encode(path, frames=1, size=size, draw=black, options={"preset": "ultrafast"})
        found[name] = row, path
    return found


class Peaks:
    """The most memory that each ingest had while it was looked at."""

    def __init__(self, run: runs.Running) -> None:
        self.megabytes: dict[str, int] = {}
        self._run = run

    def look(self) -> bool:
        """Whether the run is over."""
        with suppress(OSError):
            for worker, pid in runs.workers_of(self._run).items():
                with suppress(OSError, KeyError):
                    peak = int(seen.status(pid)["VmHWM"].split()[0]) // 1000
                    name = worker.rpartition(":")[2]
                    self.megabytes[name] = max(peak, self.megabytes.get(name, 0))
        return self._run.process.poll() is not None


def ended(place: Place, camera: str) -> dict[str, Any]:
    (event,) = runs.entries(place.server.url, camera, "events")
    data: dict[str, Any] = event.data
    assert data["state"] == "ended"
    assert "\n" not in data["reason"]
    return data


@pytest.mark.slow
def test_bad_files_end_with_a_sentence_each_and_a_good_one_is_complete(
    place: Place, whole: tuple[bytes, bytes]
) -> None:
    bad = damaged(place.folder, *whole)
    (place.folder / "canary.mp4").write_bytes(whole[0])
    cameras = [{"id": "good", "url": str(place.folder / "first.mp4")}]
    cameras += [{"id": camera, "url": str(path)} for camera, (_, path) in bad.items()]

    with canary(place.folder / "canary.mp4") as was_opened, place.run(cameras) as deed:
        peaks = Peaks(deed.run)
        runs.eventually(peaks.look, within=60)
        deed.end(code=1)
        assert not was_opened()
        decodable(place.folder / "canary.mp4")
        assert was_opened()  # it would have been seen

    assert ended(place, "good")["complete"] is True
    assert deed.published("good") == GOOD
    share = deed.published("good") / GOOD
    with place.server.client() as client:
        for camera, (row, path) in bad.items():
            end, found = ended(place, camera), checker.check(client, camera, {})
            reason = end["reason"].replace(f"{place.folder}/", "")
            tainted = sum(e.data["tainted"] for e in runs.entries(place.server.url, camera))
            remark = f"{reason}; {tainted} tainted; peak {peaks.megabytes[camera]} MB"
            table.add_deed(row, found, (None, None), share, remark)
            is_refused = row.startswith("F04") or (row.startswith("F05") and camera != "8k")
            assert found.published == (0 if is_refused else decodable(path))
            assert end["complete"] is (camera == "8k")
            assert end.get("fault") in ((None,) if camera == "8k" else ("camera", "decoder"))
            assert peaks.megabytes[camera] < (MOST_MB if camera != "8k" else 10 * MOST_MB)


def test_what_is_no_file_at_all_is_refused_before_anything_starts(
    place: Place, whole: tuple[bytes, bytes]
) -> None:
    hidden = place.folder / "canary.mp4"
    hidden.write_bytes(whole[0])
    os.mkfifo(place.folder / "pipe.mp4")
    (place.folder / "empty.mp4").touch()
    bad = {
        "F03 empty": str(place.folder / "empty.mp4"),
        "F03 directory": str(place.folder),
        "F03 FIFO": str(place.folder / "pipe.mp4"),
        "F03 missing": str(place.folder / "nowhere.mp4"),
        "F04 concat:": f"concat:{hidden}|{hidden}",
        "F04 subfile:": f"subfile,,start,0,end,0,,:{hidden}",
    }
    cameras = [{"id": f"bad-{number}", "url": url} for number, url in enumerate(bad.values())]

    with canary(hidden) as was_opened:
        file, _ = place.config(cameras)
        done = runs.vedette(place.folder, "run", file, timeout=20)
        assert not was_opened()

    assert done.returncode == 2
    sentences = done.stderr.splitlines()
    assert len(sentences) == len(bad)
    for row, said in zip(bad, sentences, strict=True):
        sentence = said.partition(".url: ")[2].replace(f"{place.folder}/", "")
        remark = f"exit 2: {sentence.replace(str(place.folder), '…').partition(', must')[0]}"
        table.add_deed(row, checker.Findings(), (None, None), None, remark)
