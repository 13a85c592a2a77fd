from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from pipeline.errors import WeightsError
from pipeline.yolov6 import load, weights
from pipeline.yolov6.importer import import_weights
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.nms import select
from pipeline.yolov6.variants import VARIANTS
from tests import reference

LITE = ("s", "m", "l")


@pytest.fixture(scope="module")
def lite_state() -> dict[str, np.ndarray]:
    """A fused Lite-S of three classes, with random weights."""
    torch.manual_seed(0)
    return reference.state_of(YOLOv6(VARIANTS["0.4.x-lite_s"], 3))


@pytest.fixture
def saved(tmp_path: Path, lite_state: dict[str, np.ndarray]) -> Path:
    path = tmp_path / "lite.safetensors"
    weights.save(path, lite_state, description())
    return path


def description(**changes: Any) -> dict[str, Any]:
    whole = {
        "variant": "0.4.x-lite_s",
        "classes": "abc",
        "input_size": (320, 320),
        "source": "e3b0",
    }
    return whole | changes


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The file with another header."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def letterboxed(file: Path) -> tuple[torch.Tensor, float, tuple[int, int]]:
    """A picture as the original's inference tool prepares it at 320: the tensor, ratio and pads."""
    picture = cv2.imread(str(file))
    assert picture is not None
    height, width = picture.shape[:2]
    ratio = min(320 / height, 320 / width)
    new_width, new_height = round(width * ratio), round(height * ratio)
    dx, dy = (320 - new_width) % 64 / 2, (320 - new_height) % 64 / 2
    left, top = round(dx - 0.1), round(dy - 0.1)
    picture = cv2.resize(picture, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    picture = cv2.copyMakeBorder(
        picture, top, round(dy + 0.1), left, round(dx + 0.1), cv2.BORDER_CONSTANT, value=(114,) * 3
    )
    pixels = np.ascontiguousarray(picture[:, :, ::-1].transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(pixels / 255)[None], ratio, (left, top)


def pictures(folder: Path) -> Iterator[tuple[str, Path]]:
    for i in (1, 2, 3):
        yield f"image{i}", folder / "images" / f"image{i}.jpg"


@pytest.mark.parametrize("size", LITE)
@torch.inference_mode()
def test_pretrained_weights_give_the_numbers_of_the_original(
    shared: Path, tmp_path: Path, size: str
) -> None:
    folder, output = shared / "yolov6" / "pretrained", tmp_path / "x.safetensors"

    info = import_weights(folder / f"yolov6lite_{size}.safetensors", output)

    assert (info.variant, info.input_size, info.stride) == (f"0.4.x-lite_{size}", (320, 320), 64)
    assert info.classes[0] == "person"
    network = load(output)
    with np.load(folder / f"yolov6lite_{size}.expected_raw.npz") as expected:
        for name, file in pictures(folder):
            images, _, _ = letterboxed(file)
            assert float(images.double().sum()) == pytest.approx(
                float(expected[f"{name}:input_sum"]), rel=1e-6
            )
            boxes, scores = network(images)
            rows, pred = expected[f"{name}:rows"], expected[f"{name}:pred"]
            assert np.abs(boxes[0, rows].numpy() - reference.to_corners(pred)).max() <= 5e-3
            assert np.abs(scores[0, rows].numpy() - pred[:, 5:]).max() <= 5e-5


@pytest.mark.parametrize("size", LITE)
@torch.inference_mode()
def test_pretrained_weights_see_what_the_original_sees(
    shared: Path, tmp_path: Path, size: str
) -> None:
    folder, output = shared / "yolov6" / "pretrained", tmp_path / "x.safetensors"
    import_weights(folder / f"yolov6lite_{size}.safetensors", output)
    network = load(output)
    expected = json.loads((folder / f"yolov6lite_{size}.expected_detections.json").read_text())

    for name, file in pictures(folder):
        images, ratio, (left, top) = letterboxed(file)
        (found,) = select(*network(images), confidence=0.4, iou=0.45, max_detections=1000)

        wanted = expected[f"{name}.jpg"]
        height, width = wanted["source_hw"]
        pads = torch.tensor([left, top, left, top])
        boxes = ((found.xyxy - pads) / ratio).clamp_(min=0)
        boxes = boxes.minimum(torch.tensor([width, height, width, height]))
        assert found.class_id.tolist() == [d["class_id"] for d in wanted["detections"]]
        for box, score, detection in zip(
            boxes, found.confidence, wanted["detections"], strict=True
        ):
            assert float(score) == pytest.approx(detection["score"], abs=0.01)
            assert box.tolist() == pytest.approx(detection["box_xyxy"], abs=1)


def test_what_is_saved_is_loaded(saved: Path, lite_state: dict[str, np.ndarray]) -> None:
    info, network = weights.inspect(saved), load(saved)

    assert info.classes == ("a", "b", "c")
    assert info.digest == hashlib.sha256(saved.read_bytes()).hexdigest()[:12]
    assert info.tensors == len(lite_state)
    assert info.parameters == sum(array.size for array in lite_state.values())
    assert not network.training
    assert network.classes == 3
    assert not any(parameter.requires_grad for parameter in network.parameters())
    loaded = reference.state_of(network)
    assert all(np.array_equal(loaded[key], lite_state[key]) for key in lite_state)


def test_the_file_is_plain_safetensors(saved: Path, lite_state: dict[str, np.ndarray]) -> None:
    found = load_file(saved)

    assert found.keys() == lite_state.keys()
    assert all(np.array_equal(found[key], lite_state[key]) for key in found)


def test_the_same_weights_have_the_same_digest(
    tmp_path: Path, lite_state: dict[str, np.ndarray]
) -> None:
    paths = tmp_path / "a.safetensors", tmp_path / "b.safetensors"

    weights.save(paths[0], lite_state, description())
    weights.save(paths[1], dict(reversed(lite_state.items())), description())

    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_what_is_no_weights_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    contents = {
        "empty": (b"", "is empty"),
        "text": (b"not weights at all\n", "is not a safetensors file"),
        "short": (b"\x10\0\0\0\0\0\0\0{}", "cut short"),
        "json": (b"\x0a\0\0\0\0\0\0\0[1,2,3,45]", "not a JSON object"),
        "zip": (b"PK\x03\x04....", "vedette weights import"),
        "pickle": (b"\x80\x02}q\x00.........", "vedette weights import"),
        "foreign": (b"\x02\0\0\0\0\0\0\0{}", "vedette weights import"),
    }
    for name, (content, phrase) in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=phrase) as caught:
            weights.inspect(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_directory_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        weights.inspect(tmp_path / "no.safetensors")
    with pytest.raises(WeightsError, match="is a directory"):
        weights.inspect(tmp_path)


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (lambda h: h["__metadata__"].update(variant="9.9-z"), "known variants are 0.4.x-n"),
        (lambda h: h["__metadata__"].update(format="other"), "vedette weights import"),
        (lambda h: h["__metadata__"].pop("classes"), "does not say its classes"),
        (lambda h: h["__metadata__"].update(classes='["a"]'), "names 1 classes"),
        (lambda h: h["__metadata__"].update(classes="[1, 2, 3]"), "not strings"),
        (lambda h: h["__metadata__"].update(input_size="[100, 320]"), "not a multiple of 64"),
        (lambda h: h["__metadata__"].update(input_size="7"), "does not say"),
        (lambda h: h["detect.cls_preds.0.bias"].update(shape=[4]), "detect.cls_preds.0.bias"),
        (lambda h: h["detect.cls_preds.0.bias"].update(dtype="I32"), "as I32, not F32 or F16"),
        (lambda h: h["detect.cls_preds.0.bias"].update(dtype="X9"), "cannot be"),
        (lambda h: h["detect.cls_preds.0.bias"].update(data_offsets=[0, 12]), "overlap"),
        (lambda h: h.pop("detect.stems.0.conv_dw_1.bias"), "leave gaps"),
    ],
)
def test_a_header_that_lies_is_refused(
    saved: Path, change: Callable[[dict[str, Any]], object], phrase: str
) -> None:
    rewritten(saved, change)

    with pytest.raises(WeightsError, match=phrase):
        weights.inspect(saved)


def test_a_file_of_another_length_is_refused(saved: Path) -> None:
    data = saved.read_bytes()

    for content in (data[:-1], data + b"\0"):
        saved.write_bytes(content)
        with pytest.raises(WeightsError, match="bytes long"):
            weights.inspect(saved)


def test_tensors_of_another_variant_are_refused(
    tmp_path: Path, lite_state: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "x.safetensors"
    weights.save(path, lite_state, description(variant="0.4.x-lite_m"))

    with pytest.raises(
        WeightsError, match=r"does not hold 0\.4\.x-lite_m: backbone\..* instead of"
    ):
        load(path)


def test_names_come_from_the_file_given_first(
    tmp_path: Path, lite_state: dict[str, np.ndarray]
) -> None:
    source, names = tmp_path / "in.safetensors", tmp_path / "names.txt"
    names.write_text("cat\n\n dog \nhorse\n")
    save_file(lite_state, source, {"names": '["x", "y", "z"]'})

    given = import_weights(source, tmp_path / "a.safetensors", names=names)
    own = import_weights(source, tmp_path / "b.safetensors")

    assert given.classes == ("cat", "dog", "horse")
    assert own.classes == ("x", "y", "z")


def test_classes_without_names_are_numbered(
    tmp_path: Path, lite_state: dict[str, np.ndarray]
) -> None:
    save_file(lite_state, tmp_path / "in.safetensors")

    info = import_weights(tmp_path / "in.safetensors", tmp_path / "out.safetensors")

    assert info.classes == ("class_0", "class_1", "class_2")
    assert (
        info.source_digest == hashlib.sha256((tmp_path / "in.safetensors").read_bytes()).hexdigest()
    )


def test_the_training_form_is_taken_in_from_safetensors(shared: Path, tmp_path: Path) -> None:
    state = reference.Golden(shared / "yolov6", "0.4.x-lite_s").training_state()
    save_file(state, tmp_path / "in.safetensors")

    info = import_weights(tmp_path / "in.safetensors", tmp_path / "out.safetensors")

    assert (info.variant, info.classes[79], info.tensors) == ("0.4.x-lite_s", "toothbrush", 308)


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (
            lambda s: s.pop("neck.Csp_p3.conv_1.weight"),
            "lite_s, but neck.Csp_p3.conv_1.weight is m",
        ),
        (lambda s: s.update(spare=np.ones(3, "f4")), "lite_s, but .*spare has no place"),
        (lambda s: s["detect.cls_preds.0.bias"].fill(np.nan), "not finite, in detect.cls_preds.0"),
    ],
)
def test_what_fits_no_variant_is_refused_with_the_closest(
    tmp_path: Path, lite_state: dict[str, np.ndarray], change: Any, phrase: str
) -> None:
    state = {key: array.copy() for key, array in lite_state.items()}
    change(state)
    save_file(state, tmp_path / "in.safetensors")

    with pytest.raises(WeightsError, match=phrase):
        import_weights(tmp_path / "in.safetensors", tmp_path / "out.safetensors")

    assert not (tmp_path / "out.safetensors").exists()


def test_wrong_calls_are_refused(saved: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("one\n")

    for output, options, phrase in (
        ("x.pt", {}, "does not end in .safetensors"),
        ("x.safetensors", {"variant": "big"}, "no variant 'big'; known are 0.4.x-n"),
        ("x.safetensors", {"variant": "0.4.x-n"}, "closest is 0.4.x-n"),
        ("x.safetensors", {"names": names}, "has 1 names; .* predicts 3 classes"),
        ("x.safetensors", {"names": tmp_path / "no"}, "cannot be read"),
        ("names.txt/x.safetensors", {}, "cannot be written"),
    ):
        with pytest.raises(WeightsError, match=phrase):
            import_weights(saved, tmp_path / output, **options)  # type: ignore[arg-type]

    assert sorted(path.name for path in tmp_path.iterdir()) == [saved.name, names.name]


def test_numbers_stored_in_half_the_space_are_loaded_as_float32(
    tmp_path: Path, lite_state: dict[str, np.ndarray]
) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"

    weights.save(whole, lite_state, description())
    weights.save(half, lite_state, description(), half=True)

    assert half.stat().st_size < 0.6 * whole.stat().st_size
    for key, tensor in load(half).state_dict().items():
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor, lite_state[key], rtol=1e-3, atol=1e-7)
