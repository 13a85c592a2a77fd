"""The rules of the house, as data: who imports what, who touches what, how long things may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("pipeline", "workers", "config")

# A room, and the rooms that it may import.
MAY_IMPORT = {"pipeline": set(), "config": set(), "workers": {"pipeline", "config"}}

# What a fresh interpreter loads, and what it must not have loaded by then. The first row is all
# that the parent process ever is; the others are its children.
FOREIGN = {
    "workers.supervisor workers.topology workers.lifecycle workers.run workers.cli": (
        "torch",
        "av",
        "redis",
    ),
    "workers.ingest": ("torch", "redis"),
    "workers.infer": ("redis", "av"),
    "workers.publish": ("torch", "av"),
    "workers.process": ("torch", "av", "redis"),
    "pipeline pipeline.yolov6 pipeline.sources pipeline.sinks": ("torch", "av", "redis"),
    "config.load": ("torch", "av", "redis", "numpy"),
}

# A pattern, and the only files whose code may hold it. Docstrings and comments are not code.
ONLY_IN = {
    r"cuda": {
        "pipeline/device.py",
        "pipeline/runner.py",
        "pipeline/graphs.py",
        "pipeline/sources/gpu.py",
        "config/kinds.py",  # the words that the file may say
    },
    r"BatchNorm": {
        "pipeline/yolov6/branches.py",
        "pipeline/yolov6/fold.py",
        "pipeline/yolov6/train/unfold.py",
    },
    r"os\.environ|getenv": {
        "config/load.py",  # ${env:NAME}
        "workers/rundir.py",  # XDG_RUNTIME_DIR
        "workers/supervisor.py",  # hands it on to the children
        "workers/bench/bench.py",  # the same
        "workers/demo.py",  # the same, with folders of its own
    },
    r"except (Base)?Exception|except:": {"workers/process.py"},  # the child's entry point
    r"import multiprocessing|from multiprocessing": set(),  # its queues die with their writers
    r"import pickle|from pickle|pickle\.load": {
        "pipeline/yolov6/checkpoint.py",  # builds nothing but tensors
    },
}

LONGEST_FILE = 400  # lines
LONGEST_FUNCTION = 50


def sources() -> list[Path]:
    return sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def files_and_marks() -> Iterator[Any]:
    for path in sources():
        yield pytest.param(path, id=name_of(path))


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Every module that is named in an import, wherever in the file it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def length_of(function: ast.FunctionDef) -> int:
    """Lines from `def` on, without the docstring: that of a command is its help."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    return lines - ((docstring.end_lineno or 0) - docstring.lineno + 1)


def code_of(path: Path) -> str:
    """The file as the interpreter sees it: without comments and docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for statement in body:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                statement.value = ast.Constant(None)
    return ast.unparse(tree)


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_room_imports_only_the_rooms_that_it_may(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    allowed = MAY_IMPORT[room] | {room}

    found = {module.partition(".")[0] for module in imports_of(ast.parse(path.read_text()))}

    assert found & set(ROOMS) <= allowed


@pytest.mark.parametrize(("modules", "foreign"), FOREIGN.items(), ids=FOREIGN)
def test_a_process_loads_only_what_it_uses(modules: str, foreign: tuple[str, ...]) -> None:
    names = ", ".join(modules.split())
    program = f"import sys, {names}; print(*sys.modules)"

    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert set(answer.stdout.split()) & set(foreign) == set()


@pytest.mark.parametrize(("pattern", "files"), ONLY_IN.items(), ids=ONLY_IN)
def test_a_concern_stays_in_its_place(pattern: str, files: set[str]) -> None:
    found = {name_of(path) for path in sources() if re.search(pattern, code_of(path))}

    assert found <= files


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_a_function_stays_short(path: Path) -> None:
    long = [
        f"{node.name}: {length} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (length := length_of(node)) > LONGEST_FUNCTION
    ]

    assert long == []


@pytest.mark.parametrize("path", list(files_and_marks()))
def test_a_file_stays_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
