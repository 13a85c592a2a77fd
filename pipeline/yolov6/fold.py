"""A training state dict → the state dict of the fused network: algebra on arrays, nothing else.

Inputs carry the official key names (release 0.4; training form, partly or fully fused). Outputs
are float32 and carry the names of `network.py`, which are the official ones less the wrappers:
`neck.Rep_p4.conv1.rbr_dense.conv.weight` and its company become `neck.Rep_p4.conv1.{weight,bias}`.
Sums are made in float64, so that folding costs less than float32 arithmetic does.

The rules, in the order in which they are applied (all convolutions are linear, so a sum of
convolutions of one input is the convolution with the sum of their kernels):

    conv, BatchNorm       W' = g W,  b' = beta + g (b - mean),  g = gamma / sqrt(var + eps)
    identity, BatchNorm   as a 1x1 convolution with W[i, i] = 1
    1x1 beside 3x3        the 1x1 kernel is the centre of a 3x3 of zeros
    RepVGG                W = W3 + W1 + W0,  b = b3 + b1 + b0          (2101.03697, figure 4)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from pipeline.errors import WeightsError

State = dict[str, np.ndarray]

EPSILON = 1e-3  # of every BatchNorm of YOLOv6; PyTorch's own default is 1e-5

# Aids of training, absent from the network that runs: anchor-based and distillation branches, the
# constant 0 … 16 of the distribution, and the counters of BatchNorm.
_TRAINING_ONLY = re.compile(
    r"(^|\.)(num_batches_tracked|proj|proj_conv\.weight)$"
    r"|^detect\.(cls_preds_ab|reg_preds_ab|reg_preds_dist)\."
)
_WRAPPERS = re.compile(r"\.(cspsppf|sppf|rbr_reparam|upsample_transpose)(?=\.|$)|\.(block\.)?conv$")
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def fold(state: Mapping[str, np.ndarray]) -> State:
    """The fused form of `state`; `WeightsError` where a BatchNorm or a branch is incomplete."""
    parts = _modules({k: v for k, v in state.items() if not _TRAINING_ONLY.search(k)})
    for norm in [name for name, tensors in parts.items() if "running_var" in tensors]:
        conv = _normalised_by(norm, parts)
        if conv is not None:
            parts[conv] = fold_batch_norm(parts[conv], parts.pop(norm), norm)
    for dense in [name for name in parts if name.endswith(".rbr_dense.conv")]:
        block = dense.removesuffix(".rbr_dense.conv")
        parts[block] = _fold_rep_vgg(block, parts)
    return {
        f"{_WRAPPERS.sub('', module)}.{key}": tensor.astype(np.float32)
        for module, tensors in parts.items()
        for key, tensor in tensors.items()
    }


def fold_batch_norm(
    conv: Mapping[str, np.ndarray], norm: Mapping[str, np.ndarray], name: str
) -> State:
    """W' = g W, b' = beta + g (b - mean), g = gamma / sqrt(var + eps), per output channel.

    `conv` holds weight [O, I, h, w] and perhaps bias [O]; `norm` four vectors [O].
    """
    missing = [key for key in _BATCH_NORM if key not in norm]
    if missing or "weight" not in conv:
        what = f"{name}.{missing[0]}" if missing else f"the convolution before {name}"
        raise WeightsError(f"the state dict lacks {what}")
    gamma, beta, mean, variance = (norm[key].astype(np.float64) for key in _BATCH_NORM)
    weight = conv["weight"].astype(np.float64)
    if not gamma.shape == beta.shape == mean.shape == variance.shape == weight.shape[:1]:
        raise WeightsError(f"{name} and its convolution differ in channels")
    gain = gamma / np.sqrt(variance + EPSILON)
    bias = beta + gain * (conv.get("bias", np.zeros(1)) - mean)
    return {"weight": weight * gain.reshape(-1, *[1] * (weight.ndim - 1)), "bias": bias}


def pad_to_3x3(weight: np.ndarray) -> np.ndarray:
    """[O, I, 1, 1] → [O, I, 3, 3]: the same convolution, where a border of 1 is padded."""
    return np.pad(weight, ((0, 0), (0, 0), (1, 1), (1, 1)))


def identity_1x1(channels: int) -> np.ndarray:
    """[C, C, 1, 1]: the convolution that gives its input back."""
    return np.eye(channels).reshape(channels, channels, 1, 1)


def _fold_rep_vgg(block: str, parts: dict[str, State]) -> State:
    """The sum of the branches of `block`, which are taken out of `parts`."""
    dense = parts.pop(f"{block}.rbr_dense.conv")
    branches = [parts.pop(f"{block}.rbr_1x1.conv", None)]
    if norm := parts.pop(f"{block}.rbr_identity", None):
        conv = {"weight": identity_1x1(dense["weight"].shape[0])}
        branches.append(fold_batch_norm(conv, norm, f"{block}.rbr_identity"))
    weight, bias = dense["weight"], dense.get("bias", 0.0)
    for branch in branches:
        if branch is None:
            raise WeightsError(f"the state dict lacks {block}.rbr_1x1.conv.weight")
        padded = pad_to_3x3(branch["weight"])
        if padded.shape != weight.shape:
            raise WeightsError(f"the branches of {block} differ in shape")
        weight, bias = weight + padded, bias + branch["bias"]
    return {"weight": weight, "bias": np.asarray(bias)}


def _normalised_by(norm: str, parts: Mapping[str, State]) -> str | None:
    """The convolution whose output the BatchNorm `norm` takes; None if that is a block's input."""
    parent, _, own = norm.rpartition(".")
    if own == "rbr_identity":
        return None
    # `bn` follows `conv`; in Lite's DPBlock `bn_1` follows `conv_dw_1` and `bn_2` `conv_pw_1`.
    conv = {"bn": "conv", "bn_1": "conv_dw_1", "bn_2": "conv_pw_1"}.get(own)
    if conv is None or f"{parent}.{conv}" not in parts:
        raise WeightsError(f"the state dict has the BatchNorm {norm} but no convolution before it")
    return f"{parent}.{conv}"


def _modules(state: Mapping[str, np.ndarray]) -> dict[str, State]:
    """{"a.conv.weight": t, "a.conv.bias": u} → {"a.conv": {"weight": t, "bias": u}}."""
    parts: dict[str, State] = {}
    for key, tensor in state.items():
        module, _, name = key.rpartition(".")
        parts.setdefault(module, {})[name] = tensor
    return parts
