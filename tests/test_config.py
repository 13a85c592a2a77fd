"""The config file: what is taken, and the exact sentence for what is not."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr, ValidationError

from config.errors import ConfigMistakes
from config.load import MOST_BYTES, Loaded, check_files, load
from config.schema import Camera, Config, Model, Redis, Section, keys_of

EXAMPLES = Path(__file__).parents[1] / "config"
HEAD = "model: {weights: w.safetensors}\n"
CAMERAS = HEAD + "cameras:\n"
GATE = CAMERAS + "- id: gate\n  url: a.mp4\n"
FILE = "must be a readable file that is not empty"
SOURCE = (
    "must be the path of a file, a file:// URL, or a URL of rtsp://, rtsps://, http://, https://,"
    " synthetic://"
)
CAMERA_KEYS = (
    "id, url, transport, tls_verify, decoder, live, loop, confidence, classes, max_fps, weight,"
    " max_age_ms, maxlen"
)


def read(folder: Path, text: str | bytes, **environment: str) -> Loaded:
    path = folder / "cams.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for name in ("w.safetensors", "a.mp4"):
        (folder / name).write_bytes(b"x")
    return load(path, environment=environment)


def mistakes(folder: Path, text: str | bytes, **environment: str) -> str:
    """What is said of `text`, without the folder's name."""
    with pytest.raises(ConfigMistakes) as caught:
        read(folder, text, **environment)
    return str(caught.value).replace(f"{folder}/", "")


def with_camera(lines: str) -> str:
    """A config whose camera has `lines` from line 5 on."""
    return GATE + "".join(f"  {line}\n" for line in lines.splitlines())


def source(loaded: Loaded, index: int = 0) -> str:
    return loaded.config.cameras[index].url.get_secret_value()


def test_absent_keys_have_the_defaults_of_the_contract(tmp_path: Path) -> None:
    config = read(tmp_path, GATE).config

    assert config.name == "cams"
    assert config.model == Model(weights=tmp_path / "w.safetensors")
    assert config.model.model_dump(exclude={"weights"}) == {
        "input_size": None,
        "confidence": 0.25,
        "iou": 0.45,
        "max_detections": 300,
        "device": "auto",
        "precision": "auto",
        "max_batch": 16,
    }
    assert config.redis.is_embedded
    assert (config.redis.prefix, config.redis.maxlen) == ("vedette", 10_000)
    (camera,) = config.cameras
    assert (camera.loop, camera.classes, camera.max_fps, camera.maxlen) == (False, None, None, None)


def test_given_keys_are_taken(tmp_path: Path) -> None:
    text = (
        "model: {weights: /w, input_size: [384, 640], device: 'cuda:1', precision: bf16}\n"
        "redis: {url: 'redis://h:6380/1', prefix: site.a, maxlen: 5}\n"
        "cameras: [{id: y, url: a.mp4, live: true, loop: true, confidence: 1,"
        " classes: [person, car], max_fps: 10, maxlen: 7}]\n"
    )

    config = read(tmp_path, text).config

    assert config.model.weights == Path("/w")
    assert config.model.input_size == (384, 640)
    assert (config.model.device, config.model.precision) == ("cuda:1", "bf16")
    assert config.redis.url.get_secret_value() == "redis://h:6380/1"
    (camera,) = config.cameras
    assert camera.is_live
    assert (camera.loop, camera.confidence, camera.max_fps) == (True, 1.0, 10.0)
    assert camera.classes == ("person", "car")
    assert config.maxlen_of(camera) == 7
    assert config.confidence_of(camera) == 1.0


@pytest.mark.parametrize(
    ("url", "live", "maxlen"),
    [
        ("rtsp://h/s", True, 10_000),
        ("RTSPS://h/s", True, 10_000),
        ("http://h/s", True, 10_000),
        ("https://h:8443/s?channel=1", True, 10_000),
        ("rtsp://[fe80::1]:554/s", True, 10_000),
        ("a.mp4", False, None),
        ("synthetic://street?seed=3", False, None),
    ],
)
def test_a_network_url_is_live_and_a_file_is_not(
    tmp_path: Path, url: str, live: bool, maxlen: int | None
) -> None:
    config = read(tmp_path, CAMERAS + f"- id: gate\n  url: '{url}'\n").config

    assert config.cameras[0].is_live is live
    assert config.maxlen_of(config.cameras[0]) == maxlen
    assert config.confidence_of(config.cameras[0]) == 0.25


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("a.mp4", "{folder}/a.mp4"),
        ("sub/12:30 #1.mp4", "{folder}/sub/12:30 #1.mp4"),
        ("./concat:a|b", "{folder}/concat:a|b"),
        ("/x/y.mp4", "/x/y.mp4"),
        ("file:///x/a%20b.mp4", "/x/a b.mp4"),
        ("file://localhost/x/y.mp4", "/x/y.mp4"),
        ("file:/x/y.mp4", "/x/y.mp4"),
    ],
)
def test_a_file_is_found_from_the_folder_of_the_config(tmp_path: Path, url: str, path: str) -> None:
    camera = read(tmp_path, CAMERAS + f"- id: gate\n  url: '{url}'\n").config.cameras[0]

    assert camera.file == Path(path.format(folder=tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "cams.yaml: the file is empty, must hold a pipeline", id="empty"),
        pytest.param("# x\n", "cams.yaml: the file is empty, must hold a pipeline", id="comment"),
        pytest.param(
            "---\n",
            "cams.yaml: found nothing, must be a mapping of the keys"
            " model, redis, telemetry, cameras",
            id="null",
        ),
        pytest.param(
            "- a\n- b\n",
            "cams.yaml: found a list of 2, must be a mapping of the keys"
            " model, redis, telemetry, cameras",
            id="list",
        ),
        pytest.param(
            b"model:\n  weights: \xff\n",
            "cams.yaml:2: found the byte 0xff, must be text in UTF-8",
            id="latin-1",
        ),
        pytest.param(
            GATE.encode("utf-16"),
            "cams.yaml:1: found the byte 0xff, must be text in UTF-8",
            id="16",
        ),
        pytest.param(
            "model: 1\nx: \x07\n",
            "cams.yaml:2: found a control character; YAML is text",
            id="control",
        ),
        pytest.param(
            "model:\n\tweights: a\n", "cams.yaml:2: found a tab; indent with spaces", id="tab"
        ),
        pytest.param(
            "model:\n  iou: 1\n  weights\ncameras: 1\n",
            "cams.yaml:3: found a key without ':' behind it",
            id="no-colon",
        ),
        pytest.param(
            "model:\n  weights: a: b\n",
            "cams.yaml:2: found ': ' where no key may stand; check the indentation, or put the"
            " text in quotes",
            id="two-colons",
        ),
        pytest.param(
            "cameras:\n  - id: a\n   url: b\n",
            "cams.yaml:3: found an indentation that does not fit the lines above",
            id="indentation",
        ),
        pytest.param(
            "model: [1, 2\n",
            "cams.yaml:2: not readable as YAML: expected ',' or ']', but got '<stream end>'",
            id="open",
        ),
        pytest.param(
            'model: 1\ncameras: "\\U99999999"\n',
            "cams.yaml:2: found a character number that does not exist",
            id="escape",
        ),
        pytest.param("[" * 5000, "cams.yaml:1: not readable as YAML: more than 16 levels", id="["),
        pytest.param("- " * 5000, "cams.yaml:1: not readable as YAML: more than 16 levels", id="-"),
        pytest.param(
            "{a: " * 900, "cams.yaml:1: not readable as YAML: more than 16 levels", id="{"
        ),
        pytest.param("? " * 5000, "cams.yaml:1: not readable as YAML: more than 16 levels", id="?"),
    ],
)
def test_what_is_not_yaml_is_one_sentence(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert mistakes(tmp_path, text).splitlines()[-1] == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            GATE + "  id: yard\n",
            "cams.yaml:5: cameras[0].id: found this key again, line 3 has it, must stand once",
            id="duplicate",
        ),
        pytest.param(
            GATE + "model:\n",
            "cams.yaml:5: model: found this key again, line 1 has it, must stand once",
            id="duplicate-section",
        ),
        pytest.param(
            with_camera("max_fps: &x 5"),
            "cams.yaml:5: cameras[0].max_fps: found an anchor (&), must be written without",
            id="anchor",
        ),
        pytest.param(
            with_camera("max_fps: *x"),
            "cams.yaml:5: cameras[0].max_fps: found an alias (*), must be written out",
            id="alias",
        ),
        pytest.param(
            GATE + "- <<: *x\n  id: b\n  url: a.mp4\n",
            "cams.yaml:5: cameras[1].'<<': found an alias (*), must be written out",
            id="merge",
        ),
        pytest.param(
            with_camera("max_fps: !!python/object/apply:os.system ['true']"),
            "cams.yaml:5: cameras[0].max_fps: found the tag"
            " '!!python/object/apply:os.system', must be written without",
            id="tag",
        ),
        pytest.param(
            with_camera("? [a]\n: 1"),
            "cams.yaml:5: cameras[0]: found a key that is not plain text; a text that begins with"
            " { [ * & or ! needs quotes",
            id="key",
        ),
        pytest.param(
            GATE + "---\na: 1\n",
            "cams.yaml:5: found a second document ('---'), must be one document",
            id="documents",
        ),
    ],
)
def test_indirections_and_repetitions_are_refused(tmp_path: Path, text: str, message: str) -> None:
    assert mistakes(tmp_path, text) == message


def test_nested_aliases_cost_nothing(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]

    said = mistakes(tmp_path, "\n".join(lines))

    assert "cams.yaml:2: a1[0]: found an alias (*), must be written out" in said


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("id: no", "no"),
        ("id: 0123", "0123"),
        ("id: 1.50", "1.50"),
        ("id: true", "true"),
        ("id: 2026-11-24", "2026-11-24"),
        ("id: 0x1F", "0x1F"),
    ],
)
def test_a_text_key_has_what_stands_in_the_file(tmp_path: Path, line: str, text: str) -> None:
    config = read(tmp_path, CAMERAS + f"- {line}\n  url: a.mp4\n").config

    assert config.cameras[0].id == text


def test_labels_and_sexagesimals_are_read_as_text(tmp_path: Path) -> None:
    loaded = read(tmp_path, CAMERAS + "- {id: a, url: 12:34:56, classes: [on, 12:30, 7]}\n")

    assert loaded.config.cameras[0].classes == ("on", "12:30", "7")
    assert loaded.config.cameras[0].file == tmp_path / "12:34:56"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_fps: -3", "max_fps: found -3, must be a number greater than 0"),
        ("max_fps: .inf", "max_fps: found .inf, must be a number greater than 0"),
        ("max_fps: true", "max_fps: found true, must be a number greater than 0"),
        ("max_fps: 10/s", "max_fps: found '10/s', must be a number greater than 0"),
        ("max_fps: [1]", "max_fps: found a list of 1, must be a number greater than 0"),
        ("confidence: 1.5", "confidence: found 1.5, must be a number from 0 to 1"),
        ("confidence: .nan", "confidence: found .nan, must be a number from 0 to 1"),
        ("maxlen: 0", "maxlen: found 0, must be a whole number from 1 to 1000000000"),
        ("maxlen: 1.5", "maxlen: found 1.5, must be a whole number from 1 to 1000000000"),
        (
            "maxlen: " + "9" * 6000,
            "maxlen: found " + "9" * 39 + "…, must be a whole number from 1 to 1000000000",
        ),
        ("live: maybe", "live: found 'maybe', must be true or false"),
        ("loop:", "loop: found nothing, must be true or false"),
        (
            "classes: person",
            "classes: found 'person', must be a list of one or more labels, as [person, car]",
        ),
        (
            "classes: []",
            "classes: found a list of 0, must be a list of one or more labels, as [person, car]",
        ),
        (
            "classes: [a, {b: c}]",
            "classes[1]: found a mapping, must be a list of one or more labels, as [person, car]",
        ),
        ("max_fsp: 3", "max_fsp: unknown key; did you mean max_fps?"),
        ("Loop: true", "Loop: unknown key; did you mean loop?"),
        ("zzz: 3", f"zzz: unknown key, must be one of {CAMERA_KEYS}"),
        ('"a\\nb": 3', f"'a\\nb': unknown key, must be one of {CAMERA_KEYS}"),
    ],
)
def test_a_wrong_value_of_a_camera_is_named_with_what_is_accepted(
    tmp_path: Path, line: str, message: str
) -> None:
    assert mistakes(tmp_path, with_camera(line)) == f"cams.yaml:5: cameras[0].{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cameras: []", "cameras: found a list of 0, must be a list of one or more cameras, each"),
        ("cameras: {}", "cameras: found a mapping, must be a list of one or more cameras, each"),
        ("cameras: [5]", f"cameras[0]: found 5, must be a mapping of the keys {CAMERA_KEYS}"),
        ("model: 5", "model: found 5, must be a mapping of the keys weights, input_size"),
        ("redis:", "redis: found nothing, must be a mapping of the keys url, prefix, maxlen"),
        ("model: {weights: ''}", "model.weights: found '', must be the path of a file"),
        ("model: {weights: 'http://h/w'}", "model.weights: found a text (not shown, it may hold a"),
        ("model: {input_size: [640]}", "model.input_size: found a list of 1, must be [height, w"),
        ("model: {input_size: [1, 2, 3]}", "model.input_size: found a list of 3, must be [height"),
        ("model: {input_size: 640}", "model.input_size: found 640, must be [height, width], two"),
        ("model: {input_size: [0, 640]}", "model.input_size[0]: found 0, must be [height, width]"),
        ("model: {input_size: [a, 640]}", "model.input_size[0]: found 'a', must be [height, wid"),
        ("model: {iou: high}", "model.iou: found 'high', must be a number from 0 to 1"),
        (
            "model: {max_batch: 0}",
            "model.max_batch: found 0, must be a whole number from 1 to 1024",
        ),
        ("model: {max_batch: true}", "model.max_batch: found true, must be a whole number from"),
        ("model: {max_detections: 1e9}", "model.max_detections: found 1e9, must be a whole number"),
        ("model: {device: 0}", "model.device: found '0', must be auto, cpu, cuda or cuda:N"),
        ("model: {device: 'cuda:-1'}", "model.device: found 'cuda:-1', must be auto, cpu, cuda"),
        (
            "model: {precision: int4}",
            "model.precision: found 'int4', must be auto, fp32, bf16, fp16",
        ),
        (
            "model: {precision: 16}",
            "model.precision: found 16, must be auto, fp32, bf16, fp16 or int8",
        ),
        ("redis: {prefix: 'a{b}'}", "redis.prefix: found 'a{b}', must be 1 to 64 of A-Z a-z 0-9"),
        ("redis: {maxlen: -1}", "redis.maxlen: found -1, must be a whole number from 1 to"),
        (
            "redis: {url: localhost}",
            "redis.url: found no scheme, must be embedded or a URL of redis",
        ),
        ("redis: {url: 'http://h'}", "redis.url: found the scheme http:, must be embedded or a UR"),
        ("redis: {url: 'redis://'}", "redis.url: found no host, must be like scheme://host/path"),
        ("redis: {url: 'redis://h:x'}", "redis.url: found no valid host and port, must be host or"),
        ("redis: {url: 'unix://a'}", "redis.url: found no absolute path of a socket, must be like"),
        ("telemetry: {listen: 9464}", "telemetry.listen: found '9464', must be off, or host:port"),
        (
            "telemetry: {listen: '[::]:1'}",
            "telemetry.token: found none with telemetry.listen [::]:1, must",
        ),
        ("telemetry: {token: short}", "telemetry.token: found 5 characters (not shown), must be"),
        (
            "telemetry: {otlp: 'udp://h'}",
            "telemetry.otlp: found a text (not shown, it may hold a password), must be",
        ),
        ("telemetry: {slow_ms: 0}", "telemetry.slow_ms: found 0, must be a number greater than 0"),
        ("telemetry: {trace_one_in: 0}", "telemetry.trace_one_in: found 0, must be a whole number"),
        ("name: x", "name: unknown key, must be one of model, redis, telemetry, cameras"),
        ("camera: []", "camera: unknown key; did you mean cameras?"),
    ],
)
def test_a_wrong_value_of_a_section_is_named_with_what_is_accepted(
    tmp_path: Path, text: str, message: str
) -> None:
    assert f"cams.yaml:1: {message}" in mistakes(tmp_path, text)


def test_what_is_missing_is_named_at_what_it_is_missing_from(tmp_path: Path) -> None:
    text = "cameras:\n- url: a.mp4\n- id: b\nmodel: {}\n"

    assert mistakes(tmp_path, text).splitlines() == [
        "cams.yaml:2: cameras[0].id: is missing, must be 1 to 64 of A-Z a-z 0-9 _ . - and not"
        " begin with . or -",
        f"cams.yaml:3: cameras[1].url: is missing, {SOURCE}",
        "cams.yaml:4: model.weights: is missing, must be the path of a file",
    ]
    assert mistakes(tmp_path, "redis: {}\n").splitlines() == [
        "cams.yaml: model: is missing, must be a mapping of the keys weights, input_size,"
        " confidence, iou, max_detections, device, precision, max_batch",
        "cams.yaml: cameras: is missing, must be a list of one or more cameras, each with id and"
        " url",
    ]


@pytest.mark.parametrize("identifier", ["a b", "{a}", "a:b", "'é'", ".a", "-a", "a/b", "x" * 65])
def test_an_id_is_safe_in_a_key_and_in_a_path(tmp_path: Path, identifier: str) -> None:
    said = mistakes(tmp_path, CAMERAS + f"- id: '{identifier.strip(chr(39))}'\n  url: a.mp4\n")

    assert said.endswith("must be 1 to 64 of A-Z a-z 0-9 _ . - and not begin with . or -")


def test_a_repeated_id_is_named_with_both_lines(tmp_path: Path) -> None:
    text = GATE + "- id: 7\n  url: a.mp4\n- id: gate\n  url: a.mp4\n- id: '7'\n  url: a.mp4\n"

    assert mistakes(tmp_path, text).splitlines() == [
        "cams.yaml:7: cameras[2].id: found 'gate' again, line 3 has it, must be unique",
        "cams.yaml:9: cameras[3].id: found '7' again, line 5 has it, must be unique",
    ]


def test_one_file_may_be_two_cameras(tmp_path: Path) -> None:
    loaded = read(tmp_path, GATE + "- id: yard\n  url: a.mp4\n")

    assert source(loaded, 0) == source(loaded, 1)


COLON = " (a file with a colon in its name: ./name)"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("concat:a|b", f"found the scheme concat:, {SOURCE}{COLON}"),
        ("subfile,,start,0,end,0,,:/a", f"found the scheme subfile:, {SOURCE}{COLON}"),
        ("udp://239.0.0.1:1234", f"found the scheme udp:, {SOURCE}{COLON}"),
        ("lavfi:testsrc", f"found the scheme lavfi:, {SOURCE}{COLON}"),
        ("pipe:0", f"found the scheme pipe:, {SOURCE}{COLON}"),
        ("me@example:x", f"found an unknown scheme, {SOURCE}{COLON}"),
        ("", f"found no text or a control character in it, {SOURCE}"),
        ("a\\0b", f"found no text or a control character in it, {SOURCE}"),
        (
            "synthetic://street?time=noon",
            "found time=noon, must be one of any, day, dusk, night",
        ),
        ("rtsp:x", "found no host, must be like scheme://host/path"),
        ("rtsp:///x", "found no host, must be like scheme://host/path"),
        ("rtsp://h/a b", "found a space or a control character, must be percent-encoded (%20)"),
        ("rtsp://h/a#b", "found a #, must be percent-encoded (%23)"),
        ("file://h/a", "found a file URL without an absolute path, must be like file:///a/b.mp4"),
        ("file:a.mp4", "found a file URL without an absolute path, must be like file:///a/b.mp4"),
    ],
)
def test_only_files_and_the_listed_schemes_are_sources(
    tmp_path: Path, url: str, message: str
) -> None:
    said = mistakes(tmp_path, CAMERAS + f'- id: gate\n  url: "{url}"\n')

    assert said == f"cams.yaml:4: cameras[0].url: {message}"


@pytest.mark.parametrize(
    "url", ["rtsp://u:s3/cret@h/x", "rtsp://u:s3#cret@h/x", "rtsp://u:s3?cret@h/x", "rtsp://[u@s3"]
)
def test_a_password_that_splits_the_url_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    said = mistakes(tmp_path, CAMERAS + f"- id: gate\n  url: {url}\n")

    assert "found no valid host and port" in said
    assert "s3" not in said


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
def test_only_a_file_can_wait_or_loop(tmp_path: Path, scheme: str) -> None:
    text = CAMERAS + f"- id: gate\n  url: {scheme}://h/x\n  live: false\n  loop: true\n"

    assert mistakes(tmp_path, text).splitlines() == [
        "cams.yaml:5: cameras[0].live: found false for a network URL, must be true:"
        " only a file can wait",
        "cams.yaml:6: cameras[0].loop: found true for a network URL, must be false:"
        " only a file has an end",
    ]


def test_a_scene_can_be_paced_and_looped(tmp_path: Path) -> None:
    text = CAMERAS + "- id: gate\n  url: synthetic://any\n  live: true\n  loop: true\n"

    camera = read(tmp_path, text).config.cameras[0]

    assert camera.is_live
    assert camera.loop
    assert camera.file is None


def test_all_mistakes_come_at_once_by_line(tmp_path: Path) -> None:
    text = (
        "model:\n  weights: none.safetensors\n  iou: 2\nredis: {urll: embedded}\ncameras:\n"
        "- id: a b\n  url: rtsp://h/x\n  live: false\n  max_fps: 0\n"
        "- id: b\n  url: ${env:CLIP}\n  maxlen: &m 5\n- id: c\n  url: none.mp4\n  loop: x\n"
    )

    lines = mistakes(tmp_path, text).splitlines()

    assert [line.split(": ")[:2] for line in lines] == [
        ["cams.yaml:2", "model.weights"],
        ["cams.yaml:3", "model.iou"],
        ["cams.yaml:4", "redis.urll"],
        ["cams.yaml:6", "cameras[0].id"],
        ["cams.yaml:8", "cameras[0].live"],
        ["cams.yaml:9", "cameras[0].max_fps"],
        ["cams.yaml:11", "cameras[1].url"],
        ["cams.yaml:12", "cameras[1].maxlen"],
        ["cams.yaml:14", "cameras[2].url"],
        ["cams.yaml:15", "cameras[2].loop"],
    ]


@pytest.mark.parametrize(
    ("text", "environment", "url"),
    [
        ("rtsp://${env:H}/x", {"H": "cam:554"}, "rtsp://cam:554/x"),
        ("${env:URL}", {"URL": "rtsp://u:p%40@h/x"}, "rtsp://u:p%40@h/x"),
        ("rtsp://h/$${env:H}$", {}, "rtsp://h/${env:H}$"),
        ("rtsp://u:${env:P}@h/x", {"P": "a@b:c/d%e#f?g h"}, "rtsp://u:a%40b%3Ac%2Fd%25e%23f%3Fg%20h@h/x"),
        ("rtsp://u:${env:P}@h/x", {"P": "${env:Q}"}, "rtsp://u:%24%7Benv%3AQ%7D@h/x"),
        ("rtsp://${env:U}:a@${env:P}@h/x@y", {"U": "ü", "P": "/"}, "rtsp://%C3%BC:a@%2F@h/x@y"),
        ("rtsp://h/x?user=${env:U}", {"U": "a:b"}, "rtsp://h/x?user=a:b"),
    ],
)  # fmt: skip
def test_references_take_their_values_from_the_environment(
    tmp_path: Path, text: str, environment: dict[str, str], url: str
) -> None:
    loaded = read(tmp_path, CAMERAS + f"- id: gate\n  url: '{text}'\n", **environment)

    assert source(loaded) == url


def test_references_take_their_values_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a@b\nc \n")
    text = CAMERAS + "- id: gate\n  url: 'rtsp://u:${file:password}@h/x'\n"

    loaded = read(tmp_path, text)

    assert source(loaded) == "rtsp://u:a%40b%0Ac%20@h/x"
    assert loaded.files == (loaded.path.absolute(), tmp_path / "password")


@pytest.mark.parametrize(
    ("data", "mode", "message"),
    [
        (b"\xff", 0o600, "holds what is no text in UTF-8"),
        (b"x" * 65_537, 0o600, "holds more than 65,536 bytes, must be a secret"),
        (b"x", 0o602, "may be written to by everybody: chmod o-w it"),
    ],
)
def test_a_file_that_is_no_secret_is_a_mistake(
    tmp_path: Path, data: bytes, mode: int, message: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(data)
    secret.chmod(mode)

    found = mistakes(tmp_path, with_camera("classes: ['${file:secret}']"))
    assert f"classes[0]: secret {message}" in found


def test_a_reference_can_stand_for_a_number_a_flag_and_a_label(tmp_path: Path) -> None:
    text = with_camera("max_fps: ${env:FPS}\nloop: ${env:LOOP}\nclasses: ['${env:LABEL}']")

    camera = read(tmp_path, text, FPS="2.5", LOOP="true", LABEL="car").config.cameras[0]

    assert (camera.max_fps, camera.loop, camera.classes) == (2.5, True, ("car",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${env:NONE}", "the environment variable NONE is not set"),
        ("${file:/none/x}", "/none/x cannot be read: No such file or directory"),
        ("${file:/dev/null}", "found no file at /dev/null, must be a file with a secret in it"),
        ("${vault:x}", "found a reference of kind 'vault', must be ${env:NAME} or ${file:PATH}"),
        ("${NONE}", "found ${…} without a name or a path, must be ${env:NAME} or ${file:PATH}"),
        ("${env:}", "found ${…} without a name or a path, must be ${env:NAME} or ${file:PATH}"),
        ("${env:A-B}", "found ${…} without a name or a path, must be ${env:NAME} or ${file:PATH}"),
        ("a${b", "found ${ without its }; write $${ for the two characters themselves"),
    ],
)
def test_a_reference_that_does_not_resolve_is_a_mistake(
    tmp_path: Path, text: str, message: str
) -> None:
    assert mistakes(tmp_path, with_camera(f"classes:\n- '{text}'")) == (
        f"cams.yaml:6: cameras[0].classes[0]: {message}"
    )


def test_every_unset_variable_is_named(tmp_path: Path) -> None:
    text = CAMERAS + "- id: gate\n  url: rtsp://${env:USER}:${env:WORD}@h/x\n"

    assert mistakes(tmp_path, text, HOME="x").splitlines() == [
        "cams.yaml:4: cameras[0].url: the environment variable USER is not set",
        "cams.yaml:4: cameras[0].url: the environment variable WORD is not set",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_fps: ${env:S}", "max_fps: found the value of ${env:S}, must be a number greater"),
        ("loop: ${env:S}", "loop: found the value of ${env:S}, must be true or false"),
        ("live: x${env:S}${env:T}", "live: found the value of ${env:S} and ${env:T}, must be"),
    ],
)
def test_no_message_shows_the_value_of_a_variable(tmp_path: Path, line: str, message: str) -> None:
    said = mistakes(tmp_path, with_camera(line), S="s3cret", T="s3cret")

    assert said.startswith(f"cams.yaml:5: cameras[0].{message}")
    assert "s3cret" not in said


@pytest.mark.parametrize("value", ["s3cret:x", "rtsp://s3cret:s3cret@h:s3cret/", "none/s3cret"])
def test_no_message_shows_a_url_out_of_the_environment(tmp_path: Path, value: str) -> None:
    text = CAMERAS + "- id: gate\n  url: ${env:URL}\n  max_fps: 0\n"

    said = mistakes(tmp_path, text, URL=value)

    assert "s3cret" not in said


def test_no_message_shows_a_url_that_stands_where_none_belongs(tmp_path: Path) -> None:
    url = "rtsp://u:s3cret@h/x"
    text = f"{url}: 1\nmodel: {url}\nredis: {{{url}: 1, prefix: '{url}'}}\ncameras: ['{url}']\n"

    said = mistakes(tmp_path, text)

    assert len(said.splitlines()) == 5
    assert "s3cret" not in said


def test_nothing_that_is_printed_shows_a_password(tmp_path: Path) -> None:
    text = (
        HEAD + "redis: {url: 'redis://u:s3cret@h'}\ncameras: [{id: a, url: 'rtsp://u:s3cret@h/x'}]"
    )

    loaded = read(tmp_path, text)

    config = loaded.config
    for shown in (repr(config), str(config), repr(config.cameras), config.model_dump_json()):
        assert "s3cret" not in shown
    assert "s3cret" not in str(config.model_dump())
    assert "s3cret" not in repr(loaded)
    with pytest.raises(ValidationError) as caught:
        Redis.model_validate({"url": "redis://u:s3cret@h:x"})
    assert "s3cret" not in str(caught.value)


def test_a_config_is_frozen_and_can_be_sent_to_a_child(tmp_path: Path) -> None:
    config = read(tmp_path, GATE).config

    with pytest.raises(ValidationError):
        config.model.confidence = 1.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_config_can_be_made_without_a_file() -> None:
    camera = Camera(id="a", url=SecretStr("clip.mp4"))

    config = Config(model=Model(weights=Path("w")), cameras=(camera,))

    assert config.name == "vedette"
    assert camera.file == Path.cwd() / "clip.mp4"
    with pytest.raises(ValidationError, match="two cameras have one id"):
        Config(model=config.model, cameras=(camera, camera))


def test_lines_are_known_for_checks_that_come_later(tmp_path: Path) -> None:
    loaded = read(tmp_path, with_camera("classes:\n- person\n- dog"))

    assert loaded.line("model", "weights") == 1
    assert loaded.line("cameras", 0, "classes") == 5
    assert loaded.line("cameras", 0, "classes", 1) == 7
    assert loaded.line("cameras", 0, "max_fps") == 3
    assert loaded.line("redis", "url") is None
    found = loaded.mistake(("cameras", 0, "classes", 1), "found 'dog', must be …")
    assert str(ConfigMistakes(Path("c.yaml"), [found])) == (
        "c.yaml:7: cameras[0].classes[1]: found 'dog', must be …"
    )


def test_files_that_cannot_be_used_are_named_with_their_lines(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    (tmp_path / "loop").symlink_to("loop")
    names = ["a.mp4", "none", ".", "fifo", "empty", "a.mp4/b", "loop", "/dev/null", "x" * 300]
    entries = "".join(f"- id: c{n}\n  url: {name}\n" for n, name in enumerate(names))

    loaded = read(tmp_path, CAMERAS + entries + "- id: net\n  url: rtsp://h/x\n")

    said = str(ConfigMistakes(Path("cams.yaml"), check_files(loaded)))
    assert said.replace(f"{tmp_path}/", "").splitlines() == [
        f"cams.yaml:6: cameras[1].url: found nothing at none, {FILE}",
        f"cams.yaml:8: cameras[2].url: found a directory at {tmp_path}, {FILE}",
        f"cams.yaml:10: cameras[3].url: found neither a file nor a directory at fifo, {FILE}",
        f"cams.yaml:12: cameras[4].url: found an empty file at empty, {FILE}",
        f"cams.yaml:14: cameras[5].url: found nothing at a.mp4/b, {FILE}",
        "cams.yaml:16: cameras[6].url: cannot be read (Too many levels of symbolic links) at loop,"
        f" {FILE}",
        f"cams.yaml:18: cameras[7].url: found neither a file nor a directory at /dev/null, {FILE}",
        f"cams.yaml:20: cameras[8].url: cannot be read (File name too long) at {'x' * 300}, {FILE}",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    loaded = read(tmp_path, GATE)
    (tmp_path / "a.mp4").chmod(0)

    assert [mistake.text for mistake in check_files(loaded)] == [
        f"cannot be read (Permission denied) at {tmp_path}/a.mp4, {FILE}"
    ]


def test_a_path_out_of_the_environment_is_not_shown(tmp_path: Path) -> None:
    loaded = read(tmp_path, CAMERAS + "- id: a\n  url: ${env:CLIP}\n", CLIP="s3cret.mp4")

    assert [mistake.text for mistake in check_files(loaded)] == [
        f"found nothing at ${{env:CLIP}}, {FILE}"
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "cams.yaml: cannot be read: No such file or directory"),
        (lambda path: path.mkdir(), "cams.yaml: found a directory, must be a YAML file"),
        (
            lambda path: os.mkfifo(path),
            "cams.yaml: found neither a file nor a directory, must be a YAML file",
        ),
        (
            lambda path: path.write_bytes(b"#" * (MOST_BYTES + 1)),
            "cams.yaml: found more than 1,000,000 bytes, must be a YAML file",
        ),
    ],
    ids=["missing", "directory", "fifo", "large"],
)
def test_a_config_that_is_no_small_file_is_one_sentence(
    tmp_path: Path, make: Any, message: str
) -> None:
    make(tmp_path / "cams.yaml")

    with pytest.raises(ConfigMistakes) as caught:
        load(tmp_path / "cams.yaml")

    assert str(caught.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize(
    ("file", "name"),
    [("cams.yaml", "cams"), ("site a.prod.yml", "site-a.prod"), ("...yaml", "vedette")],
)
def test_the_name_is_the_files_and_fit_for_a_folder(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_text(GATE)

    assert load(tmp_path / file).config.name == name


def test_the_example_has_every_key_with_its_default() -> None:
    path = EXAMPLES / "example.yaml"
    loaded = load(path, environment={"GATE_USER": "u", "GATE_PASSWORD": "p"})
    sections: list[tuple[type[Section], Any]] = [
        (Config, keys := yaml.safe_load(path.read_text())),
        (Model, keys["model"]),
        (Redis, keys["redis"]),
        (Camera, keys["cameras"][0]),
    ]

    for section, given in sections:
        assert list(given) == keys_of(section)
    config = loaded.config
    camera = Camera(id="gate", url=config.cameras[0].url)
    assert config.cameras == (camera,)
    assert config.redis == Redis()
    assert config.model == Model(weights=EXAMPLES / "models/yolov6n.safetensors")


def test_the_least_example_is_whole() -> None:
    loaded = load(EXAMPLES / "cameras.yaml")

    assert [camera.id for camera in loaded.config.cameras] == ["yard"]
    assert check_files(loaded) == []


def test_the_page_tells_every_key() -> None:
    page = (EXAMPLES.parent / "docs" / "config.md").read_text()

    for name, section in (("model", Model), ("redis", Redis), ("cameras[]", Camera)):
        for key in keys_of(section):
            assert f"| `{name}.{key}` |" in page


def test_every_key_says_what_it_means() -> None:
    for section in (Config, Model, Redis, Camera):
        for key in keys_of(section):
            assert section.model_fields[key].description
