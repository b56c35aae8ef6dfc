"""What a command leaves out of its imports, and that nobody misses it."""

from __future__ import annotations

import json
import subprocess
import sys

import mlp_study

LEFT_OUT = ("torch._inductor", "matplotlib", "scipy", "torchvision", "sklearn", "sympy", "wandb", "pandas")

RUN = """
import json, sys
from mlp_study.config.hydra_app import run_hydra
from mlp_study.train import PURPOSE, run
sys.argv[1:] = {overrides!r}
run_hydra(run, "train", PURPOSE)
print(json.dumps([name for name in {names!r} if name in sys.modules]))
"""

COMPILE = """
from mlp_study.runtime.startup import import_lightning
import_lightning()
import sys
assert "torch._dynamo" not in sys.modules, "left out"
import torch, torch._dynamo
network = torch.compile(torch.nn.Linear(3, 2), backend="eager")
assert type(network).__module__ == "torch._dynamo.eval_frame", type(network)
assert network(torch.zeros(1, 3)).shape == (1, 2)
import torchmetrics.utilities.imports, lightning_utilities.core.imports as imports
assert imports.RequirementCache("matplotlib"), "found again by who asks later"
"""


def run(code: str, cwd: object = None) -> str:
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cwd)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_a_run_imports_nothing_that_it_does_not_use(tmp_path):
    overrides = ["data=digits", "trainer.max_epochs=1", "wandb.mode=disabled", "save=none", f"hydra.run.dir={tmp_path}"]
    printed = run(RUN.format(overrides=overrides, names=LEFT_OUT), tmp_path)
    assert json.loads(printed.splitlines()[-1]) == []
    assert (tmp_path / "result.json").is_file()


def test_networks_can_be_compiled_after_lightning_was_imported_without_the_compiler():
    run(COMPILE)


def test_what_is_imported_when_it_is_asked_for_is_listed_before() -> None:
    assert {"load_run", "load_results", "diagnose"} <= set(dir(mlp_study))
    assert all(hasattr(mlp_study, name) for name in dir(mlp_study))
