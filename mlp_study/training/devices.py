"""Where a run trains, and how much a step may take there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlp_study.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from mlp_study.config.schema import RunConfig

STEP_BYTES = 2 * 2**30  # inputs and activations of one step; a larger minibatch is worked through in chunks
STEP_SHARE_GPU = 8  # on a GPU: this part of its memory


def on_gpu(config: RunConfig) -> bool:
    """Whether the run will train on a GPU."""
    import torch

    return config.trainer.accelerator in ("gpu", "cuda") or (
        config.trainer.accelerator == "auto" and torch.cuda.is_available()
    )


def check_device(config: RunConfig) -> None:
    """Check that the device that is asked for is on this machine.

    Raises:
        ConfigError: it is not.
    """
    import torch

    wanted = config.trainer.accelerator
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True, "auto": True}
    if not here.get(wanted, here["cuda"] or here["mps"]):
        found = [name for name, there in here.items() if there]
        raise ConfigError(f"trainer.accelerator={wanted} is not on this machine; it takes one of: {', '.join(found)}")


def step_bytes(device: torch.device) -> int:
    """Return how many bytes the inputs and activations of one step may take."""
    import torch

    if device.type != "cuda":
        return STEP_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory) // STEP_SHARE_GPU


@contextlib.contextmanager
def enough_memory(config: RunConfig) -> Iterator[None]:
    """Turn PyTorch's refusal of memory into an error that names the options that ask for it.

    Raises:
        ConfigError: an allocation was refused.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        refused = re.search(r"allocate ([\d.]+ \w+)", str(error))  # on CPUs and GPUs alike
        if refused is None:
            raise
        raise ConfigError(
            f"model.widths={config.model.widths} with data.batch_size={config.data.batch_size} takes more memory than "
            f"there is ({refused[1]} at once); it takes smaller layers or minibatches"
        ) from error
