"""What an outage of Redis costs in memory, and what is shed on a way that is too narrow."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.errors import SinkUnavailable
from pipeline.sinks.budget import BYTES
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.window import Keys
from tests.faults import checker, table
from tests.faults.proxy import FaultProxy
from tests.faults.server import KEEP, Server, server
from tests.published import frame

CAMERAS = tuple(f"gate-{number}" for number in range(8))
LIMIT = 2_000  # records of a camera that may wait, as in workers/publish.py
SEEN = (("car", 0.9),) * 20  # 20 detections: 2 kB a message

pytestmark = pytest.mark.slow


class Source:
    """Cameras whose messages come at a steady rate, whatever Redis does."""

    def __init__(self, url: str, rate: float, cameras: tuple[str, ...] = CAMERAS) -> None:
        self.sink = RedisSink(url)
        self.streams = {
            camera: self.sink.open(
                Keys.of("vedette", camera), live=True, maxlen=100_000, limit=LIMIT
            )
            for camera in cameras
        }
        self.seq = self.shed = 0
        self._rate = rate / len(cameras)  # frames of a camera a second
        self._began = time.monotonic()
        self._pause = 0.0

    def run(self, seconds: float, also: Callable[[], None] = lambda: None) -> None:
        """Takes in what has come and writes what it can; `also` is called now and then."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until:
            while self.seq < (now - self._began) * self._rate:
                for camera, stream in self.streams.items():
                    message = frame(self.seq, camera=camera, seen=SEEN)
                    self.shed += stream.window.append(message)
                self.seq += 1
            if now >= self._pause:
                self._write()
            also()
            time.sleep(0.005)

    def drain(self) -> float:
        """Seconds until Redis has everything that is left."""
        since = time.monotonic()
        while any(len(stream.window) for stream in self.streams.values()):
            assert time.monotonic() < since + 120
            self._write()
        return time.monotonic() - since

    @property
    def size(self) -> int:
        return sum(stream.window.size for stream in self.streams.values())

    def _write(self) -> None:
        try:
            for stream in self._pending():
                self.sink.write(stream)
        except SinkUnavailable:
            self._pause = time.monotonic() + 0.5

    def _pending(self) -> Iterator[Stream]:
        return (stream for stream in self.streams.values() if len(stream.window))


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def findings(one: Server, source: Source) -> checker.Findings:
    found = checker.Findings()
    with one.client() as client:
        for camera in source.streams:
            found += checker.check(client, camera, source.seq)
    return found


@pytest.mark.timeout(300)
def test_memory_of_an_outage_stays_within_its_bounds_and_what_is_shed_is_counted() -> None:
    """120,000 messages: as many as in 10 minutes at 200 a second."""
    with server(*KEEP["AOF everysec"]) as one:
        one.start()
        source = Source(f"unix://{one.socket}", rate=3_000)
        source.run(10 / 3)
        sizes, before, peak = [], resident(), [0]

        def look() -> None:
            sizes.append(source.size)
            peak[0] = max(peak[0], resident())

        one.kill()
        source.run(40, look)
        one.start()
        recovery = source.drain()
        source.sink.close()

        found = findings(one, source)
        assert max(sizes) <= BYTES
        assert peak[0] - before <= BYTES
        assert found.dropped["window"] == source.shed > 0
        grown = (peak[0] - before) / 2**20
        remark = f"{max(sizes) / 2**20:.0f} MB held at most, +{grown:.0f} MB resident"
        table.add("R01 40 s away at 3,000 messages/s", found, recovery, remark)


def test_on_a_way_too_narrow_the_oldest_are_shed_and_counted() -> None:
    """600 kB a second into 50."""
    with server("--save", "") as one, FaultProxy(one.socket) as proxy:
        one.start()
        source = Source(proxy.url, rate=300, cameras=("gate",))
        source.run(2)
        proxy.delay, proxy.rate = 0.1, 50_000
        source.run(15)
        held = source.size
        proxy.delay = proxy.rate = 0
        recovery = source.drain()
        source.sink.close()

        found = findings(one, source)
        assert found.dropped["window"] == source.shed > 0
        size = len(msgspec.json.encode(frame(0, seen=SEEN)))
        remark = f"outside the window: counted; {held / 2**20:.0f} MB held, messages of {size} B"
        table.add("R15 200 ms, 50 kB/s, 300 messages/s", found, recovery, remark)
