"""Where a run trains, and how much a step may take there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from mlp_study.config import RunConfig

STEP_BYTES = 2 * 2**30  # inputs and activations of one step; a larger minibatch is worked through in chunks
STEP_SHARE_GPU = 8  # on a GPU: this part of its memory


def on_gpu(config: RunConfig) -> bool:
    """Whether the run will train on a GPU."""
    import torch

    return config.trainer.accelerator in ("gpu", "cuda") or (
        config.trainer.accelerator == "auto" and torch.cuda.is_available()
    )


def step_bytes(device: torch.device) -> int:
    """Bytes that the inputs and activations of one step may take."""
    import torch

    if device.type != "cuda":
        return STEP_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory) // STEP_SHARE_GPU
