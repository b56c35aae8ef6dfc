"""Sharpness: the largest eigenvalue of each member's Hessian, by Lanczos on products of all members at once.

A step of gradient descent overshoots along an eigenvector whose eigenvalue exceeds 2 / lr (Cohen et al. 2021, arXiv
2103.00065); an adaptive optimizer divides by D = sqrt(v) + eps, so the eigenvalues of D^-1/2 H D^-1/2 count for it
(Cohen et al. 2022, arXiv 2207.14484, section 2). Which limit holds is the optimizer table's ``threshold``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlp_study.factors.optimizers import OPTIMIZERS
from mlp_study.model.member_groups import member_groups
from mlp_study.runtime.randomness import generator

if TYPE_CHECKING:
    from mlp_study.config.schema import Choice
    from mlp_study.model.population import PopulationMLP
    from mlp_study.probes.units import Chunks, Values

ITERATIONS = 30
TOLERANCE = 1e-3  # relative change of the largest Ritz value over CHECK iterations at which Lanczos stops
CHECK = 5
LANCZOS_BYTES = 2**29  # of Krylov vectors and of the gradient's graph; more members are taken in parts
EXHAUSTED = 1e-6  # a residual this small against the largest seen: the Krylov space holds the whole answer


class Hessian:
    """Products of every member's Hessian with a vector of its own; the graph of the gradient is built once.

    Args:
        mlp: the population.
        chunks: the images (x_GBI, y_KB) whose mean loss is meant; all of them are held in memory.
        scale_KP: D^-1/2 of a preconditioner, or None.
    """

    def __init__(self, mlp: PopulationMLP, chunks: Chunks, scale_KP: Tensor | None = None) -> None:
        self.parameters, self.scale_KP = list(mlp.parameters()), scale_KP
        penalties = [_penalty(c.optimizer, scaled=scale_KP is not None) for c in mlp.configs]
        self.l2_K1 = torch.tensor(penalties).view(-1, 1)
        self.l2_K1 = self.l2_K1.to(self.parameters[0])
        pieces = list(chunks)
        images = sum(y_KB.shape[1] for _, y_KB in pieces)
        self.gradients = []
        with torch.enable_grad():
            for x_GBI, y_KB in pieces:
                loss_K = mlp.loss(mlp(x_GBI), y_KB).sum(1) / images
                own = torch.autograd.grad(loss_K.sum(), self.parameters, create_graph=True, materialize_grads=True)
                self.gradients.append(own)

    @property
    def shape(self) -> tuple[int, int]:
        """(K, P): members and parameters of each."""
        return len(self.parameters[0]), sum(p[0].numel() for p in self.parameters)

    def __call__(self, v_KP: Tensor) -> Tensor:
        """Multiply H v of each member (D^-1/2 H D^-1/2 v with a preconditioner), l2 penalty included."""
        v_KP = v_KP if self.scale_KP is None else v_KP * self.scale_KP
        parts = v_KP.split([p[0].numel() for p in self.parameters], 1)
        directions = [v.reshape(p.shape) for v, p in zip(parts, self.parameters, strict=True)]
        total_KP = self.l2_K1 * v_KP
        for gradients in self.gradients:
            curved = [(g, v) for g, v in zip(gradients, directions, strict=True) if g.requires_grad]
            if curved:  # the Jacobian of the gradient is symmetric: v from its left is v from its right
                product = torch.autograd.grad(
                    [g for g, _ in curved],
                    self.parameters,
                    [v for _, v in curved],
                    retain_graph=True,
                    materialize_grads=True,
                )
                total_KP += _flat(product)
        return total_KP if self.scale_KP is None else total_KP * self.scale_KP


def _penalty(chosen: Choice, *, scaled: bool) -> float:
    """Return l2, the curvature that the penalty adds in all directions.

    With a preconditioner it is left out: where the data have no gradient, such as at a pixel that is always zero, it
    would be l2 / eps, but a step of an adaptive optimizer is no longer than lr there.
    """
    return 0.0 if scaled and is_preconditioned(chosen.name) else float(chosen.options.get("l2", 0.0))


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.flatten(1) for t in tensors], 1)


def largest_eigenvalue(hessian: Hessian, iterations: int = ITERATIONS, seed: int = 0) -> Tensor:
    """Find the largest (algebraic) eigenvalue of each member's operator, [K], float64, on the CPU.

    Lanczos with full reorthogonalization (Golub & Van Loan, section 10.3): its largest Ritz value never exceeds the
    eigenvalue but for rounding, and meets it after as many iterations as there are parameters. A member's value is
    taken when its own has settled, so that it does not depend on who its neighbours are.
    """
    K, P = hessian.shape
    like = hessian.parameters[0].detach()
    q_KP = torch.randn(P, generator=generator(seed, "sharpness")).to(like).expand(K, P).clone()
    q_KP /= torch.linalg.vector_norm(q_KP, dim=1, keepdim=True)
    most = min(iterations, P)
    basis_KJP = torch.empty(K, most, P, dtype=like.dtype, device=like.device)
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    best_K, settled_K = torch.full((K,), -math.inf, dtype=torch.float64), torch.zeros(K, dtype=torch.bool)
    for iteration in range(1, most + 1):
        basis_KJP[:, iteration - 1] = q_KP
        w_KP = hessian(q_KP)
        alpha_K = (w_KP * q_KP).sum(1)
        spent_K = q_KP.abs().amax(1) == 0  # its space is exhausted: the first Rayleigh quotient changes no maximum
        diagonal.append(torch.where(spent_K, diagonal[0] if diagonal else alpha_K, alpha_K))
        w_KP -= alpha_K[:, None] * q_KP
        if beside:
            w_KP -= beside[-1][:, None] * basis_KJP[:, iteration - 2]
        so_far_KjP = basis_KJP[:, :iteration]  # in exact arithmetic w is orthogonal to them by now
        along_Kj1 = torch.bmm(so_far_KjP, w_KP[:, :, None])
        w_KP = torch.baddbmm(w_KP[:, None], along_Kj1.mT, so_far_KjP, alpha=-1)[:, 0]
        beta_K = torch.linalg.vector_norm(w_KP, dim=1)
        size_K = torch.stack([*diagonal, *beside]).abs().amax(0)
        beta_K = torch.where(beta_K > EXHAUSTED * size_K, beta_K, 0.0)
        q_KP = torch.where(beta_K[:, None] > 0, w_KP.div_(beta_K[:, None].clamp(min=1e-30)), 0.0)
        beside.append(beta_K)
        if iteration % CHECK == 0 or iteration == most:
            new_K = _largest_ritz(diagonal, beside[:-1])
            before_K, best_K = best_K, torch.where(settled_K, best_K, new_K)
            settled_K |= ((best_K - before_K).abs() <= TOLERANCE * best_K.abs()) | ~best_K.isfinite()
            if bool(settled_K.all()):
                break
    return best_K


def _largest_ritz(diagonal: Sequence[Tensor], beside: Sequence[Tensor]) -> Tensor:
    """Find the largest eigenvalue of each member's tridiagonal matrix; NaN where it is not finite."""
    matrix_KJJ = torch.diag_embed(torch.stack(list(diagonal), 1).double().cpu())
    if beside:
        off_KJJ = torch.diag_embed(torch.stack(list(beside), 1).double().cpu(), offset=1)
        matrix_KJJ = matrix_KJJ + off_KJJ + off_KJJ.transpose(1, 2)
    finite_K = matrix_KJJ.isfinite().all(2).all(1)
    found_K = torch.linalg.eigvalsh(torch.where(finite_K[:, None, None], matrix_KJJ, 0.0)).amax(1)
    return torch.where(finite_K, found_K, torch.nan)


def is_preconditioned(name: str) -> bool:
    """Whether the optimizer divides by the root of its state ``square``, so that the preconditioned Hessian counts."""
    return OPTIMIZERS[name].threshold is not None and "square" in OPTIMIZERS[name].state


def preconditioner(mlp: PopulationMLP, square: Sequence[Tensor]) -> Tensor | None:
    """Return D^-1/2 [K, P], D = sqrt(v) + eps, of members with adaptive optimizers, 1 of others; None without any.

    Args:
        mlp: the population.
        square: the second moments v of the gradient, one tensor [K, ...] a parameter.
    """
    if not any(is_preconditioned(c.optimizer.name) for c in mlp.configs):
        return None
    scale_KP = torch.ones_like(_flat(square))
    for s in member_groups([c.optimizer for c in mlp.configs], OPTIMIZERS):
        if is_preconditioned(s.name):
            eps = torch.as_tensor(s.options.get("eps", 0.0)).view(-1, 1).to(scale_KP)
            scale_KP[s.members] = (_flat([v[s.members] for v in square]).sqrt() + eps).rsqrt()
    return scale_KP


def thresholds(mlp: PopulationMLP) -> Tensor:
    """Return the sharpness beyond which each member's optimizer diverges on a quadratic, [K]; NaN if unknown."""
    limits = [OPTIMIZERS[c.optimizer.name].limit(c.optimizer.options) for c in mlp.configs]
    return torch.tensor([math.nan if limit is None else limit for limit in limits], dtype=torch.float64)


def sharpness_probes(
    mlp: PopulationMLP, chunks: Chunks, square: Sequence[Tensor] | None = None, iterations: int = ITERATIONS
) -> Values:
    """Measure ``sharpness``, ``stability_index`` (sharpness / threshold) and ``sharpness_images``.

    Above an index of 1 steps along the sharpest direction grow, once an optimizer with momentum has gathered it: at the
    learning rate as it is set, without schedule, clipping or weight decay.

    Args:
        mlp: the population.
        chunks: the images whose loss is meant.
        square: second moments of the gradient, for adaptive optimizers' preconditioners.
        iterations: at most this many Lanczos iterations.
    """
    pieces = list(chunks)
    images = sum(y_KB.shape[1] for _, y_KB in pieces)
    found = []
    for members, some, part in _parts(mlp, pieces, images, iterations):
        scale_mP = preconditioner(some, [v[members] for v in square]) if square is not None else None
        found.append(largest_eigenvalue(Hessian(some, part, scale_mP), iterations))
    value_K = torch.cat(found)
    return {
        "sharpness": value_K,
        "stability_index": value_K / thresholds(mlp),
        "sharpness_images": torch.full_like(value_K, float(images)),
    }


def member_bytes(mlp: PopulationMLP, images: int, iterations: int = ITERATIONS) -> int:
    """Estimate the bytes of one member's Lanczos iterations: its vectors and the graph's activations."""
    parameters = sum(int(p[0].numel()) for p in mlp.parameters())
    kept = (iterations + 8) * parameters + 12 * images * sum(mlp.sizes[1:])
    return kept * int(mlp.weights[0].element_size())


def _parts(
    mlp: PopulationMLP, pieces: Chunks, images: int, iterations: int
) -> Iterator[tuple[slice, PopulationMLP, Chunks]]:
    """Yield (members, their population, their images): all of them, or as many at a time as ``LANCZOS_BYTES`` hold."""
    size = max(1, LANCZOS_BYTES // member_bytes(mlp, images, iterations))
    if size >= mlp.K:
        yield slice(0, mlp.K), mlp, pieces
        return
    stream_of = [g for g, count in enumerate(mlp.per_stream) for _ in range(count)]
    for start in range(0, mlp.K, size):
        members = slice(start, min(start + size, mlp.K))
        streams = list(dict.fromkeys(stream_of[members]))
        some = mlp.select(range(mlp.K)[members], [stream_of[members].count(g) for g in streams])
        yield members, some, [(x_GBI[streams], y_KB[members]) for x_GBI, y_KB in pieces]
