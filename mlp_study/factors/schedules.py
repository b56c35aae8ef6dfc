"""Learning-rate schedules: what multiplies lr at each step. One entry per choice.

Shapes: step_S counts minibatches from 0 as floats, ``total`` is the number of minibatches in the whole training,
options arrive as floats or as tensors [K, 1], one number per member; the multiplier is [K, S], or [S] where all agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlp_study.factors.table import Number, Option, Table, is_plain, lazy_module

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy_module("torch")


@dataclass(frozen=True)
class Schedule:
    """One schedule.

    Attributes:
        multiplier: ``f(step_S, total, **options) -> [K, S] or [S]``: what lr is multiplied with at these steps.
        doc: the rule, with t for step / total.
        source: where it comes from.
        options: what it can be given; lengths are fractions of the training, so that they keep their meaning when the
            number of epochs changes.
    """

    multiplier: Callable[..., Tensor]
    doc: str
    source: str
    options: Mapping[str, Option] = field(default_factory=dict)


def _constant(step_S: Tensor, total: int) -> Tensor:
    return torch.ones_like(step_S)


def _step(step_S: Tensor, total: int, every: Number, factor: Number) -> Tensor:
    # 1e-4 of a period forgives float32's rounding where a drop falls exactly on a step
    drops = torch.floor(step_S / (total * every) + 1e-4)
    dropped: Tensor = factor**drops
    return dropped


def _half_cosine(start: Number, end: Number, progress: Tensor) -> Tensor:
    """Go from ``start`` at progress 0 to ``end`` at progress 1, level at both ends."""
    eased: Tensor = end + (start - end) * (1 + torch.cos(math.pi * progress)) / 2
    return eased


def _cosine(step_S: Tensor, total: int, floor: Number) -> Tensor:
    return _half_cosine(1.0, floor, step_S / total)


def _at_least_one(steps: Number) -> Number:
    return max(steps, 1.0) if is_plain(steps) else steps.clamp(min=1.0)


def _linear_warmup(step_S: Tensor, total: int, warmup: Number) -> Tensor:
    warmed: Tensor = ((step_S + 1) / _at_least_one(warmup * total)).clamp(max=1)
    return warmed


def _one_cycle(step_S: Tensor, total: int, peak: Number, start: Number, end: Number) -> Tensor:
    top = _at_least_one(peak * total - 1)  # torch's OneCycleLR counts so
    rising = _half_cosine(start, 1.0, step_S / top)
    falling = _half_cosine(1.0, end, ((step_S - top) / _at_least_one(total - 1 - top)).clamp(max=1))
    return torch.where(step_S <= top, rising, falling)


SCHEDULES: Table[Schedule] = Table(
    "schedule",
    {
        "constant": Schedule(multiplier=_constant, doc="1", source="what all five sources do"),
        "step": Schedule(
            multiplier=_step,
            doc="factor^floor(t / every)",
            source="torch.optim.lr_scheduler.StepLR",
            options={
                "every": Option(0.3, "(0, 1]", "part of the training between two drops"),
                "factor": Option(0.1, "(0, 1]", "what each drop multiplies lr with"),
            },
        ),
        "cosine": Schedule(
            multiplier=_cosine,
            doc="floor + (1 - floor) (1 + cos(pi t)) / 2",
            source="Loshchilov & Hutter 2017, arXiv 1608.03983, eq. 5, one period",
            options={"floor": Option(0.0, "[0, 1]", "where it ends, as a part of lr")},
        ),
        "linear_warmup": Schedule(
            multiplier=_linear_warmup,
            doc="min(1, (step + 1) / (warmup total)): the first step is not wasted on lr 0",
            source="Goyal et al. 2017, arXiv 1706.02677, sec. 2.2",
            options={"warmup": Option(0.1, "(0, 1]", "part of the training until the full lr is reached")},
        ),
        "one_cycle": Schedule(
            multiplier=_one_cycle,
            doc="a half cosine from start up to 1 at t = peak, another down to end; momentum stays as it is",
            source="Smith & Topin 2018, arXiv 1708.07120; torch.optim.lr_scheduler.OneCycleLR",
            options={
                "peak": Option(0.3, "(0, 1)", "part of the training until the full lr is reached"),
                "start": Option(0.04, "[0, 1]", "where it starts, as a part of lr"),
                "end": Option(4e-6, "[0, 1]", "where it ends, as a part of lr"),
            },
        ),
    },
)
