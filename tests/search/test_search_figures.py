"""Optuna's figures leave no trace in those that are drawn after them."""

from __future__ import annotations

import logging
from typing import Any

import matplotlib as mpl
import optuna
import pytest
from optuna.distributions import FloatDistribution

from mlp_study.search.objective import Objective
from mlp_study.search.optuna_plots import _plots, draw

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def settings() -> dict[str, Any]:
    """Matplotlib's, but for which library draws: none is on screen."""
    return {name: value for name, value in mpl.rcParams.items() if not name.startswith("backend")}


def test_optunas_style_reaches_no_later_figure(tmp_path):
    study = optuna.create_study(direction="maximize")
    for i in range(6):
        params = {"a": i / 10, "b": 1 - i / 20}
        kinds = {name: FloatDistribution(0, 1) for name in params}
        study.add_trial(optuna.create_trial(params=params, distributions=kinds, value=i / 7))
    before = settings()
    drawn = draw(study, [Objective("val/accuracy", True, None)], tmp_path)
    assert {"history", "slice"} <= set(drawn)
    assert settings() == before


def test_a_parameter_of_one_value_is_left_out_of_the_contours_without_a_word(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)
    study = optuna.create_study(direction="maximize")
    for i in range(4):
        params = {"a": i / 10, "b": 1 - i / 20} | ({"c": 0.5} if i == 2 else {})
        kinds = {name: FloatDistribution(0, 1) for name in params}
        study.add_trial(optuna.create_trial(params=params, distributions=kinds, value=i / 7))
    dict(_plots(study, [Objective("val/accuracy", True, None)]))["contour"]()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
