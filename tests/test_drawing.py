from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.drawing import colour, draw, ink, place, save
from pipeline.errors import VedetteError
from pipeline.wire import Detection


def grey(width: int = 640, height: int = 480, level: int = 128) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def seen(
    box: tuple[float, float, float, float], *, label: str = "person", class_id: int = 0
) -> Detection:
    return Detection(class_id, label, 0.9, box)


def luminance(rgb: tuple[int, int, int]) -> float:
    parts = (np.array(rgb) / 255) ** 2.2
    return float(parts @ (0.2126, 0.7152, 0.0722))


def test_a_box_is_drawn_where_it_is_and_nothing_inside_it() -> None:
    box = (100, 200, 300, 400)

    pixels = np.asarray(draw(grey(), [seen(box)]))

    assert tuple(pixels[300, 101]) == colour(0)
    assert tuple(pixels[300, 298]) == colour(0)
    assert tuple(pixels[398, 200]) == colour(0)
    assert (pixels[210:390, 110:290] == 128).all()
    assert (pixels[:, :95] == 128).all()


def test_a_class_has_one_colour_and_its_neighbours_have_others() -> None:
    colours = [colour(class_id) for class_id in range(80)]

    assert colour(7) == colours[7]
    assert len(set(colours)) == 80
    for first, second in pairwise(colours):
        assert np.abs(np.subtract(first, second)).sum() > 100


@pytest.mark.parametrize("class_id", range(0, 80, 7))
def test_a_label_stands_out_from_its_plate(class_id: int) -> None:
    plate, text = colour(class_id), ink(colour(class_id))

    lighter, darker = sorted((luminance(plate), luminance(text)), reverse=True)

    assert (lighter + 0.05) / (darker + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize("level", [0, 255], ids=["black", "white"])
def test_a_box_is_seen_on_any_background(level: int) -> None:
    drawn = np.asarray(draw(grey(level=level), [seen((100, 200, 300, 400))]))

    assert (np.abs(drawn[300, 95:106].astype(int) - level).sum(-1) > 200).any()


def test_a_label_stays_in_the_picture_wherever_its_box_is() -> None:
    for x in (-5, 0, 300, 639):
        for y in (-5, 0, 240, 479):
            x1, y1, x2, y2 = place((x, y, x + 20, y + 20), (80, 18), (640, 480), [])
            assert 0 <= x1 < x2 < 640
            assert 0 <= y1 < y2 < 480


def test_labels_of_boxes_in_one_place_avoid_each_other() -> None:
    taken: list[tuple[float, float, float, float]] = []
    for _ in range(4):
        taken.append(place((100, 100, 300, 300), (80, 18), (640, 480), taken))

    assert [plate[1] for plate in taken] == [82, 100, 282, 300]


@pytest.mark.parametrize("label", ["", "zwei\nZeilen", "\x1b[31m", "行人", "a" * 300])
def test_any_class_name_can_be_drawn(label: str) -> None:
    draw(grey(), [seen((10, 10, 50, 50), label=label)])


@pytest.mark.parametrize("size", [(1, 1), (4000, 3), (3, 4000)])
@pytest.mark.parametrize("box", [(0, 0, 0, 0), (0, 0, 1, 1), (-9, -9, 9e3, 9e3)])
def test_any_picture_and_box_can_be_drawn(
    size: tuple[int, int], box: tuple[float, float, float, float]
) -> None:
    assert draw(grey(*size), [seen(box)]).size == size


def test_the_pixels_that_came_in_stay_as_they_are() -> None:
    pixels = grey()

    draw(pixels, [seen((10, 10, 50, 50))])

    assert (pixels == 128).all()


def test_a_saved_picture_has_the_camera_s_size(tmp_path: Path) -> None:
    save(tmp_path / "a.jpg", grey(321, 123), [seen((10, 10, 50, 50))])

    with Image.open(tmp_path / "a.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (321, 123))


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VedetteError, match=r"nowhere/a\.jpg cannot be written: No such file"):
        save(tmp_path / "nowhere" / "a.jpg", grey(), [])
