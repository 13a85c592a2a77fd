from __future__ import annotations

import pytest

from pipeline.errors import redact


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
