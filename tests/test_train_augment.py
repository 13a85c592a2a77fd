from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ConfigError
from pipeline.samples import Sample
from pipeline.yolov6.importer import COCO
from pipeline.yolov6.train.augment import augment, recoloured, whole
from pipeline.yolov6.train.folder import Folder, open_folder
from pipeline.yolov6.train.loading import Batches
from pipeline.yolov6.train.recipe import AUGMENTATIONS, Augmentation, Recipe

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
UNCOLOURED = replace(AUGMENTATIONS["strong"], hue=0, saturation=0, value=0)


class Rectangles:
    """Black pictures of all shapes with one rectangle, whose colour is its class."""

    names = ("red", "green", "blue", "yellow")

    def __init__(self, length: int = 40) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng(index)
        height, width = random.integers(60, 200, 2)
        image = np.zeros((height, width, 3), np.uint8)
        x1, y1 = (random.uniform(0, 0.4, 2) * (width, height)).astype(int)
        x2, y2 = (random.uniform(0.6, 1, 2) * (width, height)).astype(int)
        label = index % len(COLOURS)
        image[y1:y2, x1:x2] = COLOURS[label]
        box = np.array([[x1, y1, x2, y2]], np.float32)
        return Sample(image, box, np.array([label]))


def seen(image: np.ndarray, label: int) -> list[float] | None:
    """The box around everything of a colour."""
    wanted = np.array(COLOURS[label])
    mask = (np.abs(image.astype(int) - wanted) < 96).all(-1)
    if not mask.any():
        return None
    rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def check(sample: Sample) -> int:
    """Every box lies around its colour to two pixels; how many there were."""
    for box, label in zip(sample.boxes, sample.class_ids, strict=True):
        found = seen(sample.image, int(label))
        assert found is not None
        assert np.abs(box - np.array(found)).max() <= 2
    return len(sample.boxes)


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_boxes_stay_around_what_they_hold_when_a_picture_is_moved(size: tuple[int, int]) -> None:
    pictures = Rectangles()
    count = 0

    for seed in range(40):
        random = np.random.default_rng(seed)
        sample = augment([pictures[seed]], size, UNCOLOURED, random)
        assert sample.image.shape == (*size, 3)
        count += check(sample)

    assert count >= 38


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
def test_boxes_stay_around_what_they_hold_in_a_mosaic(size: tuple[int, int]) -> None:
    pictures = Rectangles()
    count = 0

    for seed in range(40):
        random = np.random.default_rng(seed)
        four = [pictures[4 * (seed % 10) + i] for i in range(4)]
        sample = augment(four, size, UNCOLOURED, random)
        count += check(sample)
        assert (sample.boxes >= 0).all()
        assert (sample.boxes[:, [2, 3]] <= (size[1], size[0])).all()

    assert count > 60


def test_who_is_ignored_stays_ignored() -> None:
    def tripled(number: int) -> Sample:
        """Its rectangle, and twice more as one that is ignored."""
        sample = Rectangles()[number]
        boxes, labels = np.repeat(sample.boxes, 3, 0), np.repeat(sample.class_ids, 3)
        return Sample(sample.image, boxes, labels, ignored=np.array([False, True, True]))

    for seed in range(20):
        random = np.random.default_rng(seed)
        numbers = [seed] if seed % 2 else [seed, seed + 1, seed + 2, seed + 3]
        sample = augment([tripled(n) for n in numbers], (96, 160), UNCOLOURED, random)
        ignored = sample.is_ignored
        assert check(sample)
        assert sample.boxes[ignored].tolist() == sample.boxes[~ignored].repeat(2, 0).tolist()
    assert whole(tripled(3), (96, 160)).is_ignored.tolist() == [False, True, True]


def test_what_is_cut_to_a_sliver_is_left_out() -> None:
    pictures = Rectangles()
    far = replace(UNCOLOURED, translate=0.95)

    kept = [
        augment([pictures[i]], (128, 128), far, np.random.default_rng(i)).boxes for i in range(40)
    ]

    boxes = np.concatenate(kept)
    assert 5 < len(boxes) < 40
    assert (boxes[:, 2:] - boxes[:, :2] >= 2).all()


def test_nothing_changes_without_augmentation_but_size() -> None:
    sample = Rectangles()[3]

    changed = augment([sample], (96, 96), AUGMENTATIONS["none"], np.random.default_rng(0))

    expected = whole(sample, (96, 96))
    assert (changed.image == expected.image).mean() > 0.9
    assert np.abs(changed.boxes - expected.boxes).max() <= 1
    check(expected)


def test_light_leaves_every_pixel_of_a_picture_of_the_inputs_size_or_flips_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    sample = Sample(noise, np.array([[10, 20, 30, 50]], np.float32), np.array([0]))
    light = replace(AUGMENTATIONS["light"], hue=0, saturation=0, value=0)

    changed = [
        augment([sample], (64, 96), light, np.random.default_rng(seed)) for seed in range(20)
    ]

    kept, flipped = (noise, [10, 20, 30, 50]), (noise[:, ::-1], [66, 20, 86, 50])
    told = [
        [bool((one.image == image).all()) and one.boxes.tolist() == [box] for one in changed]
        for image, box in (kept, flipped)
    ]
    assert all(a != b for a, b in zip(*told, strict=True))
    assert 0 < sum(told[0]) < len(changed)


def test_a_picture_lies_in_the_input_as_a_camera_picture_does() -> None:
    image = np.full((50, 100, 3), 200, np.uint8)
    sample = Sample(image, np.array([[10, 10, 20, 20]], np.float32), np.array([0]))

    placed = whole(sample, (64, 64))

    assert (placed.image[:16] == 114).all()
    assert (placed.image[16:48] == 200).all()
    np.testing.assert_allclose(placed.boxes, [[6.4, 22.4, 12.8, 28.8]], rtol=1e-6)


def test_grey_stays_grey_and_colours_keep_their_order_of_brightness() -> None:
    random = np.random.default_rng(0)
    grey = np.full((4, 4, 3), 100, np.uint8)

    for _ in range(20):
        changed = recoloured(grey, Augmentation(value=0.0), random)
        assert np.abs(changed.astype(int) - 100).max() <= 2


def test_a_sample_depends_on_seed_epoch_and_number_alone() -> None:
    recipe = Recipe(input_size=(64, 64), batch=8, seed=5)

    alone = [batch for batch in Batches(Rectangles(), recipe).of(2)]
    batches = Batches(Rectangles(), recipe)
    list(batches.of(0))
    later = list(batches.of(2))
    other = list(batches.of(3))

    assert all(
        (a.images == b.images).all() and (a.boxes == b.boxes).all()
        for a, b in zip(alone, later, strict=True)
    )
    assert any((a.images != b.images).any() for a, b in zip(alone, other, strict=True))


def test_the_last_epochs_have_no_mosaic() -> None:
    recipe = Recipe(epochs=10, calm_epochs=3)

    assert [recipe.augmentation(epoch).mosaic for epoch in (0, 6, 7, 9)] == [1.0, 1.0, 0.0, 0.0]


# The folder ---------------------------------------------------------------------------------------


def data_set(root: Path, lines: str = "1 0.5 0.5 0.5 0.25\n", names: str = "[a, b]") -> Path:
    for part in ("train", "val"):
        (root / "images" / part).mkdir(parents=True)
        (root / "labels" / part).mkdir(parents=True)
        for name in ("x.png", "y.png"):
            Image.new("RGB", (80, 40), (10, 20, 30)).save(root / "images" / part / name)
        (root / "labels" / part / "x.txt").write_text(lines)
    (root / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    return root


def test_a_folder_is_read_as_yolo_lays_it_out(tmp_path: Path) -> None:
    pictures = open_folder(data_set(tmp_path, names="{0: a, 1: b}"), None)

    assert (pictures.names, len(pictures)) == (("a", "b"), 2)
    sample = pictures[0]
    assert sample.image.shape == (40, 80, 3)
    assert tuple(sample.image[0, 0]) == (10, 20, 30)
    np.testing.assert_allclose(sample.boxes, [[20, 15, 60, 25]])
    assert sample.class_ids.tolist() == [1]


def test_a_picture_without_labels_shows_nothing(tmp_path: Path) -> None:
    pictures = open_folder(data_set(tmp_path) / "data.yaml", None, part="val")

    assert pictures[1].boxes.shape == (0, 4)


def test_a_folder_without_any_object_teaches_nothing(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    (root / "labels").rename(root / "lables")

    with pytest.raises(ConfigError, match=r"has an object: looked for \S+labels/train/x.txt"):
        open_folder(root, None)


def test_another_picture_or_label_is_another_data_set(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    first, same = open_folder(root, None), open_folder(root, None)

    (root / "labels" / "train" / "x.txt").write_text("1 0.5 0.5 0.5 0.26\n")

    assert first.identity == same.identity
    assert open_folder(root, None).identity != first.identity


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("train: 2024-13-45\nnames: [a]\n", "cannot be read: month must be in 1..12"),
        ("train: " + "[" * 5000, "cannot be read: it is nested too deeply"),
        ("train: " + "9" * 5000 + "\nnames: [a]\n", "cannot be read: Exceeds the limit"),
        ("train: [x, y]\nnames: [a, b]\n", "train: found a list, must be the name of one folder"),
        ("path: {x: y}\nnames: [a, b]\n", "path: found a dict, must be"),
        ("train: " + "x" * 400 + "\nnames: [a, b]\n", "is not a folder of pictures"),
        ("trian: images/train\nnames: [a, b]\n", "found the key 'trian', did you mean 'train'"),
        ("valid: images/val\nnames: [a, b]\n", "found the key 'valid', did you mean 'val'"),
        ('train: images/train\nnames: ["\\ud800", b]\n', "names must be a list of texts"),
    ],
)
def test_a_data_yaml_of_another_kind_is_one_sentence(
    tmp_path: Path, content: str, sentence: str
) -> None:
    root = data_set(tmp_path)
    (root / "data.yaml").write_text(content)

    with pytest.raises(ConfigError, match=sentence):
        open_folder(root, None)


def test_a_name_that_is_too_long_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be looked at: File name too long"):
        open_folder(tmp_path / ("x" * 400), None)


def test_keys_of_other_tools_are_let_pass(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    with (root / "data.yaml").open("a") as file:
        file.write("nc: 2\nroboflow: {version: 3}\ndownload: x\n")

    assert len(open_folder(root, None)) == 2


def test_pixels_of_sixteen_bits_are_refused(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    wide = Image.fromarray(np.full((40, 80), 20000, np.uint16))
    wide.save(root / "images" / "train" / "x.png")

    with pytest.raises(ConfigError, match="has pixels of 'I;16', must be of 8 bits"):
        open_folder(root, None)[0]


def test_colours_change_as_much_as_is_asked() -> None:
    image = np.tile(np.array([120, 80, 60], np.uint8), (4, 4, 1))
    rng = np.random.default_rng(5)
    draws = [recoloured(image, Augmentation(0, 0, 0, 0, 0, 0, 0.4), rng)[0, 0] for _ in range(200)]
    brightness = np.array([pixel.astype(float) / (120, 80, 60) for pixel in draws])

    assert np.ptp(brightness, axis=1).max() < 0.03  # all three alike
    assert 0.59 < brightness.min() < 0.7
    assert brightness.max() > 1.25

    grey = np.full((4, 4, 3), 90, np.uint8)
    saturated = [recoloured(image, Augmentation(0, 0, 0, 0, 0, 0.7, 0), rng) for _ in range(200)]
    luma = [float(one[0, 0] @ (0.299, 0.587, 0.114)) for one in saturated]
    spread = [np.ptp(one[0, 0].astype(int)) for one in saturated]
    assert max(luma) - min(luma) < 12  # as bright as before, but for what is clipped
    assert min(spread) < 0.45 * 60 < 60 * 1.5 < max(spread)
    unchanged = recoloured(grey, Augmentation(0, 0, 0, 0, 0, 0.7, 0), rng)
    assert np.abs(unchanged.astype(int) - 90).max() <= 1


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("1 0.5 0.5 0.5\n", r"x.txt, line 1: found '1 0.5 0.5 0.5', must be class cx cy w h"),
        ("0 0.5 0.5 0.5 0.5\n0 9 0.5 0.5 0.5\n", "line 2: found '0 9 0.5 0.5 0.5', must be"),
        ("2 0.5 0.5 0.5 0.5\n", "line 1: class 2 is none of 2"),
        ("0 nan 0.5 0.5 0.5\n", "line 1: found '0 nan"),
        ("car 0.5 0.5 0.5 0.5\n", "line 1: found 'car"),
    ],
)
def test_labels_that_are_none_are_named(tmp_path: Path, lines: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        open_folder(data_set(tmp_path, lines), None)


def test_a_folder_that_is_none_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.yaml is not there to name the classes"):
        open_folder(tmp_path, None)
    with pytest.raises(ConfigError, match="holds no pictures"):
        Folder(tmp_path, ["a"])
    with pytest.raises(ConfigError, match="is not a folder of pictures"):
        Folder(tmp_path / "x", ["a"])
    data_set(tmp_path, names="3")
    with pytest.raises(ConfigError, match="names must be a list"):
        open_folder(tmp_path, None)


def test_a_picture_that_is_none_is_named(tmp_path: Path) -> None:
    pictures = open_folder(data_set(tmp_path), None)
    (tmp_path / "images" / "train" / "x.png").write_text("no")

    with pytest.raises(ConfigError, match=r"x.png cannot be read as a picture"):
        pictures[0]


def test_coco128_has_its_objects_inside_its_pictures(shared: Path) -> None:
    pictures = open_folder(shared / "coco128", COCO)

    samples = [pictures[i] for i in range(0, len(pictures), 8)]

    assert len(pictures) == 128
    for sample in samples:
        height, width = sample.image.shape[:2]
        assert (sample.boxes >= 0).all()
        assert (sample.boxes[:, 2:] <= (width, height)).all()
