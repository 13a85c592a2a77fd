"""What the network does alone on this machine, its input being there, in each of its ways."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipeline.device import PRECISIONS, Network, Plan, as_run, noise, plan
from pipeline.errors import VedetteError
from pipeline.graphs import record
from pipeline.yolov6 import load
from pipeline.yolov6.weights import inspect

if TYPE_CHECKING:
    from workers.bench.yardstick import Subject

_CPU_BATCHES, _GPU_BATCHES = (1, 2, 4, 8), (1, 4, 8, 16, 32)
_UNPACKED = 4  # frames in a batch of the network as torch runs it

_Call = Callable[[], object]  # one batch


def rates(subject: Subject) -> dict[str, object]:
    """Frames/s by precision, batch and way; and as torch runs the network by itself."""
    chosen, found = planned(subject, 1), []
    floats = _floating(chosen)
    for precision in dict.fromkeys((chosen.precision, floats.precision, "fp32")):
        for way in _ways(chosen):
            this = replace(chosen, precision=precision, batch=way["batch"])
            ready = as_run(load(subject.weights), this, subject.input_size)
            if ready.plan.precision != precision:
                raise VedetteError(f"{subject.weights}: {ready.complaint}")
            frames = rate(
                ready.network, this, subject, way["side_by_side"], recorded=way["recorded"]
            )
            found.append({"precision": precision, **way, "rate": round(frames, 2)})
    plain = load(subject.weights).to(chosen.device, PRECISIONS[floats.precision])
    plain = plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    unpacked = rate(plain, replace(floats, batch=_UNPACKED), subject, chosen.threads)
    return {"rates": found, "unpacked": round(unpacked, 2)}


def planned(subject: Subject, most: int) -> Plan:
    """How a pipeline would run it."""
    return plan(
        device=subject.device,
        precision=subject.precision,
        max_batch=most,
        has_ranges=bool(inspect(subject.weights).ranges),
    )


def _floating(chosen: Plan) -> Plan:
    """The same, or what it would be if weights had no ranges."""
    if chosen.precision != "int8":
        return chosen
    return plan(device="cpu", precision="auto", max_batch=1, threads=chosen.threads)


def _ways(chosen: Plan) -> Iterator[dict[str, Any]]:
    """Batches side by side, and the largest one at a time; on a GPU also replayed from graphs."""
    is_cpu = chosen.device.type == "cpu"
    batches = _CPU_BATCHES if is_cpu else _GPU_BATCHES
    for recorded in (False,) if is_cpu else (False, True):
        for batch in batches:
            for side_by_side in (chosen.threads, 1) if batch == batches[-1] else (chosen.threads,):
                yield {"batch": batch, "side_by_side": side_by_side, "recorded": recorded}


def rate(
    network: Network, plan: Plan, subject: Subject, side_by_side: int, *, recorded: bool = False
) -> float:
    """Frames/s: one batch at a time has all cores of a CPU, those side by side one each.

    0 where the device cannot: it has not the memory, or records nothing.
    """
    images = noise(plan.batch, subject.input_size, plan)
    streams = [_stream(plan) for _ in range(side_by_side)]
    start = threading.Barrier(side_by_side)

    @torch.inference_mode()
    def work(stream: Any, call: _Call) -> float:
        torch.set_num_threads(plan.threads if side_by_side == 1 else 1)
        try:
            with stream:
                call()
                _finish(plan)
                start.wait()
                began, frames = time.monotonic(), 0
                while time.monotonic() < began + subject.seconds:
                    call()
                    _finish(plan)
                    frames += plan.batch
                return frames / (time.monotonic() - began)
        except RuntimeError:
            start.abort()  # nobody waits for this one
            raise

    try:
        calls = [_call(network, images, stream, recorded=recorded) for stream in streams]
        with ThreadPoolExecutor(side_by_side) as pool:
            return sum(pool.map(work, streams, calls))
    except RuntimeError:  # a barrier that is broken is one, too
        return 0.0


@torch.inference_mode()
def _call(network: Network, images: Tensor, stream: Any, *, recorded: bool) -> _Call:
    """One batch, operator by operator or from a recording; recorded while nobody else computes."""
    if not recorded:
        return lambda: network(images)
    with stream:
        replay, _, _ = record(network, images, None)
    return replay


def _stream(plan: Plan) -> Any:
    return contextlib.nullcontext() if plan.device.type == "cpu" else torch.Stream(plan.device)


def _finish(plan: Plan) -> None:
    """Waits for a GPU."""
    if plan.device.type != "cpu":
        torch.accelerator.current_stream().synchronize()
