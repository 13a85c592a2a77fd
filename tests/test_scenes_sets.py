from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import VedetteError
from pipeline.samples import Pictures, Sample
from pipeline.scenes import NAMES, Scene, Scenes, Setting
from pipeline.scenes.clip import read_truth, write_clip
from pipeline.scenes.coding import from_h264, to_h264
from pipeline.sources import open_source

SIZE = (192, 320)


def bytes_of(sample: Sample) -> list[bytes]:
    assert sample.visible is not None
    parts = sample.image, sample.boxes, sample.class_ids, sample.visible, sample.is_ignored
    return [part.tobytes() for part in parts]


@pytest.mark.parametrize("codec", ["jpeg", "h264", "none"])
def test_a_set_gives_the_same_samples_in_whatever_order(codec: str) -> None:
    first = Scenes(7, 6, size=SIZE, codec=codec, per_scene=3)
    second = Scenes(7, 6, size=SIZE, codec=codec, per_scene=3)

    there = [bytes_of(first[index]) for index in range(6)]
    back = [bytes_of(second[index]) for index in reversed(range(6))]

    assert there == back[::-1]
    assert [bytes_of(first[index]) for index in range(6)] == there
    assert len({sample[0] for sample in there}) == 6
    assert any(first[index].is_ignored.any() for index in range(6))


def test_a_set_is_what_trainers_take() -> None:
    pictures: Pictures = Scenes(1, 4, size=SIZE)

    sample = pictures[3]

    assert pictures.names == NAMES == ("person", "bicycle", "car", "motorcycle", "bus", "truck")
    assert len(pictures) == 4
    assert sample.image.shape == (*SIZE, 3)
    assert sample.boxes.shape == (len(sample.class_ids), 4)
    assert sample.class_ids.dtype == np.int64
    with pytest.raises(IndexError, match="sample 4 of 4"):
        pictures[4]


def test_sets_of_two_seeds_share_no_scene() -> None:
    train, evaluation = Scenes(1, 400), Scenes(2, 400)

    seeds = [{one.setting(index).seed for index in range(400)} for one in (train, evaluation)]

    assert len(seeds[0]) == len(seeds[1]) == 20
    assert not seeds[0] & seeds[1]


def test_a_set_that_is_drawn_is_sent_to_another_process_as_it_is() -> None:
    drawn = Scenes(3, 4, size=SIZE, per_scene=2)
    heard: list[int] = []
    drawn.draw_all(heard.append)

    sent = pickle.loads(pickle.dumps(drawn))

    assert heard == [2, 4]
    assert bytes_of(sent[3]) == bytes_of(drawn[3])


def test_a_set_is_held_to_what_was_asked() -> None:
    held = Scenes(3, 1, time="night", weather="rain", place="avenue").setting(0)

    assert (held.time, held.weather, held.place) == ("night", "rain", "avenue")
    with pytest.raises(ValueError, match="'mpeg', must be one of jpeg, h264, none"):
        Scenes(1, 1, codec="mpeg")


@pytest.mark.parametrize("codec", ["jpeg", "h264"])
def test_a_codec_leaves_its_marks_and_the_picture(codec: str) -> None:
    plain = Scenes(9, 2, size=SIZE, codec="none")[1].image.astype(int)

    coded = Scenes(9, 2, size=SIZE, codec=codec)[1].image.astype(int)

    difference = np.abs(coded - plain)
    assert 0.5 < difference.mean() < 16


def test_h264_comes_back_one_for_one() -> None:
    images = [Scene(Setting(3, size=SIZE)).picture(index) for index in range(4)]

    packets = to_h264(images, SIZE, 24)

    back = list(from_h264(packets))
    assert len(packets) == len(back) == 4
    assert len(packets[1]) < len(packets[0])
    for image, decoded in zip(images, back, strict=True):
        assert np.abs(image.astype(int) - decoded).mean() < 12


def test_a_clip_decodes_to_as_many_frames_as_its_truth_has_lines(tmp_path: Path) -> None:
    setting = Setting(3, size=SIZE)

    truth = read_truth(write_clip(tmp_path / "yard.mp4", setting, 12))

    with open_source(str(tmp_path / "yard.mp4"), live=False, loop=False) as source:
        times = [picture.media_time for picture in source]
    assert source.complete
    assert [line.frame for line in truth] == list(range(12))
    assert len(times) == 12
    assert all(late - early == pytest.approx(0.04) for early, late in pairwise(times))
    expected = Scene(setting).truth(11)
    line = truth[11]
    assert [one.box for one in line.objects] == expected.boxes[~expected.ignored].tolist()
    assert [one.box for one in line.ignored] == expected.boxes[expected.ignored].tolist()
    assert all(NAMES[one.class_id] == one.label for one in (*line.objects, *line.ignored))


def test_a_clip_has_the_bit_rate_of_surveillance(tmp_path: Path) -> None:
    write_clip(tmp_path / "yard.mp4", Setting(3, time="day"), 25, crf=32)

    with av.open(str(tmp_path / "yard.mp4")) as clip:
        assert clip.streams.video[0].codec_context.name == "h264"
    assert 0.1e6 < (tmp_path / "yard.mp4").stat().st_size * 8 < 4e6


def test_a_clip_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(VedetteError, match=r"yard\.mp4 cannot be written: "):
        write_clip(tmp_path / "none" / "yard.mp4", Setting(3, size=SIZE), 2)
