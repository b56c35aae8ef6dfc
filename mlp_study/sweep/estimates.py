"""What a sweep costs in time: each run's work, the same on every machine, and about how many seconds that is here.

The work of a run is an operation count by constants that were measured on two cores of a server CPU. Shares of a sweep
are cut by it, and every process must cut them alike. The seconds are good to about a factor of two: one short matrix
product says how much faster or slower this machine is. Members that diverge or stop early are not foreseen.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlp_study.runtime.devices import on_gpu
from mlp_study.sweep import memory

if TYPE_CHECKING:
    from torch import Tensor

    from mlp_study.config.schema import RunConfig
    from mlp_study.data.images import ImageSet

FLOP_PER_SECOND = 1.5e11  # in training
BYTES_PER_SECOND = 2e10
STEP_SECONDS = 4e-4  # of Python, for all members of a population
RECORD_SECONDS = 0.006  # a run's files
TRACKING_SECONDS = 0.014  # a run's W&B, beside the training
WORKER_SECONDS = 2.5  # the start of several processes, side by side: their imports
REPORT_SECONDS = 4.0  # at the end of a sweep

PRODUCT_SIZE, PRODUCT_FLOP_PER_SECOND = 768, 2.5e11  # a square matrix product by the machine of the constants


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


def seconds(config: RunConfig, work: float, runs: int, workers: int = 1, apart: bool = False) -> float:
    """About how long it takes here.

    Args:
        config: one of the runs.
        work: of all runs.
        runs: how many they are.
        workers: populations that train at a time.
        apart: whether each of the workers has a machine or a GPU of its own; else they divide this one.
    """
    trained = work * slowness(on_gpu(config.trainer.accelerator)) / (workers if apart else 1)
    tracked = 0.0 if config.wandb.mode == "disabled" else TRACKING_SECONDS * runs
    started = WORKER_SECONDS if workers > 1 else 0.0
    return started + max(trained + RECORD_SECONDS * runs / workers, tracked / workers) + REPORT_SECONDS


def slowness(gpu: bool) -> float:
    """How many times longer this machine takes than the one that the constants are from: a matrix product, timed."""
    import torch

    device = "cuda" if gpu and torch.cuda.is_available() else "cpu"
    matrix = torch.rand(PRODUCT_SIZE, PRODUCT_SIZE, device=device)
    best = min(_product_seconds(matrix) for _ in range(5))
    return best * PRODUCT_FLOP_PER_SECOND / (2 * PRODUCT_SIZE**3)


def _product_seconds(matrix: Tensor) -> float:
    began = time.perf_counter()
    float((matrix @ matrix)[0, 0])  # a number on this side: the GPU is done
    return time.perf_counter() - began
