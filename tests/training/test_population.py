"""A run is a population of one: who else is in the population changes nothing but the last digits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch

from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError
from mlp_study.factors.losses import LOSSES
from mlp_study.factors.normalizers import NORMALIZERS
from mlp_study.factors.optimizers import OPTIMIZERS
from mlp_study.factors.schedules import SCHEDULES
from mlp_study.training import lockstep
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.feed import Feed
from mlp_study.training.lockstep import lockstep_data, lockstep_order, rules_first_fits, shape_key
from mlp_study.training.module import PopulationModule
from mlp_study.training.results import Listener, MemberResult, Metrics
from tests.small_runs import as_on_a_gpu, column, config, numbers, tiny_images, trained


def one_of_each() -> list[RunConfig]:
    """Members that differ in everything that members may differ in, each choice of every factor at least once."""
    rows: list[tuple[str, ...]] = []
    rows += [(f"optimizer={name}", "activation=tanh") for name in OPTIMIZERS]
    rows += [(f"loss={name}", "activation=sigmoid", "optimizer.lr=0.05") for name in LOSSES]
    rows += [(f"schedule={name}", "activation=prelu", "optimizer.lr=0.05") for name in SCHEDULES]
    rows += [(f"data.scale={name}", "activation=elu", "optimizer.lr=0.0001") for name in NORMALIZERS]
    rows += [
        ("optimizer.lr=0.02", "model.dropout=0.4", "data.gain=0.5"),
        ("optimizer.lr=0.3", "model.dropout=0.1", "activation=leaky_relu", "activation.slope=0.2"),
        ("optimizer.clip_norm=0.05", "optimizer.l2=0.01"),
        ("optimizer.clip_value=0.001", "optimizer.weight_decay=0.1"),
        ("optimizer=adam", "optimizer.lr=0.01", "optimizer.beta1=0.5", "activation=gelu", "init=he_normal"),
        ("optimizer=momentum", "optimizer.momentum=0.5", "schedule=step", "schedule.factor=0.5", "schedule.every=0.4"),
        ("loss=cross_entropy", "loss.label_smoothing=0.1", "seed=3", "data.split_seed=1"),
        ("early_stopping.patience=1", "early_stopping.min_delta=100"),
    ]
    return [config(*row, f"seed={5 * (k % 3)}") if "seed=3" not in row else config(*row) for k, row in enumerate(rows)]


def alone(configs: Sequence[RunConfig]) -> list[MemberResult]:
    return [trained(c)[0] for c in configs]


def module_of(*configs: RunConfig) -> PopulationModule:
    ordered = [configs[k] for k in lockstep_order(configs)]
    return PopulationModule(PopulationData(ordered, tiny_images()))


def test_of_a_grid_in_one_population_few_runs_of_equal_choices_are_left():
    grid = itertools.product(("relu", "sigmoid", "tanh"), ("sgd", "momentum", "adam"), range(4))
    module = module_of(*(config(f"activation={a}", f"optimizer={o}", f"seed={seed}") for a, o, seed in grid))
    assert module.feed.per_stream == [9] * 4  # members that share their minibatches stay together
    assert len(module.updates.groups) == 4 * 2 + 1  # three a stream, of which neighbouring streams share one
    assert len(module.mlp.activation_groups) == 4 * 6 + 1


NORMALIZED = (("batch", False), ("layer", False), ("batch", True))


@pytest.mark.parametrize(
    ("norm", "gpu"),
    [("none", False), ("none", True), *(pytest.param(*case, marks=pytest.mark.slow) for case in NORMALIZED)],
)
def test_a_mixed_population_equals_separate_runs(norm: str, gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = one_of_each()
    if norm != "none":
        configs = [config_with(c, norm) for c in configs[:: 3 if norm == "batch" else 4]]
    singles = alone(configs)
    if gpu:
        as_on_a_gpu(monkeypatch)
    together = trained(*configs)
    for k, (member, single) in enumerate(zip(together, singles, strict=True)):
        assert member.config is configs[k]
        assert member.population == {"size": len(configs), "index": k}
        assert member.outcome == single.outcome, member.cause
        assert len(member.curves) == len(single.curves)
        for name in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
            first, expected = member.curves[0][name], single.curves[0][name]
            assert first == pytest.approx(expected, rel=1e-4), (name, configs[k])
        assert member.metrics["test/loss"] == pytest.approx(single.metrics["test/loss"], rel=2e-3)
        assert member.diagnostics["initial"] == pytest.approx(single.diagnostics["initial"], rel=1e-4, abs=1e-6)


def config_with(c: RunConfig, norm: str) -> RunConfig:
    values = c.to_dict()
    values["model"]["norm"] = norm
    return RunConfig.from_dict(values)


def test_initial_weights_and_order_of_minibatches_are_bitwise_a_single_runs() -> None:
    configs = one_of_each()
    everyone = module_of(*configs)
    for place, member in enumerate(everyone.configs):
        single = module_of(member)
        for name, tensor in single.mlp.state_of(0).items():
            assert torch.equal(tensor, everyone.mlp.state_of(place)[name])
        for epoch in (1, 2):
            assert torch.equal(indices(single.feed, 0, epoch), indices(everyone.feed, place, epoch))


def indices(feed: Feed, k: int, epoch: int) -> torch.Tensor:
    """The images of one member's epoch in their order."""
    order = int(feed._order_of_member[k])
    return torch.cat([block.index_RSB[order].flatten() for block in feed.train_blocks(epoch)])


def test_every_seed_sees_its_whole_split_once_an_epoch_in_an_order_of_its_own() -> None:
    feed = module_of(config("seed=0"), config("seed=1"), config("seed=2", "data.split_seed=0")).feed
    assert feed.sizes.steps == 7
    seen = [[indices(feed, k, epoch) for epoch in (1, 2)] for k in range(3)]
    for first, second in seen:
        assert len(first.unique()) == len(first) == 207
        assert torch.equal(first.sort().values, second.sort().values)
        assert not torch.equal(first, second)
    assert torch.equal(seen[0][0].sort().values, seen[2][0].sort().values), "one split"
    assert not torch.equal(seen[0][0], seen[2][0]), "two orders"
    assert not torch.equal(seen[0][0].sort().values, seen[1][0].sort().values), "two splits"


def test_seed_0_is_a_seed() -> None:
    zero, again, one = (trained(config(f"seed={s}"))[0] for s in (0, 0, 1))
    assert numbers(zero) == numbers(again)
    assert numbers(zero)["weights"] != numbers(one)["weights"]


def test_the_same_population_twice_is_bitwise_the_same() -> None:
    configs = one_of_each()
    for first, second in zip(trained(*configs), trained(*configs), strict=True):
        assert numbers(first) == numbers(second)


def test_members_of_one_minibatch_share_a_stream_whatever_the_order() -> None:
    configs = [config(f"seed={s}", f"data.scale={scale}") for scale in ("unit", "none") for s in (0, 1, 0)]
    feed = module_of(*configs).feed
    assert feed.per_stream == [2, 2, 1, 1]
    assert len(feed.orders) == 2, "a minibatch is looked up once for all scales"
    gains = [config("data.gain=1"), config("data.gain=2"), config("data.gain=1")]
    assert module_of(*gains).feed.per_stream == [2, 1]


def test_on_a_gpu_equal_rules_stand_together_and_each_member_has_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch)
    grid = itertools.product(("relu", "tanh"), ("sgd", "adam"), ("unit", "robust"), range(3))
    configs = [config(f"activation={a}", f"optimizer={o}", f"data.scale={s}", f"seed={k}") for a, o, s, k in grid]
    module = PopulationModule(lockstep_data(configs, tiny_images()))
    assert (len(module.updates.groups), len(module.mlp.activation_groups)) == (2, 3)
    assert module.mlp.fed is None, "none share their images"
    module.feed.to("cpu")
    block = next(iter(module.feed.train_blocks(1)))
    together = module.feed.inputs(block)
    labels = module.feed.targets(block)
    for k, member in enumerate(module.configs):
        own = Feed([member], tiny_images())
        assert torch.equal(together[k], own.inputs(next(iter(own.train_blocks(1))))[0, : together.shape[1]])
        assert torch.equal(labels[k], own.targets(next(iter(own.train_blocks(1))))[0, : together.shape[1]])
    one_rule = [config(f"data.scale={s}", f"optimizer.lr={lr}") for s in ("unit", "none") for lr in (0.1, 0.2)]
    assert lockstep_data(one_rule, tiny_images()).feed.per_stream == [2, 2], "here sharing costs no call"


def test_on_a_gpu_a_minibatch_too_large_for_a_copy_each_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch)
    monkeypatch.setattr(lockstep, "STEP_BYTES", 8 * 32 * 36 * 4 - 1)
    members = [config(f"activation={a}", f"seed={k}") for a in ("relu", "tanh") for k in range(4)]
    assert lockstep_data(members, tiny_images()).feed.per_stream == [2] * 4
    assert not lockstep_data(members[:-1], tiny_images()).feed.shares
    monkeypatch.setattr(lockstep, "STEP_BYTES", 207 * 36 * 4)
    assert rules_first_fits([config("data.batch_size=full")], tiny_images()), "a full batch is the split"


def test_full_batches_of_fixed_images_are_one_stream_for_all_seeds() -> None:
    members = [config("data.batch_size=full", "data.validation=test", f"seed={s}") for s in range(3)]
    module = module_of(*members)
    assert module.feed.per_stream == [3]
    assert not torch.equal(module.mlp.weights[0][0], module.mlp.weights[0][1])


@pytest.mark.parametrize(
    "other",
    [
        "model.widths=[7]",
        "model.norm=layer",
        "data.batch_size=16",
        "data.validation=test",
        "data.limit=50",
        "trainer.max_epochs=4",
        "trainer.precision=64",
        "trainer.validate_every=2",
        "trainer.log_every_n_steps=1",
        "probes.images=10",
        "probes.every=2",
    ],
)
def test_what_cannot_train_together_is_refused(other: str) -> None:
    a, b = config(), config(other)
    assert shape_key(a) != shape_key(b)
    with pytest.raises(ConfigError, match="members of one population must share"):
        trained(a, b)


class Heard(Listener):
    """Everything that a listener hears."""

    def __init__(self) -> None:
        self.steps: dict[int, list[Metrics]] = {}
        self.epochs: dict[int, list[Metrics]] = {}
        self.results: dict[int, MemberResult] = {}
        self.configs: Sequence[RunConfig] = ()

    def started(self, configs: Sequence[RunConfig]) -> None:
        self.configs = configs

    def steps_logged(self, k: int, rows: list[Metrics]) -> None:
        self.steps.setdefault(k, []).extend(rows)

    def epoch_ended(self, k: int, row: Metrics) -> None:
        self.epochs.setdefault(k, []).append(row)

    def finished(self, k: int, result: MemberResult) -> None:
        self.results[k] = result


def test_listeners_hear_of_members_by_the_callers_numbers() -> None:
    configs = [config("activation=tanh", "seed=1"), config("activation=relu"), config("activation=tanh", "seed=0")]
    configs = [config_logging(c, 2) for c in configs]
    heard = Heard()
    results = trained(*configs, listener=heard)
    assert heard.configs == configs
    for k, result in enumerate(results):
        assert heard.results[k] is result
        assert heard.epochs[k] == result.curves
        single = Heard()
        trained(configs[k], listener=single)
        assert [row["step"] for row in heard.steps[k]] == list(range(2, 22, 2))
        for row, expected in zip(heard.steps[k], single.steps[0], strict=True):
            assert row == pytest.approx(expected, rel=1e-3)


def config_logging(c: RunConfig, every: int) -> RunConfig:
    values = c.to_dict()
    values["trainer"]["log_every_n_steps"] = every
    return RunConfig.from_dict(values)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_divergence_is_found_before_the_update_and_disturbs_nobody(norm: str) -> None:
    fine = [config("trainer.log_every_n_steps=1", f"seed={s}", f"model.norm={norm}") for s in range(4)]
    broken = config("optimizer.lr=1e38", "trainer.log_every_n_steps=1", "data.gain=1e4", "seed=0", f"model.norm={norm}")
    tame = config("optimizer.lr=0.02", "trainer.log_every_n_steps=1", "data.gain=1e4", "seed=0", f"model.norm={norm}")
    heard = Heard()
    with_it = trained(*fine, broken, listener=heard)
    without = trained(*fine, tame)
    for member, expected in zip(with_it[:4], without[:4], strict=True):
        assert numbers(member) == numbers(expected), "bitwise"
    lost = with_it[4]
    assert lost.outcome == "diverged"
    assert lost.cause is not None
    step = int(lost.cause.rsplit(" ", 1)[1])
    assert lost.cause.startswith("the loss became ")
    [row] = lost.curves
    assert set(row) == {"epoch", "step", "seconds", "train/loss"}, "nothing of the zeros in its place"
    assert (row["epoch"], row["step"]) == (1, step)
    losses = [r["train/step_loss"] for r in heard.steps[4]]
    assert [r["step"] for r in heard.steps[4]] == list(range(1, step + 1)), "logged up to the step in question"
    finite = torch.isfinite(torch.tensor(losses))
    assert finite[:-1].all()
    assert not finite[-1]
    assert {"train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy"} <= set(lost.metrics)
    assert heard.results[4] is lost
    assert [len(heard.epochs[k]) for k in range(5)] == [3, 3, 3, 3, 1]


def test_a_population_of_diverged_members_ends_at_once() -> None:
    lost = [config("optimizer.lr=1e30", "data.scale=none", "trainer.max_epochs=50", f"seed={s}") for s in range(3)]
    results = trained(*lost)
    assert [r.outcome for r in results] == ["diverged"] * 3
    assert max(r.metrics["epochs"] for r in results) <= 3


def test_a_network_that_breaks_in_its_very_last_step_has_diverged() -> None:
    """One step in all: its loss is a number, and what it leaves behind is not."""
    one_step = config("data.batch_size=full", "trainer.max_epochs=1", "optimizer.lr=1e38", "data.gain=1e10")
    [result] = trained(one_step)
    assert result.outcome == "diverged"
    assert result.cause == "val/loss became nan in epoch 1"
    assert "val/loss" in result.curves[0]
    unseen = config(
        "data.batch_size=full",
        "trainer.max_epochs=1",
        "optimizer.lr=1e38",
        "data.gain=1e10",
        "trainer.validate_every=2",
    )
    [result] = trained(unseen)
    assert (result.outcome, result.cause) == ("diverged", "val/loss became nan after the last step")


def test_compaction_leaves_the_numbers_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    short = [
        config(
            "early_stopping.patience=1",
            "early_stopping.min_delta=100",
            "trainer.max_epochs=5",
            f"seed={s}",
            f"activation={a}",
        )
        for s, a in ((0, "relu"), (1, "tanh"), (2, "relu"))
    ]
    long = [
        config(
            "trainer.max_epochs=5",
            "optimizer=adam",
            "schedule=cosine",
            "model.dropout=0.2",
            f"seed={s}",
            f"activation={a}",
            f"data.scale={scale}",
        )
        for s, a, scale in ((3, "relu", "unit"), (4, "tanh", "standard"), (0, "prelu", "unit"))
    ]
    configs = [short[0], long[0], short[1], long[1], long[2], short[2]]
    compactions = []
    compact = PopulationModule.compact
    monkeypatch.setattr(PopulationModule, "compact", lambda self: (compactions.append(self.epochs_done), compact(self)))
    compacted = trained(*configs)
    assert compactions == [2]
    monkeypatch.setattr(PopulationModule, "compact", lambda self: None)
    for member, expected in zip(compacted, trained(*configs), strict=True):
        assert member.outcome == expected.outcome
        for name in ("train/loss", "val/loss", "train/accuracy"):
            assert column(member, name) == pytest.approx(column(expected, name), rel=1e-4)
        for name, tensor in member.weights.items():
            torch.testing.assert_close(tensor, expected.weights[name], rtol=1e-3, atol=1e-4)
