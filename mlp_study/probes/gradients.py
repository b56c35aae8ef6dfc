"""Weights and gradients: norms per layer, signal against noise, and the squares that adaptive optimizers divide by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from mlp_study.model.population import PopulationMLP
    from mlp_study.probes.units import Chunks, Values


@dataclass(frozen=True)
class Moments:
    """Mean, and mean square, of the gradients of ``count`` minibatches; one tensor [K, ...] a parameter."""

    mean: list[Tensor]
    square: list[Tensor]
    count: int


def gradient(mlp: PopulationMLP, x_GBI: Tensor, y_KB: Tensor) -> list[Tensor]:
    """Compute the gradient of each member's mean loss over these images, one tensor [K, ...] a parameter."""
    with torch.enable_grad():
        loss_K = mlp.loss(mlp(x_GBI), y_KB).mean(1)
        return list(torch.autograd.grad(loss_K.sum(), list(mlp.parameters()), materialize_grads=True))


def minibatches(chunks: Chunks, size: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield the chunks' images in minibatches of ``size``; drop a smaller rest at a chunk's end."""
    for x_GBI, y_KB in chunks:
        whole = max(x_GBI.shape[1] // size, 1)
        parts = zip(x_GBI.split(size, 1), y_KB.split(size, 1), strict=True)
        yield from (part for _, part in zip(range(whole), parts, strict=False))


def gradient_moments(mlp: PopulationMLP, batches: Iterable[tuple[Tensor, Tensor]]) -> Moments:
    """Compute the moments of the gradients of minibatches (x_GBI, y_KB)."""
    mean: list[Tensor] = []
    square: list[Tensor] = []
    count = 0
    for x_GBI, y_KB in batches:
        new = gradient(mlp, x_GBI, y_KB)
        count += 1
        if not mean:
            mean, square = [torch.zeros_like(g) for g in new], [torch.zeros_like(g) for g in new]
        for m, s, g in zip(mean, square, new, strict=True):
            m.add_(g)
            s.addcmul_(g, g)
    return Moments([m / count for m in mean], [s / count for s in square], count)


def _sums(tensors: Sequence[Tensor]) -> Tensor:
    """Sum each member's numbers over all tensors, [K], float64."""
    return torch.stack([t.flatten(1).sum(1, dtype=torch.float64) for t in tensors]).sum(0).cpu()


def weight_norms(mlp: PopulationMLP) -> Values:
    """Measure ``weight_norm_0``, ... of each layer's weights, and ``weight_norm`` of all of them."""
    squares = {str(layer): _sums([w.detach() ** 2]) for layer, w in enumerate(mlp.weights)}
    found = {f"weight_norm_{layer}": s_K.sqrt() for layer, s_K in squares.items()}
    return found | {"weight_norm": torch.stack(list(squares.values())).sum(0).sqrt()}


def gradient_probes(mlp: PopulationMLP, moments: Moments) -> Values:
    """Measure ``gradient_norm`` and ``gradient_snr`` of each layer's weights and of all of them.

    The ratio is |G| / sqrt(tr Sigma) with McCandlish et al. 2018's unbiased estimates (appendix A.1) from S
    minibatches: tr Sigma = S / (S - 1) (E|g|^2 - |mean|^2) and |G|^2 = |mean|^2 - tr Sigma / S, not below 0. NaN for a
    single minibatch.
    """
    names = [name for name, _ in mlp.named_parameters()]
    groups = {f"_{layer}": [names.index(f"weights.{layer}")] for layer in range(len(mlp.weights))}
    found: Values = {}
    for suffix, which in {**groups, "": [i for indices in groups.values() for i in indices]}.items():
        mean2_K = _sums([moments.mean[i] ** 2 for i in which])
        square_K = _sums([moments.square[i] for i in which])
        found[f"gradient_norm{suffix}"] = mean2_K.sqrt()
        S = moments.count
        noise_K = (square_K - mean2_K).clamp(min=0) * S / (S - 1) if S > 1 else torch.full_like(mean2_K, torch.nan)
        found[f"gradient_snr{suffix}"] = ((mean2_K - noise_K / S).clamp(min=0) / noise_K).sqrt()
    return found


def update_ratios(mlp: PopulationMLP, before: Sequence[Tensor]) -> Values:
    """Measure ``update_ratio`` of each layer's weights and of all: |w - before| / |before|.

    Args:
        mlp: the population after the update.
        before: its weights before, one tensor [K, O, I] a layer.
    """
    moves = [_sums([(w.detach() - old) ** 2]) for w, old in zip(mlp.weights, before, strict=True)]
    norms = [_sums([old**2]) for old in before]
    found = {f"update_ratio_{i}": (m / n).sqrt() for i, (m, n) in enumerate(zip(moves, norms, strict=True))}
    return found | {"update_ratio": (torch.stack(moves).sum(0) / torch.stack(norms).sum(0)).sqrt()}
