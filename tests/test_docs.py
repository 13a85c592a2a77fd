"""What the documents say is so: links, commands, the YAML, the message, the doors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

from config.load import load
from pipeline.wire import read_detections
from workers.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "deploy/README.md", "docs/*.md")
PATHS = sorted(path for pattern in DOCUMENTS for path in ROOT.glob(pattern))
FOLDERS = ("pipeline/", "workers/", "config/", "tests/", "deploy/", "docs/")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(application: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command of the console script, as `weights import`."""
    for name in application:
        if name.startswith("-"):
            continue
        below = list(commands(application[name], (*words, name)))
        yield from below or [" ".join((*words, name))]


def by_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(page: Path) -> list[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_the_readme_is_short() -> None:
    prose = [line for line in README.splitlines() if not line.startswith("|")]
    assert len(" ".join(prose).split()) <= 600


@pytest.mark.parametrize("path", PATHS, ids=by_id)
def test_every_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)]+)\)", path.read_text())

    for target in targets:
        if not target.startswith("http"):
            file, _, anchor = target.partition("#")
            page = path.parent / file if file else path
            assert page.exists(), target
            assert not anchor or anchor in anchors(page), target


@pytest.mark.parametrize("path", PATHS, ids=by_id)
def test_every_file_that_is_named_is_there(path: Path) -> None:
    for name in re.findall(r"`([\w./]+\.\w+)`", path.read_text()):
        if name.startswith(FOLDERS):
            assert (ROOT / name).exists(), name


@pytest.mark.parametrize("path", PATHS, ids=by_id)
def test_every_door_that_is_named_exists(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()

    for door in re.findall(r"(?:^|`)make ([a-z-]+)", path.read_text(), re.MULTILINE):
        assert f"\n{door}:" in makefile, door


def test_the_readme_names_every_command() -> None:
    table = re.findall(r"^\| `vedette (.*?)\|", README, re.MULTILINE)
    named = set(re.findall(r"[a-z]+", " ".join(table)))

    for command in commands(app):
        assert set(command.split()) <= named, command


def test_the_readme_s_yaml_loads(tmp_path: Path) -> None:
    (yaml,) = blocks(README, "yaml")
    file = tmp_path / "cameras.yaml"
    file.write_text(yaml)

    config = load(file, environment={"GATE_USER": "ops", "GATE_PASSWORD": "p@ss/word"}).config

    assert [camera.is_live for camera in config.cameras] == [True, False]


def test_the_readme_s_message_is_one() -> None:
    (message,) = blocks(README, "json")
    schema = json.loads((ROOT / "docs" / "schema" / "vedette.detections-1.json").read_text())

    jsonschema.validate(json.loads(message), schema)
    assert read_detections(message.encode()).detections[0].label == "car"


def test_the_picture_is_drawn_well_formed() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "img" / "pipeline.svg").getroot()

    assert picture.tag.endswith("svg")
    assert picture.get("aria-label")
