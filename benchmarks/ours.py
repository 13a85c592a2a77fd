"""What our weights, or others that know drawn streets, are worth on streets that they never saw.

    python -m benchmarks.ours [FILE] [--seed 2000003] [--length 240]

mAP on streets through H.264, by size, by hiding and by class, as docs/training.md has it; and
precision and recall at the demo's confidence on others, as they are drawn, by the demo's own count.
Their seeds are of no training. Markdown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.agreement import Tally, judge
from pipeline.scenes import NAMES, Scenes
from pipeline.wire import Detection
from pipeline.yolov6 import load
from pipeline.yolov6.train.evaluate import find
from pipeline.yolov6.train.metrics import Picture, by_class, score
from pipeline.yolov6.weights import OURS, inspect
from workers.demo import CONFIDENCE

UNSEEN, DRAWN = 2_000_003, 3_000_003  # seeds
SIZE = (384, 640)  # height, width


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", default=OURS)
    parser.add_argument("--seed", type=int, default=UNSEEN, help="of the streets for mAP")
    parser.add_argument("--length", type=int, default=240, help="pictures of either")
    options = parser.parse_args(arguments)
    network, info = load(options.file), inspect(options.file)
    print(
        f"{info.variant}, digest {info.digest}\n\n| objects | number | mAP50 | mAP50-95 | recall |"
    )
    print("|---|---|---|---|---|")
    pictures = find(network, Scenes(options.seed, options.length, codec="h264", per_scene=4), SIZE)
    classes = ((NAMES[label], found) for label, found in by_class(pictures).items())
    for name, found in (*score(pictures).items(), *classes):
        numbers = f"{found.map50:.3f} | {found.map50_95:.3f} | {found.recall50:.3f}"
        print(f"| {name} | {found.objects:,} | {numbers} |")
    tally = Tally()
    for picture in find(network, Scenes(DRAWN, options.length, codec="none"), SIZE):
        tally += _judged(picture)
    print(f"\nat confidence {CONFIDENCE}: ", end="")
    print(f"precision {tally.precision:.3f}, recall {tally.recall:.3f}")
    return 0


def _judged(picture: Picture) -> Tally:
    """As the demo counts: what is ignored is neither right nor wrong."""
    rows = zip(picture.found, picture.confidence, picture.found_ids, strict=True)
    detections = [
        Detection(int(label), NAMES[int(label)], float(sure), tuple(map(float, box)))
        for box, sure, label in rows
        if sure >= CONFIDENCE
    ]
    return judge(detections, _named(picture, picture.counts), _named(picture, ~picture.counts))


def _named(picture: Picture, rows: np.ndarray) -> list[tuple[str, tuple[float, ...]]]:
    pairs = zip(picture.boxes[rows], picture.class_ids[rows], strict=True)
    return [(NAMES[int(label)], tuple(map(float, box))) for box, label in pairs]


if __name__ == "__main__":
    sys.exit(main())
