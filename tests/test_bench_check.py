"""The gate lets nothing slip, and the other benchmarks still measure."""

from __future__ import annotations

import json

import msgspec
import pytest

from benchmarks import check, scaling, winograd
from benchmarks.peers import compare
from tests.test_bench import found


def test_what_slips_by_a_tenth_is_named() -> None:
    before = {"a": 0.90, "b": 0.50, "c": 1.0}

    lines, is_well = check.compare(before, {"a": 0.82, "b": 0.44, "c": 1.2})

    assert not is_well
    assert [line.split()[0] for line in lines] == ["well", "SLIPPED", "well"]
    assert check.compare(before, {"a": 0.81, "b": 0.46, "c": 0.91})[1]


def test_what_is_not_measured_any_more_has_slipped() -> None:
    lines, is_well = check.compare({"a": 0.9}, {})

    assert not is_well
    assert "not measured" in lines[0]


def test_a_slow_hour_lowers_nothing() -> None:
    assert check.best({"a": 0.9, "b": 0.5, "gone": 1.0}, {"a": 0.8, "b": 0.6, "new": 0.7}) == {
        "a": 0.9,
        "b": 0.6,
        "new": 0.7,
    }


def test_ratios_are_of_files_and_of_the_publisher() -> None:
    measured = found(44.0, 40.0, 42.0)

    ratios = check.ratios(measured)

    assert ratios == {
        "0.4.x-n: efficiency with 1 files": round(sorted(measured.efficiencies(0))[1], 3),
        "0.4.x-n: network ÷ plain torch": round(50 / 45, 3),
        "reading a clip ÷ bare PyAV": round(3.6 / 4.0, 3),
        "publisher ÷ a pipeline of ready bytes": round(9000 / 11000, 3),
    }


def test_the_peers_are_there() -> None:
    """They have an environment of their own; that ours finds them is all that is tested here."""
    assert all((compare.HERE / program).is_file() for _, program, _ in compare.PEERS)


def test_the_committed_ratios_are_of_what_is_measured() -> None:
    """Whatever is measured has a number there, under the name that it has now."""
    committed = json.loads(check.RATIOS.read_text())
    names = set()
    for variant, precision in check.SUBJECTS:
        measured = found(44.0, precision="bf16" if precision == "auto" else precision)
        subject = msgspec.structs.replace(measured.subject, variant=variant)
        names |= set(check.ratios(msgspec.structs.replace(measured, subject=subject), precision))

    assert {name.replace("with 1 files", "with 8 files") for name in names} == set(committed)
    assert check.compare(committed, committed)[1]


@pytest.mark.slow
def test_the_cost_of_a_camera_is_measured() -> None:
    measured = scaling.measure(2, seconds=4.0)

    assert measured.rate == pytest.approx(2, abs=0.6)
    assert measured.cpu["ingest"] > 0
    assert measured.memory_mb["ingest"] > 1


def test_winograd_is_compared_with_direct_convolutions(capsys: pytest.CaptureFixture[str]) -> None:
    """The one that is taken is the faster one where it is so by far."""
    assert winograd.main(["--variants", "0.4.x-n", "--rounds", "1", "--seconds", "0.2"]) == 0

    lines = capsys.readouterr().out.splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    assert rows[1][0] == "0.4.x-n"
    taken = {(row[0], row[1]): row[2] for row in rows[3:]}
    assert (taken["32", "96x160"], taken["128", "24x40"]) == ("no", "yes")
    assert len(taken) == len(winograd.KINDS)
