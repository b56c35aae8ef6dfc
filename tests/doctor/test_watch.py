"""A watched training: faults are found, nothing is changed, nothing is left behind."""

from __future__ import annotations

import contextlib
import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import mlp_study
from mlp_study.doctor.watch import TrainingHealthWarning
from mlp_study.errors import ConfigError


def digits(scale=1 / 16):
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x * scale, dtype=torch.float32), torch.tensor(y)


def mlp(activation=nn.ReLU, depth=1, width=32):
    torch.manual_seed(0)
    layers = [nn.Linear(64, width), activation()]
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


def train(model, optimizer, steps=200, scale=1 / 16, batch=64, each=None):
    x, y = digits(scale)
    rng, criterion, losses = torch.Generator().manual_seed(0), nn.CrossEntropyLoss(), []
    for step in range(steps):
        i = torch.randint(len(x), (batch,), generator=rng)
        optimizer.zero_grad()
        loss = criterion(model(x[i]), y[i])
        loss.backward()
        if each:
            each(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


def watched(model, optimizer, **options):
    health = mlp_study.watch(model, optimizer, warn=False)
    with health:
        train(model, optimizer, **options)
    return health


def keys(health):
    return [cause.evidence.partition(";")[0] for cause in health.causes]


def test_a_healthy_training_says_nothing_and_has_a_table_and_a_figure():
    model = mlp()
    health = watched(model, torch.optim.Adam(model.parameters(), lr=1e-3), steps=300)
    assert health.causes == []
    frame = health.to_frame()
    assert {"dead", "saturated", "gradient", "update"} <= set(frame.columns)
    assert set(frame["step"]) == {0, 1, 3, 7, 15, 31, 49, 99, 149, 199, 249, 299}
    assert len(health.losses()) == 300
    assert len(health.figure().axes) == 4
    assert "300 steps watched" in health._repr_html_()


def test_the_numbers_are_what_torch_says():
    """Gradient and update of the first step against plain arithmetic."""
    model = mlp()
    twin = copy.deepcopy(model)
    health = watched(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=1)
    x, y = digits()
    i = torch.randint(len(x), (64,), generator=torch.Generator().manual_seed(0))
    F.cross_entropy(twin(x[i]), y[i]).backward()
    weight = twin[0].weight
    [row] = [row for row in health.rows if row.layer == "0"]
    assert row.gradient == pytest.approx((weight.grad.norm() / weight.norm()).item(), rel=1e-5)
    assert row.update == pytest.approx(0.1 * row.gradient, rel=1e-4)
    [units] = [row for row in health.rows if row.kind == "relu"]
    assert units.layer == "1"


def test_units_that_die_are_found_with_the_layer():
    model = mlp()
    health = watched(model, torch.optim.SGD(model.parameters(), lr=5.0), scale=1.0)
    assert any("of the units of relu are off" in said for said in keys(health))
    assert "1" in [cause.where for cause in health.causes]


def test_saturated_units_are_found():
    model = mlp(nn.Tanh)
    health = watched(model, torch.optim.SGD(model.parameters(), lr=1e-4), scale=100.0)
    assert any("of what tanh gives lies next to its bounds" in said for said in keys(health))


def test_a_gradient_that_vanishes_is_found():
    model = mlp(nn.Sigmoid, depth=10)
    health = watched(model, torch.optim.SGD(model.parameters(), lr=0.01))
    assert any("it vanishes" in said for said in keys(health))


def test_a_learning_rate_that_moves_nothing_is_found():
    model = mlp()
    health = watched(model, torch.optim.SGD(model.parameters(), lr=1e-10))
    assert any("no step moves a weight" in said for said in keys(health))


def test_a_loss_that_does_not_fall_is_found():
    model = mlp()
    health = watched(model, torch.optim.SGD(model.parameters(), lr=1e-6), steps=650)
    assert any("as at the start" in said for said in keys(health))


@pytest.mark.parametrize("at", [3, 77])
def test_a_value_that_is_not_finite_is_found_in_the_step_in_which_it_appears(at):
    model = mlp(depth=2)

    def poison(step):
        if step == at:
            model[2].weight.grad[0, 0] = float("nan")
            model[4].bias.grad[0] = float("nan")

    health = mlp_study.watch(model, torch.optim.SGD(model.parameters(), lr=0.01), warn=False)
    with health:
        train(model, health._optimizer, steps=at + 3, each=poison)
    assert health.found_at[0] == at + 1
    assert "not finite" in health.causes[0].evidence
    assert health.causes[0].where == "2"
    assert health.hopeless
    assert len(health.causes) == 1, "told once"


def test_a_finding_is_warned_of_once_with_its_step():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with mlp_study.watch(model, optimizer) as health:
            train(model, optimizer, scale=1.0)
    said = [str(w.message) for w in told if w.category is TrainingHealthWarning]
    assert len(said) == len(health.causes) == len(set(said))
    assert all(words.startswith("step ") and "try" in words for words in said)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_the_training_is_bitwise_the_unwatched_one(optimizer):
    def ended(watch):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10))
        opt = optimizer(model.parameters(), lr=0.01)
        torch.manual_seed(2)
        if watch:
            with mlp_study.watch(model, opt, every=3, warn=False):
                losses = train(model, opt, steps=60)
        else:
            losses = train(model, opt, steps=60)
        return losses, torch.get_rng_state(), model.state_dict()

    losses, rng, state = ended(True)
    plain_losses, plain_rng, plain_state = ended(False)
    assert losses == plain_losses
    assert torch.equal(rng, plain_rng)
    assert all(torch.equal(state[name], plain_state[name]) for name in state)


def hooks_of(model, optimizer):
    modules = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    everywhere = len(nn.modules.module._global_forward_hooks)
    return modules, len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks), everywhere


@pytest.mark.parametrize("where", ["forward", "loop", "nowhere"])
def test_no_hook_is_left_also_after_an_exception(where):
    class Breaks(nn.Module):
        def forward(self, x):
            if where == "forward":
                raise RuntimeError("planted")
            return x

    model = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), Breaks(), nn.Linear(8, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = hooks_of(model, optimizer)

    def each(step):
        if where == "loop" and step == 1:
            raise RuntimeError("planted")

    planted = pytest.raises(RuntimeError, match="planted") if where != "nowhere" else contextlib.nullcontext()
    with planted, mlp_study.watch(model, optimizer, warn=False):
        train(model, optimizer, steps=3, each=each)
    assert hooks_of(model, optimizer) == before
    assert torch.overrides._len_torch_function_stack() == 0


def test_functional_activations_several_passes_and_accumulation():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(64, 8), nn.Linear(8, 10)

        def forward(self, x):
            return self.second(F.relu(self.first(x)))

    model, (x, y) = Own(), digits()
    optimizer = torch.optim.Adam(model.parameters())
    with mlp_study.watch(model, optimizer, every=2, warn=False) as health:
        for _ in range(6):
            for half in (slice(0, 100), slice(100, 200)):  # two backward passes a step
                F.cross_entropy(model(x[half]), y[half]).backward()
            optimizer.step()
            optimizer.zero_grad()
            model.eval()
            model(x[:9])  # a validation in between is not looked at
            model.train()
    units = [row for row in health.rows if row.kind == "relu"]
    assert [row.step for row in units] == [0, 1, 3, 5]
    assert health.steps == 6


def test_a_loss_of_a_function_can_be_told():
    model, (x, y) = mlp(), digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with mlp_study.watch(model, optimizer, warn=False) as health:
        loss = F.cross_entropy(model(x), y)
        health.loss(loss)
        loss.backward()
        optimizer.step()
    assert health.losses() == [(0, pytest.approx(loss.item()))]


def test_it_hands_over_to_a_diagnosis():
    model, (x, y) = mlp(), digits()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    with mlp_study.watch(model, optimizer, warn=False) as health:
        train(model, optimizer, steps=2)
    found = health.diagnosis(nn.CrossEntropyLoss(), (x[:300], y[:300]), epochs=3, budget=20)
    assert not found.will_train
    assert found.fixes


def test_what_cannot_be_watched_is_one_line():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ConfigError, match="has no parameters"):
        mlp_study.watch(nn.ReLU(), optimizer)
    with pytest.raises(ConfigError, match=r"another model's"):
        mlp_study.watch(mlp(), optimizer)
    with pytest.raises(ConfigError, match=r"takes an optimizer of torch\.optim, not str"):
        mlp_study.watch(model, "sgd")
    with pytest.raises(ConfigError, match=r"every=0 is not valid"):
        mlp_study.watch(model, optimizer, every=0)
    with mlp_study.watch(model, optimizer, warn=False) as health, pytest.raises(ConfigError, match="watched already"):
        mlp_study.watch(model, optimizer).__enter__()
    with pytest.raises(ConfigError, match="was used before"), health:
        pass
    never = pytest.warns(TrainingHealthWarning, match=r"optimizer.step\(\) was never called")
    with never, mlp_study.watch(model, optimizer):
        pass
