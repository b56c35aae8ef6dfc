"""Devices: which one trains, how much memory a step may take there, and how the CPU computes meanwhile."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mlp_study.errors import ConfigError
from mlp_study.runtime.host_memory import freed_memory_kept

if TYPE_CHECKING:
    import torch

STEP_BYTES = 2 * 2**30  # inputs and activations of one step; a larger minibatch is worked through in chunks
STEP_SHARE_GPU = 8  # on a GPU: this part of its memory


def on_gpu(accelerator: str) -> bool:
    """Whether ``trainer.accelerator`` means a GPU on this machine."""
    import torch

    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())


def check_device(accelerator: str) -> None:
    """Check that the device that ``trainer.accelerator`` asks for is on this machine.

    Raises:
        ConfigError: it is not.
    """
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True, "auto": True}
    if not here.get(accelerator, here["cuda"] or here["mps"]):
        found = [name for name, there in here.items() if there]
        raise ConfigError(
            f"trainer.accelerator={accelerator} is not on this machine; it takes one of: {', '.join(found)}"
        )


def step_bytes(device: torch.device) -> int:
    """Return how many bytes the inputs and activations of one step may take."""
    import torch

    if device.type != "cuda":
        return STEP_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory) // STEP_SHARE_GPU


@contextlib.contextmanager
def enough_memory(widths: Sequence[int], batch_size: int | str) -> Iterator[None]:
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
            f"model.widths={widths} with data.batch_size={batch_size} takes more memory than there is "
            f"({refused[1]} at once); it takes smaller layers or minibatches"
        ) from error


@contextlib.contextmanager
def arithmetic(threads: int | None) -> Iterator[None]:
    """Set the CPU's threads and allocator, and flush denormal numbers, which slow saturated networks.

    Only while training: the caller's own process may count on its own choices.

    Args:
        threads: how many; None leaves them.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    torch.set_flush_denormal(True)
    try:
        with freed_memory_kept():
            yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
