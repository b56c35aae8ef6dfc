"""Small populations for the tests of probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlp_study.config.schema import RunConfig
from mlp_study.model.population import PopulationMLP


def config(activation: Any = "relu", widths: Sequence[int] = (7, 5), norm: str = "none", **more: Any) -> RunConfig:
    values: dict[str, Any] = {"activation": activation, "data": "digits", "init": "glorot_uniform"}
    values |= {"loss": "cross_entropy", "optimizer": "sgd", "schedule": "constant"}
    return RunConfig.from_dict(values | {"model": {"widths": list(widths), "norm": norm}} | more)


def population(configs: Sequence[RunConfig], inputs: int = 6, classes: int = 3, spread: float = 2.0) -> PopulationMLP:
    torch.manual_seed(0)
    mlp = PopulationMLP(configs, inputs, classes).eval()
    for bias in mlp.biases:
        torch.nn.init.normal_(bias, std=spread)
    return mlp


def images(count: int = 200, inputs: int = 6) -> Tensor:
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(1))


def chunked(x_NI: Tensor, size: int, members: int = 1, classes: int = 3) -> list[tuple[Tensor, Tensor]]:
    """One stream's images with labels that every member shares."""
    y_N = torch.randint(classes, (len(x_NI),), generator=torch.Generator().manual_seed(2))
    return [(x[None], y.expand(members, -1)) for x, y in zip(x_NI.split(size), y_N.split(size), strict=True)]
