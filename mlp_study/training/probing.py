"""Probes along a run, into each member's record: at initialisation, after listed steps, at epochs' ends, at the end."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from mlp_study.factors.diagnostics import DIAGNOSTICS, diagnostic_of
from mlp_study.model.population import PopulationMLP
from mlp_study.probes.gradients import (
    gradient,
    gradient_moments,
    gradient_probes,
    minibatches,
    update_ratios,
    weight_norms,
)
from mlp_study.probes.layers import effective_rank, regions
from mlp_study.probes.losses import loss_probes
from mlp_study.probes.sharpness import sharpness_probes
from mlp_study.probes.units import UNIT_PROBES, Values, unit_probes
from mlp_study.training.feed import Block, Feed
from mlp_study.training.module import PopulationModule
from mlp_study.training.results import Metrics
from mlp_study.training.updates import Updates

Chunk = tuple[Tensor, Tensor]  # (x_GBI, y_KB)

CACHE_BYTES = 4 * 2**20  # of inputs and pre-activations at a time, on a CPU: each is read several times
FEWEST = 500  # images at a time all the same: with fewer the products lose what the caches give


def chunks(feed: Feed, mlp: PopulationMLP, images: int | None = None) -> Iterator[Chunk]:
    """Yield (x_GBI, y_KB) of the training split: all of it, or each stream's first ``images``.

    All of it comes in pieces that a CPU's caches hold, but for batch normalization, whose statistics need large ones.
    """
    left = feed.sizes.train if images is None else min(images, feed.sizes.train)
    by_chunk = mlp.training and mlp.norm == "batch"
    divided = images is None and mlp.weights[0].device.type == "cpu" and not by_chunk
    inputs, units = len(feed.per_stream) * mlp.sizes[0], mlp.K * max(mlp.sizes[1:])
    cached = max(FEWEST, CACHE_BYTES // (mlp.weights[0].element_size() * (inputs + units)))
    for block in feed.evaluation_blocks("train", max(mlp.sizes[1:])):
        whole_RSB = block.index_RSB[:, :, :left]
        left -= whole_RSB.shape[2]
        for index_RSB in whole_RSB.split(cached if divided else whole_RSB.shape[2], dim=2):
            part = Block(block.split, index_RSB)
            yield feed.inputs(part, mlp.weights[0].dtype)[:, 0], feed.targets(part)[:, 0]
        if not left:
            return


@contextlib.contextmanager
def observed(mlp: PopulationMLP) -> Iterator[PopulationMLP]:
    """Set ``mlp`` to the function that is trained, for looking at it; restore it afterwards.

    Batch normalization goes by each chunk's own statistics, as in training. By its running ones it is another function,
    at first an arbitrary one, whose sharpness may be ten times as large.
    """
    before, buffers = mlp.training, {name: b.clone() for name, b in mlp.named_buffers()}
    mlp.train()
    try:
        yield mlp
    finally:
        mlp.train(before)
        for name, b in mlp.named_buffers():
            b.copy_(buffers[name])


def measured(
    mlp: PopulationMLP,
    feed: Feed,
    names: Collection[str],
    images: int,
    *,
    whole: bool = False,
    updates: Updates | None = None,
    square: Sequence[Tensor] | None = None,
) -> Values:
    """Measure the named diagnostics of every member.

    Args:
        mlp: the population.
        feed: its input streams, on its device.
        names: of ``DIAGNOSTICS``.
        images: how many training images are looked at, the first of each stream.
        whole: units are looked at on the whole training split all the same.
        updates: the optimizers as they stand, for ``update_ratio``, which is left out without them.
        square: second moments that adaptive optimizers have kept, one tensor [K, ...] a parameter, NaN for a member
            without; then, or without any, those of the gradient on these images count.
    """
    units = [name for name in names if name in UNIT_PROBES]
    found: Values = {}
    with observed(mlp):
        if units:
            found |= unit_probes(mlp, chunks(feed, mlp, None if whole else images), units)
        if "weight_norm" in names:
            found |= weight_norms(mlp)
        if any(DIAGNOSTICS[name].family == "images" for name in names):
            found |= _on_images(mlp, list(chunks(feed, mlp, images)), feed.sizes.batch, names, updates, square)
    return {name: v_K for name, v_K in found.items() if diagnostic_of(name) in (*names, "loss", "accuracy")}


def _on_images(
    mlp: PopulationMLP,
    pieces: list[Chunk],
    batch_size: int,
    names: Collection[str],
    updates: Updates | None,
    square: Sequence[Tensor] | None,
) -> Values:
    """Measure the diagnostics of the family ``images``."""
    found: Values = {}
    if "plateau" in names:
        found |= loss_probes(mlp, pieces)
    if "effective_rank" in names:
        found |= effective_rank(mlp, pieces)
    if "regions" in names:
        found |= regions(mlp, pieces)
    if {"gradient_norm", "gradient_snr", "sharpness"} & set(names):
        moments = gradient_moments(mlp, minibatches(pieces, batch_size))
        found |= gradient_probes(mlp, moments)
        if "sharpness" in names:
            kept = moments.square if square is None else square
            of_both = [torch.where(k.isnan(), s, k) for k, s in zip(kept, moments.square, strict=True)]
            found |= sharpness_probes(mlp, pieces, of_both)
    if "update_ratio" in names and updates is not None:
        found |= _next_update(mlp, next(iter(minibatches(pieces, batch_size))), updates)
    return found


def _next_update(mlp: PopulationMLP, batch: Chunk, updates: Updates) -> Values:
    """Measure how far the next update from this minibatch would move the weights, on a copy."""
    everyone = range(mlp.K)
    copy = mlp.select(everyone, mlp.per_stream)
    trial = Updates(copy, updates.total_steps)
    trial.take(updates, everyone)
    trial.prepare(1)
    trial.step(gradient(copy, *batch))
    return update_ratios(copy, [w.detach() for w in mlp.weights])


def row_of(values: Values, k: int, names: Collection[str]) -> Metrics:
    """Return member k's values of the named diagnostics, without those that do not apply."""
    found = {name: float(v_K[k]) for name, v_K in values.items() if diagnostic_of(name) in names}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def union(module: PopulationModule, which: str) -> list[str]:
    """Return the diagnostics that any member asks for in ``probes.<which>``."""
    return list(dict.fromkeys(name for c in module.configs for name in getattr(c.probes, which)))


def measure_ends(module: PopulationModule, mlp: PopulationMLP, feed: Feed) -> list[Metrics]:
    """Measure ``probes.ends`` for each member of ``mlp``, diagnostics of units on the whole training split."""
    names = union(module, "ends")
    values = measured(
        mlp,
        feed,
        names,
        module.configs[0].probes.images,
        whole=True,
        updates=module.updates if mlp is module.mlp else None,
        square=_kept_squares(module, mlp) if module.updates.step_count and "sharpness" in names else None,
    )
    return [row_of(values, k, config.probes.ends) for k, config in enumerate(mlp.configs)]


def _kept_squares(module: PopulationModule, mlp: PopulationMLP) -> list[Tensor]:
    """Return the live members' second moments in their places in ``mlp``; NaN for members that have ended."""
    squares = module.updates.squares()
    if mlp is module.mlp:
        return squares
    everyone = [torch.full_like(p, math.nan) for p in mlp.parameters()]
    for place in module.active_places():
        for whole, live in zip(everyone, squares, strict=True):
            whole[module.live[place]] = live[place]
    return everyone


class Probing(Callback):
    """Measure diagnostics into ``module.diagnostics`` and into the epoch's rows of ``module.curves``."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Measure the initial network, before the first step."""
        module: PopulationModule = pl_module
        module.after_step = self._after_step if union(module, "steps") else None
        if module.updates.step_count == 0 and union(module, "ends"):
            self._keep(module, "initial")

    def _after_step(self, module: PopulationModule) -> None:
        """Measure ``probes.ends`` after the listed steps."""
        step = module.updates.step_count
        if any(step in c.probes.steps for c in module.mlp.configs):
            self._keep(module, f"step_{step}")

    @torch.no_grad()
    def _keep(self, module: PopulationModule, when: str) -> None:
        rows = measure_ends(module, module.mlp, module.feed)
        for place in module.active_places():
            k = module.live[place]
            if when == "initial" or int(when.removeprefix("step_")) in module.configs[k].probes.steps:
                module.diagnostics[k][when] = rows[place]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Measure ``probes.epochs`` on ``probes.images`` of the training images, into the row that was just written."""
        module: PopulationModule = pl_module
        first, names = module.configs[0].probes, union(module, "epochs")
        if not names or module.epochs_done % first.every:
            return
        square = _kept_squares(module, module.mlp) if "sharpness" in names else None  # as large as the weights
        values = measured(module.mlp, module.feed, names, first.images, updates=module.updates, square=square)
        for place in module.active_places():
            k = module.live[place]
            module.curves[k][-1] |= row_of(values, place, module.configs[k].probes.epochs)
