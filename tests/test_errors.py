from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.errors import host_shown, redact
from tests import runs


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://admin:s3cret@10.0.0.5/cam", "rtsp://***@10.0.0.5/cam"),
        ("'rtsp://admin:p@ss:w/rd#?@10.0.0.5:554/cam'", "'rtsp://***@10.0.0.5:554/cam'"),
        ("rtsp://admin:p'w\"d@10.0.0.5/cam", "rtsp://***@10.0.0.5/cam"),
        ("http://cam/x?user=a&password=s3cret&n=1", "http://cam/x?user=a&password=***&n=1"),
        ("redis://:s3cret@h:1/0 and rtsp://u:s3cret@h/", "redis://***@h:1/0 and rtsp://***@h/"),
        ("clips/yard.mp4", "clips/yard.mp4"),
    ],
)
def test_no_credential_is_left_in_a_text(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("rtsp://10.0.0.5:554", "rtsp://10.0.0.5:554"),
        ("rtsp://10.0.0.5:554/a/b", "rtsp://10.0.0.5:554/…"),
        ("rtsp://10.0.0.5/user=ops_password=c4nry_channel=1.sdp", "rtsp://10.0.0.5/…"),
        ("rtsp://u:p@10.0.0.5/c4nry", "rtsp://***@10.0.0.5/…"),
        ("rtsp://u:12/c4n'?#ry@[fe80::1]:8554/a", "rtsp://***@[fe80::1]:8554/…"),
        ("http://h?u=u&p=c4n'\"ry", "http://h/…"),
        ("http://h/a?mail=x@c4nry", "http://***@c4nry"),
    ],
)
def test_of_a_camera_its_host_alone_is_shown(url: str, expected: str) -> None:
    assert host_shown(url) == expected


@pytest.mark.parametrize("arguments", [("--version",), ("weights", "list"), ("check", "none.yaml")])
def test_a_full_disk_behind_stdout_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [runs.VEDETTE, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )

    wrong_call = arguments[0] == "check"  # says nothing on stdout
    assert done.returncode == (2 if wrong_call else 1)
    assert "Traceback" not in done.stderr
    if not wrong_call:
        assert done.stderr == "stdout cannot be written to: No space left on device\n"
