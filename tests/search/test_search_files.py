"""The study's searches as files: each composes, and says what it asks."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from mlp_study.config.composing import yaml_choices
from mlp_study.config.overrides import swept
from mlp_study.config.schema import RunConfig
from mlp_study.config.shipped import shipped
from mlp_study.search.space import read_space
from mlp_study.search.sweeper_settings import read_settings
from mlp_study.sweep.fast_compose import Composer
from tests.sweep.sweeps import hydra_of

FILES = [name for name in yaml_choices("sweeps") if name.startswith("optuna_")]


def test_all_searches_are_there():
    assert FILES == ["optuna_full", "optuna_lr_by_activation", "optuna_size"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_asks_its_question_first_and_all_its_trials_are_valid(name):
    text = (shipped("sweeps") / f"{name}.yaml").read_text()
    package, question, *_ = text.splitlines()
    assert package == "# @package _global_"
    assert question.startswith("# ")
    assert question.endswith("?")
    with hydra_of(swept([f"+sweeps={name}"])) as (loader, master):
        assert master.hydra.mode.name == "MULTIRUN"
        settings = read_settings(OmegaConf.to_container(master.hydra.sweeper, resolve=True))
        space = read_space(settings.params, [f"+sweeps={name}"], settings.conditions, loader)
        composer = Composer(loader, master)
        configs = [RunConfig.from_dict(composer.compose(sample)) for sample in space.samples()]
    assert len(configs) > 5
    assert {config.data.name for config in configs} == {"digits"}
