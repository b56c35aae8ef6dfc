"""The study's questions as files: each composes, plans, and says what it asks."""

from __future__ import annotations

import pytest

from mlp_study.config.composing import yaml_choices
from mlp_study.config.schema import RunConfig
from mlp_study.config.shipped import shipped
from mlp_study.sweep.fast_compose import Composer
from mlp_study.sweep.grid import expand
from mlp_study.sweep.plan import make_plan
from tests.sweep.sweeps import hydra_of

ASKED = {
    "activation_by_scale",
    "optimizer_by_scale",
    "width_and_depth",
    "gain_by_lr",
    "init_by_activation",
    "norm_rescues",
    "full_grid",
}


def grids() -> list[str]:
    return sorted(name for name in yaml_choices("sweeps") if name in ASKED)


def test_all_questions_are_there():
    assert set(grids()) == ASKED


@pytest.mark.parametrize("name", grids())
def test_a_file_asks_its_question_first_and_plans_a_grid_on_the_digits(name):
    text = (shipped("sweeps") / f"{name}.yaml").read_text()
    package, question, *_ = text.splitlines()
    assert package == "# @package _global_"
    assert question.startswith("# ")
    assert question.endswith("?")
    with hydra_of([f"+sweeps={name}"]) as (loader, master):
        assert master.hydra.mode.name == "MULTIRUN"
        params = [f"{key}={value}" for key, value in master.hydra.sweeper.params.items()]
        jobs = expand([*params, f"+sweeps={name}"], loader)
        plan = make_plan(jobs, Composer(loader, master))
    assert 20 < len(plan) == len(plan.jobs) <= 200
    assert {cell.config.data.name for cell in plan.cells} == {"digits"}


def test_another_data_set_and_another_axis_can_be_asked_for():
    name = "activation_by_scale"
    with hydra_of([f"+sweeps={name}", "data=mnist", "seed=3"]) as (loader, master):
        params = [f"{key}={value}" for key, value in master.hydra.sweeper.params.items()]
        jobs = expand([*params, f"+sweeps={name}", "data=mnist", "seed=3"], loader)
        configs = [RunConfig.from_dict(Composer(loader, master).compose(job)) for job in jobs[:2]]
    assert len(jobs) == 16
    assert {c.data.name for c in configs} == {"mnist"}
    assert {c.seed for c in configs} == {3}
