"""What runs the network, and in which numbers: from what the machine does natively, once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.yolov6.int8 import as_int8
from pipeline.yolov6.network import YOLOv6
from pipeline.yolov6.prepack import prepack

# Each with the numbers that the pictures are, as the network takes them.
PRECISIONS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.uint8,
}
_CPU_BATCH = 4  # frames: larger batches of one thread gain nothing and make everybody wait
_GPU_STREAMS = 2
_DEVICE = re.compile(r"cpu|cuda(:[0-9]{1,3})?")
# As /proc/cpuinfo calls them.
_MULTIPLIES = {"bf16": {"avx512_bf16", "amx_bf16", "bf16"}, "int8": {"avx512_vnni", "avx_vnni"}}

Network = Callable[[Tensor], tuple[Tensor, Tensor]]  # images → boxes, scores


@dataclass(frozen=True, slots=True)
class Plan:
    """How a device runs the network."""

    device: torch.device
    precision: str  # a key of PRECISIONS
    batch: int  # frames, at most
    threads: int  # batches side by side

    def __str__(self) -> str:
        return f"{self.device}, {self.precision}, {self.threads} × {self.batch} frames"  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class Ready:
    """A network as a device runs it."""

    network: Network  # images [B, 3, H, W], 0 … 255, channels last, of the precision's numbers
    plan: Plan
    complaint: str | None  # why it runs slower than it might


def plan(
    *,
    device: str,
    precision: str,
    max_batch: int,
    threads: int | None = None,
    has_ranges: bool = False,
) -> Plan:
    """Resolves `auto`. Raises ConfigError for a device that is unknown or not there.

    `threads` on a CPU: the cores this process may use, unless given. `has_ranges`: whether the
    weights have any, which int8 needs.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not _DEVICE.fullmatch(device):
        raise ConfigError(f"no device {device!r}; known are auto, cpu, cuda and cuda:N")
    if precision not in ("auto", *PRECISIONS):
        raise ConfigError(f"no precision {precision!r}; known are auto, {', '.join(PRECISIONS)}")
    target = torch.device(device)
    if target.type == "cuda":
        _check_gpu(target)
        if precision == "int8":
            raise ConfigError("model.precision: int8 needs a CPU; a GPU takes fp32, fp16 or auto")
        chosen = _gpu_precision(target) if precision == "auto" else precision
        return Plan(target, chosen, max_batch, threads or _GPU_STREAMS)
    if precision == "fp16":
        raise ConfigError("model.precision: fp16 needs a GPU; a CPU takes fp32, bf16 or auto")
    if precision == "int8":
        _check_int8(has_ranges=has_ranges)
    chosen = _cpu_precision(has_ranges=has_ranges) if precision == "auto" else precision
    cores = threads or len(os.sched_getaffinity(0))
    return Plan(target, chosen, min(max_batch, _CPU_BATCH), cores)


def multiplies(precision: str) -> bool:
    """Whether the processor has instructions for it: bf16 (AVX-512, AMX, Arm), int8 (VNNI)."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return not _MULTIPLIES[precision].isdisjoint(flags.split())


def as_run(network: YOLOv6, plan: Plan, input_size: tuple[int, int]) -> Ready:
    """The network as the plan's device runs it best; it is changed, not copied.

    Where this torch has no int8, in what else the processor multiplies. Beside a GPU, float32 is no
    TF32 in this process from then on.
    """
    network.take_bytes()
    complaints = []
    if plan.precision == "int8":
        image, floats = noise(1, input_size, plan), _cpu_precision(has_ranges=False)
        whole = as_int8(network, network.ranges, image, plan.batch, PRECISIONS[floats])
        if whole is not None:
            return Ready(whole, plan, None)
        plan = replace(plan, precision=floats)
        complaints.append("it could not be run in int8")
    if plan.device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # there is fp16 for speed
    network = network.to(plan.device, PRECISIONS[plan.precision])
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if plan.device.type == "cpu" and not prepack(network, noise(1, input_size, plan), plan.batch):
        complaints.append("its kernels could not be packed")
    return Ready(network, plan, ", ".join(complaints) or None)


def noise(batch: int, input_size: tuple[int, int], plan: Plan) -> Tensor:
    """Always the same pictures of nothing: [batch, 3, H, W], 0 … 255, as the network takes them."""
    random = torch.Generator().manual_seed(0)
    images = torch.rand((batch, 3, *input_size), generator=random) * 255
    images = images.to(plan.device, PRECISIONS[plan.precision])
    return images.contiguous(memory_format=torch.channels_last)


def _check_gpu(device: torch.device) -> None:
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise ConfigError(f"model.device: found {device}, and this machine has {count} GPUs")


def _check_int8(*, has_ranges: bool) -> None:
    if not has_ranges:
        raise ConfigError(
            "model.precision: int8 needs weights that `vedette weights quantize` has looked at"
        )
    if not multiplies("int8"):
        raise ConfigError(
            "model.precision: int8 needs a processor with VNNI; this one takes fp32, bf16 or auto"
        )


def _gpu_precision(device: torch.device) -> str:
    """Tensor cores take fp16 since Volta (compute capability 7.0)."""
    return "fp16" if torch.cuda.get_device_capability(device)[0] >= 7 else "fp32"


def _cpu_precision(*, has_ranges: bool) -> str:
    """The fastest of what the weights allow and the processor multiplies natively."""
    if has_ranges and multiplies("int8"):
        return "int8"
    return "bf16" if multiplies("bf16") else "fp32"
