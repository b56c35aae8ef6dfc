"""Look-ahead: the first hundred steps or so on a fresh copy, through the training code itself, watched by cheap probes.

The stability index is a statement about the first step only: tanh on raw pixels starts at index 10 and still trains,
because it saturates, and flattens, within a few steps. What a network becomes in its first steps decides more than
what it is at first.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch

from mlp_study.config.schema import RunConfig
from mlp_study.doctor.forecast import FARTHEST, Glimpse
from mlp_study.factors.losses import LOSSES
from mlp_study.runtime.devices import enough_memory
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.feed import Block
from mlp_study.training.module import PopulationModule
from mlp_study.training.probing import measured, row_of

if TYPE_CHECKING:
    from mlp_study.data.images import ImageSet

STEPS, MOST = 128, 2000  # a look-ahead; one at a training that is very long
WATCHED = ("dead", "saturated", "plateau", "update_ratio")
INITIAL = (
    "preactivation",
    "sparsity",
    "dead",
    "always_on",
    "saturated",
    "missed",
    "plateau",
    "gradient_norm",
    "gradient_snr",
    "sharpness",
)


def far_enough(total_steps: int) -> int:
    """Steps to look ahead: ``STEPS``, or more where a training is longer than the forecast knows (``FARTHEST``)."""
    return max(STEPS, min(math.ceil(total_steps / math.exp(FARTHEST)), MOST))


def milestones(steps: int) -> list[int]:
    """The steps at which the look-ahead looks: 1, 2, 3, 4, 6, 8, 12, 16, 24, ... and the last."""
    some = {a * 2**i for i in range(steps.bit_length()) for a in (1, 1.5)}
    return sorted({int(step) for step in some if 1 <= step <= steps and step == int(step)} | {steps})


def look_ahead(
    configs: Sequence[RunConfig],
    images: ImageSet,
    steps: int | None = None,
    *,
    initial: Collection[str] = INITIAL,
    seen: int = 256,
    whole: bool = False,
) -> list[Glimpse]:
    """Train the first ``steps`` steps of all configs in lockstep, and forget the weights.

    Args:
        configs: members of one population, those of one input stream next to each other (``lockstep_order``).
        images: their data set.
        steps: how far to look, not further than the training itself; ``far_enough`` if None.
        initial: diagnostics to measure before the first step.
        seen: training images that the probes look at.
        whole: initial unit diagnostics on the whole training split.

    Raises:
        ConfigError: the networks find no memory.
    """
    with enough_memory(configs[0].model.widths, configs[0].data.batch_size):
        module = PopulationModule(PopulationData(configs, images))
        return watch(module, steps, initial=initial, seen=seen, whole=whole)


def watch(
    module: PopulationModule,
    steps: int | None,
    *,
    initial: Collection[str] = INITIAL,
    seen: int = 256,
    whole: bool = False,
) -> list[Glimpse]:
    """``look_ahead`` with a population that has been made already and has not been trained."""
    steps = min(far_enough(module.total_steps) if steps is None else steps, module.total_steps)
    classes = module.mlp.sizes[-1]
    found = [
        Glimpse(
            total_steps=module.total_steps,
            classes=classes,
            chance_loss=LOSSES[config.loss.name].chance_loss(classes, **config.loss.options),
            clips=LOSSES[config.loss.name].plateau(**config.loss.options) is not None,
        )
        for config in module.configs
    ]
    module.on_train_start()
    module.on_train_epoch_start()
    first = measured(module.mlp, module.feed, initial, seen, whole=whole)
    for k, glimpse in enumerate(found):
        glimpse.initial = row_of(first, k, initial)
    _look(module, found, 0, seen)
    due = set(milestones(steps))

    def after_step(module: PopulationModule) -> None:
        if module.updates.step_count in due:
            _look(module, found, module.updates.step_count, seen)

    module.after_step = after_step
    epoch = 0
    while module.updates.step_count < steps and module.active_places():
        epoch += 1
        for block in module.feed.train_blocks(epoch):
            left = steps - module.updates.step_count
            if left <= 0:
                break
            module.training_step(Block(block.split, block.index_RSB[:, :left], block.first_step), 0)
            _note_losses(module, found)
    for k, ended in module.ended.items():
        found[k].diverged = ended.cause
    return found


def _note_losses(module: PopulationModule, found: Sequence[Glimpse]) -> None:
    assert module.block_losses_SK is not None
    for k, losses in enumerate(module.block_losses_SK.T.tolist()):
        found[k].losses += losses


@torch.no_grad()
def _look(module: PopulationModule, found: Sequence[Glimpse], step: int, seen: int) -> None:
    """One row for every member that has not diverged."""
    values = measured(module.mlp, module.feed, WATCHED, seen, updates=module.updates)
    for k in module.active_places():
        loss, accuracy = float(values["loss"][k]), float(values["accuracy"][k])
        found[k].rows.append({"step": step, "loss": loss, "accuracy": accuracy, **row_of(values, k, WATCHED)})
