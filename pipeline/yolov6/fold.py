"""A training state dict → the state dict of the fused network: algebra on arrays, nothing else.

Inputs carry official key names (`names.py`; training form, partly or fully fused). Outputs are
float32 and carry the names of the fused network: `neck.Rep_p4.conv1.rbr_dense.conv.weight` and
its company become `neck.Rep_p4.conv1.{weight,bias}`. Sums and products are made in float64 and
rounded once, so that folding costs less than float32 arithmetic does.

The rules, all of them exact, since all parts are linear. A sum of convolutions of one input is the
convolution with the sum of their kernels; per output channel, kernels being W and biases b:

    BatchNorm        g = gamma / sqrt(var + eps);  W' = g W,  b' = beta + g (b - mean)
    1x1              the centre of a 3x3 of zeros                                   W1
    identity         a 1x1 that gives channel i back: W[i, i] = 1                    I
    average 3x3      1/9 everywhere in the kernel of channel i to itself             A
    RepVGG           BN3(W3) + BN1(W1) + BN0(I)                     (2101.03697, figure 4)
    QARepVGG V2      BN(BN3(W3) + W1 + I + A)                       (2212.01593, figure 5)
    linear addition  BN(a W3 + b W1 + c I), a, b, c per channel     (2205.15242, 3.2)

I and A are there where input and output have the same shape. What is not linear stays as it is:
the activation, and BottleRep's `alpha`, which is added behind one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.errors import WeightsError
from pipeline.yolov6.names import State, canonical

EPSILON = 1e-3  # of every BatchNorm of YOLOv6; PyTorch's own default is 1e-5

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def fold(state: Mapping[str, np.ndarray]) -> State:
    """The fused form of `state`; `WeightsError` where a BatchNorm or a branch is incomplete."""
    parts = _modules(canonical(state))
    _check_convolutions(parts)
    for block in _blocks(parts, ".rbr_dense.conv"):
        parts[f"{block}.conv"] = _take_rep_vgg(block, parts)
    for block in _blocks(parts, ".scale_conv"):
        parts[f"{block}.conv"] = _take_linear_addition(block, parts)
    for block in _blocks(parts, ".conv"):
        parts[f"{block}.conv"] = _single(_take_normalised(block, parts))
    for name, tensors in parts.items():
        if "running_var" in tensors:
            raise WeightsError(
                f"the state dict has the BatchNorm {name} but no convolution before it"
            )
    return {
        f"{module.removesuffix('.conv')}.{key}": tensor.astype(np.float32)
        for module, tensors in parts.items()
        for key, tensor in tensors.items()
    }


def fold_batch_norm(
    conv: Mapping[str, np.ndarray], norm: Mapping[str, np.ndarray], name: str
) -> State:
    """W' = g W, b' = beta + g (b - mean), g = gamma / sqrt(var + eps), per output channel.

    `conv` holds weight [O, I, h, w] and perhaps bias [O]; `norm` four vectors [O]. Per channel, g
    and beta - g mean are rounded to float32, as a BatchNorm rounds them where it runs: a whole
    channel shares that error, so it does not average out, and the original's numbers have it.
    """
    missing = [key for key in _BATCH_NORM if key not in norm]
    if missing or "weight" not in conv:
        what = f"{name}.{missing[0]}" if missing else f"the convolution before {name}"
        raise WeightsError(f"the state dict lacks {what}")
    gamma, beta, mean, variance = (norm[key].astype(np.float32) for key in _BATCH_NORM)
    weight = conv["weight"].astype(np.float64)
    if not gamma.shape == beta.shape == mean.shape == variance.shape == weight.shape[:1]:
        raise WeightsError(f"{name} and its convolution differ in channels")
    gain = (gamma * (1 / np.sqrt(variance + np.float32(EPSILON)))).astype(np.float64)
    shift = beta - mean * gain.astype(np.float32)
    bias = shift + gain * conv.get("bias", np.zeros(1))
    return {"weight": weight * _per_channel(gain), "bias": bias}


def pad_to_3x3(weight: np.ndarray) -> np.ndarray:
    """[O, I, 1, 1] → [O, I, 3, 3]: the same convolution, where a border of 1 is padded."""
    return np.pad(weight, ((0, 0), (0, 0), (1, 1), (1, 1)))


def identity_1x1(channels: int) -> np.ndarray:
    """[C, C, 1, 1]: the convolution that gives its input back."""
    return np.eye(channels).reshape(channels, channels, 1, 1)


def average_3x3(channels: int) -> np.ndarray:
    """[C, C, 3, 3]: the convolution that averages each channel over 3x3, the padding counted."""
    average: np.ndarray = identity_1x1(channels) * np.full((1, 1, 3, 3), 1 / 9)
    return average


def _take_rep_vgg(block: str, parts: dict[str, State]) -> State:
    """The sum of the branches of `block`, which are taken out of `parts`.

    Of QARepVGG the 1x1 has no BatchNorm of its own, and the whole has one, which stays.
    """
    quantised = f"{block}.rbr_1x1" in parts
    dense = _take_normalised(f"{block}.rbr_dense", parts)
    if quantised:
        pointwise = parts.pop(f"{block}.rbr_1x1")
    elif f"{block}.rbr_1x1.conv" in parts:
        pointwise = _take_normalised(f"{block}.rbr_1x1", parts)
    else:
        raise WeightsError(f"the state dict lacks {block}.rbr_1x1.conv.weight")
    branches = [dense, pointwise]
    outputs, inputs = dense["weight"].shape[:2]
    norm = parts.pop(f"{block}.rbr_identity", None)
    if norm and outputs == inputs:
        identity = {"weight": identity_1x1(inputs)}
        branches.append(fold_batch_norm(identity, norm, f"{block}.rbr_identity"))
    elif norm:
        raise WeightsError(f"{block}.rbr_identity is there, but {inputs} channels become {outputs}")
    if quantised and outputs == inputs:
        branches += [{"weight": identity_1x1(inputs)}, {"weight": average_3x3(inputs)}]
    return _sum(block, branches)


def _take_linear_addition(block: str, parts: dict[str, State]) -> State:
    """a W3 + b W1 + c I of `block`, whose parts are taken out of `parts`; the BatchNorm stays."""
    for part in ("conv", "conv_1x1", "scale_conv", "scale_1x1"):
        if "weight" not in parts.get(f"{block}.{part}", {}):
            raise WeightsError(f"the state dict lacks {block}.{part}.weight")
    branches = {"scale_conv": parts.pop(f"{block}.conv")["weight"]}
    branches["scale_1x1"] = parts.pop(f"{block}.conv_1x1")["weight"]
    outputs, inputs = branches["scale_conv"].shape[:2]
    if f"{block}.scale_identity" in parts and outputs == inputs:
        branches["scale_identity"] = identity_1x1(inputs)
    scaled = []
    for scale, weight in branches.items():
        gain = parts.pop(f"{block}.{scale}").get("weight", np.zeros(0))
        if gain.shape != weight.shape[:1]:
            raise WeightsError(f"{block}.{scale} and its convolution differ in channels")
        scaled.append({"weight": weight.astype(np.float64) * _per_channel(gain)})
    return _sum(block, scaled)


def _take_normalised(block: str, parts: dict[str, State]) -> State:
    """The convolution of `block` with its BatchNorm, if it has one; both are taken."""
    conv = parts.pop(f"{block}.conv")
    norm = parts.pop(f"{block}.bn", None)
    return conv if norm is None else fold_batch_norm(conv, norm, f"{block}.bn")


def _sum(block: str, branches: list[State]) -> State:
    """One 3x3 convolution for several, of which the 1x1 are padded; in float64."""
    kernels = [branch["weight"].astype(np.float64) for branch in branches]
    kernels = [pad_to_3x3(k) if k.shape[2:] == (1, 1) else k for k in kernels]
    if any(kernel.shape != kernels[0].shape for kernel in kernels):
        raise WeightsError(f"the branches of {block} differ in shape")
    bias = np.zeros(len(kernels[0])) + sum(branch.get("bias", 0.0) for branch in branches)
    return {"weight": np.sum(kernels, axis=0), "bias": bias}


def _check_convolutions(parts: Mapping[str, State]) -> None:
    """Every convolution has a kernel [O, I, h, w], and perhaps a bias [O]."""
    for name, tensors in parts.items():
        if name.endswith((".conv", ".rbr_1x1", ".conv_1x1")):
            if "weight" not in tensors:
                raise WeightsError(f"the state dict lacks {name}.weight")
            weight, bias = tensors["weight"], tensors.get("bias")
            if weight.ndim != 4 or (bias is not None and bias.shape != weight.shape[:1]):
                raise WeightsError(f"{name} has a kernel or a bias of no convolution's shape")


def _single(tensors: State) -> State:
    return {key: tensor.astype(np.float32) for key, tensor in tensors.items()}


def _per_channel(gain: np.ndarray) -> np.ndarray:
    return gain.reshape(-1, 1, 1, 1)


def _blocks(parts: Mapping[str, State], marker: str) -> list[str]:
    return [name.removesuffix(marker) for name in parts if name.endswith(marker)]


def _modules(state: Mapping[str, np.ndarray]) -> dict[str, State]:
    """{"a.conv.weight": t, "a.conv.bias": u} → {"a.conv": {"weight": t, "bias": u}}."""
    parts: dict[str, State] = {}
    for key, tensor in state.items():
        module, _, name = key.rpartition(".")
        parts.setdefault(module, {})[name] = tensor
    return parts
