"""What a training step costs in counts that no clock disturbs: operations, products, pages; few members or many."""

from __future__ import annotations

import collections
import itertools
import platform
import resource
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlp_study.config.schema import RunConfig
from mlp_study.training.feed import Block
from mlp_study.training.module import PopulationModule
from mlp_study.training.population import train_population
from tests.small_runs import as_on_a_gpu, config

STEPS = 20


def members(count: int, *overrides: str, width: int = 4) -> list[RunConfig]:
    """Members of one minibatch that differ in their learning rate."""
    about = (f"model.widths=[{width}]", "trainer.max_epochs=2", "data.limit=640", "data.batch_size=32")
    return [config(*about, *overrides, f"optimizer.lr={0.01 * (1 + k / 100)}") for k in range(count)]


def second_epoch(
    monkeypatch: pytest.MonkeyPatch, configs: list[RunConfig], measure: Callable[[Callable[[], None]], Any]
) -> Any:
    """What ``measure`` makes of the training of the second epoch, one block of ``STEPS`` steps."""
    plain, found = PopulationModule.training_step, []

    def watched(module: PopulationModule, block: Block, index: int) -> None:
        if module.epochs_done == 1:
            assert block.index_RSB.shape[1] == STEPS
            found.append(measure(lambda: plain(module, block, index)))
        else:
            plain(module, block, index)

    monkeypatch.setattr(PopulationModule, "training_step", watched)
    train_population(configs)
    [value] = found
    return value


class Counting(TorchDispatchMode):
    """Counts the operations that reach a kernel, forward and backward, and the tensors that they make anew."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: collections.Counter[str] = collections.Counter()
        self.allocations = 0
        self.products: set[torch.dtype] = set()  # what matrix products were computed in

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        found = func(*args, **kwargs)
        fresh = [t for t in tree_leaves(found) if isinstance(t, Tensor) and t.untyped_storage()._cdata not in given]
        name = func.overloadpacket.__name__
        self.calls[name] += 1
        if "bmm" in name:
            self.products |= {t.dtype for t in tree_leaves(args) if isinstance(t, Tensor)}
        self.allocations += len(fresh)
        return found


def counted(train: Callable[[], None]) -> Counting:
    with Counting() as seen:
        train()
    return seen


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_the_operations_of_a_step_do_not_grow_with_the_number_of_members(monkeypatch, optimizer):
    few = second_epoch(monkeypatch, members(2, f"optimizer={optimizer}"), counted)
    many = second_epoch(monkeypatch, members(12, f"optimizer={optimizer}"), counted)
    products = [many.calls[name] / STEPS for name in ("baddbmm", "baddbmm_", "bmm")]
    # two forward; backward one for activations and two for weights, which add themselves to weights or velocities
    assert products == ([2, 0, 3] if optimizer == "adam" else [2, 2, 1])
    assert many.calls == few.calls
    assert many.allocations == few.allocations


def test_on_a_gpu_the_operations_of_a_mixed_step_do_not_grow_with_scales_and_seeds(monkeypatch):
    """The rules of docs/speed.md's grid, 5 activations x 4 optimizers, with few scales and seeds and with more."""
    as_on_a_gpu(monkeypatch)
    activations, optimizers = ("relu", "tanh", "sigmoid", "gelu", "elu"), ("sgd", "momentum", "adam", "rmsprop")

    def grid(scales: tuple[str, ...], seeds: int) -> list[RunConfig]:
        about = ("model.widths=[4]", "trainer.max_epochs=2", "data.limit=640", "data.batch_size=32")
        cells = itertools.product(activations, optimizers, scales, range(seeds))
        named = ((f"activation={a}", f"optimizer={o}", f"data.scale={s}", f"seed={seed}") for a, o, s, seed in cells)
        return [config(*about, *own) for own in named]

    few = second_epoch(monkeypatch, grid(("unit", "standard"), 2), counted).calls.total() / STEPS
    many = second_epoch(monkeypatch, grid(("none", "unit", "standard", "robust"), 5), counted).calls.total() / STEPS
    assert many <= few + 3  # more pieces of scaled images, nothing else


@pytest.mark.parametrize("optimizer", ["optimizer=sgd", "optimizer=momentum", "optimizer=adam"])
def test_with_bf16_every_product_of_a_step_is_one_of_bf16(monkeypatch, optimizer):
    seen = second_epoch(monkeypatch, members(4, optimizer, "trainer.precision=bf16"), counted)
    assert seen.products == {torch.bfloat16}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is told what to keep where it is glibc's")
def test_a_step_touches_no_fresh_pages_even_where_a_gradient_exceeds_what_glibc_keeps(monkeypatch):
    def pages(train: Callable[[], None]) -> float:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        train()
        return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / STEPS

    configs = members(112, "optimizer=sgd", width=100)
    gradient = len(configs) * 784 * 100 * 4
    assert gradient > 2**25  # glibc maps a larger block afresh each time
    assert second_epoch(monkeypatch, configs, pages) < 0.05 * gradient / resource.getpagesize()
