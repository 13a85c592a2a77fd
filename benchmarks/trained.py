"""A trained network with all its branches against the same one folded, in one run.

    python -m benchmarks.trained RUN [--pictures 32] [--rounds 7]

RUN is the folder of a `vedette train`. Both forms look at the same drawn streets, float32,
channels-last, on all cores this process has, one picture at a time, and take turns: rates are
medians over the rounds. The difference is the largest of any number relative to the largest
number of its kind; above 1e-4 the exit code is 1. Working memory is what one picture adds to the
process at its peak, each form in a process of its own (Linux). The table is Markdown.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline.scenes import Scenes
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.train import checkpoint
from pipeline.yolov6.train.augment import whole
from pipeline.yolov6.train.build import build, folded

MOST = 1e-4  # that the two may differ by
FORMS = ("branches", "folded")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", choices=FORMS, help="print the working memory of one alone")
    options = parser.parse_args(arguments)
    if options.memory is not None:
        print(_working_memory(options.run, options.memory))
        return 0
    networks = _networks(options.run)
    images = _images(options.run, options.pictures)
    boxes, scores = _differences(networks, images)
    rates = _rates(networks, images, options.rounds)
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, float32, one picture\n\n"
        "| form | parameters | weights | working memory | frames/s |\n|---|---|---|---|---|"
    )
    for form, network, rate in zip(FORMS, networks, rates, strict=True):
        parameters = sum(parameter.numel() for parameter in network.parameters())
        held = sum(t.numel() * t.element_size() for t in network.state_dict().values())
        working = _elsewhere(options.run, form)
        print(
            f"| {form} | {parameters / 1e6:.3f} M | {held / 1e6:.2f} MB | {working / 1e6:.1f} MB"
            f" | {rate:.1f} |"
        )
    print(
        f"\nfolded is {rates[1] / rates[0]:.2f} times as fast; on {len(images)} pictures boxes"
        f" differ by {boxes:.1e}, scores by {scores:.1e}"
    )
    return int(max(boxes, scores) > MOST)


def _networks(run: Path) -> tuple[YOLOv6, YOLOv6]:
    """The averaged network of a training in the order of `FORMS`, ready to run."""
    found = checkpoint.load(run / "last.safetensors")
    recipe = found.recipe
    network = build(recipe["variant"], len(found.names), plain=recipe["plain"], seed=0)
    network.load_state_dict(dict(found.average))
    network.eval().requires_grad_(False)
    both = network, folded(network, recipe["variant"])
    for form in both:
        form.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return both


def _images(run: Path, pictures: int) -> list[Tensor]:
    """float32 [1, 3, H, W] each, 0 to 1, of streets that no training has seen."""
    height, width = checkpoint.load(run / "last.safetensors").recipe["input_size"]
    scenes = Scenes(1_000_003, pictures, codec="h264")
    inputs = [whole(sample, (height, width)).image for sample in scenes]
    tensors = [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in inputs]
    return [tensor.contiguous(memory_format=torch.channels_last) for tensor in tensors]


@torch.inference_mode()
def _differences(networks: Sequence[YOLOv6], images: Sequence[Tensor]) -> tuple[float, float]:
    """Of boxes and of scores."""
    largest = [0.0, 0.0]
    for image in images:
        pairs = zip(*(network(image) for network in networks), strict=True)
        for kind, (expected, found) in enumerate(pairs):
            difference = (found - expected).abs().max() / expected.abs().max()
            largest[kind] = max(largest[kind], difference.item())
    return largest[0], largest[1]


@torch.inference_mode()
def _rates(networks: Sequence[YOLOv6], images: Sequence[Tensor], rounds: int) -> list[float]:
    """Frames a second of each."""
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(rounds + 1):  # the first is to warm up
        for network, spent in zip(networks, times, strict=True):
            began = time.perf_counter()
            for image in images:
                network(image)
            spent.append((time.perf_counter() - began) / len(images))
    return [1 / statistics.median(spent[1:]) for spent in times]


def _elsewhere(run: Path, form: str) -> int:
    command = [sys.executable, "-m", "benchmarks.trained", str(run), "--memory", form]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@torch.inference_mode()
def _working_memory(run: Path, form: str) -> int:
    """Bytes that this process has at most while it looks at a picture, above what it had before."""
    network, image = _networks(run)[FORMS.index(form)], _images(run, 1)[0]
    ctypes.CDLL(None).malloc_trim(0)  # or what was needed to get here would be used again, unseen
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is resident
    network(image)
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    sys.exit(main())
