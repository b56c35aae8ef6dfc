"""What a person has in hand is bitwise as before, whatever the doctor did with copies of it, also where it raises."""

from __future__ import annotations

import contextlib
import copy
import random
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import mlp_study
from tests.doctor import tables as t

QUICK = {"epochs": 3, "budget": 2}


class Counting(nn.Module):
    """A network with everything that training can change: statistics, dropout, a frozen layer, plain attributes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(13, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1))
        self.fixed, self.head = nn.Linear(16, 16).requires_grad_(False), nn.Linear(16, 3)
        self.calls, self.seen = 0, []
        self.register_buffer("running", torch.zeros(16))

    def forward(self, x):
        self.calls += 1
        self.seen.append(len(x))
        h = self.body(x)
        self.running += h.detach().mean(0)
        return self.head(F.relu(self.fixed(h)))


class Breaking(Counting):
    """Raises in the middle of training."""

    def forward(self, x):
        if self.calls >= 5:
            raise self.error
        return super().forward(x)


class Weighing(nn.Module):
    """A loss with a state of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, output, target):
        loss = F.cross_entropy(output, target)
        self.mean.lerp_(loss.detach(), 0.1)
        return loss


def hooks_of(model: nn.Module) -> list[Any]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    on_modules = [(name, kind, list(getattr(m, kind))) for name, m in model.named_modules() for kind in kinds]
    return on_modules + [(name, list(p._backward_hooks or {})) for name, p in model.named_parameters()]


def state_of(model: nn.Module, optimizer: Any, loader: DataLoader | None, loss: Any) -> dict[str, Any]:
    """Everything that must not change, as copies."""
    plain = {k: copy.deepcopy(v) for k, v in vars(model).items() if isinstance(v, int | list | bool)}
    return {
        "weights": copy.deepcopy(model.state_dict()),
        "ids": [id(p) for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "hooks": hooks_of(model),
        "attributes": plain,
        "optimizer": copy.deepcopy(optimizer.state_dict()) if optimizer else None,
        "loss": copy.deepcopy(loss.state_dict()) if isinstance(loss, nn.Module) else None,
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "random": random.getstate(),
        "order": loader.generator.get_state() if loader is not None and loader.generator is not None else None,
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def same(a: Any, b: Any) -> bool:
    """Whether two states are bitwise equal."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [key for key in before if not same(before[key], after[key])]


def in_hand(kind: type[nn.Module] = Counting, *, lr: float = 0.05):
    """A model in mid-training: one part in eval mode, gradients, momentum, a hook, and a shuffling loader."""
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    x, y = t.standard(t.bundled("wine"))
    model = kind()
    model.head.register_forward_hook(lambda module, inputs, output: None)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr, momentum=0.9)
    loader = DataLoader(TensorDataset(x, y), 16, shuffle=True, generator=torch.Generator().manual_seed(5))
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    model.fixed.eval()
    return model, nn.CrossEntropyLoss(), optimizer, loader


@pytest.mark.parametrize("lr", [0.05, 1e-7], ids=["healthy", "faulty"])
def test_nothing_of_the_user_changes(lr):
    model, _, optimizer, loader = in_hand(lr=lr)
    loss = Weighing()
    before = state_of(model, optimizer, loader, loss)
    found = mlp_study.diagnose(model, loss, optimizer, loader, **QUICK)
    assert changed(before, state_of(model, optimizer, loader, loss)) == []
    str(found), found.to_dict(), found._repr_html_(), found.figure()
    assert changed(before, state_of(model, optimizer, loader, loss)) == []


def test_applying_and_training_a_fix_changes_nothing_of_the_user():
    model, loss, optimizer, loader = in_hand(lr=1e-7)
    before = state_of(model, optimizer, loader, loss)
    found = mlp_study.diagnose(model, loss, optimizer, loader, **QUICK)
    better = found.fixes[0].apply()
    better.fit()
    better.predict(t.bundled("wine")[0])
    assert changed(before, state_of(model, optimizer, loader, loss)) == []
    assert not {id(p) for p in better.model.parameters()} & {id(p) for p in model.parameters()}


def test_data_are_not_changed():
    x, y = (a.clone() for a in t.bundled("wine"))
    arrays = (x.numpy(), y.numpy())
    model = nn.Sequential(nn.Linear(13, 16), nn.ReLU(inplace=True), nn.Linear(16, 3))
    before = arrays[0].copy(), arrays[1].copy()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    mlp_study.diagnose(model, nn.CrossEntropyLoss(), optimizer, arrays, batch_size=16, **QUICK)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyError("broken"), KeyboardInterrupt()], ids=repr)
def test_nothing_changes_where_the_model_raises(error):
    model, loss, optimizer, loader = in_hand(Breaking)
    model.error = error
    before = state_of(model, optimizer, loader, loss)
    found = None
    with pytest.raises(type(error)) if isinstance(error, KeyboardInterrupt) else contextlib.suppress(Exception):
        found = mlp_study.diagnose(model, loss, optimizer, loader, **QUICK)
    assert found is None or not found.will_train
    assert changed(before, state_of(model, optimizer, loader, loss)) == []


def test_nothing_changes_where_the_data_raise():
    class Torn(Dataset):
        def __len__(self):
            return 100

        def __getitem__(self, i):
            if i == 60:
                raise OSError("the file is torn")
            return torch.randn(13), i % 3

    model, loss, optimizer, _ = in_hand()
    loader = DataLoader(Torn(), 16, shuffle=True, generator=torch.Generator().manual_seed(5))
    before = state_of(model, optimizer, loader, loss)
    with pytest.raises(Exception, match="torn"):
        mlp_study.diagnose(model, loss, optimizer, loader, **QUICK)
    after = state_of(model, optimizer, loader, loss)
    after["torch"] = before["torch"]  # the data set itself draws from it; the loader's order must be put back
    assert changed(before, after) == []


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode):
    model, loss, optimizer, loader = in_hand()
    plain = mlp_study.diagnose(model, loss, optimizer, loader, **QUICK)
    with mode():
        before = state_of(model, optimizer, loader, loss)
        found = mlp_study.diagnose(model, loss, optimizer, loader, **QUICK)
        assert changed(before, state_of(model, optimizer, loader, loss)) == []
    assert (found.will_train, found.chance) == (plain.will_train, plain.chance)


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if "second" not in k and "time" not in k}
    return [without_times(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize("lr", [0.05, 1e-5], ids=["healthy", "faulty"])
def test_the_same_training_gets_the_same_answer(lr):
    asked = [mlp_study.diagnose(*in_hand(lr=lr), epochs=3, budget=60) for _ in range(2)]
    assert without_times(asked[0].to_dict()) == without_times(asked[1].to_dict())


def test_a_lightning_module_is_as_before():
    class Own(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Counting()

        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.01)

    _, _, _, loader = in_hand()
    module = Own()
    before = state_of(module, None, loader, None), state_of(module.net, None, None, None)
    mlp_study.diagnose(module, data=loader, **QUICK)
    assert changed(before[0], state_of(module, None, loader, None)) == []
    assert changed(before[1], state_of(module.net, None, None, None)) == []
    assert module._trainer is None


@pytest.mark.slow
def test_a_loader_with_workers_is_as_before():
    model, loss, optimizer, _ = in_hand()
    x, y = t.standard(t.bundled("wine"))
    order = torch.Generator().manual_seed(5)
    loader = DataLoader(TensorDataset(x, y), 16, shuffle=True, num_workers=1, persistent_workers=True, generator=order)
    next(iter(loader))
    workers = loader._iterator
    before = state_of(model, optimizer, loader, loss)
    mlp_study.diagnose(model, loss, optimizer, loader, **QUICK)
    assert changed(before, state_of(model, optimizer, loader, loss)) == []
    assert loader._iterator is workers
    assert len(list(loader)) == len(loader)
