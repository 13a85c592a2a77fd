"""Which files a command line's sources are: files, folders, URLs → items, and what was wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError, redact

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
CLIPS = (".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mts", ".ts", ".webm")


@dataclass(frozen=True, slots=True)
class Item:
    """One source: a picture or a clip."""

    url: str  # what `open_source` takes
    shown: str  # for people and for the output: no credentials, only text
    path: Path | None  # None: it comes over the network
    stem: str  # of the names of drawn pictures, unique in a selection
    still: bool  # one picture, to judge by its name

    def drawn(self, frame: int) -> str:
        """The name of the drawn picture of a frame."""
        return f"{self.stem}.jpg" if self.still else f"{self.stem}-{frame:06}.jpg"


@dataclass(frozen=True, slots=True)
class Selection:
    """The sources that are there, in order, and a sentence for each that is not."""

    items: tuple[Item, ...]
    problems: tuple[str, ...]

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)


def select(sources: Sequence[str]) -> Selection:
    """Every file of every source; those of a folder sorted by name, not of folders inside it.

    Raises ConfigError, with a sentence for each source, where not one of them is there.
    """
    urls: list[str] = []
    problems: list[str] = []
    for source in sources:
        try:
            urls += [source] if "://" in source else _expand(Path(source))
        except OSError as error:
            problems.append(f"{_text(source)} cannot be read: {error.strerror}")
        except ConfigError as error:
            problems.append(str(error))
    if not urls:
        raise ConfigError("\n".join(problems))
    stems: dict[str, int] = {}
    return Selection(tuple(_item(url, stems) for url in urls), tuple(problems))


def _expand(path: Path) -> list[str]:
    shown = _text(str(path))
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if _is_source(entry))
        if not names:
            kinds = ", ".join(suffix[1:] for suffix in sorted(PICTURES + CLIPS))
            raise ConfigError(f"{shown} holds no picture and no clip: no file ends in {kinds}")
        return [str(path / name) for name in names]
    if not path.exists():
        raise ConfigError(f"{shown} does not exist; a picture, a clip or a folder is needed")
    if path.is_file() and path.stat().st_size == 0:
        raise ConfigError(f"{shown} is empty; a picture, a clip or a folder is needed")
    return [str(path)]


def _is_source(path: Path) -> bool:
    wanted = path.suffix.lower() in PICTURES + CLIPS
    return wanted and not path.name.startswith(".") and path.is_file()


def _item(url: str, stems: dict[str, int]) -> Item:
    network = "://" in url and not url.startswith("file://")
    path = None if network else Path(url.removeprefix("file://"))
    stem = "stream" if path is None else path.stem
    stems[stem] = stems.get(stem, 0) + 1
    if stems[stem] > 1:
        stem = f"{stem}~{stems[stem]}"
    still = path is not None and path.suffix.lower() in PICTURES
    return Item(url, _text(redact(url)), path, stem, still)


def _text(path: str) -> str:
    """A file's name may be any bytes; what is printed is text."""
    return path.encode(errors="surrogateescape").decode(errors="replace")
