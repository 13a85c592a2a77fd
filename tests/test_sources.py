from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from pipeline.errors import SourceError, SourceRefused
from pipeline.letterbox import GREY, Letterbox
from pipeline.sources import USUAL, Picture, Source, open_source
from pipeline.sources.admission import admit
from pipeline.sources.gaps import Gaps, Reach
from pipeline.sources.timeline import Pace, Timeline
from tests.media import (
    BARS,
    bars,
    encode,
    encode_sound,
    noise,
    packets,
    rtsp_camera,
    rtsp_door,
    web_server,
    without,
)


def _open(path: Path | str, **choices: bool) -> Source:
    return open_source(str(path), **({"live": False, "loop": False} | choices))


def _read(path: Path | str, **choices: bool) -> tuple[list[Picture], Source]:
    with _open(path, **choices) as source:
        return list(source), source


def _pixels(picture: Picture) -> np.ndarray:
    out = np.zeros((picture.height, picture.width, 3), np.uint8)
    picture.write(out)
    return out


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    encode(path)
    return path


# Reading to the end


@pytest.mark.parametrize(
    ("name", "frames", "last"),
    [
        ("car-detection.mp4", 377, 376 / 12.5),
        ("one-by-one-person-detection.mp4", 1394, 1393 / 10),
    ],
)
def test_every_frame_of_a_real_clip_is_read(
    shared: Path, name: str, frames: int, last: float
) -> None:
    times = []
    with _open(shared / "media" / name) as source:
        for picture in source:
            times.append(picture.media_time)
            assert (picture.width, picture.height, picture.segment) == (768, 432, 0)
            assert not picture.tainted
            assert picture.due_ns is None
            assert picture.decode_ns > 0

    assert len(times) == frames
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] == pytest.approx(last)
    assert (source.complete, source.reason) == (True, f"read to its end: {frames} frames")
    assert source.fault is None
    assert (source.codec, source.announced) == ("h264", frames)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("clip.mkv", "libx265", {"x265-params": "log-level=none"}),
        ("clip.webm", "libvpx", {}),
        ("clip.webm", "libvpx-vp9", {"deadline": "realtime"}),
        ("clip.avi", "mpeg4", {}),
        ("clip.avi", "msmpeg4", {}),
        ("clip.avi", "mjpeg", {}),
        ("clip.ts", "mpeg2video", {}),
        ("clip.mov", "libx264", {"bf": "2"}),
    ],
)
def test_the_usual_formats_and_codecs_are_read_to_the_end(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = tmp_path / name
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    encode(path, codec=codec, pixels=pixels, options=options, frames=12)

    pictures, source = _read(path)

    assert source.complete, source.reason
    assert len(pictures) == 12
    assert [p.media_time for p in pictures] == pytest.approx([n / 25 for n in range(12)], abs=2e-3)


@pytest.mark.parametrize("name", ["one.png", "one.bmp", "two%03d.png", "glob*.png"])
def test_a_picture_file_is_one_exact_frame(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    picture = noise(3, 75, 51)
    assert cv2.imwrite(str(path), picture[..., ::-1])

    pictures, source = _read(path)

    assert (len(pictures), source.complete, source.announced) == (1, True, 1)
    np.testing.assert_array_equal(_pixels(pictures[0]), picture)


@pytest.mark.parametrize("extension", ["jpg", "webp"])
def test_a_photograph_is_one_frame(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"one.{extension}"
    soft = cv2.GaussianBlur(bars(0, 160, 120)[..., ::-1], (31, 31), 15)
    assert cv2.imwrite(str(path), soft)

    pictures, _ = _read(path)

    assert len(pictures) == 1
    assert np.abs(_pixels(pictures[0]).astype(int) - cv2.imread(str(path))[..., ::-1]).mean() < 2


def test_a_photograph_with_a_second_one_behind_it_is_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "stereo.jpg"
    assert cv2.imwrite(str(path), bars(0, 160, 120))
    path.write_bytes(path.read_bytes() * 2)

    pictures, _ = _read(path)

    assert len(pictures) == 1


# Pixels


def test_colours_are_those_of_opencv(shared: Path) -> None:
    path = shared / "media" / "car-detection.mp4"
    capture = cv2.VideoCapture(str(path))
    with _open(path) as source:
        for picture in islice(source, 3):
            expected = capture.read()[1][..., ::-1]
            assert np.abs(_pixels(picture).astype(int) - expected).mean() <= 1
    capture.release()


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 5], ids=["bt709", "bt601"])
def test_colours_follow_the_streams_matrix_and_range(
    tmp_path: Path, pixels: str, full_range: bool, matrix: int
) -> None:
    path = tmp_path / "bars.mkv"
    choices = {"matrix": matrix, "full_range": full_range, "options": {"qp": "4"}}
    encode(path, frames=2, size=(320, 64), pixels=pixels, draw=bars, **choices)

    pictures, _ = _read(path)

    middles = _pixels(pictures[0])[32, 20::40]
    np.testing.assert_allclose(middles.astype(int), BARS, atol=4)


@pytest.mark.parametrize(
    ("size", "pixels"), [((161, 121), "yuv444p"), ((162, 122), "yuv422p"), ((160, 120), "gray")]
)
def test_odd_sizes_and_layouts_are_written(
    tmp_path: Path, size: tuple[int, int], pixels: str
) -> None:
    path = tmp_path / "clip.mkv"
    encode(path, frames=2, size=size, pixels=pixels)

    pictures, _ = _read(path)

    assert (pictures[0].width, pictures[0].height) == size
    assert _pixels(pictures[0]).std() > 10


def test_a_picture_fills_its_region_and_nothing_else(clip: Path) -> None:
    slot = np.full((91, 203, 3), GREY, np.uint8)
    pictures, _ = _read(clip)
    letterbox = Letterbox.of(pictures[0].width, pictures[0].height, (91, 203))

    pictures[0].write(slot[letterbox.region])

    border = slot.copy()
    border[letterbox.region] = GREY
    assert (border == GREY).all()
    assert slot[letterbox.region][:, -60:].std() > 5  # the noisy half


def test_shrinking_averages_areas(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    picture = noise(0, 320, 240)
    cv2.imwrite(str(path), picture[..., ::-1])
    pictures, _ = _read(path)
    out = np.zeros((60, 80, 3), np.uint8)

    pictures[0].write(out)

    expected = cv2.resize(picture, (80, 60), interpolation=cv2.INTER_AREA)
    assert np.abs(out.astype(int) - expected).mean() < 4


# Damage


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("clip.mp4", "libx264", {"movflags": "faststart"}),
        ("clip.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("clip.mkv", "libx264", {}),
        ("clip.webm", "libvpx", {}),
        ("clip.avi", "mpeg4", {}),
        ("clip.ts", "libx264", {}),
    ],
    ids=["faststart", "fragmented", "mkv", "webm", "avi", "ts"],
)
def test_what_a_cut_clip_still_holds_is_read_and_the_cut_is_said(
    tmp_path: Path, name: str, codec: str, container: dict[str, str]
) -> None:
    path = tmp_path / name
    encode(path, codec=codec, container=container, keyframes=5)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.61)])

    pictures, source = _read(path)

    assert 3 <= len(pictures) <= 26
    assert not source.complete
    assert source.reason.startswith(f"ended after {len(pictures)} ")
    assert source.reason.endswith("the file is cut short")


def test_a_cut_clip_says_how_much_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, container={"movflags": "faststart"})
    position, size, _ = packets(path)[21]
    path.write_bytes(path.read_bytes()[: position + size])

    pictures, source = _read(path)

    assert len(pictures) == 22
    assert source.reason == "ended after 22 of 30 frames: the file is cut short"


def test_an_mp4_without_its_index_is_refused_in_words(clip: Path) -> None:
    clip.write_bytes(clip.read_bytes()[:5000])

    with pytest.raises(SourceError, match="its index \\(moov\\) is missing"):
        _open(clip)


@pytest.mark.parametrize("reordered", [0, 2])
def test_one_broken_packet_ends_nothing_and_taints_until_the_next_keyframe(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], reordered: int
) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, options={"x264-params": f"scenecut=0:bframes={reordered}:log-level=none"})
    _destroy(path, 13)

    pictures, source = _read(path)

    tainted = [round(p.media_time * 25) for p in pictures if p.tainted]
    assert len(pictures) == 29
    assert min(tainted) >= 14 - reordered - 1
    assert max(tainted) == 19
    assert set(range(14, 20)) - {round(p.media_time * 25) for p in pictures} <= {14, 15}
    assert not source.complete
    assert source.reason == "read to its end, 29 frames, but 1 more could not be decoded"
    assert source.fault == "decoder"
    assert capfd.readouterr() == ("", "")


def test_damage_at_a_groups_start_taints_although_its_keyframe_is_shown_later(
    tmp_path: Path,
) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, options={"x264-params": "scenecut=0:bframes=2:log-level=none"})
    _destroy(path, 11)

    pictures, _ = _read(path)

    tainted = {round(p.media_time * 25) for p in pictures if p.tainted}
    shown = {round(p.media_time * 25) for p in pictures}
    assert tainted >= shown & set(range(11, 20))
    assert tainted.isdisjoint(range(20, 30))


def _destroy(path: Path, index: int) -> None:
    position, size, _ = packets(path)[index]
    data = bytearray(path.read_bytes())
    data[position : position + size] = bytes(size)
    path.write_bytes(data)


def test_flipped_bytes_never_end_in_an_exception(clip: Path) -> None:
    whole = clip.read_bytes()
    random = np.random.default_rng(7)
    for _ in range(30):
        data = bytearray(whole)
        for place in random.integers(0, len(data), 40):
            data[place] ^= 1 << int(random.integers(8))
        clip.write_bytes(data)
        try:
            _, source = _read(clip)
        except SourceError:
            continue
        assert source.reason


@pytest.mark.parametrize(
    ("name", "codec", "first", "put"),
    [
        ("clip.mkv", "libx264", 0.35, b"\0"),
        ("clip.webm", "libvpx", 0.35, b"\0"),
        ("clip.ts", "libx264", 0.35, b"\0"),
        ("clip.ts", "libx264", 0.35, None),
        ("clip.ts", "mpeg2video", 0.35, None),
        ("clip.avi", "mpeg4", 0.35, b"\0"),
        ("clip.avi", "mjpeg", 0.35, None),
    ],
    ids=["mkv", "webm", "ts", "ts-cut", "ts-cut-mpeg2", "avi", "avi-cut"],
)
def test_a_clip_with_a_hole_says_how_many_pictures_are_missing(
    tmp_path: Path, name: str, codec: str, first: float, put: bytes | None
) -> None:
    path = tmp_path / name
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    encode(path, codec=codec, pixels=pixels, frames=60)
    without(path, first, first + 0.3, put=put)

    pictures, source = _read(path)

    missing = 60 - len(pictures)
    assert 10 < missing < 40
    assert (source.complete, source.fault) == (False, "camera")
    assert re.search(rf"^(ended after|read to its end,) {len(pictures)} ", source.reason)
    if put is not None or name == "clip.ts":
        assert source.reason.endswith(f"but {missing} more seem to be missing")


def test_the_last_pictures_have_their_own_times(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    stamps = [0, 30, 90, 100, 200, 260, 300, 450, 460, 500, 700, 900]
    encode(path, stamps=stamps, options={"x264-params": "bframes=3:log-level=none"})

    pictures, _ = _read(path)

    assert [p.media_time for p in pictures] == pytest.approx([stamp / 1000 for stamp in stamps])


def test_a_fragmented_clip_that_is_zeroed_in_the_middle_is_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, frames=60, container={"movflags": "frag_keyframe+empty_moov"})
    without(path, 0.35, 0.65, put=b"\0")

    _, source = _read(path)

    assert (source.complete, source.fault) == (False, "camera")


def test_a_wide_hole_does_not_hide_what_lies_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "clip.ts"
    encode(path, frames=60)
    data = path.read_bytes()
    middle = len(data) // 376 * 188
    path.write_bytes(data[:middle] + bytes(3 << 20) + data[middle:])

    pictures, source = _read(path)

    assert len(pictures) >= 55
    assert pictures[-1].media_time > 2.3
    assert not source.complete
    assert "missing" in source.reason or source.reason.endswith("is damaged in 1 place")


LEFT_OUT, IN_TURN, JITTER = [40, 40, 80, 40, 120, 40], [30, 50], [21, 67, 40, 33, 79]
PAUSE = [40] * 29 + [1040]


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("clip.mkv", LEFT_OUT),
        ("clip.mkv", IN_TURN),
        ("clip.mkv", JITTER),
        ("clip.webm", JITTER),
        ("clip.ts", LEFT_OUT),
        ("clip.ts", IN_TURN),
        ("clip.ts", JITTER),
        ("clip.mp4", LEFT_OUT),
        ("clip.mp4", JITTER),
        ("clip.mp4", PAUSE),  # the others claim a constant rate, and so a loss
        ("fragmented.mp4", LEFT_OUT),
        ("fragmented.mp4", JITTER),
        ("fragmented.mp4", PAUSE),
    ],
)
def test_a_variable_rate_is_no_loss(tmp_path: Path, name: str, steps: list[int]) -> None:
    path = tmp_path / name
    codec = "libvpx" if name == "clip.webm" else "libx264"
    fragmented = {"movflags": "frag_keyframe+empty_moov"}
    container = fragmented if name == "fragmented.mp4" else {}
    stamps = [0, *np.cumsum(np.resize(steps, 59)).tolist()]
    encode(path, codec=codec, container=container, stamps=stamps)

    pictures, source = _read(path)

    assert len(pictures) == 60
    assert (source.complete, source.reason) == (True, "read to its end: 60 frames")


def test_a_picture_that_an_avi_leaves_out_is_not_missing(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    encode(path, codec="mpeg4", stamps=[40 * n for n in range(60) if n not in (20, 30, 31)])

    pictures, source = _read(path)

    assert (len(pictures), source.complete) == (57, True)


def test_two_transport_streams_in_one_file_are_whole(tmp_path: Path) -> None:
    path, second = tmp_path / "both.ts", tmp_path / "second.ts"
    encode(path, frames=30)
    encode(second, frames=45)
    path.write_bytes(path.read_bytes() + second.read_bytes())

    pictures, source = _read(path)

    assert [p.segment for p in pictures] == [0] * 30 + [1] * 45
    assert (source.complete, source.reason) == (True, "read to its end: 75 frames")


@pytest.mark.parametrize(
    ("stamps", "missing"),
    [
        ([n * 0.04 for n in range(50)], 0),
        ([n * 0.04 for n in range(50) if not 20 <= n < 33], 13),
        ([round(n / 30, 3) for n in range(50) if n != 20], None),
        ([n * 0.04 for n in range(50) if n % 7], 0),
        ([n * 0.04 for n in range(50) if n != 20] + [2.017], 0),
        ([n * 0.04 for n in range(25)] + [n * 0.04 for n in range(25)], 0),
        ([n * 0.04 for n in range(50) if n != 20] + [None], 0),
        ([], 0),
    ],
    ids=["whole", "hole", "another-rate", "often", "off-grid", "joint", "no-stamp", "nothing"],
)
def test_only_a_rare_jump_on_a_constant_grid_is_a_gap(
    stamps: list[float | None], missing: int | None
) -> None:
    gaps = Gaps(interval=0.04, tick=0.001)
    for stamp in stamps:
        gaps.see(stamp)

    assert gaps.missing == (missing or 0)


def test_milliseconds_do_not_hide_a_gap_between_thirtieths() -> None:
    gaps = Gaps(interval=1 / 30, tick=0.001)
    for number in range(50):
        if number not in (20, 21):
            gaps.see(round(number / 30, 3))

    assert gaps.missing == 2


def test_what_an_edit_list_leaves_out_is_not_missing() -> None:
    reach = Reach(60, entries=50, ticks=None)
    joints = [reach.see(stamp) for stamp in [*range(45), 3]]

    assert reach.missing == 4
    assert joints == [False] * 45 + [True]


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("left", [0.6, 0.97, None])
def test_a_cut_photograph_is_tainted_and_the_cut_is_said(
    tmp_path: Path, progressive: int, left: float | None
) -> None:
    path = tmp_path / "one.jpg"
    cv2.imwrite(str(path), noise(0, 160, 120), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])
    data = _with_thumbnail(path.read_bytes())
    path.write_bytes(data[: int(len(data) * left) if left else -2])

    pictures, source = _read(path)

    assert [p.tainted for p in pictures] == [True]
    assert (source.complete, source.fault) == (False, "camera")
    assert source.reason == "ended after 1 frame: the file is cut short"


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("restarts", [0, 2])
def test_a_photograph_with_something_behind_it_is_whole(
    tmp_path: Path, progressive: int, restarts: int
) -> None:
    path = tmp_path / "one.jpg"
    choices = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, restarts]
    cv2.imwrite(str(path), noise(0, 160, 120), choices)
    path.write_bytes(_with_thumbnail(path.read_bytes()) + b"a phone's notes" * 9)

    pictures, source = _read(path)

    assert [p.tainted for p in pictures] == [False]
    assert (source.complete, source.fault) == (True, None)


def _with_thumbnail(jpeg: bytes) -> bytes:
    """With an application's segment that holds a JPEG's beginning and end."""
    inside = b"\xff\xd8small\xff\xd9"
    return jpeg[:2] + b"\xff\xe1" + (len(inside) + 2).to_bytes(2, "big") + inside + jpeg[2:]


@pytest.mark.parametrize("cut", [0.5, 0.97])
@pytest.mark.parametrize("extension", ["png", "bmp", "webp"])
def test_another_picture_that_is_cut_is_incomplete(
    tmp_path: Path, extension: str, cut: float
) -> None:
    path = tmp_path / f"one.{extension}"
    cv2.imwrite(str(path), noise(0, 160, 120))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])

    _, source = _read(path)

    assert (source.complete, source.fault) == (False, "decoder")


def test_a_photograph_of_fill_bytes_or_segments_alone_is_searched_in_no_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / "one.jpg"
    for filling in (b"\xff", b"\xff\xe0\0\0"):
        path.write_bytes(b"\xff\xd8\xff" + filling * ((32 << 20) // len(filling)))
        began = time.monotonic()

        admission = admit(str(path), loop=False, access=USUAL)

        assert admission.cut_short
        assert time.monotonic() - began < 5


def test_a_file_of_nothing_but_empty_boxes_is_not_searched_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    boxes = 1_200_000
    path.write_bytes(b"\0\0\0\x08moov" + b"\0\0\0\x08free" * boxes + b"\xff\0\0\0free")

    assert not admit(str(path), loop=False, access=USUAL).cut_short


# Refusals


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"not a video at all\n" * 100, "is not an mp4"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n", "is not an mp4"),
        (bytes(5000), "is not an mp4"),
        (b"RIFF\x00\x01\x00\x00WAVEfmt ", "is not an mp4"),
        (b"\x1a\x45\xdf\xa3" + bytes(500), "damaged or not matroska"),
        (b"GIF89a" + bytes(500), "is not an mp4"),
    ],
    ids=["empty", "text", "m3u8", "zeros", "wave", "not-matroska", "gif"],
)
def test_what_is_no_video_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)

    with pytest.raises(SourceRefused, match=says) as refusal:
        _open(path)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_playlist_in_disguise_never_opens_what_it_names(clip: Path, tmp_path: Path) -> None:
    disguised = tmp_path / "innocent.mp4"
    disguised.write_text(f"ffconcat version 1.0\nfile {clip.name}\n")
    av.open(str(disguised)).close()  # FFmpeg itself falls for it

    with pytest.raises(SourceRefused, match="is not an mp4"):
        _open(disguised)


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    encode_sound(path)

    with pytest.raises(SourceRefused, match="holds no video, only audio"):
        _open(path)


def test_another_codec_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    encode(path, codec="ffv1")

    with pytest.raises(SourceRefused, match="the codec 'ffv1'"):
        _open(path)


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path, found in [
        (tmp_path, "a directory"),
        (tmp_path / "pipe.mp4", "a named pipe"),
        (Path("/dev/zero"), "a device"),
    ]:
        with pytest.raises(SourceRefused, match=f"is {found}, not a regular file"):
            _open(path)


@pytest.mark.parametrize("path", ["nowhere.mp4", "concat:a.mp4|b.mp4", "a\0b", "x" * 5000])
def test_a_path_that_leads_nowhere_is_an_error_in_words(path: str) -> None:
    with pytest.raises(SourceError, match=r"does not exist|cannot be opened"):
        _open(path)


@pytest.mark.parametrize("url", ["udp://127.0.0.1:1", "concat://x", "s3://bucket/x", "lavfi://x"])
def test_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(SourceRefused, match="not one of rtsp, rtsps, http, https"):
        _open(url)


def test_a_name_that_looks_like_a_protocol_is_only_a_name(clip: Path) -> None:
    renamed = clip.rename(clip.with_name("subfile,,start,0,end,0,,:clip.mp4"))

    pictures, source = _read(renamed)

    assert (len(pictures), source.complete) == (30, True)


def test_a_file_url_is_the_path_behind_it(clip: Path) -> None:
    assert len(_read(f"file://{clip}")[0]) == 30


def test_more_pixels_than_allowed_are_refused(clip: Path) -> None:
    with pytest.raises(SourceRefused, match="is 160x120 pixels, and 10000 in all"):
        open_source(str(clip), live=False, loop=False, max_pixels=10_000)


def test_pictures_that_grow_beyond_the_limit_in_mid_stream_are_not_decoded(tmp_path: Path) -> None:
    small, large = tmp_path / "small.ts", tmp_path / "large.ts"
    encode(small, frames=5)
    encode(large, frames=5, size=(640, 480))
    small.write_bytes(small.read_bytes() + large.read_bytes())

    assert [p.width for p in _read(small)[0]] == [160] * 5 + [640] * 5
    with open_source(str(small), live=False, loop=False, max_pixels=50_000) as source:
        assert [p.width for p in source] == [160] * 5
    assert not source.complete


@pytest.mark.parametrize("password", ["plain", "p@ss:/w?#rd", "a b'c\"d"])
def test_no_password_is_shown(password: str) -> None:
    url = f"rtsp://admin:{password}@127.0.0.1:9/cam?token=tell"

    with pytest.raises(SourceError) as refusal:
        _open(url, live=True)

    assert password not in str(refusal.value)
    assert "tell" not in str(refusal.value)
    assert "rtsp://***@127.0.0.1:9/…" in str(refusal.value)


# Loops and paces


def test_a_loop_restarts_media_time_in_a_new_segment(clip: Path) -> None:
    with _open(clip, loop=True) as source:
        pictures = list(islice(source, 75))

    assert [p.segment for p in pictures] == [0] * 30 + [1] * 30 + [2] * 15
    assert pictures[30].media_time == pictures[60].media_time == 0
    assert all(p.due_ns is None for p in pictures)
    assert (source.complete, source.reason) == (False, "not read to its end")


def test_a_picture_loops_too(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    cv2.imwrite(str(path), noise(0, 32, 32))

    with _open(path, loop=True) as source:
        assert [p.segment for p in islice(source, 5)] == [0, 1, 2, 3, 4]


def test_a_loop_ends_in_words_when_its_file_goes(clip: Path) -> None:
    with _open(clip, loop=True) as source:
        next(source)
        clip.unlink()
        frames = 1 + sum(1 for _ in source)

    assert frames == 30
    assert not source.complete
    assert source.reason == f"{clip} cannot be opened: No such file or directory"
    assert source.fault == "camera"


def test_a_loop_without_a_single_picture_ends(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path)
    for index in range(30):
        _destroy(path, index)

    pictures, source = _read(path, loop=True)

    assert pictures == []
    assert (source.complete, source.reason) == (False, "not one frame of it could be decoded")


def test_a_live_file_is_due_by_its_time_stamps_across_the_turn(clip: Path) -> None:
    clock = iter(range(10**9, 10**9 + 10**6)).__next__  # a nanosecond a look

    with open_source(str(clip), live=True, loop=True, clock=clock) as source:
        pictures = list(islice(source, 65))

    due = [p.due_ns for p in pictures]
    assert np.diff(np.array(due)).tolist() == [40_000_000] * 64
    assert all(p.arrived_ns == p.due_ns for p in pictures)
    arrivals = np.diff([p.arrived_at for p in pictures])
    np.testing.assert_allclose(arrivals, 0.04, atol=0.02)


def test_a_live_file_that_does_not_loop_ends_complete(clip: Path) -> None:
    pictures, source = _read(clip, live=True)

    assert (len(pictures), source.complete) == (30, True)


def test_the_first_paced_picture_is_due_now_and_the_rest_by_media_time() -> None:
    pace = Pace(interval=0.1)

    assert pace.due_ns(0, 0.0, 5_000) == 5_000
    assert pace.due_ns(0, 0.1, 6_000) == 100_005_000
    assert pace.due_ns(0, 0.5, 7_000) == 500_005_000
    assert pace.due_ns(1, 0.0, 8_000) == 600_005_000
    assert pace.due_ns(1, 0.1, 9_000) == 700_005_000


def test_a_pace_that_fell_far_behind_starts_anew() -> None:
    pace = Pace(interval=0.1, patience=1.0)
    pace.due_ns(0, 0.0, 0)

    assert pace.due_ns(0, 0.1, 900_000_000) == 100_000_000  # late, and to be caught up
    assert pace.due_ns(0, 0.2, 3_000_000_000) == 3_000_000_000
    assert pace.due_ns(0, 0.3, 3_000_000_000) == 3_100_000_000


def _placed(stamps: list[float | None]) -> list[tuple[int, float]]:
    timeline = Timeline(interval=0.5, longest_gap=5)
    return [timeline.place(stamp) for stamp in stamps]


@pytest.mark.parametrize(
    ("stamps", "places"),
    [
        ([7.0, 7.5, 8.0], [(0, 0), (0, 0.5), (0, 1)]),
        ([-0.08, 0.0], [(0, 0), (0, 0.08)]),
        ([0.0, 5.0, 10.1], [(0, 0), (0, 5), (1, 0)]),
        ([9.0, 3.0, 3.5], [(0, 0), (1, 0), (1, 0.5)]),
        ([1.0, 1.0], [(0, 0), (0, 0)]),
        ([1.0, None, None, 2.5], [(0, 0), (0, 0.5), (0, 1), (0, 1.5)]),
        ([None, None, 3600.0, 3600.5], [(0, 0), (0, 0.5), (0, 1), (0, 1.5)]),
        ([None, None], [(0, 0), (0, 0.5)]),
    ],
    ids=["rebased", "negative", "gap", "back", "equal", "missing", "first-missing", "none"],
)
def test_media_time_starts_at_zero_and_never_goes_back(
    stamps: list[float | None], places: list[tuple[int, float]]
) -> None:
    found = _placed(stamps)

    assert [segment for segment, _ in found] == [segment for segment, _ in places]
    assert [time for _, time in found] == pytest.approx([time for _, time in places])


# Cameras


def test_a_camera_that_closes_has_ended_incomplete() -> None:
    with rtsp_camera(frames=12) as url:
        pictures, source = _read(url, live=True)

    assert len(pictures) == 12
    assert [p.media_time for p in pictures] == pytest.approx([n / 10 for n in range(12)], abs=0.02)
    assert all(p.due_ns is None for p in pictures)
    assert (source.complete, source.reason) == (False, "the connection was closed")
    assert (source.fault, source.codec, source.announced) == ("network", "h264", None)


def test_a_camera_that_nobody_answers_for_is_the_networks_fault() -> None:
    with pytest.raises(SourceError) as failure:
        _open("rtsp://127.0.0.1:9/x", live=True)

    assert failure.value.fault == "network"


@pytest.mark.parametrize("status", [401, 403])
def test_a_camera_that_refuses_the_credentials_is_hardly_worth_another_try(status: int) -> None:
    with (
        web_server(lambda request: request.send_error(status)) as url,
        pytest.raises(SourceRefused, match="refuses these credentials"),
    ):
        _open(url, live=True)


def test_rtsp_refuses_credentials_with_the_same_numbers() -> None:
    answer = "RTSP/1.0 401 Unauthorized\r\nCSeq: {}\r\nWWW-Authenticate: Basic realm=x\r\n\r\n"
    with (
        rtsp_door(answer) as url,
        pytest.raises(SourceRefused, match=r"rtsp://\*\*\*@127.0.0.1\S+ refuses these credentials"),
    ):
        _open(url, live=True)


def _motion_jpeg(request: BaseHTTPRequestHandler, pause: float = 0) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    request.end_headers()
    for index in range(8):
        time.sleep(pause)
        jpeg = cv2.imencode(".jpg", noise(index, 160, 120))[1].tobytes()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        request.wfile.write(head.encode() + jpeg + b"\r\n")


def test_motion_jpeg_over_http_is_a_camera() -> None:
    with web_server(_motion_jpeg) as url:
        pictures, source = _read(url, live=True)

    assert len(pictures) == 8
    assert all(not p.tainted for p in pictures)
    assert (source.complete, source.reason) == (False, "the connection was closed")


@pytest.mark.parametrize("announced", [True, False])
def test_a_transport_stream_over_http_is_complete_if_its_length_was_announced(
    tmp_path: Path, announced: bool
) -> None:
    path = tmp_path / "clip.ts"
    encode(path)

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        if announced:
            request.send_header("Content-Length", str(path.stat().st_size))
        request.end_headers()
        request.wfile.write(path.read_bytes())

    with web_server(answer) as url:
        pictures, source = _read(url)

    assert len(pictures) == 30
    assert source.complete is announced


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    seen = []

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.path)
        request.send_response(302)
        request.send_header("Location", "/elsewhere")
        request.end_headers()

    with web_server(elsewhere) as url, pytest.raises(SourceError):
        _open(f"{url}/here", live=True)
    assert seen == ["/here"]


def test_a_playlist_over_http_is_refused() -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/other.ts\n")

    with web_server(answer) as url, pytest.raises(SourceError):
        _open(f"{url}/list.m3u8", live=True)


def test_a_missing_stream_says_what_the_server_said() -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_error(404)

    with web_server(answer) as url, pytest.raises(SourceError, match="404") as failure:
        _open(url, live=True)
    assert failure.value.fault == "camera"


def test_a_stream_does_not_loop() -> None:
    with pytest.raises(SourceRefused, match="only a file can loop"):
        _open("rtsp://127.0.0.1:9/x", loop=True)


# What decoding took


def test_the_time_between_two_pictures_is_not_decoding(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, options={"x264-params": "bframes=3:log-level=none"})
    now_ns = 0

    with open_source(str(path), live=False, loop=False, clock=lambda: now_ns) as source:
        taken = []
        for picture in source:
            taken.append(picture.decode_ns)
            now_ns += 10**9  # the reader waits; reading and decoding take no time at all

    assert taken == [0] * 30


def test_all_work_is_in_some_picture_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    encode(path, options={"x264-params": "bframes=3:log-level=none"})
    looks = 0

    def clock() -> int:
        nonlocal looks
        looks += 1
        return looks

    with open_source(str(path), live=False, loop=False, clock=clock) as source:
        taken = [picture.decode_ns for picture in source]

    # A look at the clock takes a nanosecond: one for each of 30 reads and of 30 decodings, of
    # which the last, that empties the decoder, is shared.
    assert 57 <= sum(taken) <= 63
    assert min(taken) >= 0


def test_waiting_for_a_camera_is_not_decoding() -> None:
    def slowly(request: BaseHTTPRequestHandler) -> None:
        _motion_jpeg(request, pause=0.05)

    with web_server(slowly) as url:
        pictures, _ = _read(url, live=True)

    assert len(pictures) == 8
    assert 0 < sum(p.decode_ns for p in pictures[1:]) < 0.2e9


# Resources


def test_closing_early_and_twice_leaves_nothing_open(clip: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))

    for _ in range(5):
        with _open(clip) as source:
            picture = next(source)
        source.close()
        assert list(source) == []
        assert _pixels(picture).any()  # a picture outlives its source

    assert set(os.listdir("/proc/self/fd")) <= before
    assert (source.complete, source.reason) == (False, "not read to its end")


def test_the_contract_alone_loads_no_ffmpeg() -> None:
    code = "import sys, pipeline.sources; sys.exit('av' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
