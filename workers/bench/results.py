"""What a bench finds, as its JSON has it, and what follows from that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import msgspec

SCHEMA = "vedette.bench/1"
STAGES = ("decode", "wait", "infer", "publish", "whole")


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    processor: str
    cores: float  # that this process may use
    instructions: list[str]  # those that decide how fast a network runs
    memory_gb: float
    gpu: str | None
    system: str
    python: str
    torch: str


class Subject(msgspec.Struct, frozen=True):
    """What was measured."""

    clip: str  # its name
    codec: str
    width: int
    height: int
    rate: float  # frames a second of its own
    variant: str
    weights: str  # their digest
    input_size: tuple[int, int]  # height, width
    plan: str  # device, precision, batches side by side


class Rate(msgspec.Struct, frozen=True):
    """The network alone, one way."""

    precision: str
    batch: int
    side_by_side: int  # batches; 1: one batch on all cores, or one stream of a GPU
    rate: float  # frames/s
    recorded: bool = False  # replayed from a CUDA graph


class Parts(msgspec.Struct, frozen=True):
    """What each part costs alone, on one thread."""

    decode_ms: float  # CPU, a frame
    resize_ms: float  # CPU, a frame: from the decoder's picture into a slot
    nms_us: float  # CPU, a picture
    nms_found: float  # boxes in a picture, mean
    bare_ms: float  # CPU, a frame: PyAV alone, decoding and resizing to RGB
    publish_us: float  # CPU, a message of 5 detections
    publish_rate: float  # messages/s
    plain_rate: float  # messages/s of redis-py's pipeline of 50, sending bytes that are ready


class Quantiles(msgspec.Struct, frozen=True):
    """Of durations, milliseconds."""

    p50: float
    p95: float
    p99: float


class Whole(msgspec.Struct, frozen=True):
    """The pipeline end to end, for a while."""

    cameras: int
    live: bool  # at the clip's own pace; else files at full speed
    rate: float  # frames/s that Redis has confirmed
    offered: float  # frames/s that arrived
    latency: dict[str, Quantiles]  # of each of STAGES; of nothing where no frame was published
    cpu: dict[str, float]  # CPU seconds a second, of each role
    memory_mb: dict[str, float]  # of each role; what is shared is divided (Pss)
    gpu_memory_mb: float | None

    @property
    def share(self) -> float:
        """Of what arrived, how much was published."""
        return min(1.0, self.rate / self.offered) if self.offered else 0.0


class Round(msgspec.Struct, frozen=True):
    """Everything once, one after the other."""

    network: list[Rate]
    unpacked: float  # frames/s of the network as torch runs it, batches of 4 side by side
    parts: Parts
    wholes: list[Whole]

    def best(self, precision: str) -> float:
        """The network's best way, frames/s."""
        return max(rate.rate for rate in self.network if rate.precision == precision)


class Report(msgspec.Struct, frozen=True):
    """The file. Every round is kept: whoever reads it may take other means than medians."""

    made_at: str  # ISO 8601
    machine: Machine
    subject: Subject
    rounds: list[Round]
    schema: str = SCHEMA

    @property
    def precision(self) -> str:
        """That of the pipeline."""
        return self.subject.plan.split(", ")[1]

    @property
    def is_gpu(self) -> bool:
        return not self.subject.plan.startswith("cpu")

    def efficiencies(self, whole: int) -> list[float]:
        """Of pipeline number `whole` of each round, against that round's own parts."""
        return [
            found.wholes[whole].rate
            / ideal(found.best(self.precision), found.parts, self.machine.cores, is_gpu=self.is_gpu)
            for found in self.rounds
        ]

    def typical(self, read: Callable[[Round], float]) -> float:
        """The median of the rounds."""
        return median(map(read, self.rounds))


def ideal(network: float, parts: Parts, cores: float, *, is_gpu: bool) -> float:
    """Frames/s if nothing but decoding, resizing and the network cost anything.

    On a CPU all of it shares the cores: cores / (CPU seconds of decoding and resizing a frame +
    cores / frames/s of the network on all of them). Beside a GPU the slower of the two counts.
    """
    seconds = (parts.decode_ms + parts.resize_ms) / 1000
    if is_gpu:
        return min(network, cores / seconds)
    return cores / (seconds + cores / network)


def limit(network: float, parts: Parts, cores: float, *, is_gpu: bool) -> str:
    """Which part it is that lets no more frames through, in words."""
    seconds = (parts.decode_ms + parts.resize_ms) / 1000
    if is_gpu:
        one = "the network on the GPU" if network < cores / seconds else "decoding on the cores"
        return f"{one} ({min(network, cores / seconds):,.0f} frames/s)"
    share = cores / network / (seconds + cores / network)
    one = "the network" if share >= 0.5 else "decoding and resizing"
    return f"{one}: {max(share, 1 - share):.0%} of what a frame costs the cores"


def quantiles(milliseconds: Sequence[float]) -> Quantiles:
    """By nearest rank, of at least one."""
    ranked = sorted(milliseconds)

    def at(share: float) -> float:
        return round(ranked[min(len(ranked) - 1, int(share * len(ranked)))], 3)

    return Quantiles(at(0.5), at(0.95), at(0.99))
