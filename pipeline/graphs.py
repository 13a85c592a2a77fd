"""A network that is replayed instead of run: CUDA graphs, one for each size of batch.

Run operator by operator, a small network waits for the CPU: a few hundred launches of some
microseconds each take longer than the GPU does. A graph is launched once. It has its memory for
ever, so a batch is copied into it, and there is one for each *bucket*, the sizes 1, 2, 4 …: a batch
goes into the smallest that takes it, and what is computed of the rest of the bucket is not looked
at (PyTorch's documentation, "CUDA semantics: CUDA Graphs").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import VedetteError

Answer = tuple[Tensor, Tensor]  # boxes [B, A, 4], scores [B, A, classes]
Compute = Callable[[Tensor], Answer]  # of pixels, uint8 [B, H, W, 3], on the device
Recording = tuple[Callable[[], object], Answer, Any]  # how to replay it, what comes out, its pool
Record = Callable[[Compute, Tensor, Any], Recording]

_WARM = 3  # times that a network is run before it is recorded: what it caches is there then


@dataclass(frozen=True, slots=True)
class Tape:
    """What is replayed for one bucket."""

    pixels: Tensor  # uint8 [bucket, H, W, 3]: where a batch is put
    replay: Callable[[], object]
    boxes: Tensor  # what it leaves, until the next time
    scores: Tensor


class Recorded:
    """`compute` for batches up to the largest bucket; for one thread and one stream."""

    def __init__(
        self, compute: Compute, buckets: tuple[int, ...], pixels: Tensor, record: Record
    ) -> None:
        """`pixels` [largest, H, W, 3]: something like what will come.

        Raises VedetteError if what is replayed is not what is computed.
        """
        self._tapes = {}
        pool = None
        for bucket in sorted(buckets, reverse=True):  # the largest's memory is enough for all
            place = pixels[:bucket].clone()
            replay, (boxes, scores), pool = record(compute, place, pool)
            self._tapes[bucket] = Tape(place, replay, boxes, scores)
        for bucket in buckets:
            self._check(compute, 255 - pixels[:bucket])

    def __call__(self, pixels: Tensor) -> Answer:
        """Of pixels [n, H, W, 3], wherever they are. The answer is good until the next call."""
        count = len(pixels)
        tape = self._tapes[bucket_of(count, tuple(self._tapes))]
        tape.pixels[:count].copy_(pixels, non_blocking=True)
        tape.replay()
        return tape.boxes[:count], tape.scores[:count]

    def _check(self, compute: Compute, pixels: Tensor) -> None:
        """On other pictures than were recorded."""
        for found, wanted in zip(self(pixels), compute(pixels), strict=True):
            if not torch.allclose(found, wanted, rtol=0.01, atol=0.01, equal_nan=True):
                raise VedetteError("a recorded network computes something else")


def buckets_up_to(most: int) -> tuple[int, ...]:
    """1, 2, 4 … and `most`."""
    powers = (1 << i for i in range(most.bit_length()))
    return (*(power for power in powers if power < most), most)


def bucket_of(count: int, buckets: tuple[int, ...]) -> int:
    """The smallest that takes so many; ValueError where none does."""
    return min(bucket for bucket in buckets if bucket >= count)


def record(compute: Compute, pixels: Tensor, pool: Any) -> Recording:
    """On the current stream of the current GPU; nobody else may use the GPU meanwhile.

    Raises what torch raises where it cannot.
    """
    for _ in range(_WARM):
        compute(pixels)
    stream = torch.cuda.current_stream()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        answer = compute(pixels)
    return graph.replay, answer, graph.pool()
