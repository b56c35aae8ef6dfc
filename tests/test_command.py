"""The real command: help, bad input in one line, a whole run on disk, Ctrl-C and resume."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import mlp_study
from mlp_study.config.hydra_app import run_hydra
from mlp_study.config.overrides import resumed
from mlp_study.config.schema import GROUPS, TABLES, RunConfig, described_settings
from mlp_study.data.images import load
from mlp_study.errors import ConfigError, Interrupted
from mlp_study.records.run_folder import load_curves
from mlp_study.train import PURPOSE, _finished, run, run_one
from mlp_study.training.feed import Feed
from tests.records.runs import read_wandb
from tests.small_runs import config, logging_as_before

HEAVY = ("torch", "lightning", "torchvision", "wandb", "pandas", "matplotlib", "sklearn")
# One thread a process: the machine's cores are shared with what else runs, and two processes with two threads each
# on two cores can be ten times slower than one.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("MLP_STUDY_DATA", "HYDRA_FULL_ERROR")} | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
    "COLUMNS": "120",
}


def command(*arguments: str, flags: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *flags, "-m", "mlp_study.train", *arguments]


def finished(folder: Path, *arguments: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, flags=flags),
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# --- help and --cfg -------------------------------------------------------------------------------------------------


def test_help_lists_every_factor_and_setting_without_heavy_imports(tmp_path: Path) -> None:
    done = finished(tmp_path, "--help", flags=("-X", "importtime"))
    assert done.returncode == 0
    for kind, table in GROUPS.items():
        assert kind in done.stdout
        missing = [name for name in table if not re.search(rf"\b{name}\b", done.stdout)]
        assert not missing
    assert not [key for key, _ in described_settings() if key not in done.stdout and key != "experiment"]
    assert done.stdout.count("python -m mlp_study.train ") >= 4, "usage and three examples"
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert not imported & {*HEAVY, "numpy"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", TABLES)
def test_help_of_a_factor_has_each_choice_with_its_options(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--help", key])
    run_hydra(run, "train", PURPOSE)
    said = capsys.readouterr().out
    for name, entry in TABLES[key].items():
        own = said.partition(f"\n  {name} ")[2].partition("\n\n")[0]
        assert (getattr(entry, "doc", None) or entry.formula).split()[0] in own
        for option, about in getattr(entry, "options", {}).items():
            assert re.search(rf"\.{option} .*", own), f"{option} of {name}"
            assert not about.range or about.range.split(",")[0] in own


def test_cfg_job_shows_the_whole_config_and_runs_nothing(tmp_path: Path) -> None:
    done = finished(tmp_path, "--cfg", "job", "activation=tanh")
    assert (done.returncode, done.stderr) == (0, "")
    assert "name: tanh" in done.stdout
    for key, _ in described_settings():
        assert f"{key.rsplit('.', 1)[-1]}:" in done.stdout
    assert not list(tmp_path.iterdir())


# --- bad input ------------------------------------------------------------------------------------------------------

# overrides -> what the one line says
BAD: dict[tuple[str, ...], str] = {
    ("activation=rellu",): "activation='rellu' is unknown; did you mean 'relu'? It takes one of: relu, ",
    ("activaton=relu",): "activaton: no such option; did you mean 'activation'?",
    ("optimizer.lrr=1",): "optimizer.lrr: no such option with optimizer=sgd; did you mean 'optimizer.lr'?",
    ("activation.slope=0.1",): "activation.slope: no such option with activation=relu; it takes none",
    ("optimizer.lr=-1",): "optimizer.lr=-1 is not valid; it takes a number in (0, inf)",
    ("optimizer.lr=nan",): "optimizer.lr=nan is not valid",
    ("optimizer.lr=fast",): "optimizer.lr=fast is not valid",
    ("model.widths=[]",): "model.widths=[] is not valid; it takes a list of at least one layer width",
    ("model.widths=[0]",): "model.widths=0 is not valid; it takes a whole number in [1, inf)",
    ("model.widths=100",): "model.widths=100 is not valid",
    ("model.norm=bach",): "model.norm='bach' is unknown; did you mean 'batch'? It takes one of: batch, none, layer",
    ("model=3",): "model=3 is not valid; it takes the options widths, norm, dropout",
    ("data.batch_size=0",): "data.batch_size=0 is not valid; it takes a whole number in [1, inf) or full",
    ("data.scale=units",): "data.scale='units' is unknown; did you mean 'unit'?",
    ("data=mnst",): "data='mnst' is unknown; did you mean 'mnist'?",
    ("data=emnist", "data.split=lettres"): "data.split='lettres' is unknown; did you mean 'letters'?",
    ("data.validation=2",): "data.validation=2 is not valid; it takes a fraction in (0, 1) or test",
    ("seed=1.5",): "seed=1.5 is not valid; it takes a whole number in [0, 9223372036854775807]",
    ("seed=abc",): "seed=abc is not valid",
    ("seed=-1",): "seed=-1 is not valid",
    ("trainer.max_epochs=0",): "trainer.max_epochs=0 is not valid; it takes a whole number in [1, inf)",
    ("trainer.max_epoch=3",): "trainer.max_epoch: no such option; did you mean 'trainer.max_epochs'?",
    ("trainer.accelerator=tpu",): "trainer.accelerator='tpu' is unknown; did you mean 'gpu'?",
    ("wandb.mode=on",): "wandb.mode='on' is unknown; did you mean 'online'?",
    ("loss=cross_entropie",): "loss='cross_entropie' is unknown; did you mean 'cross_entropy'?",
    ("init=xavier",): "init='xavier' is unknown; it takes one of: ",
    ("+experiment=raw_rule",): "experiment='raw_rule' is unknown; did you mean 'raw_relu'?",
    ("+experiment=raw_relu", "experiment.variant=x"): "experiment.variant='x' is unknown; it takes one of: ",
    ("activation=relu,tanh",): "activation=relu,tanh: several values make a sweep; add -m before the overrides",
    ("relu",): "'relu' is not an override; it takes key=value, such as activation=relu",
    ("+new=1",): "new: no such option; it takes one of: ",
    ("++data.scal=unit",): "data.scal: no such option; did you mean 'data.scale'?",
    ("~activation",): "activation=None is unknown; it takes one of: ",
    ("resume=nowhere",): "resume=nowhere is no run's folder; it takes one that has .hydra/overrides.yaml in it",
    ("optimizer.lr=${optimizer.rate}",): "Interpolation key 'optimizer.rate' not found",
    ("shard=0/4",): "shard=0/4 divides a sweep; add -m for a sweep",
    ("sweep_dir=abc",): "sweep_dir=abc is a sweep's folder, as hydra.run.dir is a run's; add -m for a sweep",
    ("hydra/sweeper=optuna",): "hydra/sweeper=optuna chooses a sweep's runs; add -m for a sweep",
    ("optimizer.lr=1e39",): "optimizer.lr=1e+39 is not valid; it takes a number in (0, inf) up to 3.4e+38",
    ("seed=9223372036854775808",): "seed=9223372036854775808 is not valid; it takes a whole number in [0, 92233",
    ("trainer.threads=100000",): "trainer.threads=100000 is not valid; it takes a whole number in [1, 1024]",
    ("activation=[relu,tanh]",): "activation=[relu,tanh] is not valid; it takes one choice, or activation=A,B with -m",
    ("++resume=nowhere",): "resume=nowhere is no run's folder; it takes one that has .hydra/overrides.yaml in it",
    ("-m", "seed=0,1", "resume=nowhere"): "resume continues a single run; a sweep goes on by the same command",
    ("-m", "seed=0,1", "shard=0/2,1/2"): "shard takes one share, such as shard=0/2",
    ("--flag", "seed=1"): "unrecognized arguments: --flag; a command takes key=value and the flags that",
    ("seed=1", "--config-dir"): "argument --config-dir/-cd: expected one argument; a command takes",
    ("--cfg", "jobs"): "argument --cfg/-c: invalid choice: 'jobs' (choose from",
    ("data=null",): "data=null is not valid; it takes one of: digits, mnist, ",
    ("data=3",): "data=3 is not valid; it takes one of: ",
    ("activation={a:1}",): "activation={a:1} is not valid; it takes one of: ",
    ("-m", "activation=null,relu"): "activation=null,relu is not valid; it takes one of: ",
    ("+experiment=null",): "+experiment=null is not valid; it takes one of: ",
    ("hydra/launcher=null",): "hydra/launcher=null: a group of the configuration takes the name of a choice",
    ("hydra.job.chdir=abc",): "Error merging override hydra.job.chdir=abc: Value 'abc' is not a valid bool",
    ("hydra.run.dir=/dev/null",): "hydra.run.dir=/dev/null cannot be written: a file stands where",
    ("hydra.run.dir=/etc/passwd/x",): "hydra.run.dir=/etc/passwd/x cannot be written: a part of the path is a file",
    ("hydra/launcher=slrum",): "In 'hydra/config': Could not find 'hydra/launcher/slrum'",
}


def assert_one_line(stderr: str, expected: str) -> None:
    assert stderr.startswith(f"error: {expected}")
    assert stderr.count("\n") == 1, stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("overrides", BAD, ids=" ".join)
def test_bad_input_is_one_line_and_leaves_nothing_behind(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr(sys, "argv", ["train", *overrides])
    with pytest.raises(SystemExit) as end, logging_as_before():
        run_hydra(run, "train", PURPOSE)
    assert end.value.code == 1
    assert_one_line(capsys.readouterr().err, BAD[overrides])
    assert not list(tmp_path.iterdir())


def assert_bad_command(overrides: tuple[str, ...], folder: Path) -> None:
    done = finished(folder, *overrides, flags=("-X", "importtime"))
    assert (done.returncode, done.stdout) == (1, "")
    imports, said = [], []
    for line in done.stderr.splitlines(keepends=True):
        (imports if line.startswith("import time:") else said).append(line)
    assert_one_line("".join(said), BAD[overrides])
    assert not any(line.split("|")[-1].strip() == "torch" for line in imports), "the seconds that it takes"
    assert not list(folder.iterdir())


@pytest.mark.parametrize("overrides", [("activation=rellu",), ("model.widths=[0]",)], ids=" ".join)
def test_a_bad_command_ends_at_once(overrides: tuple[str, ...], tmp_path: Path) -> None:
    assert_bad_command(overrides, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", BAD, ids=" ".join)
def test_every_bad_command_ends_at_once(overrides: tuple[str, ...], tmp_path: Path) -> None:
    assert_bad_command(overrides, tmp_path)


def test_bad_input_of_a_sweep_is_one_line_too(tmp_path: Path) -> None:
    done = finished(tmp_path, "-m", "activation=relu,tahn", "wandb.mode=disabled")
    assert done.returncode == 1
    assert_one_line(done.stderr, "activation='tahn' is unknown; did you mean 'tanh'?")


def test_a_traceback_for_those_who_ask(tmp_path: Path) -> None:
    done = subprocess.run(
        command("seed=x"),
        cwd=tmp_path,
        env={**ENVIRONMENT, "HYDRA_FULL_ERROR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ConfigError: seed=x is not valid" in done.stderr


# --- one whole run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A real command's whole run on the embedded digits."""
    home = tmp_path_factory.mktemp("run")
    done = finished(
        home, "activation=tanh", "data.scale=standard", "trainer.max_epochs=2", "trainer.log_every_n_steps=10",
        "wandb.mode=offline", "wandb.group=g", "wandb.tags=[a,b]", "model.norm=batch",
    )  # fmt: skip
    [result] = home.glob("outputs/*/*/result.json")
    return done, result.parent


Finished = tuple[subprocess.CompletedProcess[str], Path]


def test_a_run_ends_quietly_with_a_summary(finished_run: Finished) -> None:
    done, folder = finished_run
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("outcome", "completed", "test accuracy", "validation accuracy", "record", folder.name, "W&B"):
        assert words in done.stdout
    assert "epoch 1/2" not in done.stdout, "no progress bar where nobody looks"
    assert "test accuracy" in (folder / "train.log").read_text()


def test_a_runs_folder_has_what_the_contract_says(finished_run: Finished) -> None:
    folder = finished_run[1]
    names = {path.name for path in folder.iterdir()}
    assert {".hydra", "result.json", "curves.csv", "model.safetensors", "figures", "train.log", "wandb"} == names
    assert list((folder / "figures").glob("*.png"))
    result = json.loads((folder / "result.json").read_text())
    for key in ("run_id", "overrides", "config", "outcome", "epochs", "seconds", "diagnostics", "population", "device",
                "versions", "git_commit", "wandb_id", "validation_is_test"):  # fmt: skip
        assert key in result
    for part in ("test", "val", "train"):
        assert 0 <= result[f"{part}/accuracy"] <= 1
        assert result[f"{part}/loss"] > 0
    assert (result["outcome"], result["epochs"], result["parameters"]) == ("completed", 2, 79510 + 200)
    assert result["population"] == {"size": 1, "index": 0}
    assert set(result["diagnostics"]) == {"initial", "final"}
    assert "activation=tanh" in result["overrides"]
    assert RunConfig.from_dict(result["config"]).run_id == result["run_id"]
    curves = pd.read_csv(folder / "curves.csv")
    contract = ["epoch", "step", "seconds", "train/loss", "train/accuracy", "val/loss", "val/accuracy"]
    assert list(curves.columns)[:7] == contract
    assert list(curves["epoch"]) == [1, 2]
    assert list(curves["step"]) == [41, 82]


def test_a_run_is_read_back_and_its_network_gives_the_recorded_accuracy(finished_run: Finished) -> None:
    found = mlp_study.load_run(finished_run[1])
    assert found.config.activation.name == "tanh"
    assert found.result["outcome"] == "completed"
    assert len(found.curves) == 2
    images = load("digits")
    feed = Feed([found.config], images)
    assert found.model is not None
    predicted_N = found.model(feed.transforms[0](images.test_images_NI)).argmax(1)
    assert (predicted_N == images.test_labels_N).float().mean().item() == pytest.approx(found.result["test/accuracy"])


def test_the_wandb_run_has_everything(finished_run: Finished) -> None:
    folder = finished_run[1]
    result = json.loads((folder / "result.json").read_text())
    [found] = read_wandb(folder)
    assert found.run.run_id == result["wandb_id"]
    assert (found.run.run_group, list(found.run.tags)) == ("g", ["a", "b"])
    assert found.exit_code == 0
    assert found.config["activation"]["name"] == "tanh"
    assert found.config["run_id"] == result["run_id"]
    assert (found.summary["outcome"], found.summary["test/accuracy"]) == ("completed", result["test/accuracy"])
    epochs = [row for row in found.rows if "val/loss" in row]
    curves = mlp_study.load_run(folder).curves
    assert [row["val/loss"] for row in epochs] == list(curves["val/loss"])
    steps = [row["step"] for row in found.rows if "train/step_loss" in row]
    assert steps == list(range(10, int(curves["step"].iloc[-1]) + 1, 10))
    assert list((folder / "wandb").rglob("*.png")), "the figures"


def test_a_network_that_diverges_is_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = config("optimizer.lr=1e38", "data.gain=1e4", "wandb.mode=disabled", "save=models", "trainer.max_epochs=5")
    run_one(lost, tmp_path, ["optimizer.lr=1e38"])
    result = mlp_study.load_run(tmp_path).result
    assert result["outcome"] == "diverged"
    assert "step" in result["cause"]
    assert list(mlp_study.load_run(tmp_path).curves["epoch"]) == [1]
    assert "diverged: the loss became nan at step" in capsys.readouterr().out


# --- interruption ---------------------------------------------------------------------------------------------------

LONG = ("trainer.max_epochs=150", "trainer.threads=1", "wandb.mode=disabled", "save=models", "optimizer=adam",
        "model.dropout=0.2", "schedule=cosine", "probes.ends=[]", "probes.epochs=[]")  # fmt: skip


def without_clock(folder: Path) -> pd.DataFrame:
    return load_curves(folder).drop(columns="seconds")


def wait_for(path: Path, process: subprocess.Popen[Any], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not path.is_file():
        assert process.poll() is None, "it ended before it was interrupted"
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_an_interrupted_command_is_resumed_to_the_same_end(number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / "a run, of = mine"
    where = f"hydra.run.dir='{folder}'"
    process = subprocess.Popen(
        command(*LONG, where), cwd=tmp_path, env=ENVIRONMENT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    wait_for(folder / "curves.csv", process)
    if number == signal.SIGKILL:
        process.kill()
    else:
        os.killpg(process.pid, number)  # the whole group, as a terminal's Ctrl-C
    _, stderr = process.communicate(timeout=240)
    assert not (folder / "result.json").exists()
    before = without_clock(folder)
    assert 0 < len(before) < 150
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert_one_line(stderr, f"stopped by {number.name} in epoch {len(before) + 1}; what was finished is recorded; ")
        assert f"resume={folder} continues" in stderr
    again = finished(tmp_path, f"resume={folder}")
    assert (again.returncode, again.stderr) == (0, "")
    undisturbed = tmp_path / "undisturbed"
    assert finished(tmp_path, *LONG, f"hydra.run.dir={undisturbed}").returncode == 0
    pd.testing.assert_frame_equal(without_clock(folder), without_clock(undisturbed), check_exact=True)
    a, b = (json.loads((f / "result.json").read_text()) for f in (folder, undisturbed))
    assert a["run_id"] == b["run_id"]
    assert all(a[key] == b[key] for key in ("outcome", "test/accuracy", "test/loss", "epochs"))
    assert (folder / "model.safetensors").read_bytes()[-1000:] == (undisturbed / "model.safetensors").read_bytes()[
        -1000:
    ]
    assert not list(folder.glob("*checkpoint*"))
    assert not (tmp_path / "outputs").exists()
    refused = finished(tmp_path, f"resume={folder}")
    assert refused.returncode == 1
    assert_one_line(refused.stderr, f"resume={folder}: that run is finished")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_text("- trainer.max_epochs=2\n- wandb.mode=disabled\n")
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    done = finished(tmp_path, "resume=run")
    assert done.returncode == 1
    assert_one_line(done.stderr, f"the checkpoint {tmp_path}/run/checkpoint.safetensors cannot be read")
    assert done.stderr.rstrip().endswith("delete it to start again")


def test_resuming_a_run_of_ones_own_configs_takes_their_folder_and_the_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 3\n")

    def stop(*_: Any, **__: Any) -> None:
        raise Interrupted("stopped")

    monkeypatch.setattr("mlp_study.training.trainer.PopulationTrainer.fit", stop)
    typed = ("+experiment=mine", "wandb.mode=disabled", "save=none", f"hydra.run.dir={folder}")
    search_path, other = f"hydra.searchpath=[file://{tmp_path}]", f"hydra.searchpath=[file://{tmp_path}/experiment]"
    for flags, shown in (
        (["--config-dir", str(tmp_path)], f"--config-dir {tmp_path}"),
        ([search_path], f"'{search_path}'"),
        (["--config-dir", str(tmp_path), other], f"--config-dir {tmp_path} '{other}'"),
    ):
        for words in ((*typed, *flags), (*flags, f"resume={folder}", "trainer.progress=false")):
            monkeypatch.setattr(sys, "argv", ["train", *words])
            with pytest.raises(SystemExit), logging_as_before():
                run_hydra(run, "train", PURPOSE)
            assert f"stopped; {shown} resume={folder} continues" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plain", "a b", "a,b", "a=b", "it's (mine) [1] {2}", "ünï", 'dou"ble', "$x"])
def test_resume_takes_any_folder_with_the_users_quotes_or_without(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text("- seed=3\n- resume=elsewhere\n")
    quoted = str(folder).replace("'", "\\'")
    for text in (str(folder), f"'{quoted}'"):
        spelt = resumed(["data=digits", f"resume={text}"])
        assert spelt[:2] == ["seed=3", "data=digits"]
        values = [OverridesParser.create().parse_override(o).value() for o in spelt[2:4]]
        assert [str(v.text if hasattr(v, "text") else v) for v in values] == [str(folder)] * 2
        assert spelt[4:] == ["hydra.output_subdir=null"], "what the run was asked for stays"
    with pytest.raises(ConfigError, match=r"with trainer\.max_epochs=3 would be another run"):
        resumed([f"resume={folder}", "trainer.max_epochs=3"])
    (folder / "result.json").write_text("{}")
    with pytest.raises(ConfigError, match="that run is finished"):
        resumed([f"resume={folder}"])


def test_a_run_that_is_there_has_the_accuracy_of_its_record(tmp_path: Path) -> None:
    there = {"format": 1, "run_id": config().run_id, "config": {}, "val/accuracy": 0.0}
    (tmp_path / "result.json").write_text(json.dumps(there))
    assert _finished(config(), tmp_path) == 0


@pytest.mark.slow
def test_a_finished_runs_folder_is_not_written_again(tmp_path: Path) -> None:
    small = ("model.widths=[3]", "trainer.max_epochs=1", "wandb.mode=disabled", "save=none", "hydra.run.dir=r")
    assert finished(tmp_path, *small).returncode == 0
    files = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    done = finished(tmp_path, *small, "seed=1")
    assert done.returncode == 1
    assert_one_line(done.stderr, "hydra.run.dir=r holds a finished run; it takes a folder without result.json")
    assert files == {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
