"""Other launchers train the same task, one run a job, each with its record; a failing one leaves the others alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.records.runs import read_wandb
from tests.sweep.sweeps import results, stamps, start

pytestmark = pytest.mark.slow

LAUNCHERS = {
    "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
    "submitit": ("hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1"),
    "basic": ("hydra/launcher=basic",),
    "all of Hydra's own": ("hydra/launcher=basic", "hydra/sweeper=basic"),
}
FILES = ("curves.csv", "model.safetensors", "train.log", ".hydra/config.yaml", ".hydra/overrides.yaml")


def ended(folder: Path, *overrides: str) -> tuple[int, str]:
    """Exit code and standard error of the command."""
    process = start(folder, *overrides)
    _, err = process.communicate(timeout=300)
    return process.returncode, err


@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
def test_each_run_has_its_folder_and_its_wandb_run(tmp_path, launcher):
    folder = tmp_path / "s"
    code, err = ended(folder, *launcher, "activation=relu,sigmoid", "wandb.mode=offline", "save=models")
    assert code == 0, err
    found = results(folder)
    assert {result["config"]["activation"]["name"] for result in found.values()} == {"relu", "sigmoid"}
    assert (folder / "multirun.yaml").is_file()
    for name, result in found.items():
        assert (result["outcome"], result["population"]["size"]) == ("completed", 1)
        assert [file for file in FILES if not (folder / name / file).is_file()] == []
        [recorded] = read_wandb(folder / name)
        assert (recorded.run.run_id, recorded.exit_code) == (result["wandb_id"], 0)


@pytest.mark.parametrize("launcher", LAUNCHERS.values(), ids=LAUNCHERS)
def test_a_run_that_fails_leaves_the_others_alone_and_the_command_says_so(tmp_path, launcher):
    folder = tmp_path / "s"
    code, err = ended(folder, *launcher, "data=idx,digits", f"data.root={tmp_path}/nowhere")
    assert code == 1
    assert [result["config"]["data"]["name"] for result in results(folder).values()] == ["digits"]
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert f"{tmp_path}/nowhere" in last
    assert "Traceback" not in err


def test_another_launcher_writes_no_finished_folder_again(tmp_path):
    folder, basic = tmp_path / "s", LAUNCHERS["basic"]
    assert ended(folder, *basic, "seed=0,1")[0] == 0
    before = stamps(folder)
    code, err = ended(folder, *basic, "seed=7,8")
    assert code == 1
    assert err.splitlines()[-1].endswith("holds another finished run; it takes a new folder")
    assert ended(folder, *basic, "seed=0,1")[0] == 0
    assert stamps(folder) == before
