"""Errors name the option and the cure, and never a piece of Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.faults.commands import Server, said_clearly
from tests.sweep.sweeps import ROOT, SMALL

DEEP = "{a: " * 500 + "1" + "}" * 500
LINES = [
    (["sweep_dir=/x/lr=0.1", "-m"], "needs quotes"),
    (["data.root=/x/a=b"], "needs quotes"),
    (["hydra.sweeper.storage=${oc.env:STUDY}?a=b", "-m", "hydra/sweeper=optuna"], "needs quotes"),
    ([f"hydra.run.dir={'x' * 300}"], "its name is too long"),
    (["-m", "seed=0,1", f"sweep_dir={'x' * 300}"], "its name is too long"),
    (["data=mnist", f"data.root={'x' * 300}"], "data.root"),
    ([f"seed={'1' * 5000}"], "too many digits"),
    ([f"+experiment.x={DEEP}"], "nested too deeply"),
    (["hydra.run.dir="], "hydra.run.dir= is not valid; it takes a folder"),
    (["optimizer.learning_rate=0.1"], "did you mean 'optimizer.lr'"),
    (["lr=0.1"], "did you mean 'optimizer.lr'"),
    (["seed='１２'"], "seed=１２ is not valid"),
    (["model.dropout='０.１'"], "model.dropout=０.１ is not valid"),
    (["--help", "foo"], "foo: no such option of --help"),
    (["hydra/launcher=ray", "-m"], "pip install hydra-ray-launcher"),
    (["model.norm=batch", "data.limit=33", "data.batch_size=32"], "the last minibatch of 33 training images has 1"),
    (["model.norm=batch", "data.batch_size=1"], "data.batch_size=1"),
]


@pytest.mark.parametrize(("argv", "says"), LINES, ids=[str(i) for i in range(len(LINES))])
def test_an_error_names_the_option_and_the_cure(server: Server, tmp_path: Path, argv: list[str], says: str) -> None:
    command = server.start([*SMALL, *argv], cwd=str(tmp_path))
    assert command.wait(60) == 1, command.out
    said_clearly(command)
    assert says in command.errors[0]
    assert "shows where" not in command.errors[0]
    assert len(command.errors[0]) < 2000


def test_an_interrupted_run_with_interpolations_is_resumed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    own = [*SMALL, "trainer.max_epochs=1", "wandb.group=${data.name}"]
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(own))
    command = server.start([f"resume={tmp_path / 'run'}"], cwd=str(tmp_path))
    assert command.wait(60) == 0, command.err
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.slow
def test_closed_streams_and_a_plain_locale_are_no_obstacle(tmp_path: Path) -> None:
    words = " ".join(["-m", "mlp_study.train", *SMALL, "trainer.max_epochs=1", "\"hydra.run.dir='dé'\""])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LC_ALL": "C"}
    command = f"exec {sys.executable} {words} >&-"
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dé" / "result.json").is_file()


def test_zero_has_no_sign() -> None:
    from tests.small_runs import config

    assert config("model.dropout=-0.0").run_id == config("model.dropout=0").run_id == config().run_id
