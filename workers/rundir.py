"""Where a run leaves its address: a folder named for its config file, and a lock in it.

$XDG_RUNTIME_DIR/vedette/<name>/run.json   an `Address` as JSON
$XDG_STATE_HOME/vedette/<name>/redis/      what the embedded server keeps
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec
import platformdirs

from pipeline.errors import ConfigError
from workers.changes import Fingerprint


class Address(msgspec.Struct, frozen=True):
    """What another terminal must know of a run."""

    pid: int
    redis: str
    prefix: str
    cameras: tuple[str, ...]
    page: str | None = None  # the URL before /metrics
    config: Fingerprint | None = None  # what it runs


class RunDirectory:
    """This run's folder, locked while it runs: a second run of the same config is refused."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = _runtime() / name
        make_private(self.path, "XDG_RUNTIME_DIR")
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> RunDirectory:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            running = read_address(self.name)
            who = f" (process {running.pid})" if running else ""
            raise ConfigError(
                f"a run of {self.name} is going on already{who}: stop it, or run a config file "
                "of another name"
            ) from None
        return self

    def __exit__(self, *exception: object) -> None:
        (self.path / "run.json").unlink(missing_ok=True)
        os.close(self._lock)

    @property
    def state(self) -> Path:
        """Where the embedded server keeps its data from run to run."""
        folder = _state() / self.name / "redis"
        make_private(folder, "XDG_STATE_HOME")
        return folder

    @property
    def spool(self) -> Path:
        """Where live records wait for Redis, where the config asks for it."""
        folder = _state() / self.name / "spool"
        make_private(folder, "XDG_STATE_HOME")
        return folder

    def announce(self, address: Address) -> None:
        draft = self.path / "run.json.new"
        draft.write_bytes(msgspec.json.encode(address))
        draft.chmod(0o600)  # a URL may hold a password
        draft.replace(self.path / "run.json")


def make_private(folder: Path, variable: str) -> None:
    """A folder that is this user's alone. Raises ConfigError naming the variable that places it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made ({error.strerror}): set {variable} to a folder of yours"
        ) from None


def read_address(name: str) -> Address | None:
    """The address of the run of this name that goes on, None when there is none."""
    try:
        data = (_runtime() / name / "run.json").read_bytes()
        address = msgspec.json.decode(data, type=Address)
    except (OSError, msgspec.MsgspecError):
        return None
    return address if is_going_on(address) else None


def runs() -> dict[str, Address]:
    """The runs of this user that go on, by name."""
    try:
        names = [path.name for path in _runtime().iterdir()]
    except OSError:
        return {}
    return {name: address for name in names if (address := read_address(name))}


def where() -> str:
    """The folder that runs are looked for in, for a sentence."""
    variable = "XDG_RUNTIME_DIR" if os.environ.get("XDG_RUNTIME_DIR") else "without XDG_RUNTIME_DIR"
    return f"{_runtime()} ({variable})"


def is_going_on(address: Address) -> bool:
    """Whether the run's process is still there: one that was killed leaves its address behind."""
    try:
        os.kill(address.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _runtime() -> Path:
    """`$XDG_RUNTIME_DIR/vedette`, or a folder of the state directory where there is none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "vedette" if runtime else _state() / "run"


def _state() -> Path:
    return Path(platformdirs.user_state_dir("vedette"))
