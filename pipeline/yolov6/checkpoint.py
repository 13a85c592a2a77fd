"""An official checkpoint (`torch.save` of a whole model) → its state dict, without running it.

A pickle is a program: it may name any function and call it. Here it can name tensors, containers
and the classes of YOLOv6 and of `torch.nn`; the latter become inert stand-ins, of which only the
attributes are kept. Any other name, and any opcode that `torch.save` does not write, is refused.
The archive must be stored, not compressed, so nothing in it can be larger than the file is.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipeline.errors import WeightsError

_MAX_PICKLE = 8 << 20  # bytes; the largest of the family writes 1 MB
_MAX_DEPTH = 32  # modules inside modules
_MAX_MODULES = 20_000
_MAX_NAME = 200  # characters of a class's
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# What pickle's protocol 2 writes, which is what `torch.save` uses.
_PROTOCOL_2 = (
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE"
    " EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS"
    " BINGET LONG_BINGET BINPUT LONG_BINPUT GLOBAL REDUCE NEWOBJ BUILD BINPERSID"
)
_OPCODES = frozenset(_PROTOCOL_2.split())
_NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
# What a wrong program makes the unpickler raise: bad operands, an empty stack, no such memo.
_BROKEN = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is wanted of a checkpoint."""

    state: dict[str, np.ndarray]  # official keys; floating tensors as float32
    names: tuple[str, ...] | None  # of the classes, where the checkpoint has them
    modules: dict[str, str]  # the class of each module by its path; none in a bare state dict


def read(path: Path) -> Checkpoint:
    """The weights in a `.pt` of torch 1.6 or later: EMA if there is one, else the model.

    Raises `WeightsError` on anything else, whatever the bytes are; runs and writes nothing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = _Archive(path, archive).load()
    except (zipfile.BadZipFile, NotImplementedError, OSError) as error:
        raise WeightsError(f"{path} is not a whole checkpoint of torch.save: {error}") from error
    except _BROKEN as error:
        raise WeightsError(f"{path} is damaged: its pickle makes no sense") from error
    model = content
    if isinstance(content, dict):
        model = content.get("ema") or content.get("model") or content
    modules = dict(_walk(path, model)) if isinstance(model, _StandIn) else {}
    state = dict(_tensors(path, model, modules))
    if not state:
        raise WeightsError(f"{path} holds no model: no tensors were found in it")
    kinds = {name.rstrip("."): module.kind for name, module in modules.items()}
    return Checkpoint(state, _names(model), kinds)


class _StandIn:
    """An object of a class that is not built: it takes any arguments, and keeps attributes."""

    kind = ""  # the class that it stands for, with its module
    attributes: dict[Any, Any]

    def __new__(cls, *_: object) -> _StandIn:
        self = super().__new__(cls)
        self.attributes = {}
        return self

    def __init__(self, *_: object) -> None:
        pass


@lru_cache(maxsize=256)
def _stand_in(kind: str) -> type[_StandIn]:
    return type("_StandIn", (_StandIn,), {"kind": kind})


class _Archive:
    """The zip file: `<root>/data.pkl` and one `<root>/data/<key>` per storage."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        self._entries = {entry.filename: entry for entry in archive.infolist()}
        self._storages: dict[str, np.ndarray] = {}
        self._check()
        pickles = [name for name in self._entries if name.count("/") == 1]
        pickles = [name for name in pickles if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsError(f"{path} is a zip file, but not one of torch.save: no data.pkl")
        self._pickle = pickles[0]
        self._folder = self._pickle.removesuffix("data.pkl") + "data/"

    def _check(self) -> None:
        """Nothing compressed or encrypted, and no more bytes inside than outside."""
        entries = self._entries.values()
        if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1 for e in entries):
            raise WeightsError(f"{self._path} is compressed; torch.save never does that: refused")
        if sum(entry.file_size for entry in entries) > self._path.stat().st_size:
            raise WeightsError(f"{self._path} claims to hold more than its own size: refused")

    def load(self) -> Any:
        if self._entries[self._pickle].file_size > _MAX_PICKLE:
            raise WeightsError(f"{self._path} has a pickle of more than {_MAX_PICKLE >> 20} MB")
        program = self._archive.read(self._pickle)
        return _Unpickler(self._path, program, self._storage).load()

    def _storage(self, name: str, key: str, count: int) -> np.ndarray:
        """`count` elements of the storage type `name`, flat; bfloat16 widened to float32."""
        if key not in self._storages:
            dtype = np.dtype(_STORAGES[name])
            entry = self._entries.get(self._folder + key)
            if entry is None or entry.file_size != count * dtype.itemsize:
                raise WeightsError(
                    f"{self._path} is damaged: the storage {key[:40]!r} is not whole"
                )
            data = np.frombuffer(self._archive.read(entry), dtype)
            if name == "BFloat16Storage":
                data = (data.astype(np.uint32) << 16).view(np.float32)
            self._storages[key] = data
        return self._storages[key]


class _StorageType(str):
    """The name of a storage class, as the pickle's persistent ids hold it."""

    __slots__ = ()


class _Opcodes(dict[int, Callable[[Any], None]]):
    """What each opcode does; one that `torch.save` does not write is refused."""

    def __missing__(self, code: int) -> Callable[[Any], None]:
        return lambda unpickler: unpickler.refuse(_NAMES.get(code, f"0x{code:02x}"))


# The one in Python: the one in C reserves memory for a memo as large as the pickle says.
class _Unpickler(pickle._Unpickler):
    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = _Opcodes(
        (code, action)
        for code, action in pickle._Unpickler.dispatch.items()  # type: ignore[attr-defined, unused-ignore]
        if _NAMES[code] in _OPCODES
    )

    def __init__(
        self, path: Path, program: bytes, storage: Callable[[str, str, int], np.ndarray]
    ) -> None:
        super().__init__(io.BytesIO(program))
        self._path = path
        self._read_storage = storage

    def refuse(self, opcode: str) -> None:
        raise WeightsError(f"{self._path} uses the pickle opcode {opcode}: refused")

    def find_class(self, module: str, name: str, /) -> Any:
        """What a name in the pickle stands for; all but these are refused."""
        full = f"{module}.{name}"
        if full in _KNOWN:
            return _KNOWN[full]
        if module == "torch" and name in _STORAGES:
            return _StorageType(name)
        is_module = module.startswith(("yolov6.", "torch.nn.modules.")) and "." not in name
        if is_module and len(full) <= _MAX_NAME:
            return _stand_in(full)
        raise WeightsError(f"{self._path} wants to run {full[:120]}, which no model needs: refused")

    def persistent_load(self, pid: Any, /) -> np.ndarray:
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, _StorageType) or type(key) is not str:
            raise pickle.UnpicklingError("not a storage")
        if type(count) is not int or count < 0:
            raise pickle.UnpicklingError("not a number of elements")
        return self._read_storage(storage, key, count)

    def load_build(self) -> None:
        """Attributes go to stand-ins alone; a container's own are not needed."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _StandIn):
            target.attributes = state if isinstance(state, dict) else {}
        elif not isinstance(target, OrderedDict):
            raise pickle.UnpicklingError("attributes for something that has none")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items(((key, value),))

    def load_setitems(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined, unused-ignore]
        self._set_items(zip(items[::2], items[1::2], strict=True))

    def _set_items(self, items: Iterable[tuple[Any, Any]]) -> None:
        """Keys are plain: the hash of a tuple of tuples of tuples may take for ever."""
        target = self.stack[-1]
        for key, value in items:
            if type(target) not in (dict, OrderedDict) or type(key) not in (str, int, bool):
                raise pickle.UnpicklingError("not an item of a dict")
            target[key] = value

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: object) -> np.ndarray:
    """A view of a storage, as `torch._utils._rebuild_tensor_v2` makes it; nothing is copied."""
    if not isinstance(storage, np.ndarray) or storage.ndim != 1 or len(size) != len(stride):
        raise pickle.UnpicklingError("a tensor without a storage")
    if not all(type(n) is int and n >= 0 for n in (offset, *size, *stride)) or len(size) > 8:
        raise pickle.UnpicklingError("a tensor of no possible shape")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count == 0:
        return np.empty(size, storage.dtype)
    if count > len(storage) or last >= len(storage):
        raise pickle.UnpicklingError("a tensor larger than its storage")
    strides = tuple(step * storage.itemsize for step in stride)
    return np.ndarray(tuple(size), storage.dtype, storage[offset:].data, 0, strides)


def _new_ordered_dict() -> OrderedDict[Any, Any]:
    """Without arguments, as protocol 2 calls it; the items follow."""
    return OrderedDict()


def _new_set(items: Any) -> frozenset[str]:
    return frozenset(item for item in items if isinstance(item, str))


def _rebuild_parameter(data: Any, *_: object) -> Any:
    return data


_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": _new_ordered_dict,
    "__builtin__.set": _new_set,
    "builtins.set": _new_set,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    # Numbers of the training that the file ends with; read by nobody here.
    "numpy.core.multiarray.scalar": _StandIn,
    "numpy._core.multiarray.scalar": _StandIn,
    "numpy.dtype": _StandIn,
    "_codecs.encode": _StandIn,
}


def _tensors(
    path: Path, model: Any, modules: Mapping[str, _StandIn]
) -> Iterator[tuple[str, np.ndarray]]:
    """The state dict of a model's modules (or of a plain dict of tensors), floats widened."""
    room = 2 * path.stat().st_size  # bytes; a tensor or two may be held by two names
    for key, array in _state(modules) if modules else _plain(model):
        room -= array.nbytes
        if room < 0:
            raise WeightsError(f"{path} unfolds to more than its own size: refused")
        yield key, array.astype(np.float32) if array.dtype.kind == "f" else array


def _plain(model: Any) -> Iterator[tuple[str, np.ndarray]]:
    items = model.items() if isinstance(model, dict) else ()
    yield from ((k, v) for k, v in items if isinstance(k, str) and isinstance(v, np.ndarray))


def _state(modules: Mapping[str, _StandIn]) -> Iterator[tuple[str, np.ndarray]]:
    """As `nn.Module.state_dict`: the parameters and the buffers of each module."""
    for prefix, module in modules.items():
        transient = module.attributes.get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, value in _members(module, kind):
                if isinstance(value, np.ndarray) and name not in transient:
                    yield prefix + name, value


def _walk(path: Path, model: _StandIn) -> Iterator[tuple[str, _StandIn]]:
    """Every module below `model`, and itself, by its path, which ends in a dot or is empty."""
    pending, seen = [("", model, 0)], 0
    while pending:
        prefix, module, depth = pending.pop()
        seen += 1
        if seen > _MAX_MODULES or depth > _MAX_DEPTH or len(prefix) > 1000:
            raise WeightsError(f"{path} nests its modules in a way that no network does: refused")
        yield prefix, module
        children = [
            (f"{prefix}{name}.", child, depth + 1)
            for name, child in _members(module, "_modules")
            if isinstance(child, _StandIn)
        ]
        pending += reversed(children)


def _members(module: _StandIn, kind: str) -> Iterator[tuple[str, Any]]:
    members = module.attributes.get(kind)
    if isinstance(members, dict):
        yield from ((name, value) for name, value in members.items() if isinstance(name, str))


def _names(model: Any) -> tuple[str, ...] | None:
    """`model.names`: a list, or a dict {index: name}."""
    names = model.attributes.get("names") if isinstance(model, _StandIn) else None
    if isinstance(names, dict):
        names = [names.get(i) for i in range(len(names))]
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) or None
