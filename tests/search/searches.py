"""Small searches for tests: the command in this process or as one of its own, and its study read back."""

from __future__ import annotations

import contextlib
import csv
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf

from mlp_study import train
from mlp_study.config.hydra_app import run_hydra
from mlp_study.config.optuna_settings import OptunaConfig
from mlp_study.search.space import Space, read_space
from mlp_study.search.storage import StudyStorage
from mlp_study.search.sweeper import quiet_optuna
from tests.small_runs import logging_as_before

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "hydra/sweeper=optuna",
    "model.widths=[8]",
    "data.limit=64",
    "trainer.max_epochs=2",
    "wandb.mode=disabled",
    "probes.ends=[]",
    "save=none",
    "report=false",
)
LR = "optimizer.lr=tag(log,interval(1e-3,1))"


def search(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str, task: Any = None) -> None:
    """The command in this process; raises SystemExit where the command exits."""
    monkeypatch.setattr(sys, "argv", ["train", "-m", *SMALL, f"sweep_dir={folder}", *overrides])
    with logging_as_before():
        run_hydra(task or train.run, "train", "")


def refused(monkeypatch: pytest.MonkeyPatch, capsys: Any, folder: Path, *overrides: str) -> str:
    """What the command says when it refuses."""
    with pytest.raises(SystemExit) as stopped:
        search(monkeypatch, folder, *overrides)
    assert stopped.value.code == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if line.startswith("error:")]) == 1
    return next(line for line in lines if line.startswith("error:"))


@contextlib.contextmanager
def started(folder: Path, *overrides: str, words: Sequence[str], **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A process of ``python -m WORDS`` with a small search's arguments, its output in one pipe; killed at the end."""
    command = [sys.executable, "-m", *words, "-m", *SMALL, f"sweep_dir={folder}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, cwd=folder.parent, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def node_of(**settings: Any) -> Any:
    """The sweeper's settings as Hydra gives them."""
    return OmegaConf.to_container(OmegaConf.structured(OptunaConfig(**settings)))


def space_of(*overrides: str) -> Space:
    return read_space({}, overrides, {})


def study(folder: Path, storage: str | None = None, name: str = "mlp_study") -> optuna.Study:
    """The study in memory, as it is now."""
    stored = StudyStorage(storage, folder)
    if storage is None:
        assert stored.path.is_file()  # opening it would make its folder
    with quiet_optuna():
        stored.open()
        try:
            found = optuna.load_study(study_name=name, storage=stored.optuna)
            copy = optuna.create_study(directions=found.directions)
            copy.add_trials(found.trials)
            assert [t.number for t in copy.trials] == [t.number for t in found.trials]
        finally:
            stored.close()
    return copy


def outcomes(found: optuna.Study) -> list[tuple[int, str, dict[str, Any], list[float] | None]]:
    """What must be equal for equal studies."""
    return [(t.number, t.state.name, t.params, t.values) for t in found.trials]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))
