"""`vedette weights`: what a weights file is, which there are, and how to get them."""

from __future__ import annotations

import http.client
import math
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.errors import ConfigError, VedetteError, redact
from pipeline.yolov6.variants import VARIANTS, Variant
from pipeline.yolov6.weights import WeightsInfo, inspect
from workers.progress import Progress, open_progress

RELEASE = "https://github.com/meituan/YOLOv6/releases/download/0.4.0/"
LICENCE = "these weights are the original project's, under GPL-3.0, not under Vedette's Apache-2.0"

_SERIES = "0.4.x-"  # the variants of which that release has files
_TIMEOUT = 30.0  # seconds without a byte
_MAX_BYTES = 2 << 30  # the largest file of the release has 0.3 GB
_CHUNK = 1 << 18  # bytes
_COCO_CLASSES = 80


def import_checkpoint(
    source: Path, output: Path, *, variant: str | None, names: Path | None
) -> None:
    """Folds `source` into the weights file `output` and shows it. Raises WeightsError."""
    from pipeline.yolov6.importer import import_weights

    _print_fields(_described(import_weights(source, output, variant=variant, names=names)))


def show(path: Path) -> None:
    """Prints what the weights file is. Raises WeightsError."""
    _print_fields(_described(inspect(path)))


def list_variants() -> None:
    """Prints every variant that a weights file may hold."""
    rows = [("variant", "input", "parameters", "GFLOPs", "kind")]
    for name, variant in VARIANTS.items():
        parameters, flops = _cost(variant)
        size = f"{variant.input_size[0]}x{variant.input_size[1]}"
        kind = f"{variant.backbone}, {variant.neck}"
        rows.append((name, size, f"{parameters / 1e6:.2f} M", f"{flops / 1e9:.2f}", kind))
    _print_rows(rows)


def fetch(variant: str, output: Path | None, *, release: str = RELEASE) -> None:
    """Downloads the original's checkpoint of a variant and imports it as `output`.

    Only over HTTPS, also after redirects. Raises ConfigError for a variant that the release does
    not have, VedetteError with the manual way where there is no network, WeightsError for a file
    that is not what it should be.
    """
    url = release + _file_name(variant)
    output = output or Path(f"{variant}.safetensors")
    print(f"vedette: {LICENCE}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="vedette-") as folder:
        checkpoint = Path(folder) / _file_name(variant)
        try:
            with open_progress(bar=True) as progress:
                _download(url, checkpoint, progress)
        except (OSError, http.client.HTTPException, _Unwanted) as error:
            raise VedetteError(_manual(url, output, error)) from None
        import_checkpoint(checkpoint, output, variant=variant, names=None)


class _Unwanted(Exception):
    """An answer that is not taken; the text says why."""


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        _check_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_https(url: str) -> None:
    if not url.startswith("https://"):
        raise _Unwanted(f"{redact(url)} is not https")


def _download(url: str, path: Path, progress: Progress) -> None:
    _check_https(url)
    opener = urllib.request.build_opener(_OnlyHttps)
    with opener.open(url, timeout=_TIMEOUT) as answer, path.open("wb") as file:
        announced = answer.length or 0
        done = 0
        while chunk := answer.read(_CHUNK):
            done += len(chunk)
            if done > _MAX_BYTES:
                raise _Unwanted(f"it is larger than {_MAX_BYTES >> 30} GB")
            file.write(chunk)
            of = f" of {announced / 1e6:.1f}" if announced else ""
            progress.update(done, announced or None, f"{done / 1e6:.1f}{of} MB of {path.name}")
        if done < announced:
            raise _Unwanted(f"it ended after {done:,} of {announced:,} bytes")


def _manual(url: str, output: Path, error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        reason = f"the server said {error.code} {error.reason}"
    name = url.rpartition("/")[2]
    return (
        f"{url} cannot be fetched: {redact(str(reason) or type(error).__name__)}. By hand: "
        f"download it on a machine with a network, then `vedette weights import {name} -o {output}`"
    )


def _file_name(variant: str) -> str:
    fetchable = [name for name in VARIANTS if name.startswith(_SERIES)]
    if variant not in fetchable:
        raise ConfigError(f"no variant {variant!r} to fetch; known are {', '.join(fetchable)}")
    return f"yolov6{variant.removeprefix(_SERIES)}.pt"


def _described(info: WeightsInfo) -> list[tuple[str, str]]:
    height, width = info.input_size
    return [
        ("variant", info.variant),
        ("classes", str(len(info.classes))),
        ("names", ", ".join(_printable(name) for name in info.classes)),
        ("input_size", f"{height} {width}"),
        ("stride", str(info.stride)),
        ("parameters", f"{info.parameters:,}"),
        ("int8", f"{len(info.ranges)} convolutions" if info.ranges else "no"),
        ("digest", info.digest),
        ("source_digest", _printable(info.source_digest) or "unknown"),
    ]


def _cost(variant: Variant) -> tuple[int, int]:
    """Parameters, and floating-point operations for one picture, of the network for COCO."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from pipeline.yolov6.network import YOLOv6

    with torch.device("meta"), torch.inference_mode():  # shapes alone, nothing is computed
        network = YOLOv6(variant, _COCO_CLASSES).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, *variant.input_size))
    parameters = sum(math.prod(tensor.shape) for tensor in network.state_dict().values())
    return parameters, counter.get_total_flops()


def _print_fields(fields: Sequence[tuple[str, str]]) -> None:
    if sys.stdout.isatty():
        _print_table(fields, headed=False)
        return
    for name, value in fields:
        print(f"{name}: {value}")


def _print_rows(rows: Sequence[tuple[str, ...]]) -> None:
    if sys.stdout.isatty():
        _print_table(rows, headed=True)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())


def _print_table(rows: Sequence[tuple[str, ...]], *, headed: bool) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=headed, box=box.SIMPLE)
    for name in rows[0]:
        table.add_column(name if headed else "", overflow="fold")
    for row in rows[1:] if headed else rows:
        table.add_row(*(Text(cell) for cell in row))  # a class may be called [red]
    Console().print(table)


def _printable(text: str) -> str:
    """A weights file may come from anywhere, and a terminal obeys control characters."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
