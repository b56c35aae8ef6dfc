"""Which combinations the curves show first."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlp_study.reporting.analysis import Analysis, analysed
from mlp_study.reporting.make import make_report
from mlp_study.reporting.page_data import page_data
from mlp_study.reporting.static_figures import curve_table
from mlp_study.reporting.study import read_study
from tests.reporting.conftest import Browser
from tests.reporting.synthetic import write_synthetic


def studied(top: Path, **settings: int) -> Analysis:
    return analysed(read_study([write_synthetic(top, **settings)]))


def chosen(study: Analysis) -> list[str]:
    order = list(study.groups)
    return [" ".join(order[place]) for place in study.telling]


def test_the_failures_their_cures_and_the_best_come_first(tmp_path):
    study = studied(tmp_path)  # relu fails on raw pixels, and so does elu; a learning rate does not vary
    assert study.factors == ["activation", "data.scale"]
    level = {" ".join(group): mean for group, mean in study.accuracy.items()}
    other_scale = max((f"relu {scale}" for scale in ("unit", "symmetric", "standard")), key=level.__getitem__)
    other_activation = max((f"{name} none" for name in ("sigmoid", "tanh", "gelu")), key=level.__getitem__)
    first = chosen(study)[:7]
    assert first[0] == "relu none"
    assert set(first[1:3]) == {other_scale, other_activation}
    assert first[3] == "elu none"
    assert max(level, key=level.__getitem__) in first


def test_every_combination_has_its_place_and_page_and_figure_show_the_same(tmp_path):
    study = studied(tmp_path, runs=120)
    order = study.telling
    assert sorted(order) == list(range(len(study.groups)))
    assert page_data(study, tmp_path / "report.html")["told_first"] == order
    assert set(curve_table(study)["combination"]) == {study.labels[place] for place in order[:7]}


def test_without_failures_curves_are_spread_between_the_best_and_the_worst(tmp_path):
    study = studied(tmp_path, runs=40)
    rows = [row for row in study.runs if row["activation"] == "gelu"]
    for i, row in enumerate(rows):
        row["test/accuracy"] = 0.9 + 0.01 * i
    study.study.runs[:] = rows
    study = analysed(study.study)
    assert chosen(study) == ["standard", "none", "symmetric", "unit"]


@pytest.mark.slow
def test_a_panel_without_a_value_says_so(browser: Browser, tmp_path: Path):
    page = make_report([write_synthetic(tmp_path / "runs")], tmp_path, figures=False)
    browser.open(page)
    panel = "#curves-dead"
    assert browser.js(f"return document.querySelector('{panel}').hidden") is False
    assert "Nothing to draw" not in browser.text("#units")
    browser.js("for (const t of document.querySelectorAll('#curve-groups input')) if (t.checked) t.click()")
    assert browser.js(f"return document.querySelector('{panel}').hidden") is True
    assert "Nothing to draw" in browser.text("#units")
