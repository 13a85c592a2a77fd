"""A run over scenes, recorded and replayed, against the truth about every frame of them."""

from __future__ import annotations

from pathlib import Path

from pipeline.agreement import Tally, judge
from pipeline.recording import read
from pipeline.scenes import Scene
from pipeline.scenes.address import parse
from pipeline.wire import DetectionsMessage, read_detections
from tests import runs
from tests.servers import RedisServer

FRAMES = 40
SCENES = {
    "noon": f"synthetic://street?seed=201&time=day&weather=clear&frames={FRAMES}",
    "dark": f"synthetic://avenue?seed=202&time=night&weather=rain&frames={FRAMES}",
}
CONFIDENCE = 0.5  # as in the demo
LEAST_PRECISION = 0.87
LEAST_RECALL = 0.77


def messages(recording: Path) -> list[DetectionsMessage]:
    """Of the frames in a recording."""
    entries = [entry for entry in read(recording) if entry.key.endswith(":detections")]
    return [read_detections(entry.fields["data"].encode()) for entry in entries]


def test_what_is_published_recorded_and_replayed_is_what_is_in_the_scenes(
    tmp_path: Path, ours: Path, redis_server: RedisServer
) -> None:
    url = redis_server.url
    cameras = [{"id": name, "url": scene} for name, scene in SCENES.items()]
    model = {"input_size": [384, 640], "confidence": CONFIDENCE}
    config = runs.write_config(tmp_path, cameras, weights=ours, redis_url=url, **model)
    taped, again = tmp_path / "taped.jsonl", tmp_path / "again.jsonl"
    tape = ("--from-start", "--for", "1", "--redis", url)

    for call in (
        ("run", config),
        ("record", "-o", taped, *tape),
        ("replay", taped, "--redis", url, "--prefix", "again", "--speed", "max"),
        ("record", "-o", again, "--prefix", "again", *tape),
        ("replay", again, "--compare", taped),
    ):
        done = runs.vedette(tmp_path, *call)
        assert done.returncode == 0, (call, done.stdout, done.stderr)

    seen = messages(again)
    assert sorted((m.camera, m.seq) for m in seen) == sorted(
        (name, seq) for name in SCENES for seq in range(FRAMES)
    )
    scenes = {name: Scene(parse(scene).setting) for name, scene in SCENES.items()}
    tally = sum((judge(m.detections, *scenes[m.camera].objects(m.seq)) for m in seen), Tally())
    assert tally.there > 5 * len(seen)
    assert tally.precision >= LEAST_PRECISION, tally
    assert tally.recall >= LEAST_RECALL, tally
