"""Copies of a person's objects, and nothing of theirs changed: random states, gradients and modes stay as they were."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def random_states() -> list[Any]:
    """The states of all random number generators that a training draws from."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    return [torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()]


def set_random_states(states: list[Any]) -> None:
    """Set what ``random_states`` gave."""
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state_all(states[1])
    np.random.set_state(states[2])
    random.setstate(states[3])


def seeded(seed: int) -> list[Any]:
    """The states that a seed gives."""
    before = random_states()
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    states = random_states()
    set_random_states(before)
    return states


@contextlib.contextmanager
def drawing_from(states: list[Any]) -> Iterator[None]:
    """Draw from these states, in which the later ones are left behind; the user's are put back."""
    before = random_states()
    set_random_states(states)
    try:
        yield
    finally:
        states[:] = random_states()
        set_random_states(before)


@contextlib.contextmanager
def untouched(*modules: Any) -> Iterator[None]:
    """Put back random states, gradients, modes and the number of threads, and work as if no_grad were not on."""
    own = [module for module in modules if isinstance(module, nn.Module)]
    grads = [(p, p.grad if p.grad is None else p.grad.clone()) for module in own for p in module.parameters()]
    modes = [(part, part.training) for module in own for part in module.modules()]
    before, threads = random_states(), torch.get_num_threads()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        set_random_states(before)
        torch.set_num_threads(threads)
        for p, grad in grads:
            now = p.grad
            if (now is None) != (grad is None) or (now is not None and grad is not None and not torch.equal(now, grad)):
                p.grad = grad
        for part, mode in modes:
            part.training = mode


def copied(*things: Any) -> tuple[Any, ...]:
    """Deep copies that stay bound to each other: an optimizer's copy trains the model's copy.

    Hooks of the user's are left behind with the original where they cannot be copied; tensors that were computed from
    parameters, as by ``weight_norm``, are copied as plain tensors.
    """
    memo: dict[int, Any] = {}
    for thing in things:
        for module in thing.modules() if isinstance(thing, nn.Module) else ():
            for value in vars(module).values():
                if isinstance(value, Tensor) and not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
    return copy.deepcopy(things, memo)
