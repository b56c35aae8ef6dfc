"""Probes along a run, and the look-ahead against the training that it foretells."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from mlp_study.config.composing import compose
from mlp_study.config.schema import RunConfig
from mlp_study.data.images import load
from mlp_study.doctor.config_lookahead import far_enough, look_ahead, milestones, watch
from mlp_study.doctor.forecast import FARTHEST, features
from mlp_study.factors.diagnostics import DIAGNOSTICS
from mlp_study.training import probing
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.lockstep import lockstep_data, lockstep_order
from mlp_study.training.module import PopulationModule
from mlp_study.training.population import train_population
from mlp_study.training.probing import measure_ends
from mlp_study.training.results import Listener

ALL = ",".join(DIAGNOSTICS)


def run(*overrides):
    return RunConfig.from_dict(compose(["data.limit=300", "model.widths=[20]", "trainer.max_epochs=2", *overrides]))


def test_the_puzzles_mechanism_is_in_the_record():
    raw, unit = train_population([run("data.scale=none", "trainer.max_epochs=8"), run("trainer.max_epochs=8")])
    assert raw.diagnostics["initial"]["dead"] < 0.3
    assert raw.diagnostics["final"]["dead"] == 1
    assert [row["dead"] for row in raw.curves][-1] == 1
    assert unit.diagnostics["final"]["dead"] < 0.3
    assert unit.diagnostics["initial"]["missed"] == unit.diagnostics["initial"]["missed_0"]


def test_the_final_dead_units_are_those_of_the_exported_network():
    """Over the whole training split, against the plain network."""
    config = run("data.scale=none", "optimizer.lr=0.003")
    [result] = train_population([config])
    images = load("digits")
    from mlp_study.training.feed import Feed

    feed = Feed([config], images)
    x_NI = feed.transforms[0](images.train_images_NI[feed.train_index(feed.keys[0])])
    z_NO = x_NI @ result.weights["linear_0.weight"].T + result.weights["linear_0.bias"]
    assert len(x_NI) == 300
    assert result.diagnostics["final"]["dead"] == pytest.approx((z_NO <= 0).all(0).double().mean().item())
    assert result.diagnostics["final"]["sparsity"] == pytest.approx((z_NO <= 0).double().mean().item(), abs=1e-4)


def test_looking_changes_nothing():
    """Every probe there is, each epoch, at steps and at both ends, against none: the same weights, bitwise."""
    norm = "model.norm=batch"
    watched = [f"probes.ends=[{ALL}]", f"probes.epochs=[{ALL}]", "probes.steps=[3,12]", norm]
    [seen] = train_population([run(*watched, "optimizer=adam")])
    [unseen] = train_population([run("probes.ends=[]", "probes.epochs=[]", norm, "optimizer=adam")])
    assert all(torch.equal(seen.weights[name], tensor) for name, tensor in unseen.weights.items())
    assert unseen.diagnostics == {}
    assert set(seen.diagnostics) == {"initial", "step_3", "step_12", "final"}
    assert seen.diagnostics["step_12"]["stability_index"] > 0
    assert seen.diagnostics["final"]["update_ratio"] > 0
    missing = {name for name in DIAGNOSTICS if not any(value.startswith(name) for value in seen.curves[-1])}
    assert missing == {"saturated"}, "a ReLU has no flat side; all else is in the curves"
    assert run(*watched).run_id == run(norm).run_id


def module_of(*members):
    """An untrained population of these members' overrides, its feed in place."""
    configs = [run("data.validation=test", *more) for more in members]
    module = PopulationModule(lockstep_data(configs, load("digits")))
    module.on_train_start()
    return module, module.data.order


@pytest.mark.parametrize("norm", ["none", *(pytest.param(n, marks=pytest.mark.slow) for n in ("batch", "layer"))])
def test_the_whole_split_is_seen_alike_alone_and_in_a_population(norm, monkeypatch):
    """Seeds, scales, learning rates and activations together, in pieces of the split, against each one on its own."""
    choices = product(
        ("seed=0", "seed=1"), ("data.scale=none", "data.scale=unit"), ("activation=relu", "activation=tanh")
    )
    members = [[*choice, f"optimizer.lr={lr}", f"model.norm={norm}"] for choice in choices for lr in (0.01, 0.02)]
    module, order = module_of(*members)
    alone = [measure_ends(one, one.mlp, one.feed)[0] for one, _ in (module_of(member) for member in members)]
    monkeypatch.setattr(probing, "CACHE_BYTES", 0)
    monkeypatch.setattr(probing, "FEWEST", 70)  # 300 images: four pieces and a rest
    together = measure_ends(module, module.mlp, module.feed)
    assert len(together) == 16
    for place, k in enumerate(order):
        assert together[place] == pytest.approx(alone[k], rel=1e-4, abs=1e-6)


def test_batch_normalization_is_looked_at_as_it_trains():
    """By the running statistics, whatever they are, nothing changes, and they are not changed."""
    module, _ = module_of(["model.norm=batch", "probes.ends=[sharpness,preactivation,saturated]", "activation=tanh"])
    before = measure_ends(module, module.mlp, module.feed)
    module.mlp.eval()
    module.mlp.get_buffer("mean_0").fill_(3.0)
    assert measure_ends(module, module.mlp, module.feed) == before
    assert not module.mlp.training
    assert bool((module.mlp.get_buffer("mean_0") == 3.0).all())


def test_adaptive_optimizers_are_judged_by_what_they_have_gathered():
    """From three of torch's own; a member of plain descent, and one that has ended, have nothing."""
    rules = ("adam", "rmsprop", "adagrad", "sgd")
    module, order = module_of(*([f"optimizer={name}", "optimizer.lr=0.01"] for name in rules))
    names = [rules[k] for k in order]
    gradients = [[torch.randn_like(p) for p in module.mlp.parameters()] for _ in range(5)]
    for step in gradients:
        module.updates.step([g.clone() for g in step])
    squares = module.updates.squares()
    for place, name in enumerate(names):
        for j, square in enumerate(squares):
            theirs = torch.zeros_like(square[place], requires_grad=True)
            options = {"lr": 0.01} | ({"alpha": 0.9} if name == "rmsprop" else {})
            rule = {"adam": torch.optim.Adam, "rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad}.get(name)
            if rule is None:
                assert bool(square[place].isnan().all())
                continue
            optimizer = rule([theirs], **options)
            for step in gradients:
                theirs.grad = step[j][place].clone()
                optimizer.step()
            state = optimizer.state[theirs]
            expected = {"adam": "exp_avg_sq", "rmsprop": "square_avg", "adagrad": "sum"}[name]
            gathered = state[expected] / (1 - 0.999**5) if name == "adam" else state[expected]
            torch.testing.assert_close(square[place], gathered, rtol=1e-4, atol=1e-6)
    module.end_member(names.index("adam"), "early_stopped")
    kept = probing._kept_squares(module, module.whole())
    assert bool(kept[0][names.index("adam")].isnan().all())
    torch.testing.assert_close(kept[0][names.index("adagrad")], squares[0][names.index("adagrad")])


def test_members_get_what_they_asked_for_and_epochs_between_are_left_out():
    configs = [run("probes.every=2", "seed=1"), run("probes.every=2", "probes.epochs=[weight_norm]", "activation=tanh")]
    relu, tanh = train_population(configs)
    assert ["dead" in row for row in relu.curves] == [False, True]
    assert "weight_norm" in tanh.curves[1]
    assert "saturated" not in tanh.curves[1]
    assert "dead" not in tanh.diagnostics["initial"]


class Losses(Listener):
    def __init__(self):
        self.found = {}

    def steps_logged(self, k, rows):
        self.found.setdefault(k, []).extend(row["train/step_loss"] for row in rows)


@pytest.mark.parametrize("more", [[], ["schedule=cosine", "optimizer=momentum"], ["data.batch_size=full"]])
def test_the_look_ahead_is_the_trainings_beginning(more):
    configs = [run("trainer.log_every_n_steps=1", f"activation={a}", *more) for a in ("relu", "tanh")]
    listener = Losses()
    train_population(configs, listener)
    order = lockstep_order(configs)
    glimpses = look_ahead([configs[k] for k in order], load("digits"), steps=12, initial=())
    for place, k in enumerate(order):
        assert glimpses[place].losses == listener.found[k][:12]
        assert [row["step"] for row in glimpses[place].rows] == [0, *milestones(len(glimpses[place].losses))]


def test_a_look_ahead_says_how_far_the_next_step_goes_and_what_chance_would_lose():
    """The update ratio after one step is the distance to the weights after two, of the same minibatch's update."""
    config = run("loss=mse", "data.batch_size=full", "model.widths=[8]", "trainer.max_epochs=3")
    images = load("digits")
    [glimpse] = look_ahead([config], images, steps=2, initial=(), seen=10**6)
    after = {}
    for steps in (1, 2):
        module = PopulationModule(PopulationData([config], images))
        watch(module, steps, initial=())
        after[steps] = torch.cat([w.detach().flatten() for w in module.mlp.weights])
    moved = (after[2] - after[1]).norm() / after[1].norm()
    assert glimpse.rows[1]["update_ratio"] == pytest.approx(float(moved), rel=1e-3)
    assert glimpse.chance_loss == pytest.approx(0.09)


def test_a_long_training_is_looked_at_further_until_the_forecast_knows_its_length():
    assert [far_enough(total) for total in (10, 340, 5_000, 10_000, 93_750, 10**7)] == [128, 128, 128, 184, 1718, 2000]
    [glimpse] = look_ahead([run("trainer.max_epochs=1000", "model.widths=[8]")], load("digits"), initial=())
    assert len(glimpse.losses) == glimpse.rows[-1]["step"] == far_enough(glimpse.total_steps) > 128
    assert features(glimpse)["ahead"] == pytest.approx(FARTHEST, abs=0.01)


def test_a_look_ahead_meets_divergence():
    config = run("activation=leaky_relu", "data.scale=none", "optimizer.lr=1", "model.widths=[20,20]")
    [glimpse] = look_ahead([config], load("digits"), initial=())
    assert glimpse.diverged.startswith("the loss became")


def test_unknown_probes_are_refused():
    with pytest.raises(Exception, match="did you mean 'dead'"):
        run("probes.ends=[deadd]")
    with pytest.raises(Exception, match=r"probes\.steps"):
        run("probes.steps=[0]")
