"""Train and record a population, from its checkpoint if there is one: alone, in a sweep, in a reproduction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlp_study.errors import DataError
from mlp_study.runtime.files import make_folder
from mlp_study.training.population import train_population

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from mlp_study.config.schema import RunConfig
    from mlp_study.data.images import ImageSet
    from mlp_study.records.recorder import Recorder
    from mlp_study.training.results import MemberResult

log = logging.getLogger(__name__)


def train_and_record(
    configs: Sequence[RunConfig],
    recorder: Recorder,
    checkpoint: Path,
    *,
    resume: bool | None = None,
    callbacks: Sequence[Callback] = (),
    images: ImageSet | None = None,
) -> list[MemberResult]:
    """Train all configs in lockstep within ``recorder``; see ``train_population``.

    Args:
        configs: the members'.
        recorder: of the members.
        checkpoint: where it lies while they train; it is removed at the end.
        resume: whether they go on from a checkpoint that is there; None: unless it is damaged, which is then reported.
        callbacks: further Lightning callbacks, such as a progress bar.
        images: the data set, if it is loaded already.

    Raises:
        DataError: the data cannot be read; or the checkpoint, with ``resume=True``.
        WriteError: the disk is full or read-only.
        Interrupted: a signal asked to stop; the checkpoint is written.
    """
    keep = configs[0].trainer.checkpoint
    if keep:
        make_folder(checkpoint.parent)
    with recorder:
        for start in [checkpoint, None] if resume is not False and checkpoint.is_file() else [None]:
            try:
                results = train_population(
                    configs,
                    recorder,
                    checkpoint=checkpoint if keep else None,
                    resume_from=start,
                    callbacks=callbacks,
                    images=images,
                )
                break
            except DataError as error:
                if start is None or resume:
                    raise
                log.warning("%s", error)
                checkpoint.unlink(missing_ok=True)
    checkpoint.unlink(missing_ok=True)
    return results
