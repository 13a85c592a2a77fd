"""One look at a source, in a process of its own: a decoder that hangs or crashes hurts nobody.

The URL, which may hold a password, travels over stdin; the answer comes over stdout.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import msgspec

from pipeline.errors import SourceError
from pipeline.sources import USUAL, Access

LIMIT = 25.0  # seconds: longer than any one wait of a source for its camera
_PICTURES = 13  # enough for the rate…
_WATCH = 2.0  # …unless so many seconds are over
_SIDE = 64  # pixels of the picture that it is resized to: the scaler must take it, too


class Seen(msgspec.Struct, frozen=True):
    """What a source showed; `fault` is a sentence where it showed nothing."""

    width: int = 0  # pixels
    height: int = 0
    rate: float | None = None  # pictures per second, None where it showed but one
    codec: str = ""  # FFmpeg's name of the decoder
    excuse: str | None = None  # why it is not decoded where it was to be
    fault: str | None = None


class _Request(msgspec.Struct, frozen=True):
    url: str
    live: bool
    limit: float
    access: Access


def look(url: str, *, network: bool, access: Access = USUAL, limit: float = LIMIT) -> Seen:
    """Opens a source and decodes its first pictures. Raises SourceError.

    `limit`: seconds until the process ends itself; it is killed a little later if it cannot.
    """
    request = msgspec.json.encode(_Request(url, network, limit, access))
    command = [sys.executable, "-m", "workers.look"]
    late = f"no picture within {limit:g} s"
    try:
        done = subprocess.run(command, input=request, capture_output=True, timeout=limit + 5)
    except subprocess.TimeoutExpired:
        raise SourceError(late) from None
    if done.returncode == -signal.SIGALRM:
        raise SourceError(late)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        raise SourceError(f"the process that decodes it crashed ({name})")
    if done.returncode > 0:
        raise SourceError(f"the process that decodes it failed (exit code {done.returncode})")
    seen = msgspec.json.decode(done.stdout, type=Seen)
    if seen.fault is not None:
        raise SourceError(seen.fault)
    return seen


def main() -> None:
    """The process: a request on stdin, what was seen on stdout."""
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    signal.setitimer(signal.ITIMER_REAL, request.limit)  # SIGALRM, whatever it hangs in
    try:
        seen = _watch(request)
    except SourceError as error:
        seen = Seen(fault=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(seen))


def _watch(request: _Request) -> Seen:
    import numpy as np

    from pipeline.sources import open_source

    deadline = time.monotonic() + _WATCH
    with open_source(request.url, live=request.live, loop=False, access=request.access) as source:
        first = next(source, None)
        if first is None:
            raise SourceError(source.reason)
        first.write(np.empty((_SIDE, _SIDE, 3), np.uint8))
        times = [first.media_time]
        for picture in source:
            if picture.segment != first.segment:
                break
            times.append(picture.media_time)
            if len(times) == _PICTURES or time.monotonic() > deadline:
                break
        excuse = source.excuse
    passed = times[-1] - times[0]
    rate = (len(times) - 1) / passed if passed > 0 else None
    return Seen(first.width, first.height, rate, source.codec, excuse)


if __name__ == "__main__":
    main()
