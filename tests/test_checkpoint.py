from __future__ import annotations

import io
import os
import pickle
import random
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import WeightsError
from pipeline.yolov6 import checkpoint, load
from pipeline.yolov6.importer import import_weights
from tests import reference

STORAGE = object()  # pickled by its persistent id


class Calls:
    """What a hostile pickle holds: an instruction to call something."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def archive(
    path: Path, program: bytes, compression: int = zipfile.ZIP_STORED, **data: bytes
) -> Path:
    """A file as `torch.save` lays it out."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("model/data.pkl", program)
        for name, content in data.items():
            file.writestr(f"model/data/{name}", content)
    return path


def tensor(size: tuple[int, ...], stride: tuple[int, ...], count: int) -> bytes:
    """The pickle of a dict that holds one float tensor in the storage "0"."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if obj is STORAGE else None

    class Rebuilt:
        def __reduce__(self) -> Any:
            rebuild = torch._utils._rebuild_tensor_v2  # type: ignore[attr-defined]
            return rebuild, (STORAGE, 0, size, stride, False, None)

    program = io.BytesIO()
    Pickler(program, protocol=2).dump({"model": {"weight": Rebuilt()}})
    return program.getvalue()


@pytest.mark.parametrize("name", ["yolov6n-0.4.x", "yolov6n-0.4.x.distill_ns"])
@torch.inference_mode()
def test_an_official_checkpoint_gives_its_numbers(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "yolov6"
    output = tmp_path / "n.safetensors"

    info = import_weights(folder / "checkpoints" / f"{name}.pt", output)

    assert (info.variant, info.stride, len(info.classes)) == ("0.4.x-n", 32, 80)
    boxes, scores = load(output)(reference.checkpoint_images(folder))
    with np.load(folder / "checkpoints" / f"{name}.expected.npz") as expected:
        rows, pred = expected["rows"], expected["pred"]
    assert np.abs(boxes[:, rows].numpy() - reference.to_corners(pred)).max() <= 2e-3
    assert np.abs(scores[:, rows].numpy() - pred[..., 5:]).max() <= 2e-5


def test_a_checkpoint_has_all_keys_as_float32_and_its_names(shared: Path) -> None:
    found = checkpoint.read(shared / "yolov6" / "checkpoints" / "yolov6n-0.4.x.pt")

    assert len(found.state) == 756
    floats = [array for array in found.state.values() if array.dtype.kind == "f"]
    assert {array.dtype for array in floats} == {np.dtype(np.float32)}
    assert found.names is None or len(found.names) == 80
    assert found.modules["backbone.stem"] == "yolov6.layers.common.RepVGGBlock"


def test_the_average_is_preferred_over_the_model(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"model": {"w": torch.zeros(2)}, "ema": {"w": torch.ones(2)}}, path)

    assert checkpoint.read(path).state["w"].tolist() == [1, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_is_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "x.pt"
    values = torch.tensor([[0.5, -1.25], [3.0, 2.0]], dtype=dtype)
    torch.save({"model": {"w": values, "t": values.T}}, path)

    state = checkpoint.read(path).state

    assert state["w"].dtype == np.float32
    assert state["w"].tolist() == [[0.5, -1.25], [3.0, 2.0]]
    assert state["t"].tolist() == [[0.5, 3.0], [-1.25, 2.0]]


@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [
        (os.system, "touch {}", "system"),
        (eval, "open('{}', 'w')", "eval"),
        (exec, "open('{}', 'w')", "exec"),
        (open, "{}", "open"),
        (getattr, "{}", "getattr"),
    ],
)
def test_a_pickle_that_calls_anything_is_refused_and_runs_nothing(
    tmp_path: Path, function: Callable[..., Any], argument: str, name: str
) -> None:
    victim = tmp_path / "written"
    hostile = Calls(function, argument.format(victim))
    path = archive(tmp_path / "x.pt", pickle.dumps({"model": [hostile]}, protocol=2))

    with pytest.raises(WeightsError, match=rf"wants to run \S+\.{name}, .*refused"):
        checkpoint.read(path)

    assert not victim.exists()


def test_calls_nested_in_calls_are_refused(tmp_path: Path) -> None:
    inner = Calls(os.getcwd)
    path = archive(tmp_path / "x.pt", pickle.dumps(Calls(frozenset, [inner]), protocol=2))

    with pytest.raises(WeightsError, match="refused"):
        checkpoint.read(path)


@pytest.mark.parametrize("protocol", [0, 4])
def test_opcodes_that_torch_does_not_write_are_refused(tmp_path: Path, protocol: int) -> None:
    path = archive(tmp_path / "x.pt", pickle.dumps({"model": {}}, protocol))

    with pytest.raises(WeightsError, match="opcode"):
        checkpoint.read(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    program = pickle.dumps({"model": "0" * 1_000_000}, protocol=2)
    path = archive(tmp_path / "x.pt", program, zipfile.ZIP_DEFLATED)

    with pytest.raises(WeightsError, match="compressed"):
        checkpoint.read(path)


@pytest.mark.parametrize(
    ("size", "stride", "count"),
    [
        pytest.param((1 << 20, 1 << 20), (0, 0), 4, id="one element repeated for ever"),
        pytest.param((4, 4), (4, 1), 4, id="beyond the end"),
        pytest.param((2,), (1,), 1 << 40, id="a storage that is not there"),
        pytest.param((-1,), (1,), 4, id="negative"),
    ],
)
def test_tensors_larger_than_their_storage_are_refused(
    tmp_path: Path, size: tuple[int, ...], stride: tuple[int, ...], count: int
) -> None:
    path = archive(tmp_path / "x.pt", tensor(size, stride, count), **{"0": bytes(16)})

    with pytest.raises(WeightsError, match="damaged"):
        checkpoint.read(path)


def test_keys_whose_hash_takes_for_ever_are_refused(tmp_path: Path) -> None:
    key: Any = ()
    for _ in range(60):
        key = (key, key)
    program = pickle.dumps([key], protocol=2)[:-1].replace(b"]", b"}", 1)
    program = program[:-1] + b"K\x01s."  # the list becomes a dict, "append" a value and "setitem"
    path = archive(tmp_path / "x.pt", program)

    with pytest.raises(WeightsError, match="damaged"):
        checkpoint.read(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04 and no more", b"\x80\x02}q\x00.", b"text\n"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)

    with pytest.raises(WeightsError, match=r"x\.pt"):
        checkpoint.read(path)


def test_a_file_cut_short_anywhere_is_refused(shared: Path, tmp_path: Path) -> None:
    whole = (shared / "yolov6" / "checkpoints" / "yolov6n-0.4.x.pt").read_bytes()
    path = tmp_path / "x.pt"

    for share in (0.001, 0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(WeightsError):
            checkpoint.read(path)


@dataclass
class Watch:
    """What the interpreter does that reading a checkpoint must not, while it is armed."""

    armed: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        writes = event == "open" and set(str(arguments[1])) & set("wax+")
        if writes or event.startswith(("os.", "subprocess.", "socket.", "import", "ctypes.")):
            self.seen.append(f"{event} {arguments}"[:200])


@pytest.fixture(scope="module")
def watch() -> Watch:
    found = Watch()
    sys.addaudithook(found)  # for good; it does nothing once it is not armed
    return found


def small_checkpoint(path: Path) -> tuple[bytes, dict[str, bytes]]:
    """Saves a small model to `path`; its pickle, and its storages by their names."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    torch.save({"model": model, "epoch": 3}, path)
    with zipfile.ZipFile(path) as file:
        pickled = next(name for name in file.namelist() if name.endswith("data.pkl"))
        folder = pickled.removesuffix("data.pkl") + "data/"
        names = [name for name in file.namelist() if name.startswith(folder)]
        return file.read(pickled), {name.removeprefix(folder): file.read(name) for name in names}


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, or a piece cut out, or one doubled."""
    bad = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        bad[rng.randrange(len(bad))] = rng.randrange(256)
    if rng.random() < 0.2:
        start = rng.randrange(len(bad))
        piece = bad[start : start + rng.randint(1, 64)]
        bad[start : start + len(piece)] = piece * rng.choice((0, 2))
    return bytes(bad)


@pytest.mark.slow
def test_damaged_copies_are_read_or_refused_but_never_crash(tmp_path: Path, watch: Watch) -> None:
    path = tmp_path / "x.pt"
    program, storages = small_checkpoint(path)
    whole = path.read_bytes()
    checkpoint.read(path)  # what is imported at first use is imported
    "".encode("cp437")  # and so is what zipfile reads other names by
    rng = random.Random(20)
    copies, slowest, refused = 10_000, 0.0, 0

    for copy in range(copies):
        if copy % 3:  # the archive is whole, so that the unpickler sees the damage
            archive(path, damaged(program, rng), **storages)
        else:
            path.write_bytes(damaged(whole, rng))
        start = time.monotonic()
        watch.armed = True
        try:
            checkpoint.read(path)
        except WeightsError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
        finally:
            watch.armed = False
        slowest = max(slowest, time.monotonic() - start)

    assert slowest < 1
    assert refused > copies / 2
    assert watch.seen == []
    assert list(tmp_path.iterdir()) == [path]


def test_an_archive_whose_entries_share_their_bytes_is_refused(tmp_path: Path) -> None:
    """The zip bomb that needs no compression: a thousand names for one piece of the file."""
    path = archive(tmp_path / "x.pt", pickle.dumps({}, protocol=2), **{"0": bytes(100_000)})
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entries = content[start:end]
    last = entries[entries.rindex(b"PK\x01\x02") :]
    many = entries + b"".join(
        last.replace(b"model/data/0", f"model/data/{i}".encode()) for i in range(1, 10)
    )
    tail = bytearray(content[end:])
    tail[8:12] = (11).to_bytes(2, "little") * 2
    tail[12:16] = len(many).to_bytes(4, "little")
    path.write_bytes(content[:start] + many + bytes(tail))

    with pytest.raises(WeightsError, match=r"claims to hold more than its own size|not a whole"):
        checkpoint.read(path)
