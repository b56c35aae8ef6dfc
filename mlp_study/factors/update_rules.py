"""The optimizers' rules, written for members side by side; the module ``optimizers`` holds their table and contract.

Every rule is ``rule(p, g, state, step, h)``: in place on p [m, O, I] or [m, O, 1] and on the state's buffers, g
overwritten where that saves memory traffic, step counted from 1, hyperparameters h as floats or tensors [m, 1, 1]. The
two rules that only add gradients up, ``sgd`` and ``momentum``, take a g that is not multiplied out yet, too.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlp_study.factors.lazy_gradient import Gradient, LazyGradient, multiplied_out, split
from mlp_study.factors.table import Number, is_plain, lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

Hyper = Mapping[str, Number]
State = Mapping[str, "Tensor"]


def _add_scaled(p: Tensor, x: Tensor, scale: Number) -> None:
    """Do p += scale x in one pass."""
    if is_plain(scale):
        p.add_(x, alpha=scale)
    else:
        p.addcmul_(x, scale)


def _subtract_scaled(p: Tensor, x: Gradient, scale: Number) -> None:
    """Do p -= scale x in one pass."""
    if isinstance(x, LazyGradient):
        x.add_to(p, -scale) if is_plain(scale) else x.scaled(scale).add_to(p, -1.0)
    elif is_plain(scale):
        p.sub_(x, alpha=scale)
    else:
        p.addcmul_(x, scale, value=-1)


def _subtract_ratio(p: Tensor, numerator: Tensor, denominator: Tensor, scale: Number) -> None:
    """Do p -= scale numerator / denominator; the denominator is overwritten."""
    if is_plain(scale):
        p.addcdiv_(numerator, denominator, value=-scale)
    else:
        torch.div(numerator, denominator, out=denominator)
        p.addcmul_(denominator, scale, value=-1)


def _is_zero(value: Number) -> bool:
    return is_plain(value) and value == 0


def _decay(p: Tensor, g: Gradient, h: Hyper) -> Gradient:
    """Apply the two decays, first in every update; return the gradient with the penalty's part.

    ``h["decays"]`` is False where it is known that both are zero.
    """
    if not h.get("decays", True):
        return g
    if not _is_zero(h["l2"]):
        g = multiplied_out(g, p.dtype)
        _add_scaled(g, p, h["l2"])
    if not _is_zero(h["weight_decay"]):
        p.mul_(1 - h["lr"] * h["weight_decay"])
    return g


def sgd(p: Tensor, g: Gradient, state: State, step: int, h: Hyper) -> None:
    """Do p -= lr g."""
    _subtract_scaled(p, _decay(p, g, h), h["lr"])


def _accumulate(velocity: Tensor, g: Gradient, momentum: Number) -> None:
    """Do velocity = momentum velocity + g in one pass."""
    if isinstance(g, LazyGradient):
        g.add_to(velocity, beta=momentum)
    elif is_plain(momentum):
        torch.add(g, velocity, alpha=momentum, out=velocity)
    else:
        torch.addcmul(g, velocity, momentum, out=velocity)


def momentum(p: Tensor, g: Gradient, state: State, step: int, h: Hyper) -> None:
    """Apply Polyak's heavy ball, as torch.optim.SGD(momentum) writes it."""
    _accumulate(state["velocity"], _decay(p, g, h), h["momentum"])
    _subtract_scaled(p, state["velocity"], h["lr"])


def nesterov(p: Tensor, g: Tensor, state: State, step: int, h: Hyper) -> None:
    """Apply Nesterov's momentum, as torch.optim.SGD(momentum, nesterov=True) writes it."""
    _decay(p, g, h)
    _accumulate(state["velocity"], g, h["momentum"])
    _add_scaled(g, state["velocity"], h["momentum"])
    _subtract_scaled(p, g, h["lr"])


def _average_squares(square: Tensor, g: Tensor, beta: Number) -> None:
    """Do square = beta square + (1 - beta) g^2."""
    if is_plain(beta):
        square.mul_(beta).addcmul_(g, g, value=1 - beta)
    else:
        square.lerp_(g * g, 1 - beta)


def adam(p: Tensor, g: Tensor, state: State, step: int, h: Hyper) -> None:
    """Apply Adam with decoupled weight decay, that is AdamW too."""
    _decay(p, g, h)
    _adam_step(p, g, state["mean"], state["square"], step, [h[name] for name in ("lr", "beta1", "beta2", "eps")])


def _adam_step(p: Tensor, g: Tensor, mean: Tensor, square: Tensor, step: int, numbers: list[Number]) -> None:
    """Apply Adam without the decays; ``numbers`` are lr, beta1, beta2, eps.

    torch's fused CPU kernel needs one pass over memory where the plain form needs six, and less than half the time. It
    takes plain numbers only: each run of equal members goes through it, where members are large enough to pay.
    """
    alike = all(is_plain(x) for x in numbers)
    if p.device.type == "cpu" and p.is_contiguous() and g.is_contiguous() and (alike or p[0].numel() >= 4096):
        _adam_fused([p, g, mean, square], step, numbers)
        return
    lr, beta1, beta2, eps = numbers
    # Kingma & Ba's efficient order (the remark after algorithm 1), with eps scaled so that it stays algorithm 1
    correction = (1 - beta2**step) ** 0.5
    mean.lerp_(g, 1 - beta1)
    _average_squares(square, g, beta2)
    torch.sqrt(square, out=g).add_(eps * correction)
    _subtract_ratio(p, mean, g, lr * correction / (1 - beta1**step))


def _adam_fused(tensors: list[Tensor], step: int, numbers: list[Number]) -> None:
    """Apply PyTorch's fused Adam; ``tensors`` are p, g, mean and square."""
    if all(is_plain(x) for x in numbers):
        runs = [(numbers, tensors)]
    else:
        count = len(tensors[0])
        of_members = zip(*([x] * count if is_plain(x) else x.flatten().tolist() for x in numbers), strict=True)
        alike = [(list(own), len(list(run))) for own, run in itertools.groupby(of_members)]
        parts = zip(*(split(tensor, [length for _, length in alike]) for tensor in tensors), strict=True)
        runs = [(own, list(part)) for (own, _), part in zip(alike, parts, strict=True)]
    for (lr, beta1, beta2, eps), (p, g, mean, square) in runs:
        torch._fused_adam_(
            [p], [g], [mean], [square], [], [_as_tensor(step)],
            lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=0.0, amsgrad=False, maximize=False,
        )  # fmt: skip


@functools.lru_cache(maxsize=1)  # every parameter of every group asks for the same one
def _as_tensor(step: int) -> Tensor:
    return torch.tensor(float(step))


def nadam(p: Tensor, g: Tensor, state: State, step: int, h: Hyper) -> None:
    """Apply Adam with Nesterov's momentum, as torch.optim.NAdam writes it."""
    _decay(p, g, h)
    mean, square = state["mean"], state["square"]
    now, after = (h["beta1"] * (1 - 0.5 * 0.96 ** (t * h["momentum_decay"])) for t in (step, step + 1))
    past = _momentum_product(step, h["beta1"], h["momentum_decay"], g.dtype)
    mean.lerp_(g, 1 - h["beta1"])
    _average_squares(square, g, h["beta2"])
    correction = (1 - h["beta2"] ** step) ** 0.5
    g.mul_((1 - now) / (1 - past))
    _add_scaled(g, mean, after / (1 - past * after))
    _subtract_ratio(p, g, square.sqrt().add_(h["eps"] * correction), h["lr"] * correction)


def _momentum_product(step: int, beta1: Number, decay: Number, dtype: torch.dtype) -> Number:
    """Multiply NAdam's momenta beta1 (1 - q^i / 2), q = 0.96^decay, over i = 1..step, without a loop.

    Its logarithm is step ln(beta1) minus, by the series of ln(1 - x), the sum over k of 2^-k / k times the geometric
    sum of q^(k i) over i. 40 terms leave less than 1e-12.
    """
    plain = is_plain(beta1) and is_plain(decay)
    decay = torch.as_tensor(decay, dtype=torch.float64).unsqueeze(-1)
    k = torch.arange(1.0, 41.0, dtype=torch.float64, device=decay.device)
    rate = math.log(0.96) * decay * k
    geometric = rate.exp() * torch.expm1(step * rate) / torch.expm1(rate)
    product = beta1**step * torch.exp(-(geometric * 0.5**k / k).sum(-1))
    return product.item() if plain else product.to(dtype)


def rmsprop(p: Tensor, g: Tensor, state: State, step: int, h: Hyper) -> None:
    """Apply RMSprop, as torch.optim.RMSprop writes it: eps outside the root."""
    _decay(p, g, h)
    _average_squares(state["square"], g, h["rho"])
    root = state["square"].sqrt().add_(h["eps"])
    if _is_zero(h["momentum"]):
        _subtract_ratio(p, g, root, h["lr"])
    else:
        _accumulate(state["velocity"], g.div_(root), h["momentum"])
        _subtract_scaled(p, state["velocity"], h["lr"])


def adagrad(p: Tensor, g: Tensor, state: State, step: int, h: Hyper) -> None:
    """Apply AdaGrad, the sum of squares starting from 0."""
    _decay(p, g, h)
    state["square"].addcmul_(g, g)
    _subtract_ratio(p, g, state["square"].sqrt().add_(h["eps"]), h["lr"])


def lion(p: Tensor, g: Tensor, state: State, step: int, h: Hyper) -> None:
    """Step by lr along the sign of a blend of momentum and gradient."""
    _decay(p, g, h)
    direction = torch.lerp(state["mean"], g, 1 - h["beta1"]).sign_()
    state["mean"].lerp_(g, 1 - h["beta2"])
    _subtract_scaled(p, direction, h["lr"])


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Jordan's quintic a s + b s^3 + c s^5: repeated, it takes a singular value s in (0, 1] to about 0.7..1.2."""


def muon(p: Tensor, g: Tensor, state: State, step: int, h: Hyper) -> None:
    """Apply Muon to matrices; to biases and other vectors AdamW at lr vector_lr, with the reference's betas and eps."""
    rows, columns = p.shape[-2:]
    if min(rows, columns) < 2:
        adam(p, g, state, step, {**h, "lr": h["lr"] * h["vector_lr"], "beta1": 0.9, "beta2": 0.95, "eps": 1e-10})
        return
    _decay(p, g, h)
    state["mean"].lerp_(g, 1 - h["momentum"])
    g = g.lerp_(state["mean"], h["momentum"]) if h["nesterov"] else state["mean"]
    _subtract_scaled(p, orthogonalized(g, h["ns_steps"]), h["lr"] * math.sqrt(max(1.0, rows / columns)))


def orthogonalized(g_mOI: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of each member's matrix near 1 by Newton-Schulz iterations in g's precision.

    The reference iterates on the matrix, X <- P X with P = a + b X X' + c (X X')^2. All these P commute, so here they
    are gathered on the small side, G = X X' -> P G P, and meet X once: half the time for a first layer. Rounding in G
    grows elevenfold a step: in float32 it is 3e-4 after five steps, and not to be trusted after seven.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; torch.optim.Muon, in bfloat16.
    """
    a, b, c = NEWTON_SCHULZ
    tall = g_mOI.shape[-2] > g_mOI.shape[-1]
    x = g_mOI.mT if tall else g_mOI
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(
        min=1e-7
    )  # the largest singular value is below the norm: at most 1
    gram = x @ x.mT
    gathered = None
    for _ in range(steps):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=-2, dim2=-1).add_(a)
        gathered = polynomial if gathered is None else polynomial @ gathered
        gram = polynomial @ gram @ polynomial
    near: Tensor = x if gathered is None else gathered @ x
    return near.mT if tall else near
