"""What is in `deploy/` and the doors, as far as it can be checked without a container engine."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import av
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from config.load import load

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SECRET = re.compile(r"(?i)(pass(word|wd)?|token|secret|api_?key)\s*[=:]\s*['\"]?\w")


def instructions() -> list[tuple[str, list[str]]]:
    """The Dockerfile as (instruction, words): continued lines joined, comments left out."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (name, rest.split()) for name, _, rest in (x.partition(" ") for x in joined.split("\n"))
    ]


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def copied() -> list[str]:
    """What the Dockerfile copies from the repository."""
    return [
        word
        for name, words in instructions()
        if name == "COPY" and not words[0].startswith("--from")
        for word in words[:-1]
    ]


def test_everything_that_the_image_copies_is_there_and_let_through() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()

    assert all((ROOT / source).exists() for source in copied())
    assert ignored[0] == "*" or "*" in ignored
    assert {f"!{source}" for source in copied()} == {x for x in ignored if x.startswith("!")}


def test_the_image_copies_all_that_the_package_is_built_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    named = [*packages, project["project"]["readme"], *project["project"]["license-files"]]

    assert set(named) <= set(copied())


def test_the_image_runs_as_nobody_in_particular_and_takes_sigterm() -> None:
    last = {name: words for name, words in instructions()}

    uid = last["USER"][0].partition(":")[0]
    assert uid.isdigit()
    assert int(uid) >= 1000
    assert last["STOPSIGNAL"] == ["SIGTERM"]
    assert last["ENTRYPOINT"] == ['["vedette"]']


def test_one_argument_chooses_between_cpu_and_cuda() -> None:
    arguments = [words[0] for name, words in instructions() if name == "ARG"]

    assert "DEVICE=cpu" in arguments
    assert "torch==" not in (DEPLOY / "Dockerfile").read_text()  # constraints.txt pins it


def test_no_file_for_deployment_holds_a_secret() -> None:
    for path in DEPLOY.glob("*"):
        if path.is_file() and path.suffix != ".md":
            assert SECRET.search(path.read_text()) is None, path.name


def test_compose_has_a_redis_a_clip_and_the_pipeline() -> None:
    services = compose()["services"]

    assert set(services) == {"redis", "clips", "vedette"}
    assert services["vedette"]["depends_on"] == {
        "redis": {"condition": "service_healthy"},
        "clips": {"condition": "service_completed_successfully"},
    }
    assert "test" in services["redis"]["healthcheck"]
    for service in services.values():
        assert "image" in service
        assert service["cap_drop"] == ["ALL"]
        assert "privileged" not in service


def test_what_compose_builds_and_mounts_is_there() -> None:
    document = compose()
    build = document["services"]["vedette"]["build"]
    mounts = [mount.split(":")[0] for mount in document["services"]["vedette"]["volumes"]]

    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
    for source in mounts:
        if source.startswith("."):
            assert (DEPLOY / source).is_file()
        elif not source.startswith("$"):
            assert source in document["volumes"]


def test_the_pipeline_of_compose_is_a_config_that_loads() -> None:
    config = load(DEPLOY / "cameras.yaml").config
    services = compose()["services"]
    targets = [mount.split(":")[1] for mount in services["vedette"]["volumes"] if mount[0] != "$"]

    assert config.redis.url.get_secret_value() == "redis://redis:6379/0"
    assert str(config.model.weights.parent) == "/models"
    for camera in config.cameras:
        assert camera.is_live
        assert camera.loop
        assert camera.file is not None
        assert str(camera.file.parent) in targets
        assert camera.file.stem in services["clips"]["command"]


@pytest.mark.slow
def test_the_clip_of_the_demo_has_all_of_its_pictures(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, DEPLOY / "demo" / "clips.py", tmp_path, "gate"],
        check=True,
        stdout=subprocess.DEVNULL,
    )

    with av.open(str(tmp_path / "gate.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 250


def test_the_unit_passes_systemd_s_own_check(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    unit = tmp_path / "vedette@gate.service"
    text = (DEPLOY / "vedette@.service").read_text()
    unit.write_text(text.replace("/opt/vedette/bin/vedette", "/bin/true"))

    answer = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )

    assert (answer.returncode, answer.stderr) == (0, "")


def test_the_grace_of_every_supervisor_covers_the_drain() -> None:
    from workers.lifecycle import DRAIN_SECONDS

    unit = (DEPLOY / "vedette@.service").read_text()
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)

    assert stop is not None
    assert int(stop[1]) > DRAIN_SECONDS
    assert int(compose()["services"]["vedette"]["stop_grace_period"][:-1]) > DRAIN_SECONDS


def test_every_dependency_is_pinned_to_a_version_that_fits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    needs = [Requirement(need) for need in (*project["dependencies"], *extras)]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]

    for need in needs:
        if need.name == project["name"]:
            continue
        versions = [
            next(iter(pin.specifier)).version
            for pin in pins
            if canonicalize_name(pin.name) == canonicalize_name(need.name)
        ]
        assert versions, f"{need.name} is not pinned: make lock"
        assert all(need.specifier.contains(version) for version in versions), need


def test_pre_commit_and_ci_go_through_doors_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    used = {hook["entry"] for hook in hooks}
    used |= {f"make {name}" for name in re.findall(r'"([a-z-]+) \d+"', ci())}

    assert used >= {"make lint", "make test", "make test-slow"}
    for command in used:
        assert f"\n{command.removeprefix('make ')}:" in makefile


def test_ci_demands_the_shared_data_and_names_no_machine() -> None:
    assert "export VEDETTE_REQUIRE_SHARED=1" in ci()
    assert re.search(r"https?://|index-url|/home/|/work/|/root/", ci()) is None
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True)


def ci() -> str:
    return (ROOT / ".ci" / "run").read_text()
