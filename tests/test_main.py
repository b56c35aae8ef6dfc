"""`mlp-study`: one name for all commands, and what a shell offers after it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from mlp_study.__main__ import COMMANDS
from mlp_study.config.completion import candidates


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mlp_study", *words], capture_output=True, text=True, check=False)


def test_without_a_command_it_lists_them():
    assert all(f"  {name}" in run().stdout for name in COMMANDS)


def test_an_unknown_command_is_one_line_with_the_nearest_one():
    done = run("trian")
    assert done.returncode == 1
    assert done.stderr.startswith("error: command='trian' is unknown; did you mean 'train'?")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_reached(name):
    shown = run(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert f"mlp_study.{name}" in shown.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tr"], ["train"]),
        (["train", "optimizer=adam_"], ["optimizer=adam_keras", "optimizer=adam_torch"]),
        (["train", "optimizer=adam", "optimizer.bet"], ["optimizer.beta1=", "optimizer.beta2="]),
        (["train", "optimizer.bet"], []),
        (["diagnose", "data.scale=sy"], ["data.scale=symmetric"]),
        (["train", "+experiment=raw"], ["+experiment=raw_relu"]),
        (["train", "trainer.checkpoint="], ["trainer.checkpoint=true", "trainer.checkpoint=false"]),
        (["report", "x"], []),
    ],
)
def test_candidates(words, offered):
    assert candidates(words, COMMANDS) == offered


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_what_is_typed(tmp_path):
    """The printed script in a real bash, with the command on its path."""
    (tmp_path / "mlp-study").write_text(f'#!/bin/sh\nexec {sys.executable} -m mlp_study "$@"\n')
    (tmp_path / "mlp-study").chmod(0o755)
    typed = 'COMP_WORDS=(mlp-study train activation=sig); COMP_CWORD=2; _mlp_study; echo "${COMPREPLY[@]}"'
    line = f'PATH={tmp_path}:$PATH; eval "$(mlp-study --completion bash)"; {typed}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["activation=sigmoid"], done.stderr
