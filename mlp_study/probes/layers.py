"""What whole layers do on the data: effective rank of their activations, and linear pieces between images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlp_study.factors.activations import Activation
from mlp_study.probes.units import Chunks, Values, rules

if TYPE_CHECKING:
    from mlp_study.model.population import PopulationMLP

PATHS, POINTS = 16, 512  # straight paths between images, and points on each
SAME_SLOPE = 1e-6


@torch.no_grad()
def effective_rank(mlp: PopulationMLP, chunks: Chunks) -> Values:
    """Measure ``effective_rank_0``, ...: exp of the entropy of the singular values of a hidden layer's activations.

    Roy & Vetterli 2007, definition 1, of the matrix [O, N] as it is (not centred); from 1 to min(O, N). A layer whose
    activations are all zero has rank 0.
    """
    gram: list[Tensor] = []
    for x_GBI, _ in chunks:
        for layer, (_, a_KOB) in enumerate(mlp.layerwise(x_GBI)):
            if layer < mlp.hidden:
                part_KOO = a_KOB.double() @ a_KOB.double().transpose(1, 2)
                gram = (
                    [*gram, part_KOO]
                    if len(gram) == layer
                    else [*gram[:layer], gram[layer] + part_KOO, *gram[layer + 1 :]]
                )
    found = {}
    for layer, gram_KOO in enumerate(gram):
        finite_K = gram_KOO.isfinite().all(2).all(1)
        values_KO = torch.linalg.eigvalsh(torch.where(finite_K[:, None, None], gram_KOO, 0)).clamp(min=0).sqrt()
        share_KO = values_KO / values_KO.sum(1, keepdim=True).clamp(min=1e-300)
        entropy_K = -torch.xlogy(share_KO, share_KO).sum(1)
        rank_K = torch.where(values_KO.amax(1) > 0, entropy_K.exp(), 0.0)
        found[f"effective_rank_{layer}"] = torch.where(finite_K, rank_K, torch.nan).cpu()
    return found


def is_piecewise_linear(entry: Activation) -> bool:
    """Whether the activation's slope takes only a few values between -10 and 10."""
    options = {name: option.default for name, option in entry.options.items()}
    return len(_slopes(entry.function, torch.linspace(-10, 10, 4001), options).unique()) <= 8


def _slopes(function: Callable[..., Tensor], z: Tensor, options: dict[str, Any]) -> Tensor:
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        [slope] = torch.autograd.grad(function(z, **options).sum(), z)
    return slope.detach()


def regions(mlp: PopulationMLP, chunks: Chunks, paths: int = PATHS, points: int = POINTS) -> Values:
    """Measure ``regions``: linear pieces along the straight path from one image to the next, mean over paths.

    The number of changes, plus one, of the units' slopes between ``points`` equidistant points (Hanin & Rolnick 2019
    count the same for ReLU): a lower bound, since two changes between neighbouring points count as one. NaN for
    activations that are not piecewise linear.
    """
    x_GBI = next(iter(chunks))[0][:, : paths + 1]
    at_T = torch.linspace(0, 1, points, dtype=x_GBI.dtype, device=x_GBI.device)
    path_GPTI = torch.lerp(x_GBI[:, :-1, None], x_GBI[:, 1:, None], at_T[:, None])
    P = path_GPTI.shape[1]
    changed_KPT = torch.zeros(mlp.K, P, points - 1, dtype=torch.bool, device=x_GBI.device)
    bent_K = torch.zeros(mlp.K, dtype=torch.bool)
    with torch.no_grad():
        for layer, (z_KOB, _) in enumerate(mlp.layerwise(path_GPTI.flatten(1, 2))):
            for members, entry, options in rules(mlp, layer) if layer < mlp.hidden else ():
                bent_K[members] |= not is_piecewise_linear(entry)
                slope_mOPT = _slopes(entry.function, z_KOB[members], options).unflatten(2, (P, points))
                changed_KPT[members] |= (slope_mOPT.diff(dim=3).abs() > SAME_SLOPE).any(1)
    count_K = 1 + changed_KPT.sum(2).double().mean(1).cpu()
    return {"regions": torch.where(bent_K, torch.nan, count_K)}
