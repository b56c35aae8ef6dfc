"""Train a population: configs in, one result a member out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch import Callback

from mlp_study.config.schema import RunConfig
from mlp_study.data.images import ImageSet, load
from mlp_study.errors import DataError
from mlp_study.runtime.files import make_folder
from mlp_study.training.lockstep import lockstep_data
from mlp_study.training.module import PopulationModule
from mlp_study.training.results import Listener, MemberResult
from mlp_study.training.trainer import PopulationTrainer

log = logging.getLogger(__name__)


def train_population(
    configs: Sequence[RunConfig],
    listener: Listener | None = None,
    *,
    checkpoint: Path | None = None,
    resume_from: Path | None = None,
    callbacks: Sequence[Callback] = (),
    images: ImageSet | None = None,
) -> list[MemberResult]:
    """Train all configs in lockstep and return their results, in the same order.

    Args:
        configs: members that share ``lockstep.shape_key``.
        listener: hears of every logged loss, epoch and result, with the member's number in ``configs``.
        checkpoint: where to write checkpoints; None writes none.
        resume_from: a checkpoint of these same configs to continue from.
        callbacks: further Lightning callbacks, such as a progress bar.
        images: the data set, if it is loaded already.

    Raises:
        ConfigError: the configs cannot train together, or need more memory than there is.
        DataError: the data set or the checkpoint cannot be read.
        Interrupted: a signal asked to stop; the checkpoint is written.
    """
    first, listener = configs[0], listener or Listener()
    data = lockstep_data(configs, images or load(first.data.name, first.data_root, **first.data.options))
    module = PopulationModule(data)
    trainer = PopulationTrainer(first, listener, checkpoint, callbacks)
    trainer.fit(module, datamodule=data, ckpt_path=resume_from)
    for k, result in enumerate(trainer.results):
        listener.finished(k, result)
    return trainer.results


def train_or_resume(
    configs: Sequence[RunConfig],
    listener: Listener,
    checkpoint: Path,
    *,
    callbacks: Sequence[Callback] = (),
    images: ImageSet | None = None,
) -> list[MemberResult]:
    """Train a population, from its checkpoint if there is one; a damaged checkpoint is reported and left behind.

    Args:
        configs: the members'.
        listener: see ``train_population``, also for what it raises.
        checkpoint: where the checkpoint lies while they train; it is removed at the end.
        callbacks: further Lightning callbacks.
        images: the data set, if it is loaded already.
    """
    if configs[0].trainer.checkpoint:
        make_folder(checkpoint.parent)
    for start in [checkpoint, None] if checkpoint.is_file() else [None]:
        try:
            results = train_population(
                configs, listener, checkpoint=checkpoint, resume_from=start, callbacks=callbacks, images=images
            )
            break
        except DataError as error:
            if start is None:
                raise
            log.warning("%s", error)
    checkpoint.unlink(missing_ok=True)
    return results
