from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import media, runs


@pytest.mark.slow
def test_the_bench_measures_the_parts_and_the_pipeline(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    media.encode(clip, frames=50)

    done = runs.vedette(
        tmp_path,
        *("bench", "--clip", clip, "--input-size", "128", "128", "--cameras", "2"),
        *("--rounds", "1", "--seconds", "1"),
    )

    assert done.returncode == 0, done.stderr
    rows = dict(re.findall(r"│ ([^│]+?) +│ +([0-9.]+) ", done.stdout))
    assert float(rows["network, batches of 4 side by side"]) > 0
    assert float(rows["pipeline, 2 cameras"]) > 0
    assert re.search(r"pipeline, 2 cameras.* [01]\.[0-9]{2} │", done.stdout)


def test_a_clip_that_is_not_there_is_a_wrong_call(tmp_path: Path) -> None:
    done = runs.vedette(tmp_path, "bench", "--clip", tmp_path / "none.mp4")

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
