"""Runs of a fraction of a second: configs in one line, and a data set of a few hundred tiny images."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from mlp_study.config.schema import GROUPS, RunConfig
from mlp_study.data.images import ImageSet
from mlp_study.factors.losses import LOSSES
from mlp_study.training.feed import Feed
from mlp_study.training.population import train_population
from mlp_study.training.results import MemberResult

CHOICES = {
    "activation": "relu",
    "data": "digits",
    "init": "glorot_uniform",
    "loss": "cross_entropy",
    "optimizer": "sgd",
    "schedule": "constant",
}


def config(*overrides: str) -> RunConfig:
    """The config of ``key=value`` overrides, as the command line's; 3 epochs of a small network unless they differ."""
    tree: dict[str, Any] = {kind: {"name": name} for kind, name in CHOICES.items()}
    for override in ("model.widths=[7,5]", "trainer.max_epochs=3", *overrides):
        key, _, text = override.partition("=")
        path = [key, "name"] if key in GROUPS else key.split(".")
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        if key in GROUPS:
            node.clear()
        node[path[-1]] = yaml.safe_load(text)
    return RunConfig.from_dict(tree)


@contextlib.contextmanager
def logging_as_before() -> Iterator[None]:
    """For a command in this process: the handlers that Hydra sets up are taken away again, their files closed."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers, root.level = handlers, level


def mean_loss(name: str, **options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of the table as torch.nn's are: (logits_BC, labels_B) -> the mean, with one member's options."""
    return lambda logits_BC, labels_B: LOSSES[name].function(logits_BC.T[None], labels_B[None], **options).mean()


def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on populations are laid out and fed as on a GPU, though their arithmetic is this CPU's."""
    monkeypatch.setattr("mlp_study.training.lockstep.on_gpu", lambda config: True)
    monkeypatch.setattr(Feed, "_on_cpu", property(lambda feed: False))


@lru_cache(maxsize=4)
def tiny_images(train: int = 230, test: int = 60, side: int = 6, classes: int = 4) -> ImageSet:
    """Noisy copies of one random image a class; of 230, 207 train: 6 minibatches of 32 and one of 15."""
    source = torch.Generator().manual_seed(0)
    centre_CI = torch.randint(0, 256, (classes, side * side), generator=source)

    def part(count: int) -> tuple[Tensor, Tensor]:
        labels_N = torch.randint(0, classes, (count,), generator=source)
        noise_NI = torch.randint(0, 160, (count, side * side), generator=source)
        return (0.5 * centre_CI[labels_N] + 0.8 * noise_NI).clamp(max=255).to(torch.uint8), labels_N

    (train_NI, train_N), (test_NI, test_N) = part(train), part(test)
    names = tuple(str(c) for c in range(classes))
    return ImageSet("digits", train_NI, train_N, test_NI, test_N, names, side, side)


def trained(*configs: RunConfig, **more: Any) -> list[MemberResult]:
    """One population on the tiny images."""
    return train_population(list(configs), images=more.pop("images", None) or tiny_images(), **more)


def numbers(result: MemberResult) -> dict[str, Any]:
    """All that a run has computed, without the clock: what equal runs share. Numbers as text: NaN equals NaN."""

    def plain(row: dict[str, float]) -> dict[str, str]:
        return {
            key: repr(value) for key, value in row.items() if key not in ("seconds", "seconds_share", "train_seconds")
        }

    return {
        "outcome": result.outcome,
        "cause": result.cause,
        "curves": [plain(row) for row in result.curves],
        "metrics": plain(result.metrics),
        "diagnostics": {when: plain(row) for when, row in result.diagnostics.items()},
        "weights": {name: repr(tensor.tolist()) for name, tensor in result.weights.items()},
    }


def column(result: MemberResult, name: str) -> list[float]:
    """One column of the curves, where it was measured."""
    return [row[name] for row in result.curves if name in row]
