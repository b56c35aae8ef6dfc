"""Update rules with per-member hyperparameters. One entry per choice.

torch.optim refuses a learning rate per member, so the rules are written out here and tested against torch.optim. An
update works in place on a group of m members: p and g are [m, O, I] weights or [m, O, 1] biases, each hyperparameter
in h is a float (all members of the group agree) or a tensor [m, 1, 1]. Nothing reduces over the member axis: a member
at infinity leaves its neighbours alone. The gradient is overwritten, as scratch memory: updating a hundred networks is
bound by memory traffic, not by arithmetic.

Two options have one meaning everywhere, also where torch's same-named optimizer has another:

* ``weight_decay`` is decoupled (Loshchilov & Hutter 2019, arXiv 1711.05101): p shrinks by lr weight_decay p.
* ``l2`` is a penalty l2/2 |p|^2 in the loss: l2 p is added to the gradient, after clipping. It is what torch.optim's
  SGD, Adam, NAdam, RMSprop and Adagrad call weight_decay.

Both act on biases too, as torch.optim does by default. Where Keras and torch have different defaults, Keras's hold,
since the five sources used Keras: eps is 1e-7 (torch: 1e-8), SGD's lr 0.01, RMSprop's decay 0.9 (torch: 0.99).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlp_study.errors import ConfigError
from mlp_study.factors import update_rules as rules
from mlp_study.factors.table import Option, Table, lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")

Rule = Callable[["Tensor", "Tensor", Mapping[str, "Tensor"], int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Optimizer:
    """One update rule.

    Attributes:
        update: ``update(p, g, state, step, h)``, in place on p and on the state; step counts from 1; g is overwritten.
        state: names of the buffers that each parameter needs, each like the parameter and zero at the start.
        doc: the rule.
        source: where it comes from.
        options: the hyperparameters; ``lr``, ``weight_decay``, ``l2``, ``clip_norm`` and ``clip_value`` are shared by
            all. The last two are for :func:`clip_gradients`, before the update.
        threshold: ``threshold(h)``, h in floats: the sharpness (largest eigenvalue of the Hessian, preconditioned where
            the rule preconditions) beyond which the rule diverges on a quadratic; None where no such rule is known.
        needs_matrices: whether weights must have at least two rows and two columns.
        adds_up: whether ``update`` does no more with g than add it to something: it then takes a LazyGradient, too.
    """

    update: Rule
    state: tuple[str, ...]
    doc: str
    source: str
    options: Mapping[str, Option]
    threshold: Callable[[Mapping[str, float]], float] | None = None
    needs_matrices: bool = False
    adds_up: bool = False

    def limit(self, options: Mapping[str, Any]) -> float | None:
        """Return ``threshold`` at one member's options; None where no rule is known."""
        numbers = {name: value for name, value in options.items() if value is not None}
        return None if self.threshold is None else self.threshold(numbers)


def _shared(lr: float, weight_decay: float = 0.0) -> dict[str, Option]:
    return {
        "lr": Option(lr, "(0, inf)", "learning rate"),
        "weight_decay": Option(weight_decay, "[0, inf)", "decoupled decay: p shrinks by lr weight_decay p each step"),
        "l2": Option(0.0, "[0, inf)", "penalty l2/2 |p|^2 in the loss"),
        "clip_norm": Option(None, "(0, inf)", "largest norm of a member's whole gradient", optional=True),
        "clip_value": Option(None, "(0, inf)", "largest absolute value of a gradient's entry", optional=True),
    }


_MOMENTUM = {"momentum": Option(0.9, "[0, 1)", "part of the velocity that is kept each step")}
_EPS = Option(1e-7, "(0, inf)", "added to the root of the mean square; 1e-7 is Keras's, torch's is 1e-8")
_ADAM = {
    "beta1": Option(0.9, "[0, 1)", "decay of the mean gradient"),
    "beta2": Option(0.999, "[0, 1)", "decay of the mean square"),
    "eps": _EPS,
}


def _heavy_ball_threshold(h: Mapping[str, float]) -> float:
    return 2 * (1 + h["momentum"]) / h["lr"]


def _adam_threshold(h: Mapping[str, float]) -> float:
    return (2 + 2 * h["beta1"]) / ((1 - h["beta1"]) * h["lr"])


OPTIMIZERS: Table[Optimizer] = Table(
    "optimizer",
    {
        "sgd": Optimizer(
            update=rules.sgd,
            state=(),
            doc="p -= lr g",
            source="torch.optim.SGD without momentum",
            options=_shared(lr=0.01),
            threshold=lambda h: 2 / h["lr"],
            adds_up=True,
        ),
        "momentum": Optimizer(
            update=rules.momentum,
            state=("velocity",),
            doc="v = momentum v + g; p -= lr v",
            source="Polyak 1964; torch.optim.SGD(momentum); threshold: Cohen et al. 2021, arXiv 2103.00065, sec. 2",
            options=_shared(lr=0.01) | _MOMENTUM,
            threshold=_heavy_ball_threshold,
            adds_up=True,
        ),
        "nesterov": Optimizer(
            update=rules.nesterov,
            state=("velocity",),
            doc="v = momentum v + g; p -= lr (g + momentum v)",
            source="Sutskever et al. 2013; torch.optim.SGD(nesterov=True); threshold: Cohen et al. 2021, sec. 2",
            options=_shared(lr=0.01) | _MOMENTUM,
            threshold=lambda h: 2 * (1 + h["momentum"]) / ((1 + 2 * h["momentum"]) * h["lr"]),
        ),
        "adam": Optimizer(
            update=rules.adam,
            state=("mean", "square"),
            doc="p -= lr m / (sqrt(v) + eps), with bias-corrected running means m of g and v of g^2",
            source="Kingma & Ba 2015, arXiv 1412.6980, algorithm 1; threshold: Cohen et al. 2022, arXiv 2207.14484",
            options=_shared(lr=0.001) | _ADAM,
            threshold=_adam_threshold,
        ),
        "adamw": Optimizer(
            update=rules.adam,
            state=("mean", "square"),
            doc="adam with torch.optim.AdamW's default weight_decay",
            source="Loshchilov & Hutter 2019, arXiv 1711.05101",
            options=_shared(lr=0.001, weight_decay=0.01) | _ADAM,
            threshold=_adam_threshold,
        ),
        "nadam": Optimizer(
            update=rules.nadam,
            state=("mean", "square"),
            doc="adam that looks one step ahead: m is replaced by momentum m + (1 - beta1) g, each bias-corrected",
            source="Dozat 2016; torch.optim.NAdam",
            options=_shared(lr=0.001)
            | _ADAM
            | {"momentum_decay": Option(0.004, "(0, inf)", "the momentum rises to beta1 as 1 - 0.96^(step decay) / 2")},
        ),
        "rmsprop": Optimizer(
            update=rules.rmsprop,
            state=("square", "velocity"),
            doc="v = momentum v + g / (sqrt(mean of g^2) + eps); p -= lr v",
            source="Hinton 2012, lecture 6; torch.optim.RMSprop",
            options=_shared(lr=0.001)
            | {
                "rho": Option(0.9, "[0, 1)", "decay of the mean square; torch calls it alpha, default 0.99"),
                "momentum": Option(0.0, "[0, 1)", "part of the velocity that is kept each step"),
                "eps": _EPS,
            },
            threshold=_heavy_ball_threshold,
        ),
        "adagrad": Optimizer(
            update=rules.adagrad,
            state=("square",),
            doc="p -= lr g / (sqrt(sum of g^2) + eps)",
            source="Duchi et al. 2011; torch.optim.Adagrad",
            options=_shared(lr=0.01) | {"eps": Option(1e-10, "(0, inf)", "added to the root of the sum")},
            threshold=lambda h: 2 / h["lr"],
        ),
        "lion": Optimizer(
            update=rules.lion,
            state=("mean",),
            doc="p -= lr sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g",
            source="Chen et al. 2023, arXiv 2302.06675, algorithm 2",
            options=_shared(lr=1e-4)
            | {
                "beta1": Option(0.9, "[0, 1)", "momentum's weight in the step"),
                "beta2": Option(0.99, "[0, 1)", "decay of the momentum"),
            },
        ),
        "muon": Optimizer(
            update=rules.muon,
            state=("mean", "square"),
            doc="p -= lr sqrt(max(1, O / I)) orthogonalized(momentum) for weights; adamw at lr vector_lr for biases",
            source="Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; torch.optim.Muon",
            options=_shared(lr=0.02)
            | {
                "momentum": Option(0.95, "[0, 1)", "decay of the mean gradient"),
                "nesterov": Option(True, doc="whether the step looks ahead", per_member=False),
                "ns_steps": Option(5, "[1, 6]", "Newton-Schulz iterations", per_member=False),
                "vector_lr": Option(0.015, "(0, inf)", "learning rate of biases and other vectors, as a part of lr"),
            },
            needs_matrices=True,
        ),
    },
)


def check_layers(name: str, layers: Sequence[tuple[int, int]]) -> None:
    """Check that an optimizer can train weights of these shapes (O, I).

    Raises:
        ConfigError: the optimizer needs matrices and a weight has a single row or column.
    """
    if not OPTIMIZERS[name].needs_matrices:
        return
    for layer, (rows, columns) in enumerate(layers):
        if min(rows, columns) < 2:
            raise ConfigError(
                f"optimizer={name} needs weights that are matrices, but layer {layer} has a one-dimensional one "
                f"({rows} x {columns}); it takes layers of at least 2 units, or another optimizer"
            )


def clip_gradients(grads: Sequence[Tensor], norm_m: Tensor | None, value_m: Tensor | None) -> None:
    """Clip each member's gradient in place: every entry to [-value, value], then the whole to a largest norm.

    Args:
        grads: all of the members' gradients, each [m, ...].
        norm_m: largest Euclidean norm over all of a member's gradients [m]; infinity or None leave it alone.
        value_m: largest absolute entry [m]; infinity or None leave it alone.
    """
    if value_m is not None:
        limit_m11 = value_m.reshape(-1, 1, 1)
        for g in grads:
            torch.clamp(g, -limit_m11, limit_m11, out=g)
    if norm_m is not None:
        norms_m = torch.stack([torch.linalg.vector_norm(g, dim=(1, 2)) for g in grads]).norm(dim=0)
        # 1e-6 as in torch.nn.utils.clip_grad_norm_; a member without a limit keeps even an infinite gradient as it is
        scale_m = torch.where(norm_m.isinf(), 1.0, norm_m / (norms_m + 1e-6)).clamp(max=1.0)
        for g in grads:
            g.mul_(scale_m.reshape(-1, 1, 1))
