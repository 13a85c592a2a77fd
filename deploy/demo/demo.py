"""`make demo WEIGHTS=…`: the main job on clips, with weights that know the world.

Without WEIGHTS it is `vedette demo`: our own, on drawn scenes.

    weights ─▶ vedette weights import ─▶ demo.yaml ─▶ vedette run ─▶ Redis ─▶ what is in it

Every clip is a file camera (nothing may be lost), and the first is a live one, too (paced, fresh).
After `PATIENCE` seconds the run is told to drain, so the demo ends within two minutes on two cores.
What is shown at the end is read from Redis, not from the pipeline.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import redis
import yaml
from clips import write_clip

from pipeline.errors import VedetteError, WeightsError
from pipeline.yolov6.weights import WeightsInfo, inspect
from workers.embedded import EmbeddedRedis

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "demo"
VEDETTE = Path(sys.executable).with_name("vedette")
PATIENCE = 75.0  # seconds; the drain and the look at Redis come on top
DRAIN = 40.0  # seconds from the signal on; `vedette run` gives up by itself after 20
MOST_SHOWN = 2000  # characters of a message

NO_WEIGHTS = """\
make demo with CLIPS needs WEIGHTS, too: make demo WEIGHTS=path/to/checkpoint.pt (or .safetensors).
Vedette's own know drawn streets alone. Two ways to get others:
  with a network    .venv/bin/vedette weights fetch 0.4.x-n, then WEIGHTS=0.4.x-n.safetensors
  without one       an official YOLOv6 checkpoint that you have, .pt or safetensors"""


def main() -> int:
    """The exit code: that of `vedette run`, or 2 for a call that is wrong."""
    parser = argparse.ArgumentParser(prog="make demo")
    parser.add_argument("--weights", default="")
    parser.add_argument("clips", nargs="*", type=Path)
    call = parser.parse_args()
    if not call.weights:
        print(NO_WEIGHTS, file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        weights, info = take_in(Path(call.weights))
        with (
            tempfile.TemporaryDirectory(prefix="vedette-demo-") as data,
            EmbeddedRedis(Path(data)) as server,
        ):
            config = describe(find_clips(call.clips), weights, info, server.url)
            code = run(config)
            show(server.url)
    except VedetteError as error:
        print(error, file=sys.stderr)
        return 2
    return code


def take_in(path: Path) -> tuple[Path, WeightsInfo]:
    """Weights of our own as they are, anything else through `vedette weights import`."""
    try:
        return path.absolute(), inspect(path)
    except WeightsError:
        ours = FOLDER / "weights.safetensors"
        command = [VEDETTE, "weights", "import", path, "-o", ours]
        code = subprocess.run(command, check=False).returncode
        if code:
            sys.exit(code)  # it has said why
        return ours, inspect(ours)


def find_clips(given: list[Path]) -> list[Path]:
    """The clips of the call, of the shared data, or some made here."""
    shared = Path(os.environ.get("VEDETTE_SHARED", ROOT.parent / "shared")) / "media"
    found = [path.absolute() for path in given] or sorted(shared.resolve().glob("*.mp4"))
    if found:
        return found
    print("demo: no clips at hand: making two, of shapes in which a network need not see anything")
    return [
        write_clip(FOLDER / f"{name}.mp4", seed=seed) for seed, name in enumerate(("gate", "yard"))
    ]


def describe(clips: list[Path], weights: Path, info: WeightsInfo, url: str) -> Path:
    """Writes demo.yaml: the weights, our Redis, a file camera per clip, and a live one."""
    cameras = [{"id": f"file-{number}", "url": str(clip)} for number, clip in enumerate(clips, 1)]
    live = {"id": "live", "url": str(clips[0]), "live": True}
    document = {
        "model": {"weights": str(weights), "input_size": wide(info)},
        "redis": {"url": url},
        "cameras": [*cameras, live],
    }
    path = FOLDER / "demo.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    print(f"demo: {path.relative_to(ROOT)} (`live` plays at its own pace):\n\n{path.read_text()}")
    sys.stdout.flush()
    return path


def wide(info: WeightsInfo) -> list[int]:
    """[height, width]: the weights' own width, and a height for pictures of 16:9."""
    width = info.input_size[1]
    return [-(-width * 9 // 16 // info.stride) * info.stride, width]


def run(config: Path) -> int:
    """`vedette run`, told to drain when it has gone on for long enough; its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run; we wait for its end
    process = subprocess.Popen([VEDETTE, "run", config])
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        print(f"demo: {PATIENCE:.0f} s are enough: SIGTERM, and the run drains", flush=True)
        process.terminate()
    try:
        return process.wait(DRAIN)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def show(url: str) -> None:
    """What Redis has: the number of frames of every camera, and the surest message in full."""
    surest, example = 0.0, ""
    with redis.Redis.from_url(url) as client:
        for key in sorted(key.decode() for key in client.scan_iter("vedette:*:detections")):
            messages = [fields[b"data"].decode() for _, fields in client.xrange(key)]
            detections = [json.loads(message)["detections"] for message in messages]
            count = sum(len(found) for found in detections)
            print(f"demo: {key}: {len(messages):,} frames, {count:,} detections")
            for message, found in zip(messages, detections, strict=True):
                if found and found[0]["confidence"] > surest:
                    surest, example = found[0]["confidence"], message
    if example:
        shown = example if len(example) <= MOST_SHOWN else f"{example[:MOST_SHOWN]} …"
        print(f"\ndemo: the message with the surest detection:\n\n{shown}")


if __name__ == "__main__":
    sys.exit(main())
