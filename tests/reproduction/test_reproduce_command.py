"""`python -m mlp_study.reproduce`: its arguments, its files, and the five sources on digits."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlp_study.errors import ConfigError
from mlp_study.reproduce import main
from mlp_study.reproduction.command import request_of
from mlp_study.reproduction.experiments import configs_of
from mlp_study.reproduction.runs import cells_of, plan_of
from mlp_study.sweep.locks import held_in
from mlp_study.sweep.store import Store
from tests.sweep.sweeps import ROOT

VERDICTS = ("holds", "does not hold", "holds only with ")
FILES = {"reproduction.md", "reproduction.csv", "reproduction.json"}


def reproduced(folder: Path, *arguments: str) -> dict[str, object]:
    main([f"folder={folder}", "data=digits", "wandb.mode=disabled", *arguments])
    assert {path.name for path in folder.iterdir() if path.is_file()} >= FILES
    found: dict[str, object] = json.loads((folder / "reproduction.json").read_text())
    return found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["source=raw_rely"], "did you mean 'raw_relu'"),
        (["seeds=0"], r"seeds=0 is not valid; it takes a whole number in \[1"),
        (["seeds=ten"], "seeds=ten is not valid"),
        (["digits"], "takes key=value"),
        (["seed=3"], "seeds"),
        (["experiment.variant=relu"], "option"),
        (["folder="], "folder= is not valid"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        request_of(arguments)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="it takes a folder"):
        request_of([f"folder={tmp_path / 'file'}"])


@pytest.mark.parametrize("name", ["sweep.json", "result.json"])
def test_the_folder_of_a_sweep_or_a_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError, match="it takes one of its own"):
        request_of([f"folder={tmp_path}"])


def test_settings_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.max_epochs"):
        main([f"folder={tmp_path / 'new'}", "source=sixteen_units", "trainer.max_epoch=3"])
    assert not (tmp_path / "new").exists()


def test_help_names_the_sources_at_once() -> None:
    code = "import sys; from mlp_study.reproduce import main; main(['--help']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "all, clipped_fashion, fashion_activations, numpy_relu, raw_relu, sixteen_units" in done.stdout
    assert done.stdout.endswith("False\n")


def test_one_source_is_reproduced_and_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ("source=sixteen_units", "seeds=2", "trainer.max_epochs=1")
    first = reproduced(tmp_path, *typed)
    printed = capsys.readouterr().out
    assert first["trained_now"] == 4
    rows = list(csv.DictReader((tmp_path / "reproduction.csv").read_text().splitlines()))
    assert {row["claim"] for row in rows} == {
        "sigmoid_errors",
        "relu_errors",
        "relu_fewer_errors",
        "relu_more_accurate",
    }
    assert all(row["n"] == "2" and row["verdict"].startswith(VERDICTS) for row in rows)
    markdown = (tmp_path / "reproduction.md").read_text()
    assert "python -m mlp_study.reproduce seeds=2 data=digits wandb.mode=disabled trainer.max_epochs=1" in markdown
    for words in ("Sigmoid makes 8 errors", rows[0]["verdict"]):
        assert words in printed
        assert words in markdown
    pictures = [line.split("(")[1].rstrip(")") for line in markdown.splitlines() if line.startswith("![")]
    assert sorted(Path(p).name for p in pictures) == [
        "predictions.png",
        "predictions.png",
        "weights.png",
        "weights.png",
    ]
    assert all((tmp_path / picture).is_file() for picture in pictures)
    again = reproduced(tmp_path, *typed)
    assert again["trained_now"] == 0
    assert again["claims"] == first["claims"]


def test_a_damaged_checkpoint_costs_its_training_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    typed = ("source=sixteen_units", "seeds=2", "trainer.max_epochs=1", "report=false")
    request = request_of([f"folder={tmp_path}", "data=digits", "wandb.mode=disabled", *typed])
    [source] = request.experiments
    plan = plan_of(cells_of(source, configs_of(source, request.overrides, request.seeds)))
    begun = [Store(tmp_path).checkpoint(population) for population in plan.populations]
    begun[0].parent.mkdir(parents=True)
    for path in begun:
        path.write_bytes(b"no checkpoint")
    assert reproduced(tmp_path, *typed)["trained_now"] == 4
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sorted(line.split(" cannot be read")[0] for line in warnings) == sorted(
        f"the checkpoint {path}" for path in begun
    )
    assert not list(tmp_path.rglob("*.safetensors.*"))
    assert not any(path.exists() for path in begun)


@contextlib.contextmanager
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The command as a process: two variants of two seeds, each variant by itself."""
    typed = ("source=sixteen_units", "seeds=2", "trainer.max_epochs=50", "report=false")
    command = [sys.executable, "-m", "mlp_study.reproduce", "data=digits", "wandb.mode=disabled", f"folder={folder}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, *typed], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # where it has ended, nothing happens


@pytest.mark.slow
@pytest.mark.parametrize(("then", "here", "there"), [(signal.SIGCONT, 2, 2), (signal.SIGKILL, 0, 4)])
def test_two_commands_on_one_folder_never_train_the_same_run(
    tmp_path: Path, then: signal.Signals, here: int, there: int
) -> None:
    """The first is stopped amid its first population; when the other has trained the rest, it goes on or is killed."""
    with started(tmp_path) as first:
        while not held_in(tmp_path / ".sweep" / "locks"):
            assert first.poll() is None
            time.sleep(0.005)
        time.sleep(0.1)  # it takes the second lock, and trains for seconds
        first.send_signal(signal.SIGSTOP)
        with started(tmp_path) as other:
            assert other.stderr is not None
            assert any(line.startswith("waiting for runs that another process trains") for line in other.stderr)
            before = {path: path.read_bytes() for path in tmp_path.rglob("result.json")}
            assert len(before) == 2
            first.send_signal(then)
            said = {first: first.communicate()[1], other: other.communicate()[1]}
    assert {path: path.read_bytes() for path in before} == before
    assert len(list(tmp_path.rglob("result.json"))) == 4
    assert other.returncode == 0, said[other]
    assert f"{there} runs trained, {4 - there} read back" in said[other]
    if here:
        assert first.returncode == 0, said[first]
        assert f"{here} runs trained, {4 - here} read back" in said[first]
    assert not list((tmp_path / ".sweep").rglob("*.safetensors"))
    assert not held_in(tmp_path / ".sweep" / "locks")


@pytest.mark.slow
def test_the_whole_puzzle_on_digits(tmp_path: Path) -> None:
    """All five sources; what has to be found whatever the seeds."""
    found = reproduced(tmp_path, "seeds=3")
    claims: dict[tuple[str, str], dict[str, object]] = {
        (row["claim"], row["case"]): row
        for row in found["claims"]  # type: ignore[attr-defined]
    }
    assert all(str(row["verdict"]).startswith(VERDICTS) for row in claims.values())
    logits, clipped = "the loss from logits", "the loss from clipped probabilities"
    assert claims["relu_collapses", logits]["verdict"] == "holds"
    assert claims["units_die", logits]["case_holds"]
    assert claims["plateau_stops", clipped]["case_holds"]
    assert claims["relu_fails", clipped]["verdict"] == f"holds only with {clipped}"
    assert claims["scaling_cures", "pixels/255"]["verdict"] == "holds"
    assert claims["gradient_check_flags", "sigmoid"]["verdict"] == "holds only with the question's ReLU"
    assert claims["sigmoid_better", "step 3"]["case_holds"]
    figures = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert {"fashion_activations_loss_curves.png", "fashion_activations_accuracy_curves.png"} <= figures
