"""Small clips, pictures and cameras, made on the spot with real encoders and real sockets."""

from __future__ import annotations

import io
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np

Draw = Callable[[int, int, int], np.ndarray]  # index, width, height → uint8 RGB [h, w, 3]

BARS = [  # colours whose YUV values lie inside every range
    (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 255, 0),
    (0, 0, 255), (128, 128, 128), (200, 100, 50), (20, 180, 220),
]  # fmt: skip


def noise(index: int, width: int, height: int) -> np.ndarray:
    """Half a picture of noise, so that each frame has bytes to damage, half of moving grey."""
    picture = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    picture[:, : width // 2] = index * 8 % 256
    return picture


def bars(index: int, width: int, height: int) -> np.ndarray:
    """Eight upright bars of known colours."""
    colours = np.array(BARS, np.uint8)
    return np.broadcast_to(colours[np.arange(width) * 8 // width], (height, width, 3)).copy()


def encode(  # noqa: PLR0913
    path: Path | io.RawIOBase,
    *,
    frames: int = 30,
    size: tuple[int, int] = (160, 120),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    draw: Draw = noise,
    keyframes: int = 10,
    rate: int = 25,
    format: str | None = None,
    container: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    matrix: int | None = None,
    full_range: bool | None = None,
    stamps: Sequence[int] | None = None,
) -> None:
    """Writes a clip; `size` is (width, height), `keyframes` the distance between them.

    `stamps`: when each frame is shown, in milliseconds, instead of `frames` at the `rate`.
    """
    file = path if isinstance(path, io.RawIOBase) else str(path)
    colour_range = None if full_range is None else 1 + full_range
    with av.open(file, "w", format=format, options=container or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        stream.gop_size = keyframes
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        if colour_range is not None:
            stream.codec_context.color_range = colour_range
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(frames if stamps is None else len(stamps)):
            frame = av.VideoFrame.from_ndarray(draw(index, *size), format="rgb24")
            frame = frame.reformat(
                format=pixels, dst_colorspace=matrix, dst_color_range=colour_range
            )
            frame.pts = index
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def without(path: Path, first: float, last: float, *, put: bytes | None = None) -> None:
    """Takes a part out of a file, from and to fractions of it; `put` fills the hole, repeated."""
    data = path.read_bytes()
    # Whole packets of a transport stream; of anything else, whatever it is.
    start, end = (int(len(data) * place) // 188 * 188 for place in (first, last))
    hole = b"" if put is None else (put * (end - start))[: end - start]
    path.write_bytes(data[:start] + hole + data[end:])


def encode_sound(path: Path) -> None:
    """A second of a quiet tone: a file without a picture."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        wave = (np.sin(np.arange(16000) / 8) * 1000).astype(np.int16)
        for start in range(0, 16000 - 1024, 1024):
            samples = wave[None, start : start + 1024].copy()
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def packets(path: Path) -> list[tuple[int, int, bool]]:
    """Position, size and keyframe flag of each video packet in the file."""
    with av.open(str(path)) as clip:
        found = [p for p in clip.demux(video=0) if p.size]
        return [(packet.pos, packet.size, packet.is_keyframe) for packet in found]


class _Interleaved(io.RawIOBase):
    """Takes the RTP muxer's packets, one a write, and sends them inside the RTSP connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, packet: bytes) -> int:  # type: ignore[override]
        channel = 1 if 200 <= packet[1] <= 204 else 0  # RTCP has its own packet types
        head = b"$" + bytes([channel]) + len(packet).to_bytes(2, "big")
        self._connection.sendall(head + bytes(packet))
        return len(packet)


_SDP = """v=0\r
o=- 0 0 IN IP4 127.0.0.1\r
s=camera\r
c=IN IP4 0.0.0.0\r
t=0 0\r
m=video 0 RTP/AVP 96\r
a=rtpmap:96 H264/90000\r
a=fmtp:96 packetization-mode=1\r
a=control:track1\r
"""
_ANSWERS = {
    "OPTIONS": ("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", ""),
    "DESCRIBE": (f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n", _SDP),
    "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""),
    "PLAY": ("Session: 1\r\n", ""),
}


@contextmanager
def rtsp_camera(
    *, frames: int, then: Callable[[], object] = lambda: None, connections: int = 1
) -> Iterator[str]:
    """The URL of an H.264 camera that sends `frames`, calls `then`, and closes the connection.

    To so many callers one after the other; later ones are kept waiting.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            for _ in range(connections):
                connection, _ = listener.accept()
                with connection:
                    if _until_play(connection):
                        sink = _Interleaved(connection)
                        options = {"tune": "zerolatency", "x264-params": "repeat-headers=1"}
                        encode(sink, frames=frames, format="rtp", options=options, rate=10)
                        then()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"rtsp://user:hunter2@127.0.0.1:{listener.getsockname()[1]}/stream"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@contextmanager
def rtsp_door(answer: str) -> Iterator[str]:
    """The URL of a camera that gives every request the same answer, with its number put in."""

    class Door(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                if line.lower().startswith(b"cseq"):
                    number = line.split(b":")[1].strip().decode()
                    self.wfile.write(answer.format(number).encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Door) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"rtsp://user:hunter2@127.0.0.1:{server.server_address[1]}/stream"
        finally:
            server.shutdown()
            thread.join(10)


def _until_play(connection: socket.socket) -> bool:
    requests = connection.makefile("r", newline="\r\n")
    while line := requests.readline():
        method = line.split()[0]
        sequence = ""
        while (header := requests.readline()).strip():
            if header.lower().startswith("cseq"):
                sequence = header
        fields, body = _ANSWERS[method]
        connection.sendall(f"RTSP/1.0 200 OK\r\n{sequence}{fields}\r\n{body}".encode())
        if method == "PLAY":
            return True
    return False


@contextmanager
def web_server(
    answer: Callable[[BaseHTTPRequestHandler], None],
    *,
    certificate: Path | None = None,
    port: int = 0,
) -> Iterator[str]:
    """The URL of a server on the loopback that gives `answer` to every GET; of https with a key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            scheme = "http" if certificate is None else "https"
            yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)
