"""What the branches are worth in training: the same network with and without, three seeds each.

    python benchmarks/plain.py [--optimiser muon] [--seeds 1 2 3] [--pictures 1500] [--epochs 4]

Both are trained alike on the same drawn streets at 192x320, by the recipe of our own weights, for
a short, fixed budget of pictures, and validated on streets that neither has seen. Folded they are
the same network. Time is that of the training steps alone. The table is Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch

from pipeline.samples import Pictures
from pipeline.scenes import Scenes
from pipeline.yolov6.train.evaluate import evaluate
from pipeline.yolov6.train.loop import Training
from pipeline.yolov6.train.recipe import Recipe

SIZE = (192, 320)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    pictures = Scenes(1, options.pictures)
    validation = Scenes(1_000_003, options.validation, codec="h264")
    for scenes in (pictures, validation):
        scenes.draw_all()
    print(
        f"{options.optimiser}, {options.pictures:,} pictures x {options.epochs} epochs,"
        f" {torch.get_num_threads()} threads, torch {torch.__version__}\n\n"
        "| form | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " | mean | seconds |\n"
        "|---|" + "---|" * (len(options.seeds) + 2),
        flush=True,
    )
    for title, is_plain in (("three branches", False), ("plain 3x3", True)):
        found = [
            _train(_recipe(options, is_plain, seed), pictures, validation) for seed in options.seeds
        ]
        precisions = [precision for precision, _ in found]
        cells = [*precisions, statistics.mean(precisions)]
        seconds = statistics.median(seconds for _, seconds in found)
        print(f"| {title} | {' | '.join(f'{cell:.3f}' for cell in cells)} | {seconds:.0f} |")
    return 0


def _recipe(options: argparse.Namespace, is_plain: bool, seed: int) -> Recipe:
    return Recipe(
        plain=is_plain,
        epochs=options.epochs,
        input_size=SIZE,
        optimiser=options.optimiser,
        learning_rate=0.03,
        augment="mild",
        calm_epochs=options.epochs,
        precision=options.precision,
        seed=seed,
    )


def _train(recipe: Recipe, pictures: Pictures, validation: Pictures) -> tuple[float, float]:
    """mAP50 of the folded average, and how long the epochs took."""
    training = Training(recipe, pictures, device=torch.device("cpu"))
    began = time.monotonic()
    while not training.is_done:
        training.run_epoch()
    seconds = time.monotonic() - began
    precision = evaluate(training.folded(), validation, SIZE)["all"].map50
    print(f"plain={recipe.plain} seed={recipe.seed}: {precision:.4f}", file=sys.stderr, flush=True)
    return precision, seconds


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--optimiser", choices=("sgd", "muon"), default="muon")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--pictures", type=int, default=1500)
    parser.add_argument("--validation", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=4)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
