"""What a sweep costs in time: each run's share of the work, the same on every machine, and the seconds on this one.

``work`` follows from a config alone: shares of a sweep are cut by it, and every process must cut them alike. Seconds
come from rehearsing populations of the plan here, a few steps each; what is not rehearsed is taken in proportion to its
work. Left out is what only training shows: members that diverge or stop early.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlp_study.errors import StudyError
from mlp_study.sweep import memory

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig
    from mlp_study.data.images import ImageSet

log = logging.getLogger(__name__)

# On two cores of a server CPU. A plan's seconds are rehearsed; these give its parts' proportions, and the order of
# magnitude that decides whether several processes, or a rehearsal, pay.
FLOP_PER_SECOND = 1.5e11
BYTES_PER_SECOND = 2e10
STEP_SECONDS = 4e-4  # of Python, for all members of a population
RECORD_SECONDS = 0.006  # a run's files
TRACKING_SECONDS = 0.014  # a run's W&B, in another process, beside the training
WORKER_SECONDS = 2.5  # the start of several processes, side by side: their imports
REPORT_SECONDS = 4.0  # at the end of a sweep

REHEARSAL_SECONDS = 10.0  # after which no further population is rehearsed
LEAST_REHEARSAL = 0.5  # less is not worth beginning


def work(config: RunConfig, images: ImageSet, steps: int, train_size: int, val_size: int) -> float:
    """A run's own share of the time, in seconds on the machine that the constants are from.

    Forward and backward on the training images, forward on the validation images; updates; Python, divided by as many
    members as a population may have.
    """
    trainer = config.trainer
    checked = val_size * (trainer.max_epochs // trainer.validate_every)
    flop = 2.0 * memory.parameters(config, images) * (3 * train_size * trainer.max_epochs + checked)
    updated = memory.updated_bytes(config, images)
    company = config.max_members or memory.cpu_members(updated)
    return flop / FLOP_PER_SECOND + steps * (updated / BYTES_PER_SECOND + STEP_SECONDS / company)


@dataclass(frozen=True)
class Part:
    """Populations that cost the same.

    Attributes:
        configs: the members of one of them.
        images: their data set.
        work: of one of them.
        count: how many they are.
    """

    configs: Sequence[RunConfig]
    images: ImageSet
    work: float
    count: int = 1


def seconds(
    parts: Sequence[Part], workers: int = 1, rehearsal: float | None = None, threads: int | None = None
) -> float:
    """The time that they take here.

    Args:
        parts: what there is to train.
        workers: populations that train at a time.
        rehearsal: seconds after which no further rehearsal begins; None: a fiftieth of the work, for a sweep that
            is about to begin anyway.
        threads: of each worker; None: this process's.
    """
    total = sum(part.work * part.count for part in parts)
    budget = min(REHEARSAL_SECONDS, total / 50) if rehearsal is None else rehearsal
    began, trained, known = time.perf_counter(), 0.0, 0.0
    kinds: dict[object, list[Part]] = {}
    for part in parts:
        kinds.setdefault(_kind(part), []).append(part)
    for alike in sorted(kinds.values(), key=lambda alike: -sum(part.work * part.count for part in alike)):
        if budget < LEAST_REHEARSAL or time.perf_counter() - began > budget:
            break
        if (once := _rehearsed(alike[0], threads)) is not None:
            known += (all_of_them := sum(part.work * part.count for part in alike))
            trained += once * all_of_them / alike[0].work
    trained = trained * total / known if known else total
    runs = sum(len(part.configs) * part.count for part in parts)
    tracking = 0.0 if parts[0].configs[0].wandb.mode == "disabled" else TRACKING_SECONDS * runs
    started = WORKER_SECONDS if workers > 1 else 0.0
    return started + max(trained + RECORD_SECONDS * runs, tracking) / workers + REPORT_SECONDS


def _kind(part: Part) -> object:
    """Equal for populations that take about equally long."""
    from mlp_study.training.lockstep import shape_key

    mixture = Counter((c.activation.name, c.loss.name, c.optimizer.name, c.data.scale) for c in part.configs)
    return shape_key(part.configs[0]), frozenset(mixture.items())


def _rehearsed(part: Part, threads: int | None) -> float | None:
    """Seconds of one of them; None if this machine cannot train it, which is for the training to say."""
    import torch

    from mlp_study.training.rehearsal import rehearsed_seconds

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return rehearsed_seconds(part.configs, part.images)
    except (StudyError, RuntimeError, MemoryError) as error:
        log.debug("no rehearsal: %s", error)
        return None
    finally:
        torch.set_num_threads(before)
