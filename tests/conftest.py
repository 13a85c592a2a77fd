"""What many tests need: the shared data, a Redis of their own, and nothing else leaking."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.errors import VedetteError
from pipeline.yolov6.importer import import_weights
from pipeline.yolov6.weights import OURS
from tests import servers
from workers.embedded import find_server

# A shell without job control starts background jobs with SIGINT ignored, and children inherit that:
# the commands that the tests interrupt would never hear of it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def absent(reason: str) -> NoReturn:
    """What a test does without a thing that CI has: skips here, fails there."""
    if os.environ.get("VEDETTE_REQUIRE_SHARED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    """No test leaves a process, a thread, a socket or a piece of memory that it did not find."""
    before = held()
    yield
    deadline = time.monotonic() + 2
    while (left := held() - before) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert not left, f"left behind: {', '.join(sorted(left))}"


def held() -> set[str]:
    """The threads, children and open sockets, pipes and anonymous files of this process."""
    threads = {f"thread {thread.name}" for thread in threading.enumerate()}
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    children = {f"process {child}" for child in found}
    descriptors = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(link)
        except FileNotFoundError:
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:", "/memfd:")):
            descriptors.add(f"{target} as {link.name}")
    return threads | children | descriptors


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of clips, weights and goldens; a skip without it, a failure where CI needs it."""
    root = Path(os.environ.get("VEDETTE_SHARED", Path(__file__).parents[1] / ".." / "shared"))
    if root.is_dir():
        return root.resolve()
    absent(f"no shared data at {root}: set VEDETTE_SHARED")


@pytest.fixture(scope="session")
def _server_binary() -> str:
    try:
        return find_server()
    except VedetteError as error:
        absent(str(error))


@pytest.fixture
def redis_server(_server_binary: str) -> Iterator[servers.RedisServer]:
    """An empty server on a Unix socket: `url`, `client()`, `kill()`, `start()`, `frozen()`."""
    with servers.redis_server() as server:
        yield server


@pytest.fixture
def kept_redis_server(_server_binary: str) -> Iterator[servers.RedisServer]:
    """The same with an append-only file, so that it comes back with what it had."""
    with servers.redis_server(keep=True) as server:
        yield server


@pytest.fixture
def locked_redis_server(_server_binary: str) -> Iterator[servers.RedisServer]:
    """The same with a password, which is `hunter2`; `url` does not hold it."""
    with servers.redis_server(password="hunter2") as server:
        yield server


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate that it has signed itself, for 127.0.0.1; the latter alone: .crt."""
    path = tmp_path_factory.mktemp("tls") / "camera.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", path, "-out", path.with_suffix(".crt")),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


@pytest.fixture(scope="session")
def ours() -> Path:
    """The weights that come with the package."""
    assert OURS.is_file()
    return OURS


@pytest.fixture(scope="session")
def lite_s(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our weights file of YOLOv6Lite-s, trained on COCO."""
    return _imported(shared, tmp_path_factory, "lite_s")


@pytest.fixture(scope="session")
def lite_l(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our weights file of YOLOv6Lite-l, trained on COCO."""
    return _imported(shared, tmp_path_factory, "lite_l")


def _imported(shared: Path, folders: pytest.TempPathFactory, variant: str) -> Path:
    weights = folders.mktemp("weights") / f"{variant}.safetensors"
    import_weights(shared / "yolov6" / "pretrained" / f"yolov6{variant}.safetensors", weights)
    return weights
