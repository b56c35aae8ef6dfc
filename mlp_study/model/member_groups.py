"""Groups of a population: neighbours that share a choice are computed in one call."""

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
class MemberGroup:
    """m neighbouring members that share one choice; options in which they differ are tensors [m, 1, 1]."""

    start: int
    stop: int
    name: str
    entry: Any  # the choice in its factor's table
    options: dict[str, Any]

    @property
    def members(self) -> slice:
        """The group's part of the member axis."""
        return slice(self.start, self.stop)

    @cached_property
    def alike(self) -> bool:
        """Whether each option is one for all members."""
        return not any(isinstance(value, Tensor) for value in self.options.values())

    def options_like(self, tensor: Tensor) -> dict[str, Any]:
        """Return the options, those that differ between members with the type and device of ``tensor``."""
        if self.alike:
            return self.options
        return {key: value.to(tensor) if isinstance(value, Tensor) else value for key, value in self.options.items()}


def member_groups(choices: Sequence[Choice], table: Mapping[str, Any]) -> list[MemberGroup]:
    """Group neighbours that have the same choice and the same switches; stack the numbers in which they differ.

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
            found.append(MemberGroup(start, stop, group[0].name, table[group[0].name], options))
            start = stop
    return found


def by_group(groups: Sequence[MemberGroup], function: Callable[..., Result], *tensors: Tensor) -> Result:
    """Call ``function(group, *its part of the tensors)`` for each group and join the one or two tensors it returns."""
    if len(groups) == 1:
        return function(groups[0], *tensors)
    found = [
        function(group, *part)
        for group, *part in zip(groups, *(split_by_group(groups, t) for t in tensors), strict=True)
    ]
    if isinstance(found[0], tuple):
        first, second = zip(*found, strict=True)
        return joined(first), joined(second)
    return joined(found)


def split_by_group(groups: Sequence[MemberGroup], tensor: Tensor) -> Sequence[Tensor]:
    """Split a tensor along the member axis, one part a group."""
    return (
        torch.split_with_sizes(tensor, [group.stop - group.start for group in groups]) if len(groups) > 1 else [tensor]
    )


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Join the groups' tensors along the member axis."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]


def stacked(values: Sequence[Any]) -> Any:
    """Return one number if all members share it, else a tensor [m, 1, 1]."""
    if all(value == values[0] for value in values):
        return values[0]
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)  # as exact as one number; used in the weights' type
