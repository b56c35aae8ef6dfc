"""Means over seeds of which some stopped early are of all of them until the last planned epoch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mlp_study.figures.curves import KEPT, carried_to
from mlp_study.reporting.analysis import analysed
from mlp_study.reporting.make import make_report
from mlp_study.reporting.page_data import page_data
from mlp_study.reporting.study import CURVE_METRICS, Study, carried_on, read_study
from mlp_study.reproduction.drawing import draw_figures
from mlp_study.reproduction.experiments import Experiment
from mlp_study.reproduction.runs import Done, cells_of, names_of
from tests.reporting.synthetic import write_synthetic
from tests.small_runs import config


@pytest.mark.parametrize(
    ("outcome", "ended", "planned", "longest", "last"),
    [
        ("early_stopped", 4, 10, 50, 10),
        ("early_stopped", 4, 100, 50, 50),
        ("completed", 4, 10, 50, 4),
        ("diverged", 4, 10, 50, 4),
        ("pruned", 4, 10, 50, 4),
    ],
)
def test_only_a_run_that_stopped_early_goes_on(outcome, ended, planned, longest, last):
    assert carried_to(outcome, ended, planned, longest) == last


def test_the_last_measured_value_of_each_metric_is_kept():
    rows = [{"outcome": outcome, "trainer.max_epochs": 5} for outcome in ("early_stopped", "diverged", "completed")]
    curves = np.full((3, 6, len(CURVE_METRICS)), math.nan)
    curves[0, :3, 0], curves[0, :3:2, 2] = [3, 2, 1], [5, 4]
    curves[0, 1, 2] = math.nan
    curves[1, :2, 0] = [3, math.inf]
    curves[2, :, 0] = range(6)
    kept = carried_on(Study("sweep", [], runs=rows), curves)
    assert kept[0, :, 0].tolist()[:5] == [3, 2, 1, 1, 1]
    assert math.isnan(kept[0, 5, 0])
    assert kept[0, 3:5, 2].tolist() == [4, 4]
    np.testing.assert_array_equal(kept[1:], curves[1:])
    assert np.isnan(curves[0, 3:]).all()


def test_a_page_s_means_are_of_all_seeds(tmp_path: Path):
    several = ("trainer.max_epochs=4",)
    write_synthetic(tmp_path / "a", 1, 4, 1, several)
    write_synthetic(tmp_path / "b", 1, 2, 1, (*several, "seed=1"), outcome="early_stopped")
    made = make_report([tmp_path], figures=False)
    assert f"{KEPT[:1].upper()}{KEPT[1:]}." in made.read_text()
    study = analysed(read_study([tmp_path]))
    drawn = page_data(study, made)["curves"]["parts"]["train/loss"]["mean"]
    assert drawn == [[2.3, 1.15, pytest.approx((2.3 / 3 + 1.15) / 2, 1e-3), pytest.approx((2.3 / 4 + 1.15) / 2, 1e-3)]]


def test_a_reproduction_s_curves_go_on_as_their_title_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shown = []
    monkeypatch.setattr("mlp_study.figures.save_png", lambda figure, path: shown.append(figure) or path)
    found = Experiment("raw_relu", "t", "s", "q", {"relu": [], "tanh": []}, [], figures=["learning_curves"])
    made = {
        name: [config(f"activation={name}", "trainer.max_epochs=6", f"seed={s}") for s in range(2)]
        for name in found.variants
    }
    done = []
    for cell in cells_of(found, made):
        variant = names_of(cell)[1]
        stops = variant == "relu"
        epochs = range(1, (3 if stops else 6) + 1)
        names = ("train/loss", "val/loss", "train/accuracy", "val/accuracy")
        rows = [{"epoch": e, **dict.fromkeys(names, 0.5 / e)} for e in epochs]
        outcome = "early_stopped" if stops else "completed"
        done.append(Done(variant, cell.config, tmp_path, outcome, {}, rows))
    draw_figures(found, done, tmp_path)
    (figure,) = shown
    assert KEPT in figure.texts[0].get_text().replace("\n", " ")
    for line in figure.axes[0].get_lines():
        assert list(line.get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert figure.axes[0].get_lines()[0].get_ydata()[-1] == pytest.approx(0.5 / 3)
