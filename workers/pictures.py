"""The data sets that a command line may name: a folder, its data.yaml, or scenes.

    scenes?seed=1&length=4000&codec=jpeg&per_scene=20

Each key may be left out; `per_scene` is how many pictures come from one street. What is to be
validated with is by default another seed, so other scenes, and has gone through H.264, as the
pictures of a camera have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from pipeline.errors import ConfigError
from pipeline.samples import Pictures

_SCENES = "scenes"
_LARGEST = {"seed": 10**9 - 1, "length": 10**6, "per_scene": 1000}
_LENGTHS = {"train": 4000, "val": 400}
_CODECS = {"train": "jpeg", "val": "h264"}


def open_pair(data: str, validate: str | None, names: str | None) -> tuple[Pictures, Pictures]:
    """What to train with and what to validate with. Raises ConfigError."""
    known = _names(names)
    pictures = _open(data, known, "train")
    validation = _open(validate or _other(data), known, "val")
    if validation.names != pictures.names:
        raise ConfigError("--validate: the pictures there have other classes than those of --data")
    return pictures, validation


def draw(pictures: Pictures, done: Callable[[int, int], None]) -> None:
    """Draws scenes once, before anything reads them; `done` hears how many of how many."""
    from pipeline.scenes import Scenes

    if isinstance(pictures, Scenes):
        pictures.draw_all(lambda count: done(count, len(pictures)))


def _open(place: str, names: Sequence[str] | None, part: str) -> Pictures:
    word, _, query = place.partition("?")
    if word == _SCENES:
        return _scenes(place, query, names, part)
    from pipeline.yolov6.train.folder import open_folder

    return open_folder(Path(place), names, part=part)


def _other(place: str) -> str:
    """What goes with `place` to validate: of scenes those of the next seed, else its own."""
    word, _, query = place.partition("?")
    if word != _SCENES:
        return place
    seed = (_keys(place, query).get("seed", 1) + 1) % (_LARGEST["seed"] + 1)
    return f"{_SCENES}?seed={seed}"


def _scenes(place: str, query: str, names: Sequence[str] | None, part: str) -> Pictures:
    from pipeline.scenes import Scenes
    from pipeline.scenes.sets import PER_SCENE

    if names is not None:
        raise ConfigError("--names: scenes name their own classes")
    keys = _keys(place, query)
    codec = dict(parse_qsl(query)).get("codec", _CODECS[part])
    try:
        return Scenes(
            keys.get("seed", 1),
            keys.get("length", _LENGTHS[part]),
            codec=codec,
            per_scene=keys.get("per_scene", PER_SCENE),
        )
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


def _keys(place: str, query: str) -> dict[str, int]:
    """The numbers in the query; what else is in it is refused, but for the codec."""
    keys, accepted = {}, ", ".join((*_LARGEST, "codec"))
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key == "codec":
            continue
        if key not in _LARGEST:
            raise ConfigError(f"{place}: found the key {key!r}, must be of {accepted}")
        if not value.isdecimal() or len(value) > 9 or int(value) > _LARGEST[key]:
            raise ConfigError(f"{place}: {key} must be a whole number up to {_LARGEST[key]:,}")
        keys[key] = int(value)
    for key in ("length", "per_scene"):
        if keys.get(key) == 0:
            raise ConfigError(f"{place}: {key} must be at least 1")
    return keys


def _names(file: str | None) -> Sequence[str] | None:
    if file is None:
        return None
    if file == "coco":
        from pipeline.yolov6.importer import COCO

        return COCO
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--names: {file} cannot be read: {error}") from None
    if not (found := [line.strip() for line in lines if line.strip()]):
        raise ConfigError(f"--names: {file} holds no names")
    return found
