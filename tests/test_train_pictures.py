from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.scenes import NAMES
from workers.pictures import draw, open_pair


def test_scenes_are_validated_with_on_other_scenes() -> None:
    pictures, validation = open_pair("scenes?length=2&seed=4", "scenes?length=1&seed=5", None)
    progress: list[tuple[int, int]] = []

    draw(pictures, lambda done, of: progress.append((done, of)))

    assert pictures.names == validation.names == NAMES
    assert (len(pictures), len(validation)) == (2, 1)
    assert progress[-1] == (2, 2)
    assert (pictures[0].image != validation[0].image).any()


def test_scenes_have_lengths_of_their_own() -> None:
    pictures, validation = open_pair("scenes?seed=7", None, None)
    following, _ = open_pair("scenes?seed=8&codec=h264&length=400", None, None)

    assert (len(pictures), len(validation)) == (4000, 400)
    assert validation.identity == following.identity != pictures.identity


def test_the_seed_behind_the_largest_is_the_first() -> None:
    _, validation = open_pair("scenes?seed=999999999", None, None)
    first, _ = open_pair("scenes?seed=0&codec=h264&length=400", None, None)

    assert validation.identity == first.identity


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("scenes?seed=-1", "seed must be a whole number"),
        ("scenes?length=0", "length must be at least 1"),
        ("scenes?length=9999999999", "length must be a whole number up to 1,000,000"),
        ("scenes?codec=av1", "found the codec 'av1', must be one of"),
        ("scenes?colour=red", "found the key 'colour', must be of seed, length, per_scene, codec"),
        ("scenes?per_scene=0", "per_scene must be at least 1"),
        ("nowhere", "nowhere is not there"),
    ],
)
def test_what_is_no_data_set_is_said(place: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        open_pair(place, None, None)


def test_both_data_sets_have_the_same_classes(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "x.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("names: [a]\ntrain: .\n")

    with pytest.raises(ConfigError, match="other classes than those of --data"):
        open_pair("scenes", str(tmp_path), None)


def test_names_come_from_a_file_or_are_those_of_coco(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "x.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "names.txt").write_text("a\n\nb\n")

    own, _ = open_pair(str(tmp_path), None, str(tmp_path / "names.txt"))
    coco, _ = open_pair(str(tmp_path), None, "coco")

    assert own.names == ("a", "b")
    assert len(coco.names) == 80
