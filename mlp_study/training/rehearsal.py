"""How long a population will take here: a few of its own steps, evaluations and looks, timed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from mlp_study.config.schema import RunConfig
from mlp_study.training.devices import on_gpu
from mlp_study.training.feed import Block
from mlp_study.training.lockstep import lockstep_data
from mlp_study.training.module import PopulationModule
from mlp_study.training.probing import measured, union
from mlp_study.training.trainer import arithmetic

if TYPE_CHECKING:
    from mlp_study.data.images import ImageSet

SECONDS = 0.2  # of timed steps
EVALUATED = 1_000  # images, with these probes look at
EPOCH_SECONDS = 0.006  # the Trainer's own: its loops and callbacks


def rehearsed_seconds(configs: Sequence[RunConfig], images: ImageSet) -> float:
    """Seconds that ``train_population(configs)`` will take on this machine, as busy as it is now; nothing is kept.

    Left out is what follows from the training itself: members that end early, and what a listener does.

    Raises:
        ConfigError: the configs cannot train together.
    """
    began = time.perf_counter()
    module = PopulationModule(lockstep_data(configs, images))
    trainer = configs[0].trainer
    if on_gpu(configs[0]) and torch.cuda.is_available():
        module.to("cuda")
    with arithmetic(module):
        module.on_train_start()
        module.on_train_epoch_start()
        build = time.perf_counter() - began
        step = _step_seconds(module)
        evaluation = _evaluation_seconds(module)
        probes = _probe_seconds(module)
    return build + trainer.max_epochs * (module.feed.sizes.steps * step + EPOCH_SECONDS) + evaluation + probes


def _timed(module: PopulationModule, act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    if module.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _step_seconds(module: PopulationModule) -> float:
    """Of one training step within a block, after two that warm up."""
    block = next(iter(module.feed.train_blocks(1)))

    def seconds(steps: int) -> float:
        part = Block(block.split, block.index_RSB[:, :steps])
        return _timed(module, lambda: module.training_step(part, 0)) / part.index_RSB.shape[1]

    seconds(2)
    return seconds(max(1, int(SECONDS / seconds(2))))


def _evaluation_seconds(module: PopulationModule) -> float:
    """Of all validations and the test."""
    module.on_validation_epoch_start()
    module.mlp.eval()
    blocks = {part: module.feed.evaluation_blocks(part, max(module.mlp.sizes[1:])) for part in ("val", "test")}
    some = blocks["val"][0]
    few = Block(some.split, some.index_RSB[:, :, :EVALUATED])
    with torch.no_grad():
        module.validation_step(few, 0)
        image = _timed(module, lambda: module.validation_step(few, 0)) / few.index_RSB.shape[2]
    counts = {part: sum(block.index_RSB.shape[2] for block in chunks) for part, chunks in blocks.items()}
    trainer = module.configs[0].trainer
    return image * (trainer.max_epochs // trainer.validate_every * counts["val"] + counts["test"])


def _probe_seconds(module: PopulationModule) -> float:
    """Of the looks at both ends, at all training images, and of those at epochs' ends, at ``probes.images``."""
    first, size = module.configs[0].probes, module.feed.sizes.train
    looked_at = {"ends": 2 * size, "epochs": module.configs[0].trainer.max_epochs // first.every * first.images}
    total = 0.0
    for which, images in looked_at.items():
        if names := union(module, which):
            few = min(EVALUATED, size)
            look = _timed(module, partial(measured, module.mlp, module.feed, names, few))
            total += look * images / few
    return total
