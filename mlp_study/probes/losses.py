"""What the loss sends back: loss, accuracy, and the images on a plateau."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from mlp_study.model.population import PopulationMLP
    from mlp_study.probes.units import Chunks, Values

NO_GRADIENT = 1e-3
"""A gradient at the logits of at most this norm counts as none. Cross-entropy's is at least 0.7 on an image that is
classified wrongly, mean squared error's about 0.05 between two classes; a clipped probability's is exactly 0."""


@torch.no_grad()
def loss_probes(mlp: PopulationMLP, chunks: Chunks) -> Values:
    """Measure ``loss``, ``accuracy`` and ``plateau`` (images that are wrong and get no gradient), each [K]."""
    sums_3K = torch.zeros(3, mlp.K, dtype=torch.float64)
    seen = 0
    for x_GBI, y_KB in chunks:
        logits_KCB = mlp(x_GBI)
        loss_KB, slope_KCB = mlp.loss_with_slope(logits_KCB, y_KB)
        right_KB = logits_KCB.argmax(1) == y_KB
        stuck_KB = ~right_KB & (torch.linalg.vector_norm(slope_KCB, dim=1) <= NO_GRADIENT)
        sums_3K += torch.stack([part_KB.double().sum(1).cpu() for part_KB in (loss_KB, right_KB, stuck_KB)])
        seen += y_KB.shape[1]
    return dict(zip(("loss", "accuracy", "plateau"), sums_3K / seen, strict=True))
