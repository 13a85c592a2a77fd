"""Which member of the family a state dict is, from its keys and shapes and nothing else's word.

1. A row of the table fits if the folded state has exactly its keys and shapes.
2. The activation is no tensor. A block with parallel branches has ReLU; of a pickled model the
   modules say what it has; else, where both would fit (0.4.x-l, 0.4.x-l_base), the caller must.
3. Rows that are one network once folded differ in name alone: the one is taken whose mode and
   release the names of the keys show, else the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import WeightsError
from pipeline.yolov6.names import canonical_names, fused_name
from pipeline.yolov6.variants import VARIANTS, Variant, activation_of
from pipeline.yolov6.weights import Shapes, differences, head_size

# What the keys below `backbone.stem` say of the mode of training, likeliest first. (The last is
# RepOpt's in official files, and in our own training form that of every plain convolution.)
_STEMS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("rbr_1x1.conv.weight", ("repvgg",)),
    ("rbr_1x1.weight", ("qarepvggv2",)),
    ("rbr_reparam.weight", ("repvgg", "qarepvggv2")),
    ("scale_conv.weight", ("hyper_search",)),
    ("block.conv.weight", ("conv_silu", "conv_relu")),
    ("conv.weight", ("repopt", "conv_silu", "conv_relu")),
)
_ACTIVATIONS = {"ReLU": "relu", "SiLU": "silu"}


@dataclass(frozen=True, slots=True)
class Traces:
    """What a file shows beside its tensors' shapes; empty and None where it does not show it."""

    keys: Mapping[str, str]  # key of the fused network → the file's own first key for it
    modes: tuple[str, ...]  # that it may have been trained in
    activation: str | None  # relu | silu
    is_late: bool | None  # named as in release 0.4, or as in those before


def traces(source: object, shapes: Shapes, modules: Mapping[str, str]) -> Traces:
    """From the file's keys and shapes, and the classes of its modules {path: module.Class}.

    Raises `WeightsError` for a block that no published member of the family has.
    """
    modes = next((modes for key, modes in _STEMS if f"backbone.stem.{key}" in shapes), ())
    activation = _activation(source, modules)
    possible = {activation_of(mode) for mode in modes}
    if activation is None and len(possible) == 1:
        (activation,) = possible
    return Traces(_own_keys(shapes), modes, activation, _is_late(shapes))


def identify(
    source: object,
    found: Shapes,
    candidates: Sequence[str],
    traces: Traces,
) -> str:
    """The candidate whose folded shapes are `found`; `WeightsError` for none, or for several."""
    fitting = _fitting(source, found, candidates, traces)
    alike = [n for n in fitting if traces.activation in (None, VARIANTS[n].activation)]
    if not alike:
        wanted = VARIANTS[fitting[0]].activation
        raise WeightsError(
            f"{source} has {traces.activation} for its activation, and {fitting[0]} has {wanted}"
        )
    if traces.activation is None and len(candidates) > 1:
        _check_mode(source, alike, traces)
    alike.sort(key=lambda name: _is_unlikely(name, traces))
    networks: dict[Variant, str] = {}
    for name in alike:
        networks.setdefault(VARIANTS[name].network, name)
    if len(networks) > 1:
        names = ", ".join(networks.values())
        raise WeightsError(f"{source} may be any of {names}: say which by --variant")
    return alike[0]


def _fitting(
    source: object,
    found: Shapes,
    candidates: Sequence[str],
    traces: Traces,
) -> list[str]:
    """Those with these keys and shapes; if there are none, the error names the closest."""
    from pipeline.yolov6.network import shapes

    classes, bins = head_size(found)
    wrong = {
        name: differences(shapes(VARIANTS[name], max(1, classes), bins), found)
        for name in candidates
    }
    fitting = [name for name in candidates if not wrong[name]]
    if not fitting:
        closest = min(candidates, key=lambda name: (len(wrong[name]), _is_unlikely(name, traces)))
        key, phrase = wrong[closest][0]
        raise WeightsError(
            f"{source} fits no known variant; closest is {closest},"
            f" but {traces.keys.get(key, key)[:120]} {phrase}"
        )
    return fitting


def _check_mode(source: object, names: Sequence[str], traces: Traces) -> None:
    """Plain convolutions, where the family has branches, may be followed by any activation."""
    if traces.modes and not any(VARIANTS[name].mode in traces.modes for name in names):
        name, modes = names[0], " or ".join(traces.modes)
        raise WeightsError(
            f"{source} was trained as {modes}, which {name} is not: if its activation is"
            f" {VARIANTS[name].activation}, as there, say so by --variant {name}"
        )


def _is_unlikely(name: str, traces: Traces) -> tuple[int, bool]:
    """Small before large: how far the mode is from the likeliest, and whether the release is."""
    modes, mode = traces.modes, VARIANTS[name].mode
    distance = modes.index(mode) if mode in modes else len(modes)
    return distance, traces.is_late is not None and name.startswith("0.4") != traces.is_late


def _is_late(shapes: Shapes) -> bool | None:
    """All releases wrap the upsampling, 0.4 also every convolution; what wraps neither is ours."""
    if not any(".upsample_transpose." in key for key in shapes):
        return None
    return "neck.reduce_layer0.block.conv.weight" in shapes


def _activation(source: object, modules: Mapping[str, str]) -> str | None:
    """What the stem's modules say; None where there are none, as in a bare state dict."""
    for path, name in modules.items():
        kind = name.rpartition(".")[2]
        if kind == "QARepVGGBlock":  # like V2 in its keys, but without the average
            raise WeightsError(f"{source} has a {kind} at {path[:120]}; only its V2 is known")
        if path.startswith("backbone.stem.") and name.startswith("torch.nn.modules.activation."):
            if kind not in _ACTIVATIONS:
                known = " and ".join(_ACTIVATIONS)
                raise WeightsError(f"{source} has {kind[:40]} at {path[:120]}; known are {known}")
            return _ACTIVATIONS[kind]
    return None


def _own_keys(shapes: Shapes) -> dict[str, str]:
    """Of the parts of a block, the kernel with most elements stands for all."""
    keys: dict[str, str] = {}
    for key, name in canonical_names(_by_size(shapes)).items():
        keys.setdefault(fused_name(name), key)
    return keys


def _by_size(shapes: Shapes) -> Iterable[str]:
    return sorted(shapes, key=lambda key: -math.prod(shapes[key]))
