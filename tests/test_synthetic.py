from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from config import scenes
from pipeline.errors import SourceRefused
from pipeline.scenes import Scene, Setting
from pipeline.scenes.address import parse
from pipeline.sources import open_source
from tests import runs
from tests.servers import RedisServer
from workers.identity import identify

URL = "synthetic://street?seed=3&time=night&frames=6&size=320x192"
SETTING = Setting(3, place="street", time="night", size=(192, 320))


def test_a_scene_is_read_to_its_end_like_a_file() -> None:
    with open_source(URL, live=False, loop=False) as source:
        pictures = list(source)

    assert (source.complete, source.fault) == (True, None)
    assert source.reason == "read to its end: 6 frames"
    assert (source.codec, source.announced) == ("synthetic", 6)
    assert [picture.media_time for picture in pictures] == [index / 25 for index in range(6)]
    assert {(picture.width, picture.height) for picture in pictures} == {(320, 192)}
    assert {picture.due_ns for picture in pictures} == {None}


def test_its_pictures_are_those_of_the_scene_from_any_frame_on() -> None:
    out = np.zeros((192, 320, 3), np.uint8)

    with open_source(URL, live=False, loop=False) as source:
        pictures = list(source)
        pictures[4].write(out)

    assert (out == Scene(SETTING).picture(4)).all()


def test_a_picture_is_resized_into_what_it_is_given() -> None:
    slot = np.zeros((200, 200, 3), np.uint8)

    with open_source(URL, live=False, loop=False) as source:
        next(source).write(slot[40:136, 20:180])

    small = slot[40:136, 20:180]
    whole = Scene(SETTING).picture(0)
    assert small.mean() == pytest.approx(whole.mean(), abs=1.5)
    assert slot[:40].max() == 0


def test_a_live_scene_is_paced_and_a_loop_turns_segments() -> None:
    with open_source(f"{URL}&fps=50", live=True, loop=True) as source:
        pictures = [next(source) for _ in range(14)]

    assert [picture.segment for picture in pictures] == [0] * 6 + [1] * 6 + [2] * 2
    due = [picture.due_ns or 0 for picture in pictures]
    assert np.diff(due).tolist() == pytest.approx([20_000_000] * 13, abs=2)
    assert pictures[0].arrived_at == pytest.approx(time.time(), abs=2)


def test_a_scene_beyond_the_limit_is_refused() -> None:
    with pytest.raises(SourceRefused, match="320x192 pixels, and 1000 in all are accepted"):
        open_source(URL, live=False, loop=False, max_pixels=1000)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("synthetic://", "another place"),
        ("synthetic://park", "another place"),
        ("synthetic://street/a", "another place"),
        ("synthetic://street?seed", "must be like"),
        ("synthetic://street?seed=-1", "seed=-1"),
        ("synthetic://street?seed=1&seed=2", "seed twice"),
        ("synthetic://street?time=noon", "time=noon"),
        ("synthetic://street?weather=", "weather="),
        ("synthetic://street?frames=0", "frames=0"),
        ("synthetic://street?fps=61", "fps=61"),
        ("synthetic://street?size=640", "size=640"),
        ("synthetic://street?size=641x384", "size=641x384"),
        ("synthetic://street?size=99999x384", "size=99999x384"),
        ("synthetic://street?speed=3", "speed"),
    ],
)
def test_what_a_url_cannot_say_is_refused_by_the_source_and_by_the_config(
    url: str, words: str
) -> None:
    with pytest.raises(SourceRefused, match=words) as refused:
        open_source(url, live=False, loop=False)

    problem = scenes.problem(url)
    assert problem is not None
    assert words in problem
    assert ", must be " in problem
    assert ", must be " in str(refused.value)


@pytest.mark.parametrize("place", scenes.PLACES)
@pytest.mark.parametrize("more", ["", "?seed=999999999&frames=10000000&fps=60", "?size=64x4096"])
def test_what_the_config_accepts_the_source_takes(place: str, more: str) -> None:
    url = f"synthetic://{place}{more}"

    assert scenes.problem(url) is None
    assert parse(url).setting.place == place


@pytest.mark.parametrize("word", ["any", "day", "dusk", "night"])
def test_both_know_the_times_of_day(word: str) -> None:
    url = f"Synthetic://any?time={word}&weather=overcast"

    assert scenes.problem(url) is None
    assert parse(url).setting.time == word


def test_a_job_of_a_scene_is_known_by_its_url() -> None:
    assert identify(URL) == identify(URL)
    assert identify(URL) != identify(URL.replace("seed=3", "seed=4"))


@pytest.mark.slow
def test_a_run_publishes_a_scene_once(
    tmp_path: Path, lite_s: Path, redis_server: RedisServer
) -> None:
    camera = {"id": "yard", "url": URL}
    config = runs.write_config(tmp_path, [camera], weights=lite_s, redis_url=redis_server.url)

    first = runs.vedette(tmp_path, "run", config)
    second = runs.vedette(tmp_path, "run", config)
    probed = runs.vedette(tmp_path, "check", config, "--probe")

    assert first.returncode == second.returncode == probed.returncode == 0, first.stderr
    with redis_server.client() as client:
        assert client.xlen("vedette:{yard}:detections") == 6
    assert "its job is done already" in second.stdout + second.stderr
    assert "camera yard: synthetic, 320x192, 25 frames/s" in probed.stdout
