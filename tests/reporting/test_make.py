"""The report from damaged, partial, mixed and large folders, and its statistics against independent formulas."""

from __future__ import annotations

import csv
import html
import json
import math
import re
import shlex
import statistics
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from mlp_study.errors import ConfigError, DataError
from mlp_study.report import main
from mlp_study.reporting.analysis import analysed, kaplan_meier
from mlp_study.reporting.axes import factors_of
from mlp_study.reporting.failures import mechanisms_of
from mlp_study.reporting.make import make_report
from mlp_study.reporting.static_figures import Picture, estimates, map_axes, told_apart
from mlp_study.reporting.study import CURVE_METRICS, read_study
from mlp_study.reporting.variance import decomposition
from tests.reporting.synthetic import write_synthetic


def answer_of(page: Path) -> str:
    """The headline and the sentences."""
    found = re.findall(r'<p class="(?:headline|answer)">(.*?)</p>', page.read_text())
    return html.unescape(" ".join(found))


def test_an_empty_folder_is_one_line(tmp_path):
    with pytest.raises(DataError, match="holds no run"):
        make_report([tmp_path])
    with pytest.raises(DataError, match="is not a folder"):
        make_report([tmp_path / "nowhere"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "found"),
    [([], "at least one folder"), (["x", "figure=no"], "figure"), (["x", "figures=no"], "figures=no")],
)
def test_bad_options_are_one_line(arguments, found):
    with pytest.raises(ConfigError, match=found):
        main(arguments)


def test_folders_without_a_finished_run_make_a_partial_page(tmp_path):
    write_synthetic(tmp_path, 4)
    for path in tmp_path.glob("*/result.json"):
        path.unlink()
    page = make_report([tmp_path], figures=False)
    assert answer_of(page) == "No run has finished yet."
    assert "Partial: 4 runs have no result yet" in page.read_text()


def test_damaged_and_newer_records_are_listed(tmp_path):
    write_synthetic(tmp_path, 20)
    (tmp_path / "00000" / "result.json").write_text('{"format": 1, "run_')
    newer = json.loads((tmp_path / "00001" / "result.json").read_text())
    (tmp_path / "00001" / "result.json").write_text(json.dumps({**newer, "format": 99}))
    (tmp_path / "00002" / "result.json").write_text("[]")
    (tmp_path / "00003" / "curves.csv").write_text("epoch,step\n1,x\n2")
    (tmp_path / "00004" / "curves.csv").write_text("")
    (tmp_path / "00005" / "result.json").unlink()
    text = make_report([tmp_path], figures=False).read_text()
    assert "Over 16 runs" in text
    assert "5 records could not be read" in text
    assert "written by a newer mlp_study" in text
    assert "Partial: 1 run has no result yet" in text


def test_data_sets_are_not_pooled(tmp_path):
    write_synthetic(tmp_path / "a", 40)
    write_synthetic(tmp_path / "b", 20, data="mnist")
    page = make_report([tmp_path], figures=False)
    assert "Over 40 runs on digits: 20 combinations" in answer_of(page)
    assert "Several data sets (digits, mnist)" in page.read_text()


def test_a_searchs_command_is_the_one_that_a_shell_takes(tmp_path):
    write_synthetic(tmp_path, 1)
    task = ["optimizer.lr=tag(log,interval(1e-3,1))", "activation=relu,tanh", "sweep_dir=/a b"]
    typed = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=8"]
    hydra = {"overrides": {"hydra": [*typed, "hydra.sweep.dir=/a b", "hydra.mode=MULTIRUN"], "task": task}}
    (tmp_path / "multirun.yaml").write_text(json.dumps({"hydra": hydra}))
    (command,) = read_study([tmp_path]).commands
    assert shlex.split(command) == ["python", "-m", "mlp_study.train", "-m", *typed, *task]


def test_several_folders_compare(tmp_path):
    folders = [write_synthetic(tmp_path / name, 10) for name in ("a", "b")]
    page = make_report(folders, tmp_path / "both", figures=False)
    with (page.parent / "report" / "combinations.csv").open() as file:
        assert {line["folders"] for line in csv.DictReader(file)} == {"a", "b"}
    assert "<h1>Comparison of a and b</h1>" in page.read_text()


def test_a_comparison_says_what_each_folder_has_and_how_they_differ(tmp_path):
    a = write_synthetic(tmp_path / "a", 40)
    b = write_synthetic(tmp_path / "b", 20, seeds=1, overrides=("model.widths=[30]", "trainer.max_epochs=9"))
    answer = answer_of(make_report([a, b], tmp_path / "both", figures=False))
    assert answer.startswith("a: best accuracy 0.94")
    assert "; b: best accuracy 0.9" in answer
    assert "a: 40 runs on digits, 4 fail. b: 20 runs on digits, 2 fail. They differ" in answer
    assert "They differ in model.widths ([7,5] against [30]), trainer.max_epochs (3 against 9)." in answer
    assert "20 combinations of the other settings occur in more than one; the accuracies lie farthest apart" in answer
    assert len(answer) < 700


def test_a_comparison_finds_the_combination_that_ended_differently(tmp_path):
    a, b = (write_synthetic(tmp_path / name, 20, seeds=1) for name in ("a", "b"))
    spoilt = next(p for p in b.glob("*/result.json") if "activation=gelu" in p.read_text() and "=unit" in p.read_text())
    found = json.loads(spoilt.read_text())
    spoilt.write_text(json.dumps({**found, "test/accuracy": 0.25}))
    page = make_report([a, b], tmp_path / "both", figures=False)
    assert "farthest apart for activation=gelu, data.scale=unit: " in answer_of(page)
    assert "n = 1 in a against 0.250, n = 1 in b." in answer_of(page)
    assert "They differ" not in answer_of(page)
    assert page.read_text().count("activation=gelu, data.scale=unit</th>") == 1


def test_a_comparison_s_map_pools_no_folders(tmp_path):
    tops = [write_synthetic(tmp_path / name, 40, epochs) for name, epochs in (("long", 6), ("short", 2))]
    study = analysed(read_study(tops))
    pair = map_axes(study)
    assert [axis.name for axis in pair] == ["folders, activation", "data.scale"]
    cells = estimates(study, pair)
    assert {cell.n for cell in cells.values()} == {2}
    assert pair[0].levels[0] == "long, relu"
    assert {row for row, _ in cells} == set(pair[0].levels)


def test_what_several_folders_have_drawn_is_told_apart(tmp_path):
    tops = [write_synthetic(tmp_path / name, 1) for name in ("a", "b")]
    for top in tops:
        (top / "figures").mkdir()
        (top / "figures" / "curves.png").write_bytes(b"\x89PNG\r\n" + top.name.encode())
        (top / "figures" / "secret.png").symlink_to("/etc/passwd")
    page = make_report(tops, tmp_path / "both", figures=False)
    copies = [(tmp_path / "both/report" / f"{top.name}_curves.png").read_bytes()[-1:] for top in tops]
    assert copies == [b"a", b"b"]
    assert not list((tmp_path / "both/report").glob("*secret*"))
    assert [f"<h3>{top.name}: curves</h3>" in page.read_text() for top in tops] == [True, True]
    alike = [Picture("a", "", "", b"1"), Picture("a", "", "", b"2")]
    assert [picture.name for picture in told_apart(alike)] == ["a", "a_2"]


def test_a_combination_of_one_folder_is_not_compared(tmp_path):
    a, b = write_synthetic(tmp_path / "a", 20, seeds=1), write_synthetic(tmp_path / "b", 20, seeds=1, data="mnist")
    text = make_report([a, b], tmp_path / "both", figures=False).read_text()
    assert "They differ in data (digits against mnist)" in text
    assert "numbers over several folders mix them unless the filter chooses one" in text


def test_figures_and_tables_lie_beside_the_page(tmp_path):
    page = make_report([write_synthetic(tmp_path, 80)])
    names = {path.name for path in (page.parent / "report").iterdir()}
    for figure in ("map", "learning_curves", "gap", "importance", "time"):
        assert {f"study_{figure}.png", f"study_{figure}.svg"} <= names
    assert {"runs.csv", "combinations.csv", "learning_curves.csv", "times.csv", "importance.csv"} <= names


def test_the_sentence_names_the_failure_and_its_mechanism(tmp_path):
    text = answer_of(make_report([write_synthetic(tmp_path, 40)], figures=False))
    assert text.startswith("2 of 20 combinations fail; the worst, relu · none, dead units, accuracy 0.100; with ")
    assert "Over 40 runs on digits: 20 combinations, n = 2 seeds each." in text
    assert "4 runs fail" in text
    assert "activation=relu, data.scale=none (dead units in 2: accuracy 0.100 ± 0.000, n = 2; with " in text
    assert "activation=elu, data.scale=none (diverged in 2" in text


def test_the_sentence_says_what_would_make_a_failing_combination_learn(tmp_path):
    text = answer_of(make_report([write_synthetic(tmp_path, 40)], figures=False))
    with (tmp_path / "report" / "combinations.csv").open() as file:
        relu = [line for line in csv.DictReader(file) if line["activation"] == "gelu" and line["data.scale"] == "none"]
    mean = float(relu[0]["test/accuracy mean"])  # the only single change of relu on raw pixels that beats scaling it
    assert f"(dead units in 2: accuracy 0.100 ± 0.000, n = 2; with activation=gelu {mean:.3f} ± " in text


@pytest.mark.parametrize(
    ("loss", "mechanism"),
    [
        ({"loss": "clipped_cross_entropy", "loss.eps": 1e-7, "loss.label_smoothing": 0.0}, "plateau"),
        ({"loss": "mse", "loss.output": "softmax"}, "saturated"),
    ],
)
def test_images_without_a_gradient_are_on_a_plateau_only_where_the_loss_has_one(loss, mechanism):
    rows = [
        {"data": "digits", "outcome": "completed", "test/accuracy": accuracy, "final/plateau": stuck, **loss}
        for accuracy, stuck in ((0.9, 0.0), (0.1, 0.9))
    ]
    assert mechanisms_of(rows, {("a",): [0], ("b",): [1]}, [False, False]) == [None, mechanism]


@pytest.mark.parametrize(
    ("accuracy", "chance", "mechanism"),
    [(0.11, 0.1135, "too slow"), (0.2, 0.1135, "too slow"), (0.21, 0.1135, None), (0.6, 0.5, None)],
)
def test_a_run_that_learns_nothing_fails_though_none_is_better(accuracy, chance, mechanism):
    """Such as sigmoid in eight layers, whose units are alive."""
    row = {"data": "digits", "outcome": "completed", "test/accuracy": accuracy, "test/chance": chance}
    assert mechanisms_of([row], {(): [0]}, [True]) == [mechanism]
    row |= {"initial/gradient_norm_0": 1e-9, "initial/gradient_norm_1": 0.1}
    assert mechanisms_of([row], {(): [0]}, [True]) == [mechanism and "vanishing gradient"]


@pytest.mark.parametrize(("chance", "mechanism"), [(0.1, None), (math.nan, "dead units")])
def test_a_run_that_learns_though_its_units_are_dead_does_not_fail(chance, mechanism):
    """Their output layer learns from what ``leaky_relu_mismatched`` or SiLU let through."""
    row = {"data": "digits", "outcome": "completed", "test/accuracy": 0.5, "test/chance": chance, "final/dead_0": 1.0}
    assert mechanisms_of([row], {(): [0]}, [False]) == [mechanism]


@pytest.mark.parametrize("runs", [1, 2])
def test_runs_that_are_all_dead_fail_though_none_is_better(tmp_path, runs):
    write_synthetic(tmp_path, runs)  # relu on raw pixels, whose units are all dead
    answer = answer_of(make_report([tmp_path], figures=False))
    assert ("and fails: dead units." if runs == 1 else "2 runs fail: all runs (dead units in 2") in answer


def test_a_card_says_what_makes_a_failing_combination_learn(tmp_path):
    text = make_report([write_synthetic(tmp_path / "a", 40)], figures=False).read_text()
    (card,) = re.findall(r'<div class="card"><h3>∅ relu · none</h3>(.*?)</div>', text)
    with (tmp_path / "a" / "report" / "combinations.csv").open() as file:
        mean = {(line["activation"], line["data.scale"]): line["test/accuracy mean"] for line in csv.DictReader(file)}
    changes = re.findall(r"<code>([\w.]+)=(\w+)</code> reaches ([\d.]+) here", card)
    assert {key for key, _, _ in changes} == {"activation", "data.scale"}
    for key, value, level in changes:
        assert level == f"{float(mean[('relu', value) if key == 'data.scale' else (value, 'none')]):.3f}"
    assert "Dead units in 2 of 2 runs" in card


def test_a_card_without_a_change_that_learns_says_how_to_find_one(tmp_path):
    text = make_report([write_synthetic(tmp_path, 2)], figures=False).read_text()  # relu on raw pixels only
    (asked,) = re.findall(r"<code>(python -m mlp_study.diagnose .*?)</code>", text)
    assert shlex.split(html.unescape(asked))[3:6] == ["data=digits", "activation=relu", "data.scale=none"]


def test_no_external_address_is_loaded(tmp_path):
    text = make_report([write_synthetic(tmp_path, 4)], figures=False).read_text()
    assert "default-src 'none'" in text
    assert "<script src" not in text
    assert '<link rel="stylesheet"' not in text


def test_a_balanced_decomposition_is_the_classical_analysis_of_variance():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(3, 4, 5)) + np.arange(3)[:, None, None] + rng.normal(size=(3, 4, 1))
    rows = [{"a": f"a{i}", "b": f"b{j}", "y": float(y[i, j, k])} for i in range(3) for j in range(4) for k in range(5)]
    total = ((y - y.mean()) ** 2).sum()
    a = 20 * ((y.mean((1, 2)) - y.mean()) ** 2).sum()
    b = 15 * ((y.mean((0, 2)) - y.mean()) ** 2).sum()
    cells = 5 * ((y.mean(2) - y.mean()) ** 2).sum()
    noise = (total - cells) / 48
    explained = {("a",): (a, 2), ("b",): (b, 3), ("a", "b"): (cells - a - b, 6)}
    shares = {share.factors: share for share in decomposition(rows, ["a", "b"], "y")}
    assert sum(share.part for share in shares.values()) == pytest.approx(1)
    for term, (squares, freedom) in explained.items():
        assert shares[term].part == pytest.approx((squares - freedom * noise) / total)
        assert shares[term].p == pytest.approx(scipy.stats.f.sf(squares / freedom / noise, freedom, 48))


def test_what_chance_explains_is_credited_to_no_factor():
    rng = np.random.default_rng(0)
    for seeds in (2, 3):
        found = []
        for _ in range(20):
            cells = [(i, j, k) for i in range(10) for j in range(5) for k in range(seeds)]
            rows = [{"a": f"a{i}", "b": f"b{j}", "y": float(rng.normal(0.93, 0.003))} for i, j, _ in cells]
            found.append(decomposition(rows, ["a", "b"], "y"))
        assert statistics.mean(shares[-1].part for shares in found) > 0.9
        assert sum(min(share.p for share in shares[:-1]) < 0.05 for shares in found) <= 6, "three terms, 20 times"


def test_with_one_run_a_combination_an_interaction_is_not_taken_for_noise():
    rows = [{"a": f"a{i}", "b": f"b{j}", "y": 0.9 if i + j < 4 else 0.1} for i in range(5) for j in range(5)]
    shares = decomposition(rows, ["a", "b"], "y")
    y = np.array([row["y"] for row in rows]).reshape(5, 5)
    total = ((y - y.mean()) ** 2).sum()
    sides = [5 * ((y.mean(axis) - y.mean()) ** 2).sum() / total for axis in (1, 0)]
    expected = {("a",): sides[0], ("b",): sides[1], ("a", "b"): 1 - sum(sides), (): 0.0}
    assert {share.factors: share.part for share in shares} == pytest.approx(expected, abs=1e-9)
    assert all(math.isnan(share.p) for share in shares)


def test_one_run_a_value_of_one_factor_has_no_decomposition():
    rows = [{"a": f"a{i}", "y": float(i)} for i in range(4)]
    assert decomposition(rows, ["a"], "y") == []
    assert [share.factors for share in decomposition([*rows, {"a": "a0", "y": 0.1}], ["a"], "y")] == [("a",), ()]


def test_a_constant_result_has_no_decomposition():
    assert decomposition([{"a": "x", "y": 0.5}, {"a": "y", "y": 0.5}], ["a"], "y") == []


def test_options_that_follow_from_a_choice_are_no_factors():
    rows = [
        {"activation": "relu", "activation.slope": None, "seed": 0},
        {"activation": "leaky_relu", "activation.slope": 0.01, "seed": 1},
    ]
    assert factors_of(rows, ["activation", "activation.slope", "seed"]) == (["activation"], ["activation"])


@pytest.mark.parametrize(
    ("epochs", "there", "median"),
    [
        ([3, 4, 5, 10, 10], [1, 1, 1, 0, 0], 5),  # the third of five
        ([3, 4, 10, 10, 10], [1, 1, 0, 0, 0], math.inf),  # fewer than half
        ([2, 4, 4, 6], [1, 0, 1, 1], 4),  # one was last seen at 4: 3/4 remain after 2, then 2/3 of them after 4
        ([3], [1], 3),
        ([3, 3, 3], [1, 1, 1], 3),
    ],
)
def test_the_median_time_is_of_all_runs_also_those_that_never_get_there(epochs, there, median):
    found, low, high = kaplan_meier(np.array(epochs, dtype=float), np.array(there, dtype=bool))
    assert found == median
    assert math.isnan(low) == (len(epochs) == 1)
    if not math.isnan(low):
        assert low <= found <= high


def test_the_median_s_interval_covers_it():
    """The median of an exponential time, of 40 runs that are watched until it has passed for two thirds of them."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        times = np.ceil(10 * rng.exponential(1.0, 40))
        _, low, high = kaplan_meier(np.minimum(times, 11), times <= 11)
        covered += low <= math.ceil(10 * math.log(2)) <= high
    assert covered >= 180


def test_epochs_to_an_accuracy(tmp_path):
    study = analysed(read_study([write_synthetic(tmp_path, 3, seeds=3, overrides=("activation=gelu",))]))
    place = CURVE_METRICS.index("val/accuracy")
    study.curves[:, :, place] = [[0.1, 0.5, 0.9, 0.8], [0.1, 0.2, 0.3, 0.4], [0.95, np.nan, 1, 1]]
    np.testing.assert_array_equal(study.reached(0.9), [3, math.nan, 1])
    (found,) = study.times(0.9)
    assert (found.reached, found.median) == (2, 3.0)
