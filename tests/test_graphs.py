"""Batches go into buckets, and what comes out is what the network says of them.

A GPU records; here in its place stands what computes anew whenever it is replayed, in the same
memory, so that which bucket and which rows are taken can be seen without one.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.errors import VedetteError
from pipeline.graphs import Answer, Compute, Recorded, Recording, bucket_of, buckets_up_to, record

SHAPE = (4, 6, 3)


def compute(pixels: Tensor) -> Answer:
    """Each row's answer is of that row alone."""
    means = pixels.float().mean((1, 2, 3))
    return means[:, None, None].expand(-1, 5, 4).clone(), means[:, None, None].expand(
        -1, 5, 2
    ) / 255


class Recorder:
    """Counts what is replayed."""

    def __init__(self, shift: float = 0.0) -> None:
        self.replayed: list[int] = []
        self.pools: list[object] = []
        self._shift = shift

    def __call__(self, network: Compute, pixels: Tensor, pool: object) -> Recording:
        self.pools.append(pool)
        boxes, scores = (tensor.clone() for tensor in network(pixels))

        def replay() -> None:
            self.replayed.append(len(pixels))
            for place, found in zip((boxes, scores), network(pixels), strict=True):
                place.copy_(found + self._shift)

        return replay, (boxes, scores), f"pool of {len(pixels)}" if pool is None else pool


def pictures(count: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *SHAPE), dtype=torch.uint8, generator=random)


@pytest.mark.parametrize(
    ("most", "buckets"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (16, (1, 2, 4, 8, 16)), (20, (1, 2, 4, 8, 16, 20))],
)
def test_buckets_double(most: int, buckets: tuple[int, ...]) -> None:
    assert buckets_up_to(most) == buckets
    for count in range(1, most + 1):
        bucket = bucket_of(count, buckets)
        assert bucket >= count
        assert not any(count <= other < bucket for other in buckets)


def test_no_bucket_takes_more_than_the_largest() -> None:
    with pytest.raises(ValueError, match=r"empty"):
        bucket_of(9, (1, 2, 4, 8))


def test_a_batch_is_what_the_network_says_whatever_was_there_before() -> None:
    recorder = Recorder()
    recorded = Recorded(compute, buckets_up_to(6), pictures(6), recorder)
    assert recorder.pools == [None, "pool of 6", "pool of 6", "pool of 6"]  # one for all
    recorder.replayed.clear()

    for seed, count in enumerate([6, 1, 3, 2, 5, 4], start=1):
        batch = pictures(count, seed)
        for found, wanted in zip(recorded(batch), compute(batch), strict=True):
            assert torch.equal(found, wanted)

    assert recorder.replayed == [6, 1, 4, 2, 6, 4]


def test_a_recording_that_computes_something_else_is_refused() -> None:
    with pytest.raises(VedetteError, match="computes something else"):
        Recorded(compute, (1, 2), pictures(2), Recorder(shift=0.5))


def test_a_recording_of_one_batch_for_ever_is_refused() -> None:
    """As of a network that had copied its input: replayed, it says the same of any picture."""

    def frozen(network: Compute, pixels: Tensor, pool: object) -> Recording:
        return (lambda: None), network(pixels), pool

    with pytest.raises(VedetteError, match="computes something else"):
        Recorded(compute, (1,), pictures(1), frozen)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_replays_what_it_computes() -> None:
    stream = torch.cuda.Stream()
    with torch.inference_mode(), torch.cuda.stream(stream):
        recorded = Recorded(compute, buckets_up_to(4), pictures(4).cuda(), record)
        for seed, count in enumerate([4, 1, 3]):
            batch = pictures(count, seed)
            for found, wanted in zip(recorded(batch), compute(batch.cuda()), strict=True):
                torch.testing.assert_close(found, wanted)
