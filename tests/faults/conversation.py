"""RTSP cameras that lie: number and seed give the same conversation again.

What a camera says is made whole first (`tests/rtsp.py` has its pictures as RTP), then damaged in
one to three places: answers, SDP, the frames of the connection, RTP, RTCP, payloads; or it is of
an encoding that FFmpeg knows and no camera has, with bytes that were made up. Its control URLs may
name a canary. Behind the last byte the connection is closed; some stay, and say nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from random import Random

from tests import rtsp
from tests.faults import canary
from tests.rtsp import Film

_FILMS = {
    "h264": (Film(size=(96, 64), frames=12, keyframes=6), 96, "H264/90000"),
    "hevc": (Film("hevc", size=(96, 64), frames=12, keyframes=6), 96, "H265/90000"),
    "mjpeg": (Film("mjpeg", size=(96, 64), frames=12), 26, "JPEG/90000"),
}
_EXOTIC = (  # what `rtpmap` may say beside these: each is another reader in FFmpeg
    "AV1/90000", "VP8/90000", "VP9/90000", "MP4V-ES/90000", "H263-1998/90000", "H263-2000/90000",
    "H261/90000", "MP2T/90000", "MPV/90000", "X-QT/90000", "X-QUICKTIME/90000", "x-asf-pf/1000",
    "X-ASF-PF/1000", "VORBIS/44100", "theora/90000", "raw/90000", "DV/90000", "VC2/90000",
    "X-PN-REALVIDEO/90000", "x-pn-tng/90000", "mpeg4-generic/90000", "X-SV3V-ES/90000",
    "MP4A-LATM/90000",
    "X-MP3-draft-00/90000", "vnd.onvif.metadata/90000", "SMPTE336M/90000", "jpeg2000/90000",
)  # fmt: skip
_NUMBERS = (
    "-1",
    "0",
    "1",
    "65535",
    "65536",
    "4294967295",
    "99999999999999999999",
    "0x10",
    "",
    "9" * 400,
)
_STATUSES = (
    "100 Continue", "200", "200 OK", "0 Nothing", "-1 Less", "201 Created", "304 Not Modified",
    "404 Not Found", "454 Session Not Found", "461 Unsupported Transport", "500 Oh", "999 Most",
    "99999999999 Much", "2OO OK",
)  # fmt: skip
_LENGTHS = (0, 1, 2, 3, 4, 11, 12, 13, 1500, 0x7FFF, 0x8000, 0xFFFF)
_EVERY_SILENT = 100  # conversations: one of so many is not closed, and the reader has to give up
STAYS = 60.0  # seconds, longer than any reader's patience


@dataclass
class Conversation:
    """What is said. Answers are by method, without `RTSP/1.0`, sequence number and session."""

    story: list[str] = field(default_factory=list)
    status: dict[str, str] = field(default_factory=dict)
    headers: dict[str, list[str]] = field(default_factory=dict)
    sdp: str = ""
    length: str | None = None  # what is said to be that of the SDP
    sequence: str | None = None
    frames: list[tuple[int, bytes]] = field(default_factory=list)  # channel, packet
    stream: bytes = b""  # the same as it goes through the connection
    is_udp: bool = False
    stays: float = 0.0  # seconds that the connection is left open at the end
    mute: str | None = None  # the method that is not answered
    drips: bytes = b""  # what it says meanwhile, again and again

    def answer(self, method: str, sequence: str, transport: str) -> bytes:
        status = self.status.get(method, "200 OK")
        lines = [f"RTSP/1.0 {status}", f"CSeq: {self.sequence or sequence}", "Session: 1"]
        body = self.sdp if method == "DESCRIBE" else ""
        if method == "DESCRIBE":
            lines.append("Content-Type: application/sdp")
            lines.append(f"Content-Length: {self.length or len(body)}")
        if method == "SETUP" and not any(
            "Transport:" in line for line in self.headers.get(method, [])
        ):
            lines.append(f"Transport: {transport}")
        lines += self.headers.get(method, [])
        return "\r\n".join([*lines, "", body]).encode("utf-8", "surrogateescape")


def conversation(number: int, seed: int, port: int) -> Conversation:
    """The one of that number; `port` is a canary's."""
    random = Random(f"{seed}:conversation:{number}")
    one = Conversation(is_udp=random.random() < 0.05)
    (_compose if random.random() < 0.7 else _invent)(random, one)
    for _ in range(random.choice((1, 1, 2, 3))):
        damage = random.choice(_DAMAGES)
        damage(random, one, port)
        one.story.append(damage.__name__.strip("_"))
    one.stream = b"".join(
        struct.pack(">cBH", b"$", channel, len(packet)) + packet for channel, packet in one.frames
    )
    if random.random() < 0.4:
        damage_of_bytes = random.choice((_flipped, _cut, _length, _injected))
        one.stream = damage_of_bytes(random, one.stream)
        one.story.append(damage_of_bytes.__name__.strip("_"))
    if number % _EVERY_SILENT == _EVERY_SILENT - 1:
        one.stays = STAYS
        one.mute = random.choice(("OPTIONS", "DESCRIBE", "SETUP", "PLAY", None, None))
        one.drips = random.choice(_DRIPS) if one.mute is None or random.random() < 0.5 else b""
        how = f"drips {one.drips[:9]!r}" if one.drips else "silent"
        one.story.append(f"{how} from {one.mute or 'the last picture'}")
    return one


# ── what is whole ─────────────────────────────────────────────────────────────────────────────


def _compose(random: Random, one: Conversation) -> None:
    """A camera as they are."""
    name = random.choice(list(_FILMS))
    film, payload, encoding = _FILMS[name]
    one.story.append(name)
    one.sdp = _sdp(payload, encoding, "packetization-mode=1" if name == "h264" else "")
    one.frames = [(1, report(0)), *((0, packet) for packet in _film(film))]


@cache
def _film(film: Film) -> list[bytes]:
    found, sequence = [], 0
    for index, picture in enumerate(rtsp.pictures(film)):
        for packet in picture.packets:
            sequence += 1
            head = struct.pack(">BBHI", packet[0], packet[1], sequence, index * 9000)
            found.append(head + packet[8:])
    return found


def _invent(random: Random, one: Conversation) -> None:
    """An encoding that no camera has, of bytes that are made up or another's."""
    encoding = random.choice(_EXOTIC)
    payload = {"MP2T/90000": 33, "MPV/90000": 32}.get(encoding, 96)
    one.story.append(encoding.partition("/")[0])
    junk = random.randbytes(random.choice((0, 1, 16, 200))).hex()
    fmtp = random.choice(
        ("", f"config={junk}", f"sprop-parameter-sets={junk},{junk}", f"configuration={junk}",
         f"sampling=YCbCr-4:2:2;width={random.choice(_NUMBERS)};height=64;depth=8",
         f"mode=AAC-hbr;sizelength={random.choice(_NUMBERS)};indexlength=3;indexdeltalength=3",
         f"profile-level-id={junk[:6]};config={junk}", f"cpresent=0;config={junk}")
    )  # fmt: skip
    one.sdp = _sdp(payload, encoding, fmtp)
    if random.random() < 0.2:
        header = "data:application/vnd.ms.wms-hdr.asfv1;base64,MCaydY5mzxGm2QCqAGLObA=="
        one.sdp += f"a=pgmpu:{header}\r\n"
    theirs = _film(_FILMS[random.choice(list(_FILMS))][0])
    for index in range(random.choice((3, 20, 60))):
        body = random.choice(
            (
                random.randbytes(random.choice((0, 1, 2, 3, 4, 8, 183, 1400))),
                theirs[index % 12][12:],
            )
        )
        front = bytes(random.choice((0, 0x10, 0x18, 0x40, 0x80, 0xC0, 0xFF)) for _ in range(4))
        mark = 0x80 * (random.random() < 0.4) | payload
        head = struct.pack(">BBHII", 0x80, mark, index, index // 3 * 9000, 7)
        one.frames.append((0, head + random.choice((b"", front[:1], front)) + body))


def _sdp(payload: int, encoding: str, fmtp: str) -> str:
    rtpmap = f"a=rtpmap:{payload} {encoding}\r\n"
    format = f"a=fmtp:{payload} {fmtp}\r\n" if fmtp else ""
    return (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
        f"m=video 0 RTP/AVP {payload}\r\n{rtpmap}{format}a=control:track0\r\n"
    )


def report(stamp: int) -> bytes:
    """A sender report (RFC 3550, 6.4.1)."""
    return struct.pack(">BBHIIIIII", 0x80, 200, 6, 7, 3_900_000_000, 0, stamp, 0, 0)


# ── what is damaged ───────────────────────────────────────────────────────────────────────────


def _answers(random: Random, one: Conversation, port: int) -> None:
    method = random.choice(("OPTIONS", "DESCRIBE", "SETUP", "PLAY"))
    one.status[method] = random.choice(_STATUSES)


def _fields(random: Random, one: Conversation, port: int) -> None:
    method = random.choice(("OPTIONS", "DESCRIBE", "SETUP", "PLAY"))
    number, long = random.choice(_NUMBERS), "x" * random.choice((10, 1000, 5000, 70_000))
    other = f"{random.choice(('rtsp', 'http', 'file'))}://{canary.HOST}:{port}/x"
    line = random.choice(
        (f"Content-Length: {number}", f"Session: {long};timeout={number}", f"Session: {number}",
         f"Content-Base: {other}", f"Content-Location: {other}", f"Server: {long}",
         "Server: RealServer 8", "RealChallenge1: 00112233445566778899aabbccddeeff",
         "Server: WMServer/9.1", "Server: QTSS/6", f"Public: {long}", "Public: GET_PARAMETER",
         f"RTP-Info: url={other};seq={number};rtptime={number}", f"Range: npt={number}-{number}",
         f"Range: clock={number}-", f"X-{long}: {long}", f"CSeq: {number}", ": ", long,
         f"Notice: {number} x", f"x-Accept-Dynamic-Rate: {number}", "Connection: close",
         f'WWW-Authenticate: Digest realm="{long}", nonce="{number}"', "Transfer-Encoding: chunked")
    )  # fmt: skip
    one.headers.setdefault(method, []).append(line)
    if "Authenticate" in line:
        one.status[method] = "401 Unauthorized"


def _transport(random: Random, one: Conversation, port: int) -> None:
    number, other = random.choice(_NUMBERS), random.choice(_NUMBERS)
    tcp = "RTP/AVP/TCP;unicast;interleaved="
    said = random.choice(
        (f"{tcp}{number}-{other}", f"RTP/AVP;unicast;server_port={number}", f"{tcp}254-255",
         "RAW/RAW/UDP;interleaved=0-1", "MP2T/H2221/UDP;unicast", "x-pn-tng/tcp;interleaved=0",
         f"{tcp}0-1;{'y' * 3000}", "", ",,,,;;;", ",".join([f"{tcp}0-1"] * 50),
         f"RTP/AVP;multicast;destination={canary.HOST};port={port}-{port};ttl={number}",
         f"{tcp}0-1;source={canary.HOST};server_port={port}-{port}")
    )  # fmt: skip
    one.headers.setdefault("SETUP", []).append(f"Transport: {said}")


def _description(random: Random, one: Conversation, port: int) -> None:
    lines = one.sdp.split("\r\n")
    at, number = random.randrange(len(lines)), random.choice(_NUMBERS)
    long = "z" * random.choice((100, 3000, 20_000))
    there = f"{random.choice(('rtsp', 'http', 'tcp', 'file', 'udp'))}://{canary.HOST}:{port}/x"
    put = random.choice(
        (f"m=video {number} RTP/AVP {number}", "m=audio 0 RTP/AVP 0", "m=application 0 RTP/AVP 107",
         f"m={long} {long}", f"a=control:{there}", f"a=rtpmap:{number} {long}/{number}",
         f"a=rtpmap:96 H264/{number}", f"a=fmtp:96 sprop-parameter-sets={long}", "a=control:*",
         f"a=fmtp:96 sprop-vps={long}; sprop-sps={long}", f"a=framesize:96 {number}-{number}",
         f"a=framerate:{number}", f"a=range:npt={number}-{number}",
         f"c=IN IP4 {canary.HOST}/{number}",
         "c=IN IP6 ::1", f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{long}", "a=key-mgmt:mikey x",
         f"b=AS:{number}", f"a=cliprect:0,0,{number},{number}", f"a=SdpplinVersion:{number}",
         f"a=OpaqueData:buffer;\"{long}\"", f"a=StreamName:string;\"{long}\"",
         f"a=ASMRuleBook:{long}",
         f"a=source-filter: incl IN IP4 {canary.HOST} {canary.HOST}", long, "\udcff\udc80\udcfe")
    )  # fmt: skip
    if random.random() < 0.2:
        one.sdp = "\r\n".join([*lines[:at], *[put] * random.choice((2, 40, 300)), *lines[at:]])
    elif random.random() < 0.2:
        one.sdp = one.sdp[: random.randrange(len(one.sdp))]
    else:
        one.sdp = "\r\n".join([*lines[:at], put, *lines[at + random.randrange(2) :]])
    if random.random() < 0.2:
        one.length = random.choice(_NUMBERS)


def _rtp(random: Random, one: Conversation, port: int) -> None:
    """Version, padding, extension, count of sources, kind, number, time: the first 12 bytes."""
    for _ in range(random.choice((1, 5, 40))):
        at = random.randrange(len(one.frames))
        channel, packet = one.frames[at]
        damaged = bytearray(packet)
        for _ in range(random.choice((1, 1, 2, 4))):
            if damaged:
                damaged[random.randrange(min(12, len(damaged)))] = random.randrange(256)
        if random.random() < 0.3:  # an extension or padding that is longer than the packet
            damaged[:1] = bytes([random.choice((0x90, 0xA0, 0xB0, 0x8F, 0xBF))])
            damaged[12:16] = b"\xbe\xde" + struct.pack(">H", random.choice(_LENGTHS))
        one.frames[at] = random.choice((channel, channel, 1, 2, 255)), bytes(damaged)


def _payload(random: Random, one: Conversation, port: int) -> None:
    """NAL headers, aggregates, fragments without a beginning or an end."""
    for _ in range(random.choice((1, 5, 40))):
        at = random.randrange(len(one.frames))
        channel, packet = one.frames[at]
        damaged = bytearray(packet)
        front = bytes(
            (random.choice((24, 25, 26, 27, 28, 29, 30, 31, 0x60, 0x62, 0x64, 0xFF, 7, 8)),
             random.randrange(256))
        )  # fmt: skip
        where = random.randrange(3)
        if where == 0:
            damaged[12:14] = front
        elif where == 1:
            damaged[12:16] = front + struct.pack(">H", random.choice(_LENGTHS))
        else:
            del damaged[random.randrange(12, max(13, len(damaged))) :]
        for _ in range(random.choice((0, 0, 3))):
            damaged[random.randrange(len(damaged) + 1) :] = random.randbytes(8)
        one.frames[at] = channel, bytes(damaged)


def _order(random: Random, one: Conversation, port: int) -> None:
    for _ in range(random.choice((1, 10))):
        at = random.randrange(len(one.frames))
        to = random.randrange(len(one.frames))
        one.frames.insert(to, one.frames[at] if random.random() < 0.5 else one.frames.pop(at))


def _rtcp(random: Random, one: Conversation, port: int) -> None:
    for _ in range(random.choice((1, 5, 50))):
        kind = random.choice((200, 201, 202, 203, 204, 205, 206, random.randrange(256)))
        length = random.choice(_LENGTHS)
        body = random.randbytes(random.choice((0, 4, 24, 300)))
        packet = (
            struct.pack(">BBH", random.choice((0x80, 0x81, 0x9F, 0xBF, 0)), kind, length) + body
        )
        one.frames.insert(random.randrange(len(one.frames) + 1), (1, packet))


_DAMAGES: tuple[Callable[[Random, Conversation, int], None], ...] = (
    _answers, _fields, _fields, _transport, _description, _description, _rtp, _rtp, _payload,
    _payload, _payload, _order, _rtcp,
)  # fmt: skip


_DRIPS = (  # none of which is an answer, or a picture
    b"", b"x", b"\r\n", b"$\1\0\0", b"RTSP/1.0 100 Continue\r\nCSeq: 1\r\n\r\n",
    b"$\1" + struct.pack(">H", len(report(0))) + report(0),
    b"$\0\0\x0c" + struct.pack(">BBHII", 0x80, 96, 1, 1, 7),
)  # fmt: skip


def _flipped(random: Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(random.choice((1, 10, 200))):
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data))]


def _length(random: Random, data: bytes) -> bytes:
    """A frame of the connection that is shorter or longer than it says."""
    at = data.find(b"$", random.randrange(len(data)))
    put = struct.pack(">H", random.choice(_LENGTHS))
    return data[: at + 2] + put + data[at + 4 :] if at >= 0 else data


def _injected(random: Random, data: bytes) -> bytes:
    """The camera asks, or answers what nobody asked."""
    said = random.choice(
        (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n", b"RTSP/1.0 200 OK\r\nCSeq: 99999\r\n\r\n",
         b"ANNOUNCE rtsp://x RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 99999\r\n\r\n",
         b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 3\r\nNotice: 2101 End\r\n\r\n", b"\r\n" * 3000,
         b"RTSP/1.0 ", b"RTSP/1.0 200 OK\r\nContent-Length: 2147483647\r\n\r\n", b"$" * 5000)
    )  # fmt: skip
    at = random.randrange(len(data))
    return data[:at] + said + data[at:]
