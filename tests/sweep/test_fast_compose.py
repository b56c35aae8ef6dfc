"""Fast composition gives what Hydra gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from mlp_study.config.composing import compose
from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError
from mlp_study.sweep.fast_compose import Composer
from mlp_study.sweep.grid import expand
from tests.sweep.sweeps import hydra_of

override = st.sampled_from(
    [
        *(f"activation={name}" for name in ("relu", "tanh", "leaky_relu", "prelu")),
        *(f"optimizer={name}" for name in ("sgd", "adam", "momentum")),
        *(f"data.scale={name}" for name in ("none", "unit")),
        "data=mnist",
        "data=digits",
        "optimizer.lr=0.3",
        "optimizer.lr=1e-3",
        "optimizer.weight_decay=0.5",
        "model.widths=[16]",
        "model.widths=[128,64]",
        "model={widths:[3],norm:batch}",
        "seed=7",
        "++seed=8",
        "+activation.slope=0.2",
        "data.batch_size=full",
        "wandb.tags=[a,b]",
        "wandb.group='x y'",
        "wandb.group=null",
        "optimizer.lr=${data.gain}",
        "~wandb.group",
        "experiment={name: x}",
        "hydra.job.name=other",
        "init=he_normal",
        "init.gain=2",
        "loss=mse",
    ]
)


# Without shrinking: each example composes twice, and a list of overrides is small enough to read.
@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
@example(["activation=tanh", "optimizer.lr=1e-3", "+activation.slope=0.2", "model.widths=[16]", "~wandb.group"])
@given(st.lists(override, min_size=1, max_size=6, unique_by=lambda o: o.split("=")[0].lstrip("+~")))
def test_a_job_gets_the_config_that_hydra_composes(job):
    def found() -> dict[str, Any]:
        with hydra_of() as (loader, master):
            return Composer(loader, master).compose(job)

    def outcome_of(composing: Callable[[], dict[str, Any]]) -> dict[str, Any] | str:
        try:
            return composing()
        except ConfigError as refused:
            return str(refused)

    assert outcome_of(found) == outcome_of(lambda: compose(job))


def test_hydra_composes_once_per_choice_and_not_per_combination():
    axes = ["activation=relu,tanh,sigmoid", "optimizer=sgd,adam", "data.scale=none,unit", "seed=range(0,50)"]
    with hydra_of() as (loader, master):
        composer = Composer(loader, master)
        found = [composer.compose(job) for job in expand(axes, loader)]
    assert composer.compositions <= 1 + 3 + 2
    assert len({RunConfig.from_dict(config).run_id for config in found}) == 3 * 2 * 2 * 50


def test_configs_of_different_jobs_share_nothing_that_can_be_changed():
    with hydra_of() as (loader, master):
        composer = Composer(loader, master)
        first = composer.compose(["model.widths=[8]"])
        first["model"]["widths"].append(9)
        assert composer.compose(["model.widths=[8]"])["model"]["widths"] == [8]


@pytest.mark.parametrize(
    "job",
    [
        ["seeed=3"],
        ["activation=rellu"],
        ["optimizer=sgd", "optimizer.beta1=0.5"],
        ["model.depth=2"],
        ["data.gain.x=1"],
    ],
)
def test_an_unknown_key_or_choice_is_refused_as_for_a_single_run(job):
    with pytest.raises(ConfigError) as single:
        RunConfig.from_dict(compose(job))
    with hydra_of() as (loader, master), pytest.raises(ConfigError) as swept:
        RunConfig.from_dict(Composer(loader, master).compose(job))
    assert str(swept.value) == str(single.value)


def test_a_group_choice_that_reads_another_group_is_composed_in_full(tmp_path):
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "own.yaml").write_text("name: mse\noutput: ${activation.name}\n")
    with hydra_of([f"hydra.searchpath=[file://{tmp_path}]"]) as (loader, master):
        composer = Composer(loader, master)
        found = [composer.compose(["loss=own", f"activation={name}"])["loss"]["output"] for name in ("sigmoid", "relu")]
    assert found == ["sigmoid", "relu"]
