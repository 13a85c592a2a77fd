"""Packed convolutions compute what the others do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.device import multiplies
from pipeline.yolov6 import load
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.prepack import Packed, prepack
from pipeline.yolov6.variants import VARIANTS
from pipeline.yolov6.weights import OURS
from tests.marks import first_now

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.05}


def pictures(batch: int, dtype: torch.dtype) -> torch.Tensor:
    random = torch.Generator().manual_seed(batch)
    images = torch.rand((batch, 3, 64, 96), generator=random).to(dtype)
    return images.contiguous(memory_format=torch.channels_last)


def network_of(variant: str, dtype: torch.dtype) -> YOLOv6:
    """Its activations are there to be seen: at random, few values are negative enough."""
    torch.manual_seed(1)
    network = YOLOv6(VARIANTS[variant], 3).eval().requires_grad_(False)
    for tensor in network.state_dict().values():
        if tensor.ndim == 1:
            tensor.uniform_(-0.5, 0.5)
    return network.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(
    "variant", first_now(["0.4.x-lite_s", "0.4.x-n", "0.4.x-m", "0.4.x-s_mbla", "0.1.0-n"])
)
def test_a_packed_network_finds_the_same(variant: str, dtype: torch.dtype) -> None:
    network = network_of(variant, dtype)
    batches = [pictures(batch, dtype) for batch in (1, 3, 4)]
    with torch.inference_mode():
        wanted = [network(images) for images in batches]

    is_packed_now = prepack(network, batches[0], batch=4)
    if dtype == torch.float32 or multiplies("bf16"):  # else oneDNN need not have it
        assert is_packed_now
    else:
        pytest.skip("no bfloat16 here")

    assert not any(isinstance(module, nn.Conv2d) for module in network.modules())
    assert any(isinstance(module, Packed) for module in network.modules())
    with torch.inference_mode():
        for images, (boxes, scores) in zip(batches, wanted, strict=True):
            found = network(images)
            scale = boxes.abs().max()
            torch.testing.assert_close(
                found[0] / scale, boxes / scale, rtol=0, atol=TOLERANCES[dtype]
            )
            torch.testing.assert_close(found[1], scores, rtol=0, atol=TOLERANCES[dtype])


def halved(weight: torch.Tensor, *_: object) -> torch.Tensor:
    return (weight.to_dense() / 2).to_mkldnn()


def halved_distances(weight: torch.Tensor, *_: object) -> torch.Tensor:
    """Only what says how large boxes are."""
    return weight if weight.shape[0] != 4 else halved(weight)


def test_what_cannot_be_packed_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch without one of the operators, and one whose operator computes something else."""
    network = load(OURS)
    images = pictures(1, torch.float32)
    wanted = network(images)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]

    monkeypatch.delattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    assert not prepack(network, images, 1)
    for wrong in (halved, halved_distances):
        monkeypatch.setattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", wrong, raising=False)
        assert not prepack(network, images, 1)

    assert [m for m in network.modules() if isinstance(m, nn.Conv2d)] == convolutions
    for one, other in zip(network(images), wanted, strict=True):
        assert torch.equal(one, other)
