"""Training one member against plain torch, and what the settings of a training do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mlp_study.config.schema import RunConfig
from mlp_study.doctor.config_lookahead import look_ahead
from mlp_study.errors import ConfigError
from mlp_study.runtime import devices
from mlp_study.training.datamodule import PopulationData
from mlp_study.training.module import PopulationModule
from mlp_study.training.population import train_population
from tests.small_runs import column, config, numbers, tiny_images, trained

Optimizers = Callable[[Any], torch.optim.Optimizer]
AGAINST_TORCH: dict[str, tuple[tuple[str, ...], Optimizers]] = {
    "sgd": (("optimizer.lr=0.1",), lambda p: torch.optim.SGD(p, lr=0.1)),
    "sgd with l2": (("optimizer.lr=0.1", "optimizer.l2=0.1"), lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1)),
    "momentum": (
        ("optimizer=momentum", "optimizer.lr=0.05", "optimizer.momentum=0.8"),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8),
    ),
    "adam": (
        ("optimizer=adam", "optimizer.lr=0.01", "optimizer.eps=0.001"),  # with less, batch normalization's zero
        lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-3),  # gradients of biases become steps of rounding noise
    ),
    "adamw": (
        ("optimizer=adamw", "optimizer.lr=0.01", "optimizer.weight_decay=0.3", "optimizer.eps=0.001"),
        lambda p: torch.optim.AdamW(p, lr=0.01, eps=1e-3, weight_decay=0.3),
    ),
}


def plain_module(c: RunConfig) -> PopulationModule:
    return PopulationModule(PopulationData([c], tiny_images()))


def minibatches(module: PopulationModule, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The scaled minibatches that a member sees, [B, I] and [B]."""
    feed = module.feed
    for epoch in range(1, epochs + 1):
        for block in feed.train_blocks(epoch):
            x_GSBI, y_KSB = feed.inputs(block), feed.targets(block)
            for s in range(x_GSBI.shape[1]):
                yield x_GSBI[0, s].clone(), y_KSB[0, s]


def train_plainly(
    c: RunConfig,
    optimizer: Optimizers,
    *,
    rate: Callable[[int], float] = lambda step: 1.0,
    clip: Callable[[Any], Any] = lambda parameters: None,
) -> tuple[nn.Sequential, list[float]]:
    """The usual loop over an exported, untrained network, on the same minibatches; and its losses."""
    module = plain_module(c)
    network = module.model(0).train()
    chosen = optimizer(network.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, rate)
    losses = []
    for x_BI, y_B in minibatches(module, c.trainer.max_epochs):
        chosen.zero_grad()
        loss = nn.functional.cross_entropy(network(x_BI), y_B)
        loss.backward()
        clip(network.parameters())
        chosen.step()
        scheduler.step()
        losses.append(loss.item())
    return network, losses


def assert_same_weights(c: RunConfig, network: nn.Sequential) -> None:
    [result] = trained(c)
    state = network.state_dict()
    for name, tensor in result.weights.items():
        torch.testing.assert_close(tensor, state[name], rtol=2e-4, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("name", AGAINST_TORCH)
def test_three_epochs_equal_a_plain_loop(name: str, norm: str) -> None:
    overrides, optimizer = AGAINST_TORCH[name]
    c = config(*overrides, "activation=tanh", f"model.norm={norm}")
    assert_same_weights(c, train_plainly(c, optimizer)[0])


def test_prelus_slopes_are_trained_as_torchs() -> None:
    c = config("activation=prelu", "optimizer.lr=0.1")
    network, _ = train_plainly(c, lambda p: torch.optim.SGD(p, lr=0.1))
    slopes = [p.weight.item() for p in network if isinstance(p, nn.PReLU)]
    assert all(abs(slope - 0.25) > 1e-4 for slope in slopes), "they have moved"
    assert_same_weights(c, network)


def test_a_schedule_multiplies_the_learning_rate_of_each_step() -> None:
    c = config("optimizer.lr=0.2", "schedule=cosine", "schedule.floor=0.1", "activation=tanh")
    network, _ = train_plainly(
        c, lambda p: torch.optim.SGD(p, lr=0.2), rate=lambda step: 0.1 + 0.9 * (1 + math.cos(math.pi * step / 21)) / 2
    )
    assert_same_weights(c, network)


def test_clipping_is_torchs() -> None:
    c = config("optimizer.lr=0.5", "optimizer.clip_norm=0.05", "activation=tanh")
    network, _ = train_plainly(
        c, lambda p: torch.optim.SGD(p, lr=0.5), clip=lambda p: nn.utils.clip_grad_norm_(p, 0.05)
    )
    assert_same_weights(c, network)
    c = config("optimizer.lr=0.5", "optimizer.clip_value=0.002", "activation=tanh")
    network, _ = train_plainly(
        c, lambda p: torch.optim.SGD(p, lr=0.5), clip=lambda p: nn.utils.clip_grad_value_(p, 0.002)
    )
    assert_same_weights(c, network)


def test_gradients_are_those_of_the_plain_network() -> None:
    c = config("activation=gelu", "model.norm=layer")
    module = plain_module(c)
    network = module.model(0).train()
    x_BI, y_B = next(minibatches(module, 1))
    nn.functional.cross_entropy(network(x_BI), y_B).backward()
    loss_K = module.mlp.loss(module.mlp(x_BI[None]), y_B[None]).mean(1)
    gradients = torch.autograd.grad(loss_K.sum(), list(module.mlp.parameters()))
    found = {name: g[0] for (name, _), g in zip(module.mlp.named_parameters(), gradients, strict=True)}
    for name, parameter in network.named_parameters():
        kind, layer = name.split(".")[0].split("_")
        ours = {"linear": {"weight": "weights", "bias": "biases"}, "norm": {"weight": "scales", "bias": "shifts"}}
        g = found[f"{ours[kind][name.split('.')[1]]}.{layer}"]
        torch.testing.assert_close(g.view_as(parameter), parameter.grad, rtol=1e-4, atol=1e-7)


def test_curves_are_the_means_over_an_epochs_images() -> None:
    """The last, smaller minibatch counts by its images, as in Keras; steps count minibatches."""
    c = config("optimizer.lr=0.1", "activation=tanh")
    _, losses = train_plainly(c, lambda p: torch.optim.SGD(p, lr=0.1))
    [result] = trained(c)
    sizes = [32] * 6 + [15]
    for epoch in range(3):
        mine = losses[7 * epoch : 7 * epoch + 7]
        mean = sum(size * loss for size, loss in zip(sizes, mine, strict=True)) / 207
        assert result.curves[epoch]["train/loss"] == pytest.approx(mean, rel=1e-4)
    assert column(result, "step") == [7, 14, 21]
    assert column(result, "epoch") == [1, 2, 3]


def test_the_test_metrics_are_those_of_the_exported_weights() -> None:
    c = config("optimizer=adam", "model.norm=batch", "model.dropout=0.3", "data.scale=standard")
    [result] = trained(c)
    module = plain_module(c)
    network = module.model(0)
    network.load_state_dict(result.weights, strict=False)
    images = tiny_images()
    logits_NC = network(module.feed.transforms[0](images.test_images_NI))
    assert result.predictions is not None
    assert torch.equal(logits_NC.argmax(1), result.predictions)
    hits = (logits_NC.argmax(1) == images.test_labels_N).float().mean().item()
    assert result.metrics["test/accuracy"] == pytest.approx(hits)
    loss = nn.functional.cross_entropy(logits_NC, images.test_labels_N).item()
    assert result.metrics["test/loss"] == pytest.approx(loss, rel=1e-5)
    [(_, most)] = Counter(images.test_labels_N.tolist()).most_common(1)
    assert result.metrics["test/chance"] == most / len(images.test_labels_N)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_full_batch_in_pieces_is_the_full_batch(dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [
        config("data.batch_size=full", f"model.dropout={dropout}", f"seed={s}", "optimizer.lr=0.5") for s in (0, 1)
    ]
    whole = trained(*configs)
    assert column(whole[0], "step") == [1, 2, 3]
    monkeypatch.setattr(devices, "STEP_BYTES", 40_000)
    assert plain_module(configs[0])._chunk < 100
    for member, expected in zip(trained(*configs), whole, strict=True):
        for name, tensor in member.weights.items():
            torch.testing.assert_close(tensor, expected.weights[name], rtol=1e-4, atol=1e-6)
        assert column(member, "train/loss") == pytest.approx(column(expected, "train/loss"), rel=1e-5)
        assert column(member, "train/accuracy") == column(expected, "train/accuracy")


def test_batch_normalization_of_a_batch_in_pieces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "STEP_BYTES", 40_000)
    with pytest.raises(ConfigError, match=r"data.batch_size=full needs more memory .* it takes at most \d+ images"):
        trained(config("data.batch_size=full", "model.norm=batch"))


@pytest.mark.parametrize("size", [1, 103])  # of 207 images: minibatches of one, and a last one of one
def test_batch_normalization_of_one_image_is_refused_as_torch_refuses_it(size: int) -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        torch.nn.BatchNorm1d(3)(torch.zeros(1, 3))
    with pytest.raises(ConfigError, match=f"model.norm=batch with data.batch_size={size}: the last minibatch of "):
        trained(config(f"data.batch_size={size}", "model.norm=batch"))
    assert trained(config("data.batch_size=104", "model.norm=batch", "trainer.max_epochs=1"))
    assert trained(config(f"data.batch_size={size}", "model.norm=layer", "trainer.max_epochs=1"))


def test_full_batch_descent_is_gradient_descent() -> None:
    c = config("data.batch_size=full", "optimizer.lr=0.5", "activation=tanh")
    network, losses = train_plainly(c, lambda p: torch.optim.SGD(p, lr=0.5))
    assert_same_weights(c, network)
    assert column(trained(c)[0], "train/loss") == pytest.approx(losses, rel=1e-4)


def test_a_limit_trains_on_the_first_images_only() -> None:
    c = config("data.limit=40", "data.validation=test")
    feed = plain_module(c).feed
    assert (feed.sizes.train, feed.sizes.steps) == (40, 2)
    assert torch.equal(feed.train_index(feed.keys[0]), torch.arange(40))
    with pytest.raises(ConfigError, match=r"data.limit=208 exceeds the 207 images of the training split"):
        trained(config("data.limit=208"))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("data.batch_size=full",),
        ("data.batch_size=5000", "data.validation=test"),
        ("data.batch_size=7", "data.validation=0.3", "data.limit=40", "seed=3"),
    ],
)
def test_the_sizes_that_a_plan_counts_on_are_those_that_are_fed(overrides: tuple[str, ...]) -> None:
    c = config(*overrides)
    feed = plain_module(c).feed
    minibatches = [len(index_B) for block in feed.train_blocks(1) for index_B in block.index_RSB[0]]
    sizes = c.data.sizes(tiny_images())
    assert (sizes.train, sizes.batch, sizes.steps) == (sum(minibatches), max(minibatches), len(minibatches))
    assert sizes.validation == sum(block.index_RSB.shape[2] for block in feed.evaluation_blocks("val", 8))


def test_a_minibatch_larger_than_the_split_is_the_whole_split() -> None:
    assert column(trained(config("data.batch_size=5000"))[0], "step") == [1, 2, 3]


def test_validation_on_the_test_set_trains_on_everything() -> None:
    [result] = trained(config("data.validation=test"))
    assert column(result, "step") == [8, 16, 24]  # 230 images
    assert result.metrics["val/accuracy"] == result.metrics["test/accuracy"]
    assert result.metrics["val/loss"] == pytest.approx(result.metrics["test/loss"], rel=1e-6)


def test_epochs_between_validations_have_no_validation_columns() -> None:
    [result] = trained(config("trainer.validate_every=2", "trainer.max_epochs=5"))
    assert [row["epoch"] for row in result.curves if "val/loss" in row] == [2, 4]
    assert len(column(result, "train/loss")) == 5
    [every] = trained(config("trainer.max_epochs=5"))
    assert result.metrics["val/loss"] == pytest.approx(every.metrics["val/loss"], rel=1e-6), "measured at the end"
    assert result.metrics["train/loss"] == every.metrics["train/loss"]


def keras_stops_at(values: list[float], patience: int, min_delta: float) -> int | None:
    """The epoch, from 1, after which keras.callbacks.EarlyStopping (3.15, mode min) ends a training, if it does."""
    best, wait = math.inf, 0
    for epoch, value in enumerate(values):
        wait += 1
        if value + min_delta < best:
            best, wait = value, 0
        elif wait >= patience and epoch > 0:
            return epoch + 1
    return None


def test_early_stopping_counts_as_keras_does_and_per_member() -> None:
    rules = [(1, "val/loss", 0.0), (2, "val/loss", 0.002), (3, "train/loss", 0.05), (0, "val/accuracy", 0.0),
             (2, "val/accuracy", 0.01)]  # fmt: skip
    base = ["optimizer.lr=0.2", "trainer.max_epochs=12", "seed=1"]
    configs = [
        config(*base, f"early_stopping.patience={p}", f"early_stopping.monitor={m}", f"early_stopping.min_delta={d}")
        for p, m, d in rules
    ]
    [undisturbed] = trained(config(*base))
    stops = []
    for result, (patience, monitor, delta) in zip(trained(*configs), rules, strict=True):
        sign = -1 if monitor.endswith("accuracy") else 1
        expected = keras_stops_at([sign * v for v in column(undisturbed, monitor)], patience, delta)
        stops.append(expected)
        assert result.outcome == ("completed" if expected is None else "early_stopped")
        if expected is not None:
            assert str(result.cause).endswith(f" for {max(patience, 1)} epoch{'s' * (patience > 1)}")
        assert len(result.curves) == (expected or 12), "no row after its end"
        assert result.metrics["epochs"] == len(result.curves)
        assert result.curves[-1]["val/loss"] == pytest.approx(
            undisturbed.curves[len(result.curves) - 1]["val/loss"], rel=1e-3
        )
        assert result.metrics["val/loss"] == result.curves[-1]["val/loss"]
    assert len(set(stops)) >= 3, f"a test of nothing: {stops}"


def test_early_stopping_is_off_by_default() -> None:
    assert config().early_stopping.patience is None


def test_64_bit_arithmetic_agrees_with_32_bit_and_has_more_digits() -> None:
    single, double = (trained(config(f"trainer.precision={p}", "optimizer=adam"))[0] for p in (32, 64))
    assert double.metrics["train/loss"] == pytest.approx(single.metrics["train/loss"], rel=1e-3)
    loss = double.curves[0]["train/loss"]
    assert loss != torch.tensor(loss, dtype=torch.float32).item()


def test_64_bit_numbers_of_members_are_as_exact_as_one_number() -> None:
    rates = ("0.1", "0.2")
    together = trained(*[config("trainer.precision=64", f"optimizer.lr={r}", "activation=tanh") for r in rates])
    for member, r in zip(together, rates, strict=True):
        [single] = trained(config("trainer.precision=64", f"optimizer.lr={r}", "activation=tanh"))
        assert column(member, "train/loss") == pytest.approx(column(single, "train/loss"), rel=1e-12)


def test_bf16_trains_with_the_newest_weights_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast may keep converted weights: within a block of many updates they must not be last step's."""
    c = config("trainer.precision=bf16", "optimizer.lr=0.1", "model.widths=[32,32]")
    [whole] = trained(c)
    monkeypatch.setattr("mlp_study.training.feed.BLOCK_STEPS", 1)
    [single] = trained(c)
    assert numbers(whole)["weights"] == numbers(single)["weights"]
    [exact] = trained(config("optimizer.lr=0.1", "model.widths=[32,32]"))
    assert whole.metrics["train/loss"] == pytest.approx(exact.metrics["train/loss"], rel=0.02)
    assert whole.metrics["train/loss"] != exact.metrics["train/loss"]


def test_blocks_of_any_length_train_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [
        config("optimizer=adam", "schedule=one_cycle", "model.dropout=0.2", f"data.scale={s}") for s in ("unit", "none")
    ]
    whole = trained(*configs)
    for steps in (1, 4):
        monkeypatch.setattr("mlp_study.training.feed.BLOCK_STEPS", steps)
        for member, expected in zip(trained(*configs), whole, strict=True):
            assert numbers(member)["weights"] == numbers(expected)["weights"]
            assert column(member, "train/loss") == pytest.approx(column(expected, "train/loss"), rel=1e-6)


def test_looking_at_a_run_changes_nothing() -> None:
    quiet = ("probes.ends=[]", "probes.epochs=[]", "trainer.log_every_n_steps=1000", "trainer.checkpoint=false")
    noisy = ("probes.steps=[1,3,8]", "trainer.log_every_n_steps=1", "probes.images=50")
    base = ("model.norm=batch", "model.dropout=0.2", "optimizer=adam")
    [a], [b] = trained(config(*base, *quiet)), trained(config(*base, *noisy))
    assert numbers(a)["weights"] == numbers(b)["weights"]
    for name in ("train/loss", "val/loss", "val/accuracy"):
        assert column(a, name) == column(b, name)
    assert a.diagnostics == {}
    assert set(b.diagnostics) == {"initial", "step_1", "step_3", "step_8", "final"}


def test_muon_on_a_single_unit_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="optimizer=muon needs weights that are matrices"):
        trained(config("optimizer=muon", "model.widths=[1]"))


@pytest.mark.parametrize("work", [train_population, look_ahead])
def test_networks_that_find_no_memory_name_what_asks_for_it(work):
    huge = config("model.widths=[1000000000000]", "data.batch_size=8")
    with pytest.raises(ConfigError, match=r"model\.widths=\[1000000000000\] with data\.batch_size=8 .*\(\d+ bytes"):
        work([huge], images=tiny_images())
