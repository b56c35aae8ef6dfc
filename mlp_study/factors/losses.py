"""Losses: from logits and labels to one number per example. One entry per choice.

Shapes: logits_KCB (K members, C classes, B examples), labels_KB (int64), loss_KB. Nothing is averaged here: a member's
mean is the caller's, and one member's infinity stays its own. Options arrive as floats or as tensors [K, 1, 1].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlp_study.factors.table import Number, Option, Table, is_plain, lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import functional as F
else:
    torch = lazy_module("torch")
    F = lazy_module("torch.nn.functional")


@dataclass(frozen=True)
class Loss:
    """One loss.

    Attributes:
        function: ``f(logits_KCB, labels_KB, **options) -> loss_KB``.
        doc: the formula, with p for the output's probabilities and y for the one-hot label.
        source: where it comes from.
        options: what it can be given.
        plateau: ``plateau(**options)``: the loss of an example on which the network is confidently wrong and gets no
            gradient any more; None where the gradient never vanishes there.
        formula: ``f(logits_KCB, labels_KB, **options) -> (loss_KB, slope_KCB)``, where the derivative by the logits is
            so simple that it is faster written out than left to autograd; None leaves it to autograd.
    """

    function: Callable[..., Tensor]
    doc: str
    source: str
    options: Mapping[str, Option] = field(default_factory=dict)
    plateau: Callable[..., float | None] = lambda **_: None
    formula: Callable[..., tuple[Tensor, Tensor]] | None = None

    def with_slope(self, logits_KCB: Tensor, labels_KB: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        """Compute each example's loss, [K, B], and its derivative by the logits, [K, C, B]; neither has a graph."""
        if self.formula is not None:
            return self.formula(logits_KCB, labels_KB, **options)
        with torch.enable_grad():
            logits_KCB = logits_KCB.detach().requires_grad_()
            loss_KB = self.function(logits_KCB, labels_KB, **options)
        [slope_KCB] = torch.autograd.grad(loss_KB, logits_KCB, torch.ones_like(loss_KB))
        return loss_KB.detach(), slope_KCB

    def chance_loss(self, classes: int, **options: Any) -> float:
        """Compute the mean loss over all labels of a network that gives each class 1/C, whatever the image.

        ln C for both cross-entropies, (1 - 1/C) / C for the squared error. As logits: -ln(C - 1) for every class, of
        which a softmax and a sigmoid both make 1/C.
        """
        labels_1B = torch.arange(classes)[None]
        logits_1CB = torch.full((1, classes, classes), -math.log(max(classes - 1, 1)), dtype=torch.float64)
        return float(self.function(logits_1CB, labels_1B, **options).mean())


def _of_example(option: Number) -> Number:
    """Reshape an option [K, 1, 1], made for the logits, to [K, 1] for loss_KB."""
    return option if is_plain(option) else option.reshape(-1, 1)


def _of_label(values_KCB: Tensor, labels_KB: Tensor) -> Tensor:
    """Pick each example's value at its label, [K, B]."""
    return values_KCB.gather(1, labels_KB.unsqueeze(1)).squeeze(1)


def _one_hot(logits_KCB: Tensor, labels_KB: Tensor) -> Tensor:
    return torch.zeros_like(logits_KCB).scatter_(1, labels_KB.unsqueeze(1), 1.0)


def _smoothed(hard_KB: Tensor, every_KCB: Tensor, smoothing: Number) -> Tensor:
    """Smooth labels: (1 - s) times the label's loss plus s times the mean over all classes."""
    smoothing_K1 = _of_example(smoothing)
    smoothed_KB: Tensor = (1 - smoothing_K1) * hard_KB + smoothing_K1 * every_KCB.mean(1)
    return smoothed_KB


def _cross_entropy(logits_KCB: Tensor, labels_KB: Tensor, label_smoothing: Number = 0.0) -> Tensor:
    if is_plain(label_smoothing):
        return F.cross_entropy(logits_KCB, labels_KB, reduction="none", label_smoothing=label_smoothing)
    every_KCB = -F.log_softmax(logits_KCB, dim=1)
    return _smoothed(_of_label(every_KCB, labels_KB), every_KCB, label_smoothing)


@functools.cache
def _minus_one(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(-1.0, dtype=dtype, device=device)


def _cross_entropy_formula(
    logits_KCB: Tensor, labels_KB: Tensor, label_smoothing: Number = 0.0
) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and its derivative, p minus the smoothed label."""
    log_p_KCB, labels_K1B = logits_KCB.log_softmax(1), labels_KB.unsqueeze(1)
    loss_KB = log_p_KCB.gather(1, labels_K1B).squeeze(1).neg_()
    if is_plain(label_smoothing) and label_smoothing == 0:
        minus_one = _minus_one(logits_KCB.dtype, logits_KCB.device).expand(labels_K1B.shape)
        return loss_KB, log_p_KCB.exp_().scatter_add_(1, labels_K1B, minus_one)
    loss_KB = _smoothed(loss_KB, -log_p_KCB, label_smoothing)
    target_KCB = (1 - label_smoothing) * _one_hot(logits_KCB, labels_KB) + label_smoothing / logits_KCB.shape[1]
    return loss_KB, log_p_KCB.exp_() - target_KCB


def _clipped_cross_entropy(
    logits_KCB: Tensor, labels_KB: Tensor, eps: Number = 1e-7, label_smoothing: Number = 0.0
) -> Tensor:
    # the order matters: the clamp stands between softmax and logarithm, and passes no gradient where it clips
    p_KCB = logits_KCB.softmax(dim=1)
    if is_plain(label_smoothing) and label_smoothing == 0:
        p_KB, eps = _of_label(p_KCB, labels_KB), _of_example(eps)
        return -p_KB.clamp(eps, 1 - eps).log()
    every_KCB = -p_KCB.clamp(eps, 1 - eps).log()
    return _smoothed(_of_label(every_KCB, labels_KB), every_KCB, label_smoothing)


def _clipped_plateau(eps: float = 1e-7, label_smoothing: float = 0.0, classes: int = 10) -> float:
    """Return the loss of all probability on one wrong class: -ln(eps) (16.118 at 1e-7), less the smoothing's."""
    share = label_smoothing / classes
    return -(1 - share) * math.log(eps) - share * math.log(1 - eps)


def _mse(logits_KCB: Tensor, labels_KB: Tensor, output: str = "softmax") -> Tensor:
    p_KCB = logits_KCB.sigmoid() if output == "sigmoid" else logits_KCB.softmax(dim=1)
    return (p_KCB - _one_hot(logits_KCB, labels_KB)).square().mean(1)


def _binary_cross_entropy_eps(
    logits_KCB: Tensor, labels_KB: Tensor, eps: Number = 1e-8, gradient: str = "exact"
) -> Tensor:
    p_KCB = logits_KCB.softmax(dim=1)
    # one class is the label and all others are not, so y picks which of the two probabilities enters the logarithm
    right_KCB = torch.where(_one_hot(logits_KCB, labels_KB) > 0, p_KCB, 1 - p_KCB)
    loss_KB: Tensor = -(right_KCB + eps).log().sum(1)
    if gradient == "exact":
        return loss_KB
    other_KB = F.cross_entropy(logits_KCB, labels_KB, reduction="none")
    return loss_KB.detach() + (other_KB - other_KB.detach())  # the first one's value with the second one's gradient


def _binary_plateau(eps: float = 1e-8, gradient: str = "exact") -> float | None:
    """Return the loss with all probability on one wrong class: two logarithms are ln(eps), the others ln(1 + eps)."""
    return -2 * math.log(eps) if gradient == "exact" else None


_SMOOTHING = Option(0.0, "[0, 1)", "probability mass spread evenly over all classes")

LOSSES: Table[Loss] = Table(
    "loss",
    {
        "cross_entropy": Loss(
            function=_cross_entropy,
            doc="-ln softmax(logits)[label], from the logits: never clipped",
            source="torch.nn.functional.cross_entropy; Keras on TensorFlow, which goes back to the logits",
            options={"label_smoothing": _SMOOTHING},
            formula=_cross_entropy_formula,
        ),
        "clipped_cross_entropy": Loss(
            function=_clipped_cross_entropy,
            doc="-ln clip(p, eps, 1 - eps)[label]: no gradient where clipped, and a plateau at -ln(eps) = 16.118",
            source="keras.losses.CategoricalCrossentropy on probabilities, backend.epsilon() = 1e-7",
            options={
                "eps": Option(1e-7, "(0, 0.5)", "smallest probability; float32 holds 1 - eps from 6e-8 on"),
                "label_smoothing": _SMOOTHING,
            },
            plateau=_clipped_plateau,
        ),
        "mse": Loss(
            function=_mse,
            doc="mean over the classes of (p - y)^2",
            source="keras.losses.MeanSquaredError; the sigmoid variant of clipped_fashion",
            options={"output": Option("softmax", choices=("softmax", "sigmoid"), doc="what makes p of the logits")},
        ),
        "binary_cross_entropy_eps": Loss(
            function=_binary_cross_entropy_eps,
            doc="-sum over the classes of y ln(p + eps) + (1 - y) ln(1 - p + eps), with p = softmax(logits)",
            source="numpy_relu, which reports this cost and follows softmax cross-entropy's gradient",
            options={
                "eps": Option(1e-8, "(0, 0.5)", "the constant inside the logarithm"),
                "gradient": Option(
                    "exact",
                    choices=("exact", "softmax_cross_entropy"),
                    doc="this cost's own gradient, or the one that the source uses instead",
                ),
            },
            plateau=_binary_plateau,
        ),
    },
)
