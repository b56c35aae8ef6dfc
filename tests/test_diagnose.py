"""The diagnosis: verdicts on the puzzle, cures that hold, the command, and trained runs."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from mlp_study.config.composing import compose
from mlp_study.config.schema import RunConfig
from mlp_study.data.images import load
from mlp_study.doctor.config_cures import Cure, changed
from mlp_study.doctor.config_diagnosis import Diagnosis, diagnose_config
from mlp_study.doctor.forecast import Glimpse, Verdict
from mlp_study.doctor.history import history_of
from mlp_study.doctor.panel import print_panel
from mlp_study.errors import StudyError
from mlp_study.records.recorder import Recorder
from mlp_study.records.run_folder import Run
from mlp_study.training.population import train_population

command = importlib.import_module("mlp_study.diagnose")
IMAGES = load("digits")


def config(*overrides):
    return RunConfig.from_dict(compose(list(overrides)))


@pytest.mark.parametrize(
    ("overrides", "verdict"),
    [
        (["activation=relu", "data.scale=none"], "will collapse: dead units"),
        (["activation=relu", "data.scale=unit"], "will train"),
        (["activation=sigmoid", "data.scale=unit", "trainer.max_epochs=1"], "will train slowly"),
        (
            ["data.scale=none", "optimizer=adam", "loss=clipped_cross_entropy", "model.widths=[128,128]"],
            "will collapse: clipped-loss plateau",
        ),
        (["activation=relu", "data.scale=none", "loss=mse", "optimizer=adam"], "will collapse: saturation"),
        (
            ["activation=leaky_relu", "data.scale=none", "optimizer.lr=1", "model.widths=[100,100]"],
            "will collapse: divergence",
        ),
        (["activation=tanh", "data.scale=none", "optimizer.lr=1"], "will collapse: saturation"),
        (["optimizer=adam", "optimizer.lr=0.003", "data.limit=1000", "trainer.max_epochs=3"], "will train"),
        (["optimizer.lr=0.1", "data.limit=1000", "trainer.max_epochs=4", "schedule=cosine"], "will train"),
    ],
)
def test_verdicts_on_known_cases(overrides, verdict):
    assert diagnose_config(config(*overrides), IMAGES, cures=False).verdict.outcome == verdict


def test_a_close_call_is_headed_as_one_and_has_cures_tried():
    found = diagnose_config(config("optimizer.lr=0.01", "trainer.max_epochs=1"), IMAGES)
    assert found.verdict.outcome == "will train"
    assert found.verdict.close_call
    assert found.cures[0].verdict.probability > found.verdict.probability
    assert found.cures[0].effect > 0
    for words in ("Verdict: will train (a close call)", "Cures, tried for", found.cures[0].overrides[0]):
        assert words in str(found)
    assert "will train (a close call)" in repr(found)


def test_a_panel_breaks_no_number_and_lists_no_change_that_harms():
    layer = {"preactivation_mean": -3.62e-09, "preactivation_deviation": 0.0478, "preactivation_low": -1.23e6}
    layer |= {"preactivation_high": 0.181, "sparsity": 0.54, "dead": 0.06, "always_on": 0.06, "missed": 0.12}
    glimpse = Glimpse(
        {f"{name}_0": value for name, value in layer.items()}, [{"step": 0.0, "loss": 2.46, "accuracy": 0.16}]
    )
    ill = Verdict("will train slowly", 0.0)

    def tried(name, effect, verdict=ill):
        return Cure((name,), "", verdict, 0.16 + effect, 2.4, 128, effect)

    cures = [tried("optimizer=adam", 0.8), tried("optimizer.lr=3e-05", 0.0), tried("activation=elu", -0.004)]
    shown = [panel_of(Diagnosis({}, glimpse, ill, some)) for some in (cures, cures[1:])]
    assert re.search(r" 0 +0\.000 +0\.048 +-1\.2e\+06 +0\.181 +54% +6% +6% +12% ", shown[0])
    assert re.search(r"lowest z +highest", shown[0])
    assert "optimizer=adam" in shown[0]
    assert not re.search("lr=3e-05|activation=elu", shown[0])
    assert "No cure: none of 2 changes raises the accuracy in 128 steps" in shown[1]


def panel_of(diagnosis: Diagnosis) -> str:
    """As a terminal of 80 columns shows it."""
    console = Console(file=io.StringIO(), width=80)
    print_panel(diagnosis, console)
    return console.file.getvalue()


@pytest.mark.slow
def test_the_best_cure_cures():
    """The cure's overrides, typed after the failing ones, train to what the diagnosis foretells."""
    broken = ["activation=relu", "data.scale=none", "trainer.max_epochs=6"]
    found = diagnose_config(config(*broken), IMAGES)
    assert found.cures[0].effect > 0.5
    tried = {cure.overrides: cure for cure in found.cures}
    assert ("data.scale=unit",) in tried
    [ill, cured] = (config(*broken, *extra) for extra in ([], found.cures[0].overrides))
    accuracies = [train_population([c], images=IMAGES)[0].metrics["test/accuracy"] for c in (ill, cured)]
    assert accuracies[0] < 0.2
    assert accuracies[1] > 0.9


def test_a_cure_typed_is_the_cure_tried():
    base = config("data.scale=none", "optimizer=momentum", "optimizer.momentum=0.5")
    assert changed(base, {"optimizer": "adam"}) == config("data.scale=none", "optimizer=adam")
    assert changed(base, {"optimizer.lr": 0.002}) == config(
        "data.scale=none", "optimizer=momentum", "optimizer.momentum=0.5", "optimizer.lr=0.002"
    )


def test_the_command_prints_a_panel_and_a_figure(capsys, tmp_path):
    figure = tmp_path / "a folder" / "z.png"
    command.main(["activation=relu", "data.scale=none", "model.widths=[16,16]", "--no-cures", f"--figure={figure}"])
    said = capsys.readouterr().out
    for words in ("will collapse", "stability index", "Look-ahead", "dead"):
        assert words in said
    assert figure.read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(("name", "start"), [("z.svg", b"<?xml"), ("z.PDF", b"%PDF"), ("z.PNG", b"\x89PNG")])
def test_a_figure_is_what_its_name_says(name, start, tmp_path):
    command.main(["model.widths=[16]", "--no-cures", f"--figure={tmp_path / name}"])
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("terminal", "flags", "shown"), [(True, [], True), (True, ["--json"], False), (False, [], False)]
)
def test_progress_is_shown_on_a_terminal_only(terminal, flags, shown, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    command.main(["model.widths=[16]", "--no-cures", "--figure=none", *flags])
    said = capsys.readouterr()
    assert ("looking at digits" in said.err) == shown
    assert "looking at digits" not in said.out


def test_json_is_for_programs(capsys):
    command.main(["data.scale=none", "model.widths=[16]", "--json", "--figure=none"])
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"].startswith("will collapse")
    assert found["cures"][0]["overrides"]
    assert len(found["layers"]) == 1
    assert found["look_ahead"][0]["step"] == 0


def test_help_names_the_flags_and_no_multirun():
    done = subprocess.run(
        [sys.executable, "-m", "mlp_study.diagnose", "--help"], capture_output=True, text=True, check=True
    )
    for flag in (*command.FLAGS, "run=FOLDER", "usage: python -m mlp_study.diagnose [key=value ...]"):
        assert flag in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["activation=rellu"], "did you mean 'relu'"),
        (["--jsn"], "--jsn is unknown"),
        (["--json=yes"], "--json=yes is unknown"),
        (["run=/nowhere", "--figure=z.png"], "mlp_study.report /nowhere draws"),
        (["--no-cures", "--figure=/dev/null/z.png"], "--figure=/dev/null/z.png can't be written"),
        (["--figure"], "--figure has no value; it takes a file's name, --figure=FILE, or --figure=none"),
        (["--figure="], "--figure= has no value"),
        (["--figure=x.xyz"], "--figure=x.xyz is not valid; it takes a name that ends in .png, .svg, .pdf, or none"),
        (["--figure=x"], "--figure=x is not valid"),
        (["activation=relu,tanh"], "activation=relu,tanh: .* sweep; diagnose takes one configuration$"),
        (["-m", "activation=relu,tanh"], "-m makes a sweep; diagnose takes one configuration$"),
        (["run=/nowhere"], "holds no finished run"),
        (["run=/nowhere", "activation=relu"], "takes no other overrides"),
        (["optimizer.lr=-1"], "optimizer.lr=-1"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, words):
    with pytest.raises(StudyError, match=words):
        command.main(arguments)


def test_a_trained_run_is_diagnosed_from_its_record(tmp_path, capsys):
    c = config("data.scale=none", "model.widths=[16]", "trainer.max_epochs=5", "wandb.mode=disabled", "save=none")
    with Recorder([tmp_path]) as recorder:
        train_population([c], recorder, images=IMAGES)
    command.main([f"run={tmp_path}", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["final"]["dead"] > found["initial"]["dead"]
    assert 1 <= found["passed"]["dead"] <= 5
    command.main([f"run={tmp_path}"])
    assert "units are dead by the end of epoch" in capsys.readouterr().out


def test_data_of_one_class_are_refused():
    labels = IMAGES.train_labels_N * 0, IMAGES.test_labels_N * 0
    one = dataclasses.replace(IMAGES, train_labels_N=labels[0], test_labels_N=labels[1], classes=("0",))
    with pytest.raises(StudyError, match="has one class"):
        diagnose_config(config(), one)


def test_the_name_means_the_same_before_and_after_the_command_is_imported():
    code = (
        "import mlp_study; a = mlp_study.diagnose; import mlp_study.diagnose; from mlp_study.diagnose import main;"
        "from mlp_study import diagnose; assert a is mlp_study.diagnose is diagnose; help(a); a()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "missing 1 required positional argument: 'model'" in done.stderr
    for word in ("loss(output, target)", "learning_rate", "DataLoader", "Raises", "budget"):
        assert word in done.stdout, word


def test_a_run_that_stopped_early_is_told_in_words():
    ends = {"initial": {"dead": 0.0}, "final": {"dead": 1.0}}
    result = {"outcome": "early_stopped", "cause": "val/loss has not improved for 1 epoch", "diagnostics": ends}
    run = Run(Path("r"), config(), pd.DataFrame({"epoch": [1, 2], "dead": [0.5, 1.0]}), result, None)
    assert history_of(run)["sentences"] == [
        "the run stopped early: val/loss has not improved for 1 epoch",
        "0% of the units are dead before training, 100% at the end",
        "80% or more of the units are dead by the end of epoch 2",
    ]
