"""Cures: single changes of a configuration that might make it learn, as exact overrides."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlp_study.config.schema import FACTORS, RunConfig
from mlp_study.doctor.forecast import Glimpse, Verdict

SAFE_INDEX = 0.5  # a learning rate is cut so that the first step's stability index becomes this
SLOWER = (0.1, 0.01)
FASTER = (3.0, 10.0, 30.0)


@dataclass(frozen=True)
class Cure:
    """One change, and what it was measured to do.

    Attributes:
        overrides: the exact overrides to add, such as ``("data.scale=unit",)``.
        why: the reason for trying it.
        verdict: on the changed configuration.
        accuracy: on the watched training images after ``steps`` steps.
        loss: there and then.
        steps: how far it was trained.
        effect: its accuracy minus the unchanged configuration's.
    """

    overrides: tuple[str, ...]
    why: str
    verdict: Verdict
    accuracy: float
    loss: float
    steps: int
    effect: float


def candidates(config: RunConfig, glimpse: Glimpse) -> Iterator[tuple[dict[str, Any], str]]:
    """(overrides as key -> value, reason) of every single change worth a try."""
    yield from _scales(config)
    yield from _learning_rates(config, glimpse)
    yield from _inits(config)
    if config.loss.name != "cross_entropy":
        yield {"loss": "cross_entropy"}, "cross-entropy from the logits never loses its gradient"
    if config.optimizer.name not in ("adam", "adamw"):
        yield {"optimizer": "adam"}, "steps of about lr each, whatever the gradient's size"
    if config.model.norm == "none":
        yield {"model.norm": "batch"}, "pre-activations are centred and scaled in every layer"
        yield {"model.norm": "layer"}, "pre-activations of each image are centred and scaled"
    if config.activation.name in ("relu", "leaky_relu_mismatched", "relu6", "squared_relu"):
        yield {"activation": "leaky_relu"}, "no unit can die"
    elif config.activation.name != "relu":
        yield {"activation": "relu"}, "no flat side on which gradients vanish"


def _scales(config: RunConfig) -> Iterator[tuple[dict[str, Any], str]]:
    reasons = {
        "unit": "pixels in [0, 1] instead of larger ones shrink the curvature by their square",
        "standard": "centred pixels let the first hyperplanes cut the data",
        "pixel_standard": "each pixel centred and of deviation 1",
    }
    for scale, reason in reasons.items():
        if config.data.scale != scale:
            gain = {"data.gain": 1.0} if config.data.gain != 1 else {}
            yield {"data.scale": scale, **gain}, reason
    if config.data.gain != 1:
        yield {"data.gain": 1.0}, "the plain scale"


def _learning_rates(config: RunConfig, glimpse: Glimpse) -> Iterator[tuple[dict[str, Any], str]]:
    lr, index = config.optimizer.options["lr"], glimpse.initial.get("stability_index", math.nan)
    if index > SAFE_INDEX and math.isfinite(index):
        value = rounded(lr * SAFE_INDEX / index)
        yield {"optimizer.lr": value}, f"brings the stability index from {index:.3g} to about {SAFE_INDEX}"
    for factor in SLOWER if not index < SAFE_INDEX / 10 else ():
        yield {"optimizer.lr": rounded(lr * factor)}, f"{factor:g} times the learning rate"
    for factor in FASTER:
        if not index * factor > 2:
            yield {"optimizer.lr": rounded(lr * factor)}, f"{factor:g} times the learning rate"


def rounded(value: float) -> float:
    """Two significant digits, as a person would type it."""
    return float(f"{value:.1e}")


def _inits(config: RunConfig) -> Iterator[tuple[dict[str, Any], str]]:
    gain = {"init.gain": 1.0} if config.init.options.get("gain", 1.0) != 1 else {}
    if gain:
        yield gain, "weights of the initializer's own size"
    for name, reason in {
        "glorot_uniform": "Glorot & Bengio's size, for tanh and sigmoid",
        "he_normal": "He's size, which keeps ReLU's signal from layer to layer",
    }.items():
        if config.init.name != name:
            yield {"init": name}, reason


def changed(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """The config with these overrides; choosing another factor takes that factor's own defaults."""
    values = config.to_dict()
    for key, value in overrides.items():
        section, _, option = key.partition(".")
        if option:
            values[section] = {**values[section], option: value}
        elif section in FACTORS:
            values[section] = {"name": value}
        else:
            values[section] = value
    return dataclasses.replace(RunConfig.from_dict(values), experiment=config.experiment)


def spelt(overrides: Mapping[str, Any]) -> tuple[str, ...]:
    """The overrides as they are typed."""
    return tuple(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in overrides.items()
    )
