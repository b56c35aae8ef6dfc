"""What memory a population takes, estimated on the safe side before it is trained, and how many members fit."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from mlp_study.factors.optimizers import OPTIMIZERS
from mlp_study.runtime import host_memory
from mlp_study.runtime.devices import on_gpu

if TYPE_CHECKING:
    from mlp_study.config.schema import RunConfig
    from mlp_study.data.images import ImageSet

GB = 2**30
CPU_MEMBERS = 256  # beyond it a CPU gains no speed, and an interruption loses more
CPU_BYTES = 24 * 2**20  # weights, gradients and optimizer state that a CPU's caches hold from one step to the next
GPU_MEMBERS = 4096
SHARE = 0.5  # of what is free


def parameters(config: RunConfig, images: ImageSet) -> int:
    """Weights and biases of one member."""
    sizes = [images.height * images.width, *config.model.widths, len(images.classes)]
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in itertools.pairwise(sizes))


def member_bytes(config: RunConfig, images: ImageSet, batch: int) -> int:
    """Memory that one more member takes.

    Its weights, gradients, optimizer state, one temporary and the copy for its record; the activations of a step with
    their gradients; its own scaled minibatches of a block, as if it shared its input stream with nobody.
    """
    itemsize = _itemsize(config)
    weights = parameters(config, images) * (4 + len(OPTIMIZERS[config.optimizer.name].state))
    units = sum(config.model.widths) + len(images.classes)
    activations = min(batch, 10_000) * (3 * units + 2 * images.height * images.width)
    curves = 400 * config.trainer.max_epochs
    return itemsize * (weights + activations) + curves


def updated_bytes(config: RunConfig, images: ImageSet) -> int:
    """What an update of one member reads and writes: weights, gradients, optimizer state."""
    arrays = 2 + len(OPTIMIZERS[config.optimizer.name].state)
    return _itemsize(config) * arrays * parameters(config, images)


def _itemsize(config: RunConfig) -> int:
    return 8 if config.trainer.precision == "64" else 4


def free_bytes(config: RunConfig) -> int:
    """Memory that is free now where the run will train: the GPU's, or this machine's within its control group."""
    import torch

    if on_gpu(config.trainer.accelerator) and torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return host_memory.free_bytes()


def limit_bytes(config: RunConfig, workers: int = 1) -> int:
    """Memory that one population may take: ``max_memory``, or half of what is free, divided by the processes."""
    wanted = config.max_memory
    return int(wanted * GB if wanted is not None else free_bytes(config) * SHARE) // workers


def largest(config: RunConfig, member: int, updated: int, limit: int) -> int:
    """Members that a population may have, at least one.

    Args:
        config: one of them; members of one shape cost the same but for their optimizers' states.
        member: bytes that each takes.
        updated: bytes that each update of one of them reads and writes.
        limit: bytes that all may take.
    """
    most = GPU_MEMBERS if on_gpu(config.trainer.accelerator) else cpu_members(updated)
    return max(1, min(config.max_members or most, limit // max(1, member)))


def cpu_members(updated: int) -> int:
    """Members that a CPU trains fastest together, from the bytes that an update of one reads and writes."""
    return max(1, min(CPU_MEMBERS, CPU_BYTES // updated))
