"""One line for each fault: what the checker found, how long it took, what left the window."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.checker import Findings
from tests.faults.schedule import SEED

HEAD = (
    "fault", "published", "missing", "duplicate", "out of order", "recovery s", "unaccounted",
    "dropped, as the messages say",
)  # fmt: skip
ROWS: list[Row] = []
CAMERA_HEAD = (
    "camera", "noticed s", "as", "back s", "connections", "sent", "arrived", "published",
    "dropped", "unaccounted",
)  # fmt: skip
CAMERAS: list[tuple[str, ...]] = []  # rows of the table of cameras
REMARKS: list[str] = []
HOSTILE: list[str] = []  # what came of input that was tampered with
DEED_HEAD = (
    "fault", "noticed s", "recovery s", "published", "dropped", "others",
    "more descriptors, threads, MB", "unaccounted", "remark",
)  # fmt: skip
MOST_DESCRIPTORS, MOST_THREADS = 6, 3  # more, once all is well again: a leak
DEEDS: list[tuple[str, ...]] = []  # rows of the table of files, processes, limits and clocks


@dataclass(frozen=True)
class Row:
    """A fault and what came of it; `remark` is a figure of its own."""

    fault: str
    findings: Findings
    recovery: float | None
    remark: str = ""

    @property
    def cells(self) -> tuple[str, ...]:
        found = self.findings
        dropped = ", ".join(
            f"{count:,} {reason}" for reason, count in sorted(found.dropped.items())
        )
        return (
            self.fault,
            f"{found.published:,}",
            str(found.missing),
            str(found.duplicate),
            str(found.disordered),
            "-" if self.recovery is None else f"{self.recovery:.1f}",
            str(found.unaccounted),
            "; ".join(filter(None, (dropped, self.remark))) or "-",
        )


def add(fault: str, findings: Findings, recovery: float | None = None, remark: str = "") -> None:
    """Puts a row into the table, and fails where something is not 0 that must be."""
    row = Row(fault, findings, recovery, remark)
    ROWS.append(row)
    print(" | ".join(row.cells))
    assert findings.wrong == (0, 0, 0, 0), f"{fault}: {findings}"


def lines() -> list[str]:
    """The table in Markdown, in the order of the faults' names."""
    return _drawn([HEAD, *(row.cells for row in sorted(ROWS, key=lambda row: row.fault))])


def camera_lines() -> list[str]:
    """The same of the cameras on the network."""
    return [*_drawn([CAMERA_HEAD, *CAMERAS]), "", *REMARKS]


def add_deed(
    fault: str,
    findings: Findings,
    seconds: tuple[float | None, float | None],
    share: float | None,
    remark: str,
    *,
    growth: Mapping[str, int] | None = None,
) -> None:
    """A row of what is done to files, processes, limits and clocks; `seconds`: noticed, recovery.

    `growth`: more descriptors, threads and megabytes. Fails where something is not 0 that must be.
    """
    noticed, recovery = (_seconds(one) for one in seconds)
    DEEDS.append(
        (
            fault, noticed, recovery, f"{findings.published:,}", _dropped(findings),
            "-" if share is None else f"{share:.2f}", _grown(growth), str(findings.unaccounted),
            remark or "-",
        )
    )  # fmt: skip
    print(" | ".join(DEEDS[-1]))
    assert findings.wrong == (0, 0, 0, 0), f"{fault}: {findings}"
    assert growth is None or growth["descriptors"] <= MOST_DESCRIPTORS, growth
    assert growth is None or growth["threads"] <= MOST_THREADS, growth


def _grown(growth: Mapping[str, int] | None) -> str:
    return ", ".join(f"{n:+}" for n in growth.values()) if growth else "-"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _dropped(findings: Findings) -> str:
    return ", ".join(f"{n:,} {why}" for why, n in sorted(findings.dropped.items())) or "-"


def deed_lines() -> list[str]:
    """The same of what is done to files, processes, limits and clocks."""
    return _drawn([DEED_HEAD, *sorted(DEEDS)])


def _drawn(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [drawn[0], rule, *drawn[1:]]


def write() -> None:
    """Into the file that `VEDETTE_FAULT_TABLE` names, if it names one."""
    path = os.environ.get("VEDETTE_FAULT_TABLE")
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        found = [f"Seed {SEED}.", "", *(lines() if ROWS else ()), ""]
        found += [*(camera_lines() if CAMERAS else ()), "", *(deed_lines() if DEEDS else ())]
        found += ["", *HOSTILE]
        Path(path).write_text("\n".join([*found, ""]))
