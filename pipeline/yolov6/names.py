"""The names of an official state dict, of any release → one set of names.

These are the names of the network in its training form (`branches.py`), less what is only there
while it trains. A convolution and its BatchNorm are `X.conv.*` and `X.bn.*` whatever wraps them:

    X.block.conv, X.block.bn, X.rbr_reparam            X.conv, X.bn, X.conv
    X.conv_dw_1, X.bn_1 (Lite; also pw and bn_2)       X.conv_dw_1.conv, X.conv_dw_1.bn
    X.sppf.cv1, X.cspsppf.cv1, X.upsample_transpose    X.cv1, X.cv1, X

The branches of the head that are decoded get the plain names; the others are dropped:

    trained          release    decoded                       dropped
    plainly          any        cls_preds, reg_preds
    anchor-aided     0.3        cls_preds_af, reg_preds_af    cls_preds_ab, reg_preds_ab
                     0.4        cls_preds, reg_preds          cls_preds_ab, reg_preds_ab
    self-distilled   0.3        cls_preds, reg_preds_lrtb     reg_preds
                     0.4        cls_preds, reg_preds          reg_preds_dist
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from pipeline.errors import WeightsError

State = dict[str, np.ndarray]

# Aids of training, absent from the network that runs: branches of the head, the constant 0 … 16
# of the distribution, and the counters of BatchNorm.
_TRAINING_ONLY = re.compile(
    r"(^|\.)(num_batches_tracked|proj|proj_conv\.weight)$"
    r"|^detect\.(cls_preds_ab|reg_preds_ab|reg_preds_dist)\."
)
_RENAMED = (
    (re.compile(r"^detect\.(cls_preds|reg_preds)_(af|lrtb)\."), r"detect.\1."),
    (re.compile(r"\.(cspsppf|sppf|upsample_transpose)\."), "."),
    (re.compile(r"\.rbr_reparam\."), ".conv."),
    (re.compile(r"\.block\.(conv|bn)\."), r".\1."),
    (re.compile(r"\.bn_1\."), ".conv_dw_1.bn."),
    (re.compile(r"\.bn_2\."), ".conv_pw_1.bn."),
)
_SEPARABLE = re.compile(r"\.conv_(dw|pw)_1\.(?=weight$|bias$)")
_BRANCHES = r"(rbr_dense|rbr_1x1|rbr_identity|conv|conv_1x1|scale_conv|scale_1x1|scale_identity|bn)"
_PART = re.compile(rf"(\.{_BRANCHES})+$")


def canonical(state: Mapping[str, np.ndarray]) -> State:
    """The tensors of `state` that the network needs, by the names above; nothing is copied."""
    names = canonical_names(state)
    keys = {name: key for key, name in names.items()}
    for key, name in names.items():
        if keys[name] != key:
            raise WeightsError(
                f"the state dict has both {key} and {keys[name]}, which are the same"
            )
    return {name: state[key] for key, name in names.items()}


def canonical_names(keys: Iterable[str]) -> dict[str, str]:
    """{official key: name above} of the keys that the network needs."""
    keys = [key for key in keys if not _TRAINING_ONLY.search(key)]
    if any(key.startswith("detect.reg_preds_lrtb.") for key in keys):
        keys = [key for key in keys if not key.startswith("detect.reg_preds.")]
    names = {key: _renamed(key) for key in keys}
    normalised = {name.removesuffix("bn.weight") for name in names.values()}
    for key, name in names.items():
        module = name.rpartition(".")[0] + "."
        if _SEPARABLE.search(name) and module in normalised:
            names[key] = name.replace(module, f"{module}conv.")
    return names


def fused_name(name: str) -> str:
    """The key of the fused network that the tensor of a canonical name becomes a part of."""
    module, _, tensor = name.rpartition(".")
    block = _PART.sub("", module)
    return f"{block}.{tensor if block == module or tensor == 'bias' else 'weight'}"


def without_biases(state: State) -> State:
    """The same network without biases in front of BatchNorms: mean' = mean - bias.

    Releases 0.2 and 0.3 have such biases in SiLU and ReLU networks, and Lite has them too.
    """
    state = dict(state)
    for key in [key for key in state if key.endswith(".conv.bias")]:
        mean = f"{key.removesuffix('conv.bias')}bn.running_mean"
        if mean in state:
            state[mean] = state[mean] - state.pop(key)
    return state


def _renamed(key: str) -> str:
    for pattern, replacement in _RENAMED:
        key = pattern.sub(replacement, key)
    return key
