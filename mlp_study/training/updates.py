"""One optimizer step for a whole population: each group of members by its own rule, with its own numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlp_study.factors.lazy_gradient import Gradient, LazyGradient, multiplied_out
from mlp_study.factors.optimizers import OPTIMIZERS, check_layers, clip_gradients
from mlp_study.factors.schedules import SCHEDULES
from mlp_study.model.member_groups import MemberGroup, member_groups, split_by_group
from mlp_study.model.population import PopulationMLP

DECAYS = ("l2", "weight_decay")


class Updates:
    """The optimizers' state and rules.

    Args:
        mlp: the population whose parameters are updated in place.
        total_steps: minibatches in the whole training, for schedules.
    """

    def __init__(self, mlp: PopulationMLP, total_steps: int) -> None:
        self.parameters = list(mlp.parameters())
        self.total_steps = total_steps
        self.step_count = 0
        configs = mlp.configs
        self.groups = member_groups([c.optimizer for c in configs], OPTIMIZERS)
        self._own = [[p.detach()[s.members] for p in self.parameters] for s in self.groups]  # views
        self.state = [
            [{name: torch.zeros_like(p) for name in s.entry.state} for p in own]
            for s, own in zip(self.groups, self._own, strict=True)
        ]
        like = self.parameters[0]
        self.numbers = [
            {**s.options_like(like), "decays": any(isinstance(x, Tensor) or x != 0 for x in map(s.options.get, DECAYS))}
            for s in self.groups
        ]
        for s in self.groups:
            check_layers(s.name, [(w.shape[1], w.shape[2]) for w in mlp.weights])
        self.clips = [self._limits(s, "clip_norm", "clip_value") for s in self.groups]
        self._lazy = all(s.entry.adds_up for s in self.groups) and not any(self.clips)
        self.schedules = member_groups([c.schedule for c in configs], SCHEDULES)
        self.scheduled = any(s.name != "constant" for s in self.schedules)
        self._rates: list[list[Any]] = []

    def _limits(self, s: MemberGroup, *names: str) -> list[Tensor | None] | None:
        """Return the group's clipping limits, each [m] or None; None if no member is clipped."""
        limits = [s.options[name] for name in names]
        if all(limit is None or bool(torch.as_tensor(limit).isinf().all()) for limit in limits):
            return None
        like = self.parameters[0]
        return [
            None
            if limit is None
            else torch.as_tensor(limit, dtype=torch.float64).flatten().expand(s.stop - s.start).to(like)
            for limit in limits
        ]

    def prepare(self, steps: int) -> None:
        """Work out the learning rates of the next ``steps`` minibatches, so that a step does not."""
        if not self.scheduled:
            return
        when_S = torch.arange(self.step_count, self.step_count + steps, dtype=torch.float64)
        factors = []
        for s in self.schedules:
            options = {k: v.view(-1, 1).double() if isinstance(v, Tensor) else v for k, v in s.options.items()}
            factor = s.entry.multiplier(when_S, self.total_steps, **options)
            factors.append(torch.as_tensor(factor, dtype=torch.float64).expand(s.stop - s.start, steps))
        factor_KS = torch.cat(factors)
        self._rates = [self._rates_of(s, factor_KS[s.members]) for s in self.groups]
        self._first = self.step_count

    def _rates_of(self, s: MemberGroup, factor_mS: Tensor) -> list[Any]:
        lr = s.options["lr"]
        if not isinstance(lr, Tensor) and bool((factor_mS == factor_mS[:1]).all()):
            return [lr * factor for factor in factor_mS[0].tolist()]
        rates_Sm11 = (torch.as_tensor(lr, dtype=torch.float64).view(-1, 1) * factor_mS).T[:, :, None, None]
        return list(rates_Sm11.to(self.parameters[0]))

    def step(self, gradients: Sequence[Gradient]) -> None:
        """Apply one minibatch's gradients (one a parameter, [K, ...]; they may be overwritten)."""
        self.step_count += 1
        mixed = gradients[0].dtype != self.parameters[0].dtype  # a product adds itself to its own type only
        if mixed or not self._lazy:
            gradients = [multiplied_out(g, p.dtype) for g, p in zip(gradients, self.parameters, strict=True)]
        by_group = [gradients] if len(self.groups) == 1 else zip(*map(self._split, gradients), strict=True)
        of_groups = zip(self.groups, self._own, self.numbers, self.state, by_group, strict=True)
        for i, (s, parameters, numbers, state, mine) in enumerate(of_groups):
            if (limits := self.clips[i]) is not None:
                clip_gradients(mine, *limits)
            h = {**numbers, "lr": self._rates[i][self.step_count - 1 - self._first]} if self.scheduled else numbers
            for p, g, buffers in zip(parameters, mine, state, strict=True):
                s.entry.update(p, g, buffers, self.step_count, h)

    def _split(self, gradient: Gradient) -> Sequence[Gradient]:
        """Split a gradient, one part a group."""
        if isinstance(gradient, LazyGradient):
            return [gradient.of(s.members) for s in self.groups]
        return split_by_group(self.groups, gradient)

    def squares(self) -> list[Tensor]:
        """Return the second moments that adaptive rules keep, one tensor [K, ...] a parameter; NaN for other rules."""
        found = [torch.full_like(p, torch.nan) for p in self.parameters]
        for s, numbers, state in zip(self.groups, self.numbers, self.state, strict=True):
            if "square" in s.entry.state:
                seen = 1 - numbers["beta2"] ** self.step_count if "beta2" in numbers else 1.0  # Adam's begin at zero
                for whole, buffers in zip(found, state, strict=True):
                    whole[s.members] = buffers["square"] / seen
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return every state tensor by name, for a checkpoint: ``group.parameter.buffer``."""
        return {
            f"{i}.{j}.{name}": tensor
            for i, state in enumerate(self.state)
            for j, buffers in enumerate(state)
            for name, tensor in buffers.items()
        }

    @torch.no_grad()
    def reset(self, k: int) -> None:
        """Zero member k's state, so that nothing of a diverged member goes on."""
        for buffers in self._of(k):
            for tensor in buffers.values():
                tensor.zero_()

    @torch.no_grad()
    def take(self, other: Updates, keep: Sequence[int]) -> None:
        """Fill this state from a larger population's, of which these members are ``keep``, in that order."""
        self.step_count = other.step_count
        for k, old in enumerate(keep):
            mine, theirs = self._of(k), other._of(old)
            for j, buffers in enumerate(mine):
                for name, tensor in buffers.items():
                    tensor.copy_(theirs[j][name])

    def _of(self, k: int) -> list[dict[str, Tensor]]:
        """Return views of member k's state, one a parameter."""
        for s, state in zip(self.groups, self.state, strict=True):
            if s.start <= k < s.stop:
                return [{name: tensor[k - s.start] for name, tensor in buffers.items()} for buffers in state]
        raise IndexError(f"member {k} of {self.groups[-1].stop}")
