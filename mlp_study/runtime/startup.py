"""Imports at half their price: what a short run spent its time on.

``import torch`` cannot be had for less, ``import lightning`` can: it brings in the compiler behind ``torch.compile``,
Triton, matplotlib, SciPy and torchvision, of which a run uses nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

UNUSED = ("torchvision", "scipy", "matplotlib")  # by the metrics that a run computes: torchmetrics has others


class Process:
    """The process that imports.

    Attributes:
        of_a_command: whether it is a command's own: what its imports leave out, nobody else in it can miss.
    """

    of_a_command = False


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Imports without garbage collection, which would look through a million objects again and again and free none.

    In a command's process what they made stays exempt (``gc.freeze``), at exit too.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        if Process.of_a_command:
            _single_threaded_numpy()
        yield
    finally:
        if before:
            if Process.of_a_command:
                gc.freeze()
                atexit.register(_unfreeze)
            gc.enable()


def _single_threaded_numpy() -> None:
    """Import NumPy without its BLAS's threads, whose start takes longer than the rest of the import.

    No command does linear algebra with NumPy to speak of. PyTorch's BLAS is another one, and takes its own number.
    """
    name = "OPENBLAS_NUM_THREADS"
    if "numpy" in sys.modules or name in os.environ:
        return
    os.environ[name] = "1"  # read once, when the library is loaded
    try:
        importlib.import_module("numpy")
    finally:
        del os.environ[name]


def spin_briefly() -> None:
    """Before PyTorch is imported: its idle threads give their cores up after a tenth of a millisecond or a few.

    Until then they wait for the next operation awake, by default for milliseconds: all the time in which a sweep writes
    records, and W&B's process wants that core. A training step's next operation comes sooner.
    """
    if "OMP_WAIT_POLICY" not in os.environ:  # what the user asks for
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # read once, when the library is loaded


def _unfreeze() -> None:
    """Triton's extension complains at exit of objects that nobody has freed."""
    if "triton" in sys.modules:
        gc.unfreeze()


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """For the first import of Lightning: in a command's process without what no command uses.

    In a process of the user's own, torchmetrics finds all that is installed, and torchvision the compiler.
    """
    with uncollected(), contextlib.ExitStack() as left_out:
        if Process.of_a_command:
            left_out.enter_context(_without_unused_metrics())
            left_out.enter_context(_standing_in())
        yield


@contextlib.contextmanager
def _without_unused_metrics() -> Iterator[None]:
    """Keep torchmetrics from importing what its image, audio and plotting functions want."""
    from lightning_utilities.core import imports

    found, available = imports.RequirementCache._check_available, imports.package_available

    def check(self: imports.RequirementCache) -> None:
        if (self.requirement or self.module or "").startswith(UNUSED):
            self.available, self.message = False, "not imported by mlp_study's commands"
        else:
            found(self)

    def is_available(name: str) -> bool:
        return name not in UNUSED and bool(available(name))

    cache: Any = imports.RequirementCache  # Any: a method and a cached function, to which types let nobody assign
    names: Any = imports
    cache._check_available, names.package_available = check, is_available
    try:
        yield
    finally:
        cache._check_available, names.package_available = found, available


class StandIn(ModuleType):
    """A module in the place of one that is not imported yet: it has a few names; the original comes with any other."""

    def __init__(self, name: str, **names: Any) -> None:
        super().__init__(name)
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked of every module by those who look around
            raise AttributeError(name)
        self.leave()
        return getattr(importlib.import_module(self.__name__), name)

    def leave(self) -> None:
        """Make room for the original."""
        package, _, name = self.__name__.rpartition(".")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        if vars(sys.modules[package]).get(name) is self:
            delattr(sys.modules[package], name)


@contextlib.contextmanager
def _standing_in() -> Iterator[None]:
    """Stand-ins for two modules of torch while Lightning is imported, unless they are there already.

    Lightning takes names from them that it calls, or asks an object's type for, only where a network is compiled or
    summarized. The stand-ins' names then do what the originals do.
    """
    importlib.import_module("torch.utils")
    stand_ins = (
        StandIn("torch._dynamo", OptimizedModule=_Compiled, disable=_not_compiled),
        StandIn("torch.utils.flop_counter", FlopCounterMode=_flop_counter),
    )
    placed = [module for module in stand_ins if module.__name__ not in sys.modules]
    sys.modules.update({module.__name__: module for module in placed})
    try:
        yield
    finally:
        for module in placed:
            module.leave()


class _OnlyIfCompiled(type):
    def __instancecheck__(cls, instance: object) -> bool:
        dynamo = sys.modules.get("torch._dynamo")  # nothing is compiled where nobody has imported it
        return dynamo is not None and isinstance(instance, dynamo.OptimizedModule)


class _Compiled(metaclass=_OnlyIfCompiled):
    """Stands in for ``torch._dynamo.OptimizedModule``, the type of compiled networks."""


def _not_compiled(fn: Callable[..., Any], recursive: bool = True, *, reason: str | None = None) -> Callable[..., Any]:
    """Stands in for ``torch._dynamo.disable``: what ``fn`` does stays out of compiled graphs."""
    from torch._compile import _disable_dynamo

    return _disable_dynamo(fn, recursive)


def _flop_counter(*arguments: Any, **options: Any) -> Any:
    """Stands in for ``torch.utils.flop_counter.FlopCounterMode``."""
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(*arguments, **options)
