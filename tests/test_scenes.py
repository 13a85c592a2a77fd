from __future__ import annotations

import itertools

import numpy as np
import pytest

from pipeline.scenes import LEAST_VISIBLE, NAMES, SMALLEST, Scene, Setting
from pipeline.scenes.light import TIMES, WEATHERS
from pipeline.scenes.painter import Item, observe
from pipeline.scenes.scene import Truth
from pipeline.scenes.street import PLACES

HEIGHT, WIDTH = Setting(0).size


def crowded(place: str = "square") -> tuple[Scene, list[Item]]:
    """A scene with ten targets or more, and what stands in its 41st frame."""
    for seed in itertools.count():
        scene = Scene(Setting(seed, place=place))
        items = scene.items(40)
        if sum(item.class_id is not None for item in items) >= 10:
            return scene, items
    raise AssertionError


def owners(items: list[Item]) -> np.ndarray:
    """[height, width]: the number of the item that is nearest in each pixel, -1 for none."""
    picture = np.full((HEIGHT, WIDTH), -1)
    for number, item in enumerate(items):
        rows, columns = np.nonzero(item.drawn.sprite.mask)
        y = rows + item.drawn.sprite.top + item.drawn.shift[1]
        x = columns + item.drawn.sprite.left + item.drawn.shift[0]
        inside = (y >= 0) & (y < HEIGHT) & (x >= 0) & (x < WIDTH)
        picture[y[inside], x[inside]] = number
    return picture


def as_arrays(truth: Truth) -> list[bytes]:
    columns = truth.boxes, truth.class_ids, truth.visible, truth.ignored
    return [column.tobytes() for column in columns]


@pytest.mark.parametrize(("time", "weather"), list(zip(TIMES, WEATHERS, strict=True)))
def test_the_same_seed_gives_the_same_bytes(time: str, weather: str) -> None:
    setting = Setting(5, time=time, weather=weather)

    first, second = Scene(setting).frame(30), Scene(setting).frame(30)

    assert first.image.tobytes() == second.image.tobytes()
    assert first.boxes.tobytes() == second.boxes.tobytes()
    assert Scene(Setting(6, time=time)).picture(30).tobytes() != first.image.tobytes()


def test_a_frame_does_not_depend_on_the_frames_before_it() -> None:
    played, asked = Scene(Setting(8)), Scene(Setting(8))

    for index in range(60):
        played.picture(index)

    assert played.picture(60).tobytes() == asked.picture(60).tobytes()
    assert as_arrays(played.truth(60)) == as_arrays(asked.truth(60))
    assert played.picture(12).tobytes() == asked.picture(12).tobytes()


def test_the_rate_says_how_much_time_passes_between_frames() -> None:
    slow, fast = Scene(Setting(8, rate=5)), Scene(Setting(8, rate=25))

    assert as_arrays(slow.truth(4)) == as_arrays(fast.truth(20))


def test_things_move() -> None:
    scene = Scene(Setting(4, place="avenue"))

    assert as_arrays(scene.truth(0)) != as_arrays(scene.truth(25))


@pytest.mark.parametrize("place", PLACES)
def test_what_is_seen_of_a_target_is_what_nothing_nearer_has_taken(place: str) -> None:
    scene, items = crowded(place)

    seen = observe(items, scene.size)

    expected = []
    for number, item in enumerate(items):
        if item.class_id is None:
            continue
        rider = number + 1 < len(items) and items[number + 1].rides and not item.rides
        others = [other for other in items if not (rider and other is items[number + 1])]
        rows, columns = np.nonzero(owners(others) == others.index(item))
        if len(rows):
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            expected.append((item.class_id, box, len(rows) / item.drawn.sprite.area))
    assert [(one.class_id, one.box, one.visible) for one in seen] == expected
    targets = [item for item in items if item.class_id is not None]
    alone = {one.box for item in targets for one in observe([item], scene.size)}
    assert alone - {box for _, box, _ in expected}  # some are partly hidden


def test_a_box_holds_every_pixel_that_is_seen_and_touches_the_outermost() -> None:
    scene, items = crowded()
    targets = [item for item in items if item.class_id is not None]

    for item in targets:
        for seen in observe([item], scene.size):
            rows, columns = np.nonzero(owners([item]) == 0)
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            assert seen.box == box


def test_what_hardly_shows_is_ignored() -> None:
    scene, items = crowded()

    truth = scene.truth(40)

    sides = truth.boxes[:, 2:] - truth.boxes[:, :2]
    hardly = (truth.visible < LEAST_VISIBLE) | (np.sqrt(sides.prod(1)) < scene.least)
    assert len(truth.boxes) == len(observe(items, scene.size))
    assert truth.ignored.tolist() == hardly.tolist()
    assert 0 < hardly.sum() < len(hardly)
    objects, ignored = scene.objects(40)
    assert [list(box) for _, box in objects] == truth.boxes[~hardly].tolist()
    assert [list(box) for _, box in ignored] == truth.boxes[hardly].tolist()


def test_what_a_picture_shows_of_a_target_is_not_the_backdrop() -> None:
    scene, _ = crowded("street")
    sample = scene.frame(40)
    empty = scene._floor.frame.astype(int)

    for box, visible in zip(sample.boxes.astype(int), sample.visible, strict=True):
        inside = np.s_[box[1] : box[3], box[0] : box[2]]
        changed = np.abs(sample.image[inside].astype(int) - empty[inside]).max(axis=2) > 12
        assert changed.mean() > 0.2 * visible


@pytest.mark.parametrize("size", [(384, 640), (288, 512), (640, 640), (192, 320)])
def test_pictures_have_any_size_and_boxes_lie_inside(size: tuple[int, int]) -> None:
    sample = Scene(Setting(12, size=size)).frame(10)

    height, width = size
    assert sample.image.shape == (height, width, 3)
    assert sample.image.dtype == np.uint8
    assert sample.boxes.dtype == np.float32
    assert len(sample.boxes) > 0
    assert (sample.boxes[:, :2] >= 0).all()
    assert (sample.boxes[:, 2:] <= (width, height)).all()
    assert (sample.boxes[:, :2] < sample.boxes[:, 2:]).all()


def test_night_is_darker_than_day_and_rain_is_wet() -> None:
    def brightness(**held: str) -> float:
        return float(np.mean([Scene(Setting(seed, **held)).picture(0).mean() for seed in range(3)]))

    assert brightness(time="night") < 0.6 * brightness(time="day", weather="clear")
    assert Scene(Setting(0, weather="rain")).light.rain > 0


@pytest.mark.slow
def test_two_hundred_frames_are_not_a_toy() -> None:
    scenes = [Scene(Setting(seed)) for seed in range(500, 550)]
    frames = [scene.truth(moment) for scene in scenes for moment in (0, 60, 120, 180)]

    boxes = np.concatenate([frame.boxes[~frame.ignored] for frame in frames])
    visible = np.concatenate([frame.visible[~frame.ignored] for frame in frames])
    kinds = np.concatenate([frame.class_ids[~frame.ignored] for frame in frames])
    people = [int((frame.class_ids[~frame.ignored] == 0).sum()) for frame in frames]
    sides = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    shares = np.bincount(kinds, minlength=len(NAMES)) / len(kinds)
    assert visible.min() >= LEAST_VISIBLE
    assert sides.min() >= SMALLEST
    assert np.quantile(sides, 0.98) < 240
    assert np.mean(sides > 96) > 0.03
    assert 0.2 < np.mean(visible < 0.9) < 0.45
    assert 8 < np.median([(~frame.ignored).sum() for frame in frames]) < 25
    assert 15 <= max(people) <= 40
    assert shares.min() > 0.02
    assert shares[0] < 0.65
    assert {scene.light.time for scene in scenes} == set(TIMES)
    assert {scene.light.weather for scene in scenes} == set(WEATHERS)
