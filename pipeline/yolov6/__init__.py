"""YOLOv6 in fused form, from weights files of our own kind. Importing this imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.yolov6.network import YOLOv6


def load(path: str | Path) -> YOLOv6:
    """The network of a weights file: eval mode, fused, float32, on the CPU, no gradients.

    Called on `images` float32 [B, 3, H, W] (RGB, 0…1; H and W multiples of the largest stride) it
    returns `boxes` float32 [B, A, 4] (x1, y1, x2, y2 in input pixels, not clipped) and `scores`
    float32 [B, A, classes] (0…1). Raises `WeightsError`.
    """
    import torch

    from pipeline.errors import WeightsError
    from pipeline.yolov6.network import YOLOv6, shapes
    from pipeline.yolov6.variants import VARIANTS
    from pipeline.yolov6.weights import describe, differences, head_size, read

    path = Path(path)
    info, found = describe(path)
    variant = VARIANTS[info.variant]
    size = head_size(found)
    if wrong := differences(shapes(variant, *size), found):
        raise WeightsError(f"{path} does not hold {info.variant}: {' '.join(wrong[0])}")
    _, state = read(path)
    with torch.device("meta"):
        network = YOLOv6(variant, *size)
    tensors = {key: torch.from_numpy(array).float() for key, array in state.items()}
    network.load_state_dict(tensors, assign=True)
    network.ranges = info.ranges
    return network.eval().requires_grad_(False)
