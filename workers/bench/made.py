"""What is measured where nothing is given: a drawn clip, random weights.

Written by a process of its own (`yardstick.py`): that of the bench is a supervisor, and loads
neither torch nor PyAV.
"""

from __future__ import annotations

from pathlib import Path

_CLASSES = 80
_NOTHING = -4.6  # bias of the class scores: 1 %, where training begins, so that nothing is found
_PICTURE = (720, 1280)  # height and width of the clip
_FRAMES = 50


def draw(path: Path) -> None:
    """The clip of those who give none: a drawn street."""
    from pipeline.scenes.clip import write_clip
    from pipeline.scenes.setting import Setting

    write_clip(path, Setting(101, "street", "day", "clear", _PICTURE, rate=25.0), _FRAMES)


def random_weights(
    path: Path, variant: str, input_size: tuple[int, int], *, ranges: bool = False
) -> None:
    """A weights file that sees nothing and costs what a trained one does.

    With `ranges`, of what flows in it when it looks at noise: it runs in int8 then.
    """
    import torch

    from pipeline.yolov6.calibrate import measure
    from pipeline.yolov6.network import YOLOv6
    from pipeline.yolov6.train.build import bins_of
    from pipeline.yolov6.variants import VARIANTS
    from pipeline.yolov6.weights import save

    torch.manual_seed(0)
    network = YOLOv6(VARIANTS[variant], _CLASSES, bins_of(variant)).eval().requires_grad_(False)
    state = network.state_dict()
    for key, tensor in state.items():
        if "cls_preds" in key and key.endswith("bias"):
            tensor.fill_(_NOTHING)
    save(
        path,
        {key: tensor.numpy() for key, tensor in state.items()},
        {
            "variant": variant,
            "classes": [f"class_{index}" for index in range(_CLASSES)],
            "input_size": input_size,
            "source": "random",
            "ranges": measure(network, [torch.rand(1, 3, *input_size)]) if ranges else {},
        },
    )
