"""Training: as many branches, to be run as one.

Read it in this order. `recipe.py` says what a training is; samples, for example of a `folder.py`,
become inputs in `augment.py` and batches in `loading.py`; `build.py` makes the network of many
branches; `assigner.py` decides which anchor answers for which object, and `losses.py` what its
answer costs, both by `boxes.py`; `loop.py` is the training, with `optimiser.py`, `schedule.py`,
`ema.py` and `checkpoint.py`; `evaluate.py` and `metrics.py` say what came out, and `curves.py`
draws it.

The recipe is that of release 0.4 in its essentials: task-aligned assignment (2108.07755), varifocal
(2008.13367), GIoU (1902.09630) and distribution focal losses (2006.04388), SGD (or Muon) with
warm-up and cosine, an average of the weights, mosaic. Left out: distillation, the anchor-aided
branch, MixUp, gradient accumulation, ATSS for the first epochs (release 0.4 switches it off too).

All randomness comes from (seed, epoch, index), so nothing of it needs to be saved.
"""
