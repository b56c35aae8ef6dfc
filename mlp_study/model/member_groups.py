"""Slices of a population: neighbours that share a choice are one call, the numbers in which they differ stacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from mlp_study.config.schema import Choice

Result = TypeVar("Result", Tensor, tuple[Tensor, Tensor])


@dataclass(frozen=True)
class Slice:
    """Neighbouring members that share one choice; options that differ between them are tensors [m, 1, 1]."""

    start: int
    stop: int
    name: str
    entry: Any  # the choice in its factor's table
    options: dict[str, Any]

    @property
    def members(self) -> slice:
        """The slice of the member axis."""
        return slice(self.start, self.stop)

    @cached_property
    def alike(self) -> bool:
        """Whether each option is one for all members."""
        return not any(isinstance(value, Tensor) for value in self.options.values())

    def options_like(self, tensor: Tensor) -> dict[str, Any]:
        """The options; those that differ between members in a tensor's type and on its device."""
        if self.alike:
            return self.options
        return {key: value.to(tensor) if isinstance(value, Tensor) else value for key, value in self.options.items()}


def slices_of(choices: Sequence[Choice], table: Mapping[str, Any]) -> list[Slice]:
    """Runs of neighbours with the same choice (and the same switches in code), their numbers stacked where they differ.

    Args:
        choices: one choice a member, [K].
        table: the factor's choices by name.
    """

    def code(choice: Choice) -> tuple[Any, ...]:
        switches = [(k, choice.options[k]) for k, o in table[choice.name].options.items() if not o.per_member]
        missing = [k for k, value in choice.options.items() if value is None]
        return choice.name, tuple(switches), tuple(missing)

    found, start = [], 0
    for stop in range(1, len(choices) + 1):
        if stop == len(choices) or code(choices[stop]) != code(choices[start]):
            group = choices[start:stop]
            options = {key: stacked([c.options[key] for c in group]) for key in group[0].options}
            found.append(Slice(start, stop, group[0].name, table[group[0].name], options))
            start = stop
    return found


def by_slices(slices: Sequence[Slice], function: Callable[..., Result], *tensors: Tensor) -> Result:
    """``function(slice, *its part of the tensors)`` of every slice, one tensor or two, put together by members."""
    if len(slices) == 1:
        return function(slices[0], *tensors)
    found = [function(s, *part) for s, *part in zip(slices, *(parts_of(slices, t) for t in tensors), strict=True)]
    if isinstance(found[0], tuple):
        first, second = zip(*found, strict=True)
        return joined(first), joined(second)
    return joined(found)


def parts_of(slices: Sequence[Slice], tensor: Tensor) -> Sequence[Tensor]:
    """Each slice's part of a tensor."""
    return torch.split_with_sizes(tensor, [s.stop - s.start for s in slices]) if len(slices) > 1 else [tensor]


def joined(parts: Sequence[Tensor]) -> Tensor:
    """The slices' tensors put together along the member axis."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def stacked(values: Sequence[Any]) -> Any:
    """One number if all members share it, else a tensor [m, 1, 1]."""
    if all(value == values[0] for value in values):
        return values[0]
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)  # as exact as one number; used in the weights' type
