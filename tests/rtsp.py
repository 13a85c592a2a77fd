"""An RTSP camera on the loopback that can be made sick: RFC 2326, RTP by FFmpeg's own muxer.

It plays a short clip for ever at its pace, to as many as come, over TCP (interleaved) or UDP. Its
`faults` are read at every packet, so a test may change them while it plays. What it has sent is
counted, so that a test knows what there was to receive.
"""

from __future__ import annotations

import base64
import hashlib
import io
import random
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests import media

_CODECS = {  # FFmpeg's encoder, and what the SDP says of it
    "h264": ("libx264", "96", "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"),
    "hevc": ("libx265", "96", "a=rtpmap:96 H265/90000\r\n"),
    "mjpeg": ("mjpeg", "26", "a=rtpmap:26 JPEG/90000\r\n"),
}
_OPTIONS = {
    "libx264": {"tune": "zerolatency", "preset": "ultrafast", "x264-params": "repeat-headers=1"},
    "libx265": {
        "tune": "zerolatency",
        "preset": "ultrafast",
        "x265-params": "repeat-headers=1:log-level=none:pools=1:frame-threads=1",
    },
    "mjpeg": {},
}
_REORDERED = {"preset": "ultrafast", "x264-params": "repeat-headers=1:bframes=2:b-adapt=0"}
_TICKS = 90_000  # of RTP time a second
_SINCE_1900 = 2_208_988_800  # NTP's epoch, seconds before 1970


@dataclass(frozen=True)
class Film:
    """What a camera shows, over and over."""

    codec: str = "h264"
    size: tuple[int, int] = (320, 192)  # width, height
    rate: int = 10
    frames: int = 30
    keyframes: int = 10
    still: bool = False  # every picture the same
    reordered: bool = False  # of h264: pictures lean on later ones


@dataclass(frozen=True)
class Access:
    """The RTP packets of one picture."""

    packets: list[bytes]
    is_key: bool


@dataclass
class Faults:
    """What is the matter. Counts are of pictures since PLAY, in each connection."""

    accept_silent: bool = False  # connections are taken, and nobody answers
    silent_on: str | None = None  # a method that is not answered
    status: dict[str, str] = field(default_factory=dict)  # by method: "404 Not Found"
    refuse: bool = False  # connections are closed at once
    redirect: str | None = None  # where DESCRIBE says it is
    stall_after: int | None = None
    fin_after: int | None = None
    rst_after: int | None = None
    rtcp_while_stalled: bool = False
    audio_while_stalled: bool = False
    loss: float = 0.0  # of packets
    corrupt: float = 0.0  # of packets that are not a keyframe's first
    start_at: int = 0  # the first picture that is sent: in the middle of a group
    skip_keyframes: bool = False
    film_after: tuple[int, Film] | None = None  # another film from there on
    jump: tuple[int, float] | None = None  # seconds that time stamps jump by at a picture
    ticks: int = 0  # RTP time of the first picture
    clock: float = 0.0  # seconds by which the camera's clock is ahead of ours…
    drift: float = 0.0  # …and seconds a second by which it gains on RTP time
    speed: float = 1.0


class Camera:
    """One camera. `url` has its credentials; close it."""

    opening = 0  # connections to all cameras, until their PLAY
    most_opening = 0
    _counting = threading.Lock()

    def __init__(
        self,
        film: Film | None = None,
        *,
        user: str | None = None,
        password: str = "hunter2",
        digest: bool = False,
        tls: ssl.SSLContext | None = None,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.film = film or Film()
        self.faults = Faults()
        self.connections = 0
        self.describes = 0
        self.frames = 0  # whose last packet was sent
        self._user, self._password, self._digest = user, password, digest
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._going = True
        pictures(self.film)
        self._listener = socket.create_server(address)
        self.host, self.port = self._listener.getsockname()
        self._start(self._accept)

    @property
    def url(self) -> str:
        who = f"{self._user}:{self._password}@" if self._user else ""
        return f"rtsp{'s' * (self._tls is not None)}://{who}{self.host}:{self.port}/stream"

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._open)

    def hang_up(self) -> None:
        """Closes all connections."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._going = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(10)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while self._going:
                connection, _ = self._listener.accept()
                self.connections += 1
                if self.faults.refuse:
                    connection.close()
                    continue
                self._open.add(connection)
                self._start(self._serve, connection)

    def _serve(self, plain: socket.socket) -> None:
        try:
            with suppress(OSError, ValueError, ssl.SSLError):
                connection = plain
                if self._tls is not None:
                    connection = self._tls.wrap_socket(plain, server_side=True)
                with connection:
                    _Visit(self, connection).serve()
        finally:
            self._open.discard(plain)
            plain.close()

    @classmethod
    def count_opening(cls, change: int) -> None:
        with cls._counting:
            cls.opening += change
            cls.most_opening = max(cls.most_opening, cls.opening)

    # ── what a visit asks ─────────────────────────────────────────────────────────────────────

    def is_admitted(self, method: str, headers: dict[str, str]) -> bool:
        if self._user is None or method == "OPTIONS":
            return True
        given = headers.get("authorization", "")
        if not self._digest:
            basic = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
            return given == f"Basic {basic}"
        fields = dict(re.findall(r'(\w+)="([^"]*)"', given))
        first = _md5(f"{self._user}:camera:{self._password}")
        second = _md5(f"{method}:{fields.get('uri', '')}")
        return fields.get("response") == _md5(f"{first}:0123456789abcdef:{second}")

    @property
    def challenge(self) -> str:
        if self._digest:
            return 'WWW-Authenticate: Digest realm="camera", nonce="0123456789abcdef"\r\n'
        return 'WWW-Authenticate: Basic realm="camera"\r\n'

    @property
    def is_going(self) -> bool:
        return self._going


class _Visit:
    """One connection: requests, and from PLAY on the stream in a thread of its own."""

    def __init__(self, camera: Camera, connection: socket.socket) -> None:
        self._camera = camera
        self._connection = connection
        self._lock = threading.Lock()  # of what is written: answers and interleaved packets
        self._udp: dict[int, tuple[socket.socket, tuple[str, int]]] = {}  # by channel
        self._tracks = 0
        self._stopped = threading.Event()
        self._player: threading.Thread | None = None
        self._is_opening = False

    def serve(self) -> None:
        camera = self._camera
        self._count(opening=True)
        if camera.faults.accept_silent:
            self._wait()
            self._count(opening=False)
            return
        requests = self._connection.makefile("rb")
        try:
            while (request := _read(requests)) is not None:
                self._answer(*request)
        finally:
            self._stopped.set()
            self._count(opening=False)
            requests.close()
            if self._player is not None:
                self._player.join(10)
            for sender, _ in self._udp.values():
                sender.close()

    def _count(self, *, opening: bool) -> None:
        if opening != self._is_opening:
            self._is_opening = opening
            Camera.count_opening(1 if opening else -1)

    def _wait(self) -> None:
        while self._connection.recv(4096):
            pass

    def _answer(self, method: str, headers: dict[str, str]) -> None:
        camera, faults = self._camera, self._camera.faults
        camera.describes += method == "DESCRIBE"
        if faults.silent_on == method:
            return
        status, fields, body = "200 OK", "", ""
        if not camera.is_admitted(method, headers):
            status, fields = "401 Unauthorized", camera.challenge
        elif method in faults.status:
            status = faults.status[method]
        elif method == "DESCRIBE" and faults.redirect:
            status, fields = "302 Moved", f"Location: {faults.redirect}\r\n"
        elif method == "DESCRIBE":
            body = _sdp(camera.film, audio=faults.audio_while_stalled)
            fields = "Content-Type: application/sdp\r\n"
        elif method == "SETUP":
            status, fields = self._set_up(headers.get("transport", ""))
        elif method == "OPTIONS":
            fields = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n"
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', '0')}\r\nSession: 1\r\n"
        with self._lock:
            self._connection.sendall(f"{head}{fields}{length}\r\n{body}".encode())
        if method == "PLAY" and status == "200 OK":
            self._count(opening=False)
            self._player = threading.Thread(target=self._play)
            self._player.start()

    def _set_up(self, transport: str) -> tuple[str, str]:
        track, self._tracks = self._tracks, self._tracks + 1
        if "TCP" in transport:
            channels = f"{2 * track}-{2 * track + 1}"
            return "200 OK", f"Transport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n"
        ports = re.search(r"client_port=(\d+)-(\d+)", transport)
        if ports is None:
            return "461 Unsupported Transport", ""
        ours = []
        for channel in (0, 1):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sender.bind(("127.0.0.1", 0))
            ours.append(sender.getsockname()[1])
            self._udp[2 * track + channel] = sender, ("127.0.0.1", int(ports[channel + 1]))
        theirs = f"client_port={ports[1]}-{ports[2]};server_port={ours[0]}-{ours[1]}"
        return "200 OK", f"Transport: RTP/AVP;unicast;{theirs}\r\n"

    def _play(self) -> None:
        with suppress(OSError, ValueError):
            _Player(self._camera, self._send, self._reset, self._stopped).play()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _send(self, channel: int, packet: bytes) -> None:
        if channel in self._udp:
            sender, address = self._udp[channel]
            sender.sendto(packet, address)
            return
        with self._lock:
            self._connection.sendall(struct.pack(">cBH", b"$", channel, len(packet)) + packet)

    def _reset(self) -> None:
        """The connection ends with RST."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()


class _Player:
    """The stream of one connection, picture by picture, as the faults of the moment have it."""

    def __init__(
        self, camera: Camera, send: object, reset: object, stopped: threading.Event
    ) -> None:
        self._camera = camera
        self._send = send
        self._reset = reset
        self._stopped = stopped
        self._sequence = 0
        self._random = random.Random(5)

    def play(self) -> None:
        camera, film = self._camera, self._camera.film
        shown, began, stamp = 0, time.monotonic(), float(camera.faults.ticks)
        next_report, zero = began, time.time()
        while not self._stopped.is_set() and camera.is_going:
            faults = camera.faults
            if faults.film_after is not None and shown >= faults.film_after[0]:
                film = faults.film_after[1]
            if self._has_ended(shown, faults):
                return
            if faults.stall_after is not None and shown >= faults.stall_after:
                self._drip(faults, shown)
                self._stopped.wait(0.1)
                continue
            if time.monotonic() >= next_report:
                ahead = faults.clock + (1 + faults.drift) * shown / film.rate
                self._send(1, _report(stamp, zero + ahead))  # type: ignore[operator]
                next_report += 1
            if faults.jump is not None and shown == faults.jump[0]:
                stamp += faults.jump[1] * _TICKS
            one = pictures(film)[(shown + faults.start_at) % film.frames]
            if not (faults.skip_keyframes and one.is_key):
                self._show(one, int(stamp) % 2**32, faults)
            shown += 1
            stamp += _TICKS / film.rate
            began += 1 / film.rate / faults.speed
            self._stopped.wait(max(0.0, began - time.monotonic()))

    def _has_ended(self, shown: int, faults: Faults) -> bool:
        if faults.rst_after is not None and shown >= faults.rst_after:
            self._reset()  # type: ignore[operator]
            return True
        return faults.fin_after is not None and shown >= faults.fin_after

    def _show(self, picture: Access, stamp: int, faults: Faults) -> None:
        for number, packet in enumerate(picture.packets):
            self._sequence = (self._sequence + 1) % 65_536
            if self._random.random() < faults.loss:
                continue
            head = struct.pack(">BBHI", packet[0], packet[1], self._sequence, stamp)
            payload = bytearray(packet[8:])
            is_harmless = number or not picture.is_key
            if is_harmless and self._random.random() < faults.corrupt:
                for _ in range(8):
                    at = self._random.randrange(12, len(payload)) if len(payload) > 12 else 0
                    payload[at] ^= 0xFF
            self._send(0, head + bytes(payload))  # type: ignore[operator]
        self._camera.frames += 1

    def _drip(self, faults: Faults, shown: int) -> None:
        if faults.rtcp_while_stalled:
            self._send(1, _report(float(shown), time.time()))  # type: ignore[operator]
        if faults.audio_while_stalled:
            self._sequence = (self._sequence + 1) % 65_536
            stamp = int(time.monotonic() * 8000) % 2**32
            head = struct.pack(">BBHII", 0x80, 0, self._sequence, stamp, 9)
            self._send(2, head + b"\xd5" * 160)  # type: ignore[operator]


@contextmanager
def camera(film: Film | None = None, **options: object) -> Iterator[Camera]:
    made = Camera(film, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


@cache
def pictures(film: Film) -> list[Access]:
    """The film as RTP packets, each a write of FFmpeg's muxer; a marker bit ends a picture."""
    found: list[list[bytes]] = [[]]

    class Writer(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, packet: bytes) -> int:  # type: ignore[override]
            data = bytes(packet)
            if not 200 <= data[1] <= 204:  # RTCP has its own packet types
                found[-1].append(data)
                if data[1] & 0x80:
                    found.append([])
            return len(data)

    encode(film, Writer(), "rtp")
    groups = [group for group in found if group]
    assert len(groups) == film.frames
    every = 1 if film.codec == "mjpeg" else film.keyframes
    return [Access(group, number % every == 0) for number, group in enumerate(groups)]


def encode(film: Film, target: Path | io.RawIOBase, format: str) -> None:
    encoder, _, _ = _CODECS[film.codec]
    media.encode(
        target,
        frames=film.frames,
        size=film.size,
        codec=encoder,
        pixels="yuvj420p" if encoder == "mjpeg" else "yuv420p",
        draw=_still if film.still else media.noise,
        keyframes=film.keyframes,
        rate=film.rate,
        format=format,
        options=_REORDERED if film.reordered else _OPTIONS[encoder],
    )


def _still(index: int, width: int, height: int) -> object:
    return media.bars(0, width, height)


def _sdp(film: Film, *, audio: bool) -> str:
    _, payload, lines = _CODECS[film.codec]
    text = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
        f"m=video 0 RTP/AVP {payload}\r\n{lines}a=control:track0\r\n"
    )
    return text + "m=audio 0 RTP/AVP 0\r\na=control:track1\r\n" * audio


def _report(stamp: float, at: float) -> bytes:
    """A sender report: the wall clock beside the RTP time (RFC 3550, 6.4.1)."""
    now = at + _SINCE_1900
    seconds, fraction = int(now), int(now % 1 * 2**32)
    return struct.pack(">BBHIIIIII", 0x80, 200, 6, 1, seconds, fraction, int(stamp) % 2**32, 0, 0)


def _read(requests: io.BufferedReader) -> tuple[str, dict[str, str]] | None:
    """The next request: its method and headers; None at the end."""
    while (first := requests.read(1)) == b"$":  # the client's own reports
        _, length = struct.unpack(">BH", requests.read(3))
        requests.read(length)
    if not first:
        return None
    line = (first + requests.readline()).decode()
    headers = {}
    while header := requests.readline().decode().strip():
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    requests.read(int(headers.get("content-length", 0)))
    return line.split()[0], headers


def _md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()
