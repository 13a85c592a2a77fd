"""Our weights file: safetensors with the fused state dict, and in its metadata what it is.

    format       "vedette.weights/1"
    variant      a row of `variants.VARIANTS`
    classes      their names, a JSON list
    input_size   [height, width] that it was trained for, JSON
    source       sha-256 of the file it was imported from
    ranges       where `vedette weights quantize` has measured them: {convolution: [low, high]} of
                 what it is given, JSON; those named may run in int8

Tensors are float32, or float16 to be stored in half the space; the network has float32 either way.

Reading needs no torch and trusts nothing: every length, shape and offset is checked against the
file before anything is allocated for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ConfigError, WeightsError
from pipeline.yolov6.variants import VARIANTS

Shapes = dict[str, tuple[int, ...]]
Ranges = Mapping[str, tuple[float, float]]

FORMAT = "vedette.weights/1"
OURS = Path(__file__).with_name("models") / "vedette-p.safetensors"  # it knows the scenes alone
IMPORT = "run `vedette weights import`"

_MAX_HEADER = 16 << 20  # bytes; the largest of the family needs 0.2 MB
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}
_MAX_SIDE = 8192  # pixels of the network's input
_WIDEST = 1e30  # of a range: anything that is multiplied with it stays finite
_STORED = {"<f4": "F32", "<f2": "F16"}  # what a weights file may hold


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """What a weights file says of itself, checked."""

    variant: str
    classes: tuple[str, ...]
    input_size: tuple[int, int]  # height, width
    stride: int  # the largest: input sizes are multiples of it
    digest: str  # sha-256 of this file, its first 12 hex digits
    source_digest: str  # sha-256 of the file that it was imported from, in full
    tensors: int
    parameters: int
    ranges: Ranges  # empty: nobody has measured any


@dataclass(frozen=True, slots=True)
class _Tensor:
    dtype: str  # a key of _DTYPES
    shape: tuple[int, ...]
    begin: int  # bytes into the file
    end: int

    def array(self, data: bytearray) -> np.ndarray:
        """A copy of its own, so that it is aligned and writable; bfloat16 is widened."""
        count = math.prod(self.shape)
        flat = np.frombuffer(data, _DTYPES[self.dtype], count, self.begin)
        if self.dtype == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return flat.reshape(self.shape).copy()


def inspect(path: str | Path) -> WeightsInfo:
    """What the weights file at `path` is, from its header; raises `WeightsError`, one sentence."""
    return describe(path)[0]


def check_size(size: tuple[int, int], weights: WeightsInfo) -> None:
    """Raises ConfigError for a size (height, width) that a command line may not ask for."""
    if any(side % weights.stride or not 0 < side <= _MAX_SIDE for side in size):
        accepted = f"multiples of {weights.stride} up to {_MAX_SIDE} for {weights.variant}"
        raise ConfigError(f"--input-size: found {size[0]} {size[1]}, must be {accepted}")


def describe(path: str | Path) -> tuple[WeightsInfo, Shapes]:
    """As `inspect`, and the shapes of the tensors; none of them is read."""
    path = Path(path)
    with _open(path) as file:
        metadata, tensors = _header(path, file)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    variant, classes, input_size = _described(path, metadata)
    if odd := [key for key, tensor in tensors.items() if tensor.dtype not in _STORED.values()]:
        found = tensors[odd[0]].dtype
        raise WeightsError(f"{path} holds {odd[0][:80]} as {found}, not F32 or F16")
    shapes = shapes_of(tensors)
    if head_size(shapes)[0] != len(classes):
        raise WeightsError(f"{path} names {len(classes)} classes but its network predicts others")
    info = WeightsInfo(
        variant=variant,
        classes=classes,
        input_size=input_size,
        stride=VARIANTS[variant].strides[-1],
        digest=digest[:12],
        source_digest=metadata.get("source", ""),
        tensors=len(tensors),
        parameters=sum(map(math.prod, shapes.values())),
        ranges=_ranges(path, metadata, shapes),
    )
    return info, shapes


def read(path: str | Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the tensors of any safetensors file; raises `WeightsError`."""
    path = Path(path)
    with _open(path) as file:
        metadata, tensors = _header(path, file)
        file.seek(0)
        data = bytearray(file.read())
    if any(tensor.end > len(data) for tensor in tensors.values()):
        raise WeightsError(f"{path} changed while it was read")
    return metadata, {key: tensor.array(data) for key, tensor in tensors.items()}


def check_output(path: Path) -> None:
    """Makes its folder. Raises `WeightsError` for a file that could not be written, or not so."""
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path} does not end in .safetensors, as a weights file must")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror}") from error


def save(
    path: Path,
    state: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
    *,
    half: bool = False,
) -> None:
    """Write a weights file, whole or not at all; with `half`, its numbers in float16.

    `description` holds variant, classes, input_size, source and perhaps ranges. Raises
    `WeightsError` where the place cannot be written, or a number not be stored.
    """
    largest = np.finfo(np.float16 if half else np.float32).max
    for key, array in state.items():
        if not (np.abs(array) <= largest).all():
            kind = "float16" if half else "float32"
            raise WeightsError(f"{path} cannot be written: {key} has a number that is no {kind}")
    metadata = {
        "format": FORMAT,
        "variant": description["variant"],
        "classes": json.dumps(list(description["classes"]), ensure_ascii=False),
        "input_size": json.dumps(list(description["input_size"])),
        "source": description["source"],
    }
    if ranges := description.get("ranges"):
        metadata["ranges"] = json.dumps(dict(sorted(ranges.items())))
    write_whole(path, _serialised(metadata, state, "<f2" if half else "<f4"))


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that it is there whole, or as it was before, whenever the machine stops.

    Makes its folder. Raises `WeightsError` where the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise WeightsError(f"{path} cannot be written: {error.strerror}") from error


def shapes_of(state: Mapping[str, Any]) -> Shapes:
    """Of whatever has shapes: arrays, or descriptions of tensors."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def head_size(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """Classes and bins that the head predicts, from its shapes alone; 0 and 1 without a head.

    Bins are 1 if it regresses distances, 17 if it predicts distributions over 0 … 16.
    """
    classes, sides = (shapes.get(f"detect.{kind}_preds.0.weight") for kind in ("cls", "reg"))
    return classes[0] if classes else 0, max(1, sides[0] // 4) if sides else 1


def differences(expected: Shapes, found: Shapes) -> list[tuple[str, str]]:
    """What keeps shapes `found` from being those `expected`: keys, each with what is wrong."""
    wrong = []
    for key, shape in expected.items():
        if key not in found:
            wrong.append((key, "is missing"))
        elif found[key] != shape:
            wrong.append((key, f"is {_size(found[key])} instead of {_size(shape)}"))
    return wrong + [(key, "has no place in it") for key in found if key not in expected]


def open_file(path: Path) -> BufferedReader:
    """The file for reading, or a `WeightsError` that says why not: missing, a directory, empty."""
    try:
        if not path.is_file():
            kind = "is a directory" if path.is_dir() else "does not exist"
            kind = "is not a regular file" if path.exists() and not path.is_dir() else kind
            raise WeightsError(f"{path} {kind}; a weights file is needed")
        if path.stat().st_size == 0:
            raise WeightsError(f"{path} is empty; a weights file is needed")
        return path.open("rb")
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def _open(path: Path) -> BufferedReader:
    file = open_file(path)
    magic = file.read(4)
    file.seek(0)
    if magic[:2] in (b"PK", b"\x80\x02"):  # a zip of torch.save, or a bare pickle
        file.close()
        raise WeightsError(f"{path} is a PyTorch checkpoint, not safetensors: {IMPORT}")
    return file


def _header(path: Path, file: BufferedReader) -> tuple[dict[str, str], dict[str, _Tensor]]:
    """The safetensors header: 8 bytes of length, then JSON {name: dtype, shape, data_offsets}."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 10 or not 2 <= length <= min(_MAX_HEADER, size - 8):
        raise WeightsError(f"{path} is not a safetensors file, or is cut short")
    try:
        header = json.loads(file.read(length).decode())
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not a safetensors file: its header is not JSON") from error
    if not isinstance(header, dict):
        raise WeightsError(f"{path} is not a safetensors file: its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise WeightsError(f"{path} has metadata that are not strings")
    tensors = {key: _tensor(path, key, value, 8 + length) for key, value in header.items()}
    _check_coverage(path, tensors, 8 + length, size)
    return metadata, tensors


def _tensor(path: Path, key: str, value: Any, start: int) -> _Tensor:
    try:
        dtype, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
        sane = all(type(n) is int and n >= 0 for n in (*shape, begin, end)) and len(shape) <= 8
        sane = sane and end - begin == math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize
    except (KeyError, TypeError, ValueError):
        sane = False
    if not sane:
        raise WeightsError(f"{path} describes the tensor {key[:80]!r} in a way that cannot be")
    return _Tensor(dtype, shape, start + begin, start + end)


def _check_coverage(path: Path, tensors: Mapping[str, _Tensor], start: int, size: int) -> None:
    """Tensors follow each other without gap or overlap, to the end of the file."""
    at = start
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != at:
            raise WeightsError(f"{path} is damaged: its tensors overlap or leave gaps")
        at = tensor.end
    if at != size:
        raise WeightsError(f"{path} is {size} bytes long, but its header tells of {at}")


def _described(
    path: Path, metadata: Mapping[str, str]
) -> tuple[str, tuple[str, ...], tuple[int, int]]:
    if metadata.get("format") != FORMAT:
        raise WeightsError(f"{path} is safetensors, but not weights of Vedette: {IMPORT}")
    variant = metadata.get("variant", "")
    if variant not in VARIANTS:
        raise WeightsError(f"{path} holds {variant!r}; known variants are {', '.join(VARIANTS)}")
    try:
        classes = json.loads(metadata["classes"])
        height, width = json.loads(metadata["input_size"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} does not say its classes and input size") from error
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise WeightsError(f"{path} has class names that are not strings")
    stride = VARIANTS[variant].strides[-1]
    if not all(type(n) is int and n > 0 and n % stride == 0 for n in (height, width)):
        raise WeightsError(f"{path} has an input size that is not a multiple of {stride}")
    return variant, tuple(classes), (height, width)


def _ranges(path: Path, metadata: Mapping[str, str], shapes: Shapes) -> Ranges:
    try:
        given = json.loads(metadata.get("ranges", "{}"))
        ranges = {name: (_number(low), _number(high)) for name, (low, high) in given.items()}
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WeightsError(f"{path} has ranges that are no pairs of numbers") from error
    for name, (low, high) in ranges.items():
        if f"{name}.weight" not in shapes:
            raise WeightsError(f"{path} has a range of {name[:80]!r}, which is no part of it")
        if not (-_WIDEST <= low <= 0 < high <= _WIDEST):
            raise WeightsError(f"{path} has a range of {name[:80]} that cannot be: {low}, {high}")
    return ranges


def _number(value: object) -> float:
    if type(value) not in (int, float):
        raise TypeError
    return float(value)  # type: ignore[arg-type]


def _serialised(metadata: Mapping[str, str], state: Mapping[str, np.ndarray], dtype: str) -> bytes:
    """The bytes of a safetensors file: the same weights give the same bytes, and so digest.

    (The library's own writer orders the metadata anew each time.)
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    blocks, at = [], 0
    for key in sorted(state):
        block = np.ascontiguousarray(state[key], dtype).tobytes()
        offsets = [at, at := at + len(block)]
        shape = list(state[key].shape)
        header[key] = {"dtype": _STORED[dtype], "shape": shape, "data_offsets": offsets}
        blocks.append(block)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, *blocks))


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape) or "a scalar"
