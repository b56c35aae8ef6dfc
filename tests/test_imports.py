"""What a command leaves out of its imports, and that nobody misses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlp_study

LEFT_OUT = ("torch._dynamo", "torch._inductor", "triton", "matplotlib", "scipy", "torchvision", "sklearn", "sympy")

RUN = """
import json, sys
from mlp_study.config.hydra_app import run_hydra
from mlp_study.train import PURPOSE, run
sys.argv[1:] = {overrides!r}
run_hydra(run, "train", PURPOSE)
print(json.dumps([name for name in {names!r} if name in sys.modules]))
"""

COMPILE = """
from mlp_study.runtime.startup import Process
Process.of_a_command = True
from lightning.pytorch import LightningModule
import sys
assert "torch._dynamo" not in sys.modules, "left out"
import torch, torch._dynamo
from lightning.fabric.wrappers import OptimizedModule, _unwrap_compiled
network = torch.compile(torch.nn.Linear(3, 2), backend="eager")
assert type(network).__module__ == "torch._dynamo.eval_frame", type(network)
assert isinstance(network, OptimizedModule), "Lightning still knows a compiled network"
assert not isinstance(torch.nn.Linear(3, 2), OptimizedModule)
assert _unwrap_compiled(network)[0] is network._orig_mod
assert network(torch.zeros(1, 3)).shape == (1, 2)
from torch.utils.flop_counter import FlopCounterMode
assert FlopCounterMode.__module__ == "torch.utils.flop_counter"
"""

OTHERS = """
import contextlib, sys
import mlp_study.runtime.startup as imports
imports.Process.of_a_command = True

@contextlib.contextmanager
def refusing():
    sys.modules["torch._dynamo"] = None  # every import of it fails
    try:
        yield
    finally:
        del sys.modules["torch._dynamo"]

imports._standing_in = refusing
from lightning.pytorch import Trainer
assert Trainer.__module__.startswith("lightning.pytorch")
assert "torch._dynamo" in sys.modules, "imported whole"
"""


def run(code: str, cwd: object = None, variables: dict[str, str] | None = None) -> str:
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=variables)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_run_imports_nothing_that_it_does_not_use(tmp_path):
    overrides = ["data=digits", "trainer.max_epochs=1", "wandb.mode=disabled", "save=none", f"hydra.run.dir={tmp_path}"]
    printed = run(RUN.format(overrides=overrides, names=LEFT_OUT), tmp_path)
    assert json.loads(printed.splitlines()[-1]) == []
    assert (tmp_path / "result.json").is_file()


@pytest.mark.slow
def test_networks_can_be_compiled_where_lightning_was_imported_without_the_compiler():
    run(COMPILE)


@pytest.mark.slow
def test_a_release_that_wants_more_of_the_compiler_is_imported_whole():
    run(OTHERS)


def test_a_runs_figures_are_drawn_without_pandas(tmp_path):
    curves = [{"epoch": 1, "train/loss": 1.0, "val/loss": 2.0}, {"epoch": 2, "train/loss": 0.5}]
    code = f"""
import sys
from pathlib import Path
from mlp_study.figures.run import draw
arguments = {{"curves": {curves!r}, "title": "relu"}}
replies = []
draw({{"what": "curves", "key": 1, "path": "curves.png", "arguments": arguments}}, replies.append)
assert [reply["event"] for reply in replies] == ["drawn"], replies
assert "pandas" not in sys.modules
"""
    run(code, tmp_path)
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_wandbs_process_imports_nothing_that_a_run_does_not_use(tmp_path):
    code = """
import sys
from mlp_study.records.wandb_process import Runs
replies, runs = [], Runs()
def do(what, **more):
    runs.handle({"do": what, "run": "k", **more}, replies.append)
do("open", mode="offline", dir=".", id="abc", resume="allow", config={"lr": 0.1})
do("log", rows=[{"epoch": 1, "train/loss": 0.5}])
do("finish", exit_code=0)
assert [reply["event"] for reply in replies] == ["opened", "finished"], replies
names = ("opentelemetry.sdk", "requests", "psutil", "wandb.sdk.launch._launch", "wandb.apis.public")
assert not [name for name in names if name in sys.modules]

from wandb.sdk.launch.inputs.internal import StagedLaunchInputs
import wandb.sdk.launch
assert wandb.sdk.launch.launch.__module__ == "wandb.sdk.launch._launch", "the original comes to who asks for it"
from wandb.sdk.launch import launch_add
import wandb.sdk.launch.inputs.internal as again
assert again.StagedLaunchInputs is StagedLaunchInputs
runs.at_end(replies.append)
"""
    run(code, tmp_path)
    assert len(list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))) == 1


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in Linux's /proc")
@pytest.mark.parametrize(("of_a_command", "own", "more"), [(True, None, False), (True, "2", True), (False, None, True)])
def test_numpy_starts_no_threads_in_a_command_unless_asked_to(of_a_command, own, more):
    code = f"""
import os
from mlp_study.runtime.startup import Process, uncollected
Process.of_a_command = {of_a_command}
with uncollected():
    import numpy
threads = len(os.listdir("/proc/self/task"))
assert threads == 1 or {more}, threads
if {more} and os.cpu_count() > 1 and "openblas" in numpy.show_config("dicts")["Build Dependencies"]["blas"]["name"]:
    assert threads > 1, "this test sees no threads"
assert os.environ.get("OPENBLAS_NUM_THREADS") == {own!r}, "PyTorch's own choice, and a child's"
"""
    variables = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    run(code, variables=variables | ({"OPENBLAS_NUM_THREADS": own} if own else {}))


@pytest.mark.parametrize("own", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_a_commands_idle_threads_soon_give_up_their_cores_unless_asked_otherwise(own):
    code = f"""
import os, sys
from mlp_study.runtime.guard import guarded
guarded(lambda: None)
assert "torch" not in sys.modules, "it is read when PyTorch is loaded"
own = {own!r}
expected = own.get("GOMP_SPINCOUNT", None if own else "10000")
assert os.environ.get("GOMP_SPINCOUNT") == expected, os.environ.get("GOMP_SPINCOUNT")
"""
    variables = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run(code, variables=variables | own)


def test_what_is_imported_when_it_is_asked_for_is_listed_before() -> None:
    assert {"load_run", "load_results", "diagnose"} <= set(dir(mlp_study))
    assert all(hasattr(mlp_study, name) for name in dir(mlp_study))
