"""Whether ratios of this machine are what those in ratios.json are, the best of our runs.

    make bench-check                      fails where a ratio is a tenth below what it was
    python -m benchmarks.check --write    takes what is measured now, where it is larger or new

Ratios alone: they mean about the same on another machine, where frames/s would not. Each has
something below that we have no hand in: the network as torch runs it, bare PyAV, redis-py's
pipeline; and efficiency, which has our own network and decoder below, shows what surrounds them.
The clip is the drawn one, which is the same everywhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec

from pipeline.device import multiplies
from workers.bench.report import JSON
from workers.bench.results import Report

RATIOS = Path(__file__).with_name("ratios.json")
SLACK = 0.10
INT8 = "int8"
AUTO = "auto"
SUBJECTS = (  # and the precision that is asked for
    ("0.4.x-n", AUTO),
    ("0.4.x-lite_s", AUTO),
    ("0.4.x-n", "fp32"),
    ("0.4.x-n", INT8),
)
_CAMERAS = 8


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    found: dict[str, float] = {}
    has_int8 = multiplies(INT8)
    for variant, precision in SUBJECTS:
        if has_int8 or precision != INT8:
            found |= ratios(_bench(variant, precision, options), precision)
    if options.write:
        found = best(json.loads(RATIOS.read_text()), found)
        RATIOS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        return 0
    before = json.loads(RATIOS.read_text())
    if not has_int8:
        print("int8 is left out: this processor has no VNNI")
        before = {name: value for name, value in before.items() if INT8 not in name}
    lines, is_well = compare(before, found)
    print("\n".join(lines))
    return int(not is_well)


def ratios(report: Report, asked: str = AUTO) -> dict[str, float]:
    """What is compared: larger is better. Names are of the precision that was asked for."""
    variant = report.subject.variant + ("" if asked == AUTO else f" in {asked}")
    found = {
        f"{variant}: efficiency with {whole.cameras} files": median(report.efficiencies(i))
        for i, whole in enumerate(report.rounds[0].wholes)
        if not whole.live
    }
    found[f"{variant}: network ÷ plain torch"] = report.typical(
        lambda one: one.best(report.precision) / one.unpacked
    )
    found["reading a clip ÷ bare PyAV"] = report.typical(
        lambda one: one.parts.bare_ms / (one.parts.decode_ms + one.parts.resize_ms)
    )
    found["publisher ÷ a pipeline of ready bytes"] = report.typical(
        lambda one: one.parts.publish_rate / one.parts.plain_rate
    )
    return {name: round(value, 3) for name, value in found.items()}


def best(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """The larger one of each that is measured: a slow hour lowers nothing."""
    return {name: max(value, before.get(name, value)) for name, value in now.items()}


def compare(before: Mapping[str, float], now: Mapping[str, float]) -> tuple[list[str], bool]:
    """A line for each, and whether none has slipped, or is missing."""
    lines, is_well = [], True
    for name, was in before.items():
        value = now.get(name)
        has_slipped = value is None or value < was * (1 - SLACK)
        is_well &= not has_slipped
        shown = "not measured" if value is None else f"{value:.3f}"
        lines.append(f"{'SLIPPED' if has_slipped else 'well   '}  {name}: {shown}, was {was:.3f}")
    return lines, is_well


def _bench(variant: str, precision: str, options: argparse.Namespace) -> Report:
    with tempfile.TemporaryDirectory(prefix="vedette-check-") as folder:
        command = [sys.executable, "-P", "-m", "workers.cli", "bench", "--variant", variant]
        command += ["--cameras", str(_CAMERAS), "--rounds", str(options.rounds), "-o", folder]
        command += ["--seconds", str(options.seconds), "--precision", precision]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        return msgspec.json.decode((Path(folder) / JSON).read_bytes(), type=Report)


if __name__ == "__main__":
    sys.exit(main())
