"""Real studies by their commands: what lies in the folder at their end, in the page, and in their W&B runs."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlp_study.records.trials import read_search
from mlp_study.report import main
from mlp_study.reporting.make import make_report
from tests.records.runs import WandbRecord, read_wandb

pytestmark = pytest.mark.slow
SMALL = (
    "model.widths=[8]",
    "data.limit=200",
    "trainer.max_epochs=2",
    "wandb.mode=offline",
    "probes.ends=[dead,sharpness]",
)


def trained(folder: Path, *overrides: str) -> Path:
    """``train -m`` in ``folder``, from somewhere else."""
    command = [sys.executable, "-m", "mlp_study.train", "-m", *SMALL, f"sweep_dir={folder}", *overrides]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, check=False)
    assert done.returncode == 0, done.stderr
    assert f"report: {folder / 'report.html'}" in done.stdout
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    grid = ("data.gain=0.01,1,100", "optimizer.lr=0.001,0.1,10", "activation=relu,tanh")
    return trained(tmp_path_factory.mktemp("studies") / "sweep", *grid)


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    space = ("optimizer.lr=tag(log,interval(1e-3,1))", "model.widths=[4],[16]", "activation=relu,tanh")
    settings = (
        "hydra.sweeper.n_trials=8",
        "hydra.sweeper.n_jobs=4",
        "hydra.sweeper.objective=[val/accuracy,parameters]",
    )
    return trained(tmp_path_factory.mktemp("studies") / "search", "hydra/sweeper=optuna", *space, *settings)


def payload(page: Path) -> dict[str, Any]:
    text = page.read_text().split('<script type="application/json" id="data">')[1].split("</script>")[0]
    return json.loads(text)


def pictures(record: WandbRecord) -> dict[str, str]:
    """SHA-256 of each image that a W&B run shows, by name."""
    whole = {key: value for row in record.rows for key, value in row.items()}
    names = [key.removesuffix("/_type") for key, value in whole.items() if value == "image-file"]
    return {name: whole[f"{name}/sha256"] for name in names}


def digests(folder: Path) -> dict[str, str]:
    return {f"figures/{p.stem}": hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.png")}


def test_a_sweep_s_figures_are_in_its_folder_and_in_its_wandb_run(sweep):
    drawn = digests(sweep / "report")
    names = ("map", "learning_curves", "importance", "phase_relu", "phase_tanh")
    assert {f"figures/study_{name}" for name in names} <= set(drawn)
    [record] = read_wandb(sweep)
    assert record.exit_code == 0
    assert pictures(record) == drawn
    assert {path.stem for path in (sweep / "report").glob("*.svg")} == {name[8:] for name in drawn}


def test_a_run_s_figures_are_in_its_wandb_run(trained_run):
    [record] = read_wandb(trained_run)
    drawn = digests(trained_run / "figures")
    assert set(drawn) == {"figures/curves", "figures/weights", "figures/predictions"}
    assert pictures(record) == drawn


def test_a_search_s_figures_are_in_its_wandb_run(search):
    [record] = read_wandb(search)
    shown = pictures(record)
    assert shown == {
        **digests(search / "figures"),
        **{n: d for n, d in digests(search / "report").items() if "study_" in n},
    }
    assert {"figures/pareto_front", "figures/history_parameters", "figures/study_learning_curves"} <= set(shown)


def test_a_search_s_page_has_the_table_of_trials(search):
    with (search / "trials.csv").open() as file:
        lines = list(csv.DictReader(file))
    data = payload(search / "report.html")["search"]
    assert [o["name"] for o in data["objectives"]] == ["val/accuracy", "parameters"]
    assert [o["more"] for o in data["objectives"]] == [True, False]
    assert data["number"] == [int(line["trial"]) for line in lines] == list(range(8))
    for k, name in enumerate(("val/accuracy", "parameters")):
        assert data["values"][k] == [float(line[name]) for line in lines]
    log = {p["name"]: p["log"] for p in data["parameters"]}
    assert log == {"optimizer.lr": True, "model.widths": False, "activation": False}
    for p, values in zip(data["parameters"], data["params"], strict=True):
        assert [str(value) for value in values] == [line[p["name"]] for line in lines]
        assert p["choices"] is None or set(values) <= set(p["choices"])
    for line, link in zip(lines, data["link"], strict=True):
        assert json.loads((search / link / "result.json").read_text())["run_id"] == line["run_ids"]


def test_a_search_s_page_has_optuna_s_front_and_importance(search):
    import optuna

    study = optuna.load_study(
        study_name="mlp_study",
        storage=optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(search / "optuna.journal"))
        ),
    )
    found = read_search(search)
    assert found is not None
    assert {trial.number for trial in found.best()} == {trial.number for trial in study.best_trials}
    data = payload(search / "report.html")["search"]
    with (search / "importance.csv").open() as file:
        for line in csv.DictReader(file):
            shares = {name: float(v) for name, v in line.items() if name != "objective" and v}
            assert dict(data["importance"][line["objective"]]) == shares
            assert [v for _, v in data["importance"][line["objective"]]] == sorted(shares.values(), reverse=True)


def test_a_report_can_be_made_on_another_machine(search, tmp_path, capsys):
    """The folder was moved, and the study's storage, models and pictures are not there."""
    keep = {"result.json", "curves.csv", "trials.csv", "search.json", "importance.csv", "multirun.yaml"}
    moved = tmp_path / "moved"
    for path in search.rglob("*"):
        if path.name in keep:
            (moved / path.relative_to(search)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, moved / path.relative_to(search))
    main([str(moved)])
    assert capsys.readouterr().out == f"{moved / 'report.html'}\n"
    here, there = payload(moved / "report.html"), payload(search / "report.html")
    assert here["search"] == there["search"]
    assert here["metrics"] == there["metrics"]


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        ("model.safetensors", lambda content: content[:1000], "model.safetensors cannot be read"),
        ("result.json", lambda content: content[:200], "No finished run could be read."),
        ("result.json", lambda content: content.replace(b'"format": 1', b'"format": 99'), "by a newer mlp_study"),
        ("curves.csv", lambda content: b"garbage,,\n1,2", "it has no column epoch"),
    ],
)
def test_a_damaged_run_s_page_says_what_is_missing(trained_run, tmp_path, name, spoil, told):
    folder = shutil.copytree(trained_run, tmp_path / "run", ignore=shutil.ignore_patterns("wandb", "report*"))
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    assert told in make_report([folder], figures=False).read_text()


def test_a_run_s_page_has_its_confusion_matrix_and_diagnosis(trained_run, tmp_path):
    import mlp_study

    page = make_report([trained_run], tmp_path)
    run = mlp_study.load_run(trained_run)
    counts = payload(page)["confusion"]["counts"]
    right = sum(counts[c][c] for c in range(10))
    assert right / sum(map(sum, counts)) == pytest.approx(run.result["test/accuracy"])
    text = page.read_text()
    assert "n = 1 run. Solid and filled" in text
    assert "Mean over n seeds" not in text.partition('id="curves"')[2].partition("</details>")[0]
    assert re.search(r"predicted class on each; (none is wrong|1 wrong one is|[0-9]+ wrong ones are)", text)
    assert "of the units are dead before training" in text.replace("units units", "units")
    for name in ("confusion_matrix", "preactivations", "predictions", "mistakes", "weights", "study_learning_curves"):
        for form in ("png", "svg"):
            assert (tmp_path / "report" / f"{name}.{form}").is_file()
    svg = (tmp_path / "report" / "mistakes.svg").read_text()
    assert "the most confident of" in svg
    assert "the first ones" not in svg
