"""Which member of the family a file is, and that files of every release become networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from benchmarks import folding
from pipeline.errors import WeightsError
from pipeline.yolov6 import branches, load
from pipeline.yolov6.identity import identify, traces
from pipeline.yolov6.importer import import_weights
from pipeline.yolov6.names import canonical
from pipeline.yolov6.network import YOLOv6, shapes
from pipeline.yolov6.train.build import bins_of
from pipeline.yolov6.variants import VARIANTS
from pipeline.yolov6.weights import Shapes, head_size, shapes_of
from tests import reference

# What keys and shapes cannot tell: the same tensors, but another activation.
AMBIGUOUS = {
    "0.2.x-l": ("0.2.x-l", "0.2.x-l_base"),
    "0.2.x-l_base": ("0.2.x-l", "0.2.x-l_base"),
    "0.3.x-l": ("0.3.x-l", "0.4.x-l_base"),
    "0.4.x-l": ("0.4.x-l", "0.4.x-l_base"),
    "0.4.x-l_base": ("0.4.x-l", "0.4.x-l_base"),
}
STEM = "backbone.stem.block.act"


@pytest.fixture(scope="module")
def small() -> dict[str, np.ndarray]:
    """0.4.x-n of three classes in its training form, with random weights."""
    torch.manual_seed(0)
    variant = VARIANTS["0.4.x-n"]
    network = YOLOv6(variant, 3, 1, branches.kit(variant))
    return reference.state_of(reference.with_random_statistics(network))


def outlines(data: reference.Golden) -> tuple[Shapes, Shapes]:
    """The shapes of the original's state dict, and of what it is folded to."""
    size = head_size(shapes_of(canonical(data.outline())))
    return shapes_of(data.outline()), shapes(data.variant, *size)


@pytest.mark.parametrize("golden", reference.goldens())
def test_a_bare_state_dict_tells_which_variant_it_is(shared: Path, golden: str) -> None:
    data = reference.Golden(shared / "yolov6", golden)
    own, folded = outlines(data)
    seen = traces("x.pt", own, {})

    if data.variant_name not in AMBIGUOUS:
        assert identify("x.pt", folded, list(VARIANTS), seen) == data.variant_name
        return
    with pytest.raises(WeightsError, match="say which by --variant") as caught:
        identify("x.pt", folded, list(VARIANTS), seen)
    assert f"any of {', '.join(AMBIGUOUS[data.variant_name])}:" in str(caught.value)
    assert identify("x.pt", folded, [data.variant_name], seen) == data.variant_name


@pytest.mark.parametrize(
    ("golden", "activation", "name"),
    [
        ("0.4.x-l", "SiLU", "0.4.x-l"),
        ("0.4.x-l", "ReLU", "0.4.x-l_base"),
        ("0.3.x-l", "ReLU", "0.4.x-l_base"),  # as published with 0.3, of main's structure
        ("0.2.x-l", "SiLU", "0.2.x-l"),
        ("0.2.x-l", "ReLU", "0.2.x-l_base"),
    ],
)
def test_the_modules_of_a_pickled_model_tell_its_activation(
    shared: Path, golden: str, activation: str, name: str
) -> None:
    own, folded = outlines(reference.Golden(shared / "yolov6", golden))
    modules = {STEM: f"torch.nn.modules.activation.{activation}"}

    assert identify("x.pt", folded, list(VARIANTS), traces("x.pt", own, modules)) == name


@pytest.mark.parametrize(
    ("modules", "phrase"),
    [
        ({STEM: "torch.nn.modules.activation.Mish"}, f"Mish at {STEM}; known are ReLU and SiLU"),
        ({STEM: "torch.nn.modules.activation.SiLU"}, "has silu .*, and 0.4.x-n has relu"),
        ({"neck.x": "yolov6.layers.common.QARepVGGBlock"}, "QARepVGGBlock at neck.x; only its V2"),
    ],
)
def test_modules_that_no_member_of_the_family_has_are_refused(
    shared: Path, modules: dict[str, str], phrase: str
) -> None:
    own, folded = outlines(reference.Golden(shared / "yolov6", "0.4.x-n_base"))

    with pytest.raises(WeightsError, match=phrase):
        identify("x.pt", folded, list(VARIANTS), traces("x.pt", own, modules))


def test_our_own_training_form_tells_no_more_than_the_original(shared: Path) -> None:
    variant = VARIANTS["0.4.x-l"]
    with torch.device("meta"):
        own = shapes_of(YOLOv6(variant, 3, 17, branches.kit(variant)).state_dict())

    with pytest.raises(WeightsError, match=r"may be any of 0\.4\.x-l, 0\.4\.x-l_base:"):
        identify("x.pt", shapes(variant, 3, 17), list(VARIANTS), traces("x.pt", own, {}))


def test_plain_convolutions_where_the_family_has_branches_need_the_callers_word() -> None:
    folded = shapes(VARIANTS["0.4.x-m"], 80, 17)
    seen = traces("x.pt", {"backbone.stem.block.conv.weight": (48, 3, 3, 3)}, {})

    with pytest.raises(WeightsError, match=r"is relu, as there, say so by --variant 0\.4\.x-m"):
        identify("x.pt", folded, list(VARIANTS), seen)

    assert identify("x.pt", folded, ["0.4.x-m"], seen) == "0.4.x-m"


@pytest.mark.parametrize(
    ("name", "variant"),
    [("yolov6n-0.1.0", "0.1.0-n"), ("yolov6n-0.4.x", "0.4.x-n")],
)
@torch.inference_mode()
def test_an_official_checkpoint_needs_no_word_of_the_caller(
    shared: Path, tmp_path: Path, name: str, variant: str
) -> None:
    folder, output = shared / "yolov6", tmp_path / "x.safetensors"

    info = import_weights(folder / "checkpoints" / f"{name}.pt", output)

    assert (info.variant, len(info.classes)) == (variant, 80)
    boxes, scores = load(output)(reference.checkpoint_images(folder))
    with np.load(folder / "checkpoints" / f"{name}.expected.npz") as expected:
        rows, pred = expected["rows"], expected["pred"]
    assert np.abs(boxes[:, rows].numpy() - reference.to_corners(pred)).max() <= 2e-3
    wanted = pred[..., 5:] * pred[..., 4:5]
    assert np.abs(scores[:, rows].numpy() - wanted).max() <= 2e-5


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_fine_tuned_model_keeps_its_own_classes(
    tmp_path: Path, small: dict[str, np.ndarray], dtype: type
) -> None:
    source, names = tmp_path / "own.safetensors", tmp_path / "names.txt"
    floats = {k: v.astype(dtype) for k, v in small.items() if v.dtype.kind == "f"}
    save_file(floats, source)
    names.write_text("helmet\nvest\nforklift\n")

    info = import_weights(source, tmp_path / "x.safetensors", names=names)

    assert (info.variant, info.classes) == ("0.4.x-n", ("helmet", "vest", "forklift"))


def test_the_branches_of_anchor_aided_training_follow_the_class_count(
    tmp_path: Path, small: dict[str, np.ndarray]
) -> None:
    aided = {
        f"detect.{kind}_preds_ab.{i}.weight": np.zeros((3 * size, 32 << i, 1, 1), np.float32)
        for kind, size in (("cls", 3), ("reg", 4))
        for i in range(3)
    }
    save_file(small | aided, tmp_path / "in.safetensors")

    info = import_weights(tmp_path / "in.safetensors", tmp_path / "x.safetensors", variant="n")

    assert (info.variant, info.classes) == ("0.4.x-n", ("class_0", "class_1", "class_2"))


@pytest.mark.parametrize(
    ("key", "shape", "phrase"),
    [
        (
            "neck.Rep_p4.conv1.rbr_dense.conv.weight",
            None,
            "neck.Rep_p4.conv1.rbr_dense.bn but no convolution",
        ),
        (
            "neck.reduce_layer1.conv.weight",
            (32, 48, 1, 1),
            "closest is 0.4.x-n, but neck.reduce_layer1.conv.weight is 32x48x1x1 instead of 32x64",
        ),
        (
            "neck.attention.conv.weight",
            (8, 8, 1, 1),
            "closest is 0.4.x-n, but neck.attention.conv.weight has no place in it",
        ),
    ],
)
def test_what_fits_nothing_is_refused_with_the_files_own_key(
    tmp_path: Path,
    small: dict[str, np.ndarray],
    key: str,
    shape: tuple[int, ...] | None,
    phrase: str,
) -> None:
    state = dict(small)
    if shape is None:
        del state[key]
    else:
        state[key] = np.zeros(shape, np.float32)
    save_file(state, tmp_path / "in.safetensors")

    with pytest.raises(WeightsError, match=phrase) as caught:
        import_weights(tmp_path / "in.safetensors", tmp_path / "x.safetensors")

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("golden", reference.goldens())
def test_the_benchmark_measures_heads_as_they_were_published(shared: Path, golden: str) -> None:
    data = reference.Golden(shared / "yolov6", golden)
    name = data.variant_name.replace("0.3", "0.4")

    if golden == data.variant_name:  # a plain head
        assert bins_of(name) == head_size(shapes_of(canonical(data.outline())))[1]


def test_published_precision_is_told_of_variants_there_are() -> None:
    assert folding.PUBLISHED.keys() <= VARIANTS.keys()


def test_both_forms_of_a_variant_are_measured() -> None:
    figures = folding.measure("0.4.x-lite_s", seconds=0)

    assert figures.side == 320
    assert figures.flops / 1e9 == pytest.approx(0.543, abs=1e-3)
    assert min(figures.training, figures.fused) > 0
