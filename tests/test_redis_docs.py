"""The users and the TLS of docs/redis.md, against a real server."""

from __future__ import annotations

import re
import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import redis

from pipeline.consume import Consumer, Entry, follow
from pipeline.consume.latest import latest
from pipeline.errors import ConfigError, SinkUnavailable
from pipeline.sinks.address import place
from pipeline.sinks.connection import connect
from pipeline.sinks.redis import RedisSink, Stream
from pipeline.sinks.window import Keys
from tests.published import ended, frame
from tests.servers import RedisServer

TEXT = (Path(__file__).parents[1] / "docs" / "redis.md").read_text()
USERS = re.findall(r"^ACL SETUSER (.*)$", TEXT, re.MULTILINE)
KEYS = Keys.of("vedette", "gate")
CANARY = "c@n:a/r%y#?"
QUOTED = "c%40n%3Aa%2Fr%25y%23%3F"


def set_user(client: redis.Redis, name: str) -> None:
    (words,) = [line.split() for line in USERS if line.split()[0] == name]
    words[words.index(">change-me")] = f">{CANARY}"
    client.execute_command("ACL", "SETUSER", *words)


def url_of(server: RedisServer, name: str) -> str:
    return f"unix://{name}:{QUOTED}@{server.socket}"


@contextmanager
def publishing(url: str, said: list[str] | None = None) -> Iterator[tuple[RedisSink, Stream]]:
    sink = RedisSink(url, notice=(said if said is not None else []).append)
    try:
        yield sink, sink.open(KEYS, live=True, maxlen=100, limit=1_000)
    finally:
        sink.close()


def drain(sink: RedisSink, stream: Stream) -> None:
    while not stream.in_step or len(stream.window):
        sink.write(stream)


def test_the_publishers_user_may_do_all_that_the_protocol_does(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        set_user(client, "vedette")
        with publishing(url_of(redis_server, "vedette")) as (sink, stream):
            yard = sink.open(Keys.of("vedette", "yard"), live=False, maxlen=None, limit=None)
            for seq in range(300):
                stream.window.append(frame(seq))
            yard.window.append(frame(0, camera="yard"))
            yard.window.append(ended(1, camera="yard"))
            for one in (stream, yard):
                drain(sink, one)
                one.lease.renewed = float("-inf")
            assert sink.renew() == []
            assert sink.remains(stream, {"1-ab"}, (0, 0), (0, 0)).accounted == {"1-ab": 300}
            client.xadd(KEYS.detections, {"data": "{}"}, id="99999999999999-0")  # XRANGE
            stream.window.append(frame(300))
            drain(sink, stream)
            client.config_set("maxmemory", "1")
            stream.window.append(frame(301))
            with pytest.raises(SinkUnavailable, match="OOM"):
                sink.write(stream)
            assert client.xlen(KEYS.detections) == 100
            client.config_set("maxmemory", "0")
            drain(sink, stream)

        assert client.hget("vedette:{yard}:job", "finished") == b"1"
        assert client.keys("*:owner") == []  # it was allowed to let go
        assert client.acl_log() == []


def test_the_publishers_user_may_do_nothing_else(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        set_user(client, "vedette")
    with redis.Redis(
        unix_socket_path=str(redis_server.socket), username="vedette", password=CANARY
    ) as client:
        for refused in (("FLUSHALL",), ("KEYS", "*"), ("GET", "others"), ("EVAL", "return 1", "0")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*refused)


def test_a_user_without_info_publishes_as_well(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        set_user(client, "vedette")
        client.execute_command("ACL", "SETUSER", "vedette", "-info", "-client|setinfo")
        with publishing(url_of(redis_server, "vedette")) as (sink, stream):
            stream.window.append(frame(0))
            drain(sink, stream)

        assert client.xlen(KEYS.detections) == 1


def test_the_users_of_consumers_may_read_and_not_publish(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        for name in ("reader", "looker"):
            set_user(client, name)
        with publishing(redis_server.url) as (sink, stream):
            stream.window.append(frame(0))
            drain(sink, stream)
        url = url_of(redis_server, "reader")
        with Consumer(url, group="g", name="one", prefix="vedette") as consumer:
            (item,) = [one for one in consumer.take() if isinstance(one, Entry)]
            consumer.done(item)
            consumer.flush()
            consumer.lag()
        entries = follow(url_of(redis_server, "looker"), prefix="vedette", cameras=None, after="0")
        assert next(entries).camera == "gate"
        entries.close()  # type: ignore[attr-defined]
        looked = latest(url_of(redis_server, "looker"), prefix="vedette", cameras=None)
        assert [(one.camera, one.entries) for one in looked] == [("gate", 1)]

        assert client.acl_log() == []
        for name in ("reader", "looker"):
            with (
                publishing(url_of(redis_server, name)) as (sink, stream),
                pytest.raises(SinkUnavailable, match="does not allow this user"),
            ):
                sink.step_in(stream)
            with (
                redis.Redis.from_url(url_of(redis_server, name)) as plain,
                pytest.raises(redis.exceptions.NoPermissionError),
            ):
                plain.xadd(KEYS.detections, {"data": "forged"})
            with (
                redis.Redis.from_url(url_of(redis_server, name)) as plain,
                pytest.raises(redis.exceptions.NoPermissionError),
            ):
                plain.xgroup_create("vedette:{yard}:owner", "in-the-way", mkstream=True)


def certify(folder: Path) -> tuple[Path, Path]:
    """A certificate for `localhost` that vouches for itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = folder / "server.pem", folder / "server.key"
    command = [
        *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        *("-keyout", str(key), "-out", str(certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@contextmanager
def tls(server: RedisServer, certificate: Path, key: Path) -> Iterator[int]:
    """TLS in front of a server (the embedded one is built without); its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("localhost", 0))
    thread = threading.Thread(target=forward_all, args=(listener, context, server))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        listener.close()


def forward_all(listener: socket.socket, context: ssl.SSLContext, server: RedisServer) -> None:
    """One connection after another, until nobody listens any more."""
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        with raw, suppress(OSError), context.wrap_socket(raw, server_side=True) as client:
            forward(client, server)


def forward(client: ssl.SSLSocket, server: RedisServer) -> None:
    with socket.socket(socket.AF_UNIX) as behind:
        behind.connect(str(server.socket))
        while True:
            ready = [client] if client.pending() else select.select([client, behind], [], [], 5)[0]
            for end in ready:
                data = end.recv(1 << 16)
                if not data:
                    return
                (behind if end is client else client).sendall(data)


def published(url: str) -> str:
    """ "" for a frame that was published, otherwise the sentence."""
    with publishing(url) as (sink, stream):
        stream.window.append(frame(0))
        try:
            drain(sink, stream)
        except SinkUnavailable as error:
            return str(error)
    return ""


def test_a_certificate_is_verified_and_so_is_its_name(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    certificate, key = certify(tmp_path)
    with tls(redis_server, certificate, key) as port:
        trusted = f"ssl_ca_certs={certificate}"

        assert published(f"rediss://localhost:{port}/?{trusted}") == ""
        for url in (f"rediss://localhost:{port}/", f"rediss://127.0.0.1:{port}/?{trusted}"):
            assert published(url) == f"Redis at {place(url)} cannot be reached"


def test_nothing_in_a_url_turns_verification_off() -> None:
    for option in ("ssl_cert_reqs=none", "ssl_check_hostname=false"):
        with pytest.raises(ConfigError, match="an option that is not one of"):
            connect(f"rediss://localhost/?{option}", timeout=1)
