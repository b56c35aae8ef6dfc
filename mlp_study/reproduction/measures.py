"""The numbers of a finished run that claims are about, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.factors.diagnostics import diagnostic_of
from mlp_study.figures.images import GRID

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig
    from mlp_study.data.images import ImageSet
    from mlp_study.training.results import MemberResult, Metrics

CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
CHECKED_IMAGES = 32
GRADIENT = "initial/gradient_error"
SHARES = ("accuracy", "diverged", "sparsity", "dead", "dormant", "always_on", "saturated", "missed", "plateau")


def measures_of(result: Mapping[str, Any], rows: Sequence[Metrics]) -> dict[str, float]:
    """Every number of a run, from its ``result.json`` and its curves.

    Beside what the file has (``test/accuracy``, ``epochs``, ...): ``initial/NAME`` and ``final/NAME`` of the
    diagnostics; ``first/X``, ``best/X`` and ``mean/X`` over the epochs for the curves' X; ``gap/accuracy`` (training
    less validation) and ``gap/loss`` (validation less training) in the last epoch; ``seconds_each``, training time over
    the members that shared it; ``diverged``, 0 or 1.
    """
    found = {k: float(v) for k, v in result.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    for when, values in result["diagnostics"].items():
        found |= {f"{when}/{name}": float(value) for name, value in values.items()}
    for name in CURVES:
        values = [row[name] for row in rows if name in row]
        if values:
            found[f"first/{name}"], found[f"mean/{name}"] = values[0], math.fsum(values) / len(values)
            found[f"best/{name}"] = max(values) if name.endswith("accuracy") else min(values)
    both = [row for row in rows if all(name in row for name in CURVES)]
    if both:
        found["gap/accuracy"] = both[-1]["train/accuracy"] - both[-1]["val/accuracy"]
        found["gap/loss"] = both[-1]["val/loss"] - both[-1]["train/loss"]
    if "train_seconds" in found:
        found["seconds_each"] = found["train_seconds"] / max(result["population"].get("size", 1), 1)
    found["diverged"] = float(result["outcome"] == "diverged")
    return found


def widest(name: str) -> float:
    """How far two runs' values of a measure can lie apart: 1 for a share, such as an accuracy; infinite if unbounded.

    ``gap/accuracy`` is a difference of two shares already.
    """
    if name == f"errors_{GRID}":
        return float(GRID)
    *_, last = name.split("/")
    if diagnostic_of(last) not in SHARES:
        return math.inf
    return 2.0 if name.startswith("gap/") else 1.0


def add_own(result: MemberResult, images: ImageSet, *, check_gradient: bool) -> None:
    """Add what training does not measure: errors among the test images of the prediction grid, the gradient check."""
    if result.predictions is not None:
        wrong_N = result.predictions[:GRID] != images.test_labels_N[:GRID]
        result.metrics[f"errors_{GRID}"] = float(wrong_N.sum())
    if check_gradient:
        error = hidden_gradient_error(result.config, images)
        result.diagnostics.setdefault("initial", {})["gradient_error"] = error


def hidden_gradient_error(config: RunConfig, images: ImageSet) -> float:
    """The gradient check of the freshly drawn network under plain cross-entropy.

    Plain cross-entropy, because ``numpy_relu`` follows its gradient whatever cost it prints: what is left to
    disagree is the hidden layer's.
    """
    import torch

    from mlp_study.factors.normalizers import NORMALIZERS
    from mlp_study.model.population import PopulationMLP
    from mlp_study.reproduction.gradient_check import gradient_check

    model = PopulationMLP([config], images.train_images_NI.shape[1], len(images.classes)).export(0)
    some_NI = torch.as_tensor(images.train_images_NI[:CHECKED_IMAGES])
    x_NI = NORMALIZERS[config.data.scale].fit(some_NI).with_gain(config.data.gain)(some_NI)
    return gradient_check(model, x_NI, torch.as_tensor(images.train_labels_N[:CHECKED_IMAGES]))
