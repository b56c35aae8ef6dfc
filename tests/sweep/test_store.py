"""The sweep's folder: whose it is, and who trains what."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mlp_study.config.composing import compose
from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError
from mlp_study.sweep.plan import Cell
from mlp_study.sweep.store import FORMAT, MANIFEST, Store, asked_for, fixed_settings


def cell(*overrides: str) -> Cell:
    config = RunConfig.from_dict(compose(list(overrides)))
    return Cell(config.run_id, config, overrides)


OTHER = """
import sys, time
from pathlib import Path
from mlp_study.sweep.store import Store
print(*Store(Path(sys.argv[1])).locks.take(["a", "b"]), flush=True)
time.sleep(600)
"""


def test_what_killed_processes_left_is_tidied_once_nobody_else_works_there(tmp_path):
    store = Store(tmp_path)
    store.open({}, ["a"])
    inside = tmp_path / ".sweep"
    half = [
        inside / name for name in (".runs.txt.1.2.tmp", "locks/.x-1.json.1.2.tmp", "checkpoints/.p.safetensors.1.tmp")
    ]
    (inside / "checkpoints").mkdir()
    for path in half:
        path.touch()
    with subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().split() == ["a", "b"]
        store.tidy()
        assert all(path.exists() for path in half)
        other.kill()
    store.tidy()
    store.close()
    assert [p.name for p in inside.rglob("*") if p.is_file()] == ["runs.txt"]


def test_a_run_that_was_finished_before_it_was_locked_is_not_trained_again(tmp_path, monkeypatch):
    store, cells = Store(tmp_path), [cell("seed=1"), cell("seed=2")]
    take = store.locks.take

    def late(names):
        (tmp_path / cells[0].run_id).mkdir()
        (tmp_path / cells[0].run_id / "result.json").write_text("{}")
        return take(names)

    monkeypatch.setattr(store.locks, "take", late)
    with store.claimed(cells) as mine:
        assert mine == cells[1:]
    store.close()
    assert list((tmp_path / ".sweep" / "locks").iterdir()) == []


def test_fixed_settings_are_those_that_all_runs_share():
    cells = [cell("activation=relu", "seed=1"), cell("activation=tanh", "seed=2", "wandb.mode=disabled")]
    fixed = fixed_settings(cells)
    assert fixed["optimizer.lr"] == 0.01
    assert not {"activation", "seed", "wandb.mode"} & set(fixed)


def test_a_folder_takes_an_extended_grid_and_refuses_another_sweep(tmp_path):
    first = fixed_settings([cell("seed=1"), cell("seed=2")])
    Store(tmp_path).open(first, ["a", "b"])
    wider = fixed_settings([cell("seed=3", "activation=tanh"), cell("seed=4", "activation=relu")])
    Store(tmp_path).open(wider, ["b", "c"])
    assert asked_for(tmp_path) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match=r"there trainer.max_epochs=15, here trainer.max_epochs=3; .*sweep over both"):
        Store(tmp_path).check(fixed_settings([cell("trainer.max_epochs=3")]))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (MANIFEST, json.dumps({"format": FORMAT + 1, "kind": "mlp_study sweep"}), "newer"),
        (MANIFEST, json.dumps({"format": 1, "kind": "another tool"}), "something else"),
        (MANIFEST, "{", "cannot be read"),
        (MANIFEST, json.dumps({"format": "1", "kind": "mlp_study sweep"}), f"{MANIFEST} is damaged"),
        (MANIFEST, json.dumps({"format": 1, "kind": "mlp_study sweep", "fixed": []}), f"{MANIFEST} is damaged"),
        ("result.json", "{}", "single run"),
        ("thesis.tex", "", "not empty"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=says) as error:
        Store(tmp_path).check({})
    assert str(tmp_path) in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == content
