"""A data set on disk, as YOLO lays it out.

    data.yaml            names: a list, or {number: name}; train, val: folders of pictures
    images/…/x.jpg       a picture
    labels/…/x.txt       an object a line: class cx cy w h, as shares of the picture's sides

Without data.yaml the pictures are all of images/, and the names have to be given. A picture without
a labels file shows nothing. What does not fit is one `ConfigError`: of labels, names and the kinds
of pictures at once, of the pixels of a picture when it is first asked for.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import ConfigError
from pipeline.samples import Sample

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # of 8 bits
_UNREADABLE = (  # what Pillow says of bytes that are no picture
    *(OSError, UnidentifiedImageError, Image.DecompressionBombError, struct.error),
    *(SyntaxError, TypeError, ValueError),
)
_KEYS = ("names", "path", "train", "val")
_KEPT_BYTES = 512 << 20  # of decoded pictures, in each process that loads


class Folder:
    """`Pictures` of a folder. Labels are read at once, pictures when they are asked for."""

    def __init__(self, images: Path, names: Sequence[str]) -> None:
        """Raises ConfigError where the folder or its labels are not what they should be."""
        self._names = tuple(names)
        self._files = _pictures(images)
        self._labels = [_labels(_label_file(images, file), len(names)) for file in self._files]
        self.identity = self._identify()
        if not any(len(class_ids) for class_ids, _ in self._labels):
            first = _label_file(images, self._files[0])
            raise ConfigError(
                f"no picture of {images} has an object: looked for {first} and others"
            )
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._room = _KEPT_BYTES

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        image = self._image(index)
        height, width = image.shape[:2]
        class_ids, shares = self._labels[index]
        middle, half = shares[:, :2], shares[:, 2:] / 2
        corners = np.concatenate((middle - half, middle + half), 1).clip(0, 1)
        boxes = (corners * np.array([width, height] * 2)).astype(np.float32)
        return Sample(image, boxes, class_ids)

    def _image(self, index: int) -> NDArray[np.uint8]:
        if index in self._kept:
            return self._kept[index]
        path = self._files[index]
        try:
            with Image.open(path) as file:
                if file.mode not in _MODES:
                    raise ConfigError(f"{path} has pixels of {file.mode!r}, must be of 8 bits")
                image = np.array(ImageOps.exif_transpose(file).convert("RGB"))
        except _UNREADABLE as error:
            raise ConfigError(f"{path} cannot be read as a picture: {error}") from None
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._kept[index] = image
        return image

    def _identify(self) -> str:
        """Of names, sizes and labels of all pictures."""
        digest = hashlib.sha256()
        for file, (class_ids, shares) in zip(self._files, self._labels, strict=True):
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
            digest.update(class_ids.tobytes() + shares.tobytes())
        return digest.hexdigest()


def open_folder(path: Path, names: Sequence[str] | None, *, part: str = "train") -> Folder:
    """The data set at `path`, a folder or its data.yaml; `part` is train or val.

    Without a `val` in data.yaml, or without a data.yaml, that part is the train part. `names` come
    before those of data.yaml.
    """
    file = path if path.suffix in (".yaml", ".yml") else path / "data.yaml"
    if not _is_file(file):
        if not path.exists():
            raise ConfigError(f"{path} is not there")
        if names is None:
            raise ConfigError(f"{file} is not there to name the classes: give --names FILE")
        return Folder(path, names)
    content = _yaml(file)
    names = names or _names(file, content.get("names"))
    for key in set(map(str, content)).difference(_KEYS):  # there are others, of other tools
        if meant := get_close_matches(key, _KEYS, 1, 0.7):
            raise ConfigError(f"{file}: found the key {key!r}, did you mean {meant[0]!r}?")
    place = content.get(part) or content.get("train") or "images"
    root = content.get("path") or ""
    for key, value in ((part, place), ("path", root)):
        if not isinstance(value, str):
            kind = type(value).__name__
            raise ConfigError(f"{file}: {key}: found a {kind}, must be the name of one folder")
    return Folder(file.parent / root / place, names)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise ConfigError(f"{str(path)[:80]} cannot be looked at: {error.strerror}") from None


def _yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise ConfigError(f"{file} cannot be read: it is nested too deeply") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise ConfigError(f"{file} cannot be read: {reason}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file} must hold names, train and val")
    return content


def _names(file: Path, names: Any) -> list[str]:
    if isinstance(names, dict):
        names = [names.get(i) for i in range(len(names))]
    if not isinstance(names, list) or not names or not all(_is_text(name) for name in names):
        raise ConfigError(f"{file}: names must be a list of texts, or {{0: name, 1: name …}}")
    return names


def _is_text(name: Any) -> bool:
    """One that can be written down: half a surrogate pair cannot."""
    return isinstance(name, str) and name.isprintable() and bool(name.strip())


def _pictures(images: Path) -> list[Path]:
    """In the order of their paths; of a folder with images/ in it, those in there."""
    try:
        if (images / "images").is_dir():
            images = images / "images"
        is_folder = images.is_dir()
    except (OSError, ValueError):
        is_folder = False
    if not is_folder:
        raise ConfigError(f"{str(images)[:200]} is not a folder of pictures")
    found = sorted(file for file in images.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not found:
        raise ConfigError(f"{images} holds no pictures ({', '.join(SUFFIXES)})")
    return found


def _label_file(root: Path, image: Path) -> Path:
    """The same path with the last `images` in it replaced by `labels`; else beside the picture."""
    parts = list(image.parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] == "images":
            return Path(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt")
    return image.with_suffix(".txt")


def _labels(file: Path, classes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """class ids [n] and cx, cy, w, h [n, 4]; of two equal lines one."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    rows = dict.fromkeys(
        _row(file, number, line, classes) for number, line in enumerate(lines, 1) if line.strip()
    )
    table = np.array(list(rows), np.float64).reshape(-1, 5)
    return table[:, 0].astype(np.int64), table[:, 1:]


def _row(file: Path, number: int, line: str, classes: int) -> tuple[float, ...]:
    try:
        row = tuple(float(word) for word in line.split())
    except ValueError:
        row = ()
    if len(row) != 5 or not all(0 <= share <= 1 for share in row[1:]):
        raise ConfigError(
            f"{file}, line {number}: found {line.strip()[:60]!r}, must be class cx cy w h,"
            " the last four from 0 to 1"
        )
    if not row[0].is_integer() or not 0 <= row[0] < classes:
        raise ConfigError(f"{file}, line {number}: class {line.split()[0]} is none of {classes}")
    return row
