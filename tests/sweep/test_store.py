"""The sweep's folder: whose it is, and who trains what."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time

import pytest

from mlp_study.config.composing import compose
from mlp_study.config.schema import RunConfig
from mlp_study.errors import ConfigError
from mlp_study.sweep import claims as claims_module
from mlp_study.sweep.claims import Claims, identity
from mlp_study.sweep.plan import Cell
from mlp_study.sweep.store import FORMAT, MANIFEST, Store, asked_for, fixed_settings


def cell(*overrides: str) -> Cell:
    config = RunConfig.from_dict(compose(list(overrides)))
    return Cell(config.run_id, config, overrides)


CLAIMANT = """
import sys, time
from pathlib import Path
from mlp_study.sweep.claims import Claims
claims = Claims(Path(sys.argv[1]))
with claims.locked():
    print(*claims.take(["a", "b"]), flush=True)
time.sleep(600)
"""


@pytest.fixture
def claimant(tmp_path):
    """Another process that has claimed a and b."""
    process = subprocess.Popen([sys.executable, "-c", CLAIMANT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["a", "b"]
    yield process
    process.kill()
    process.communicate()


def test_what_a_living_process_has_claimed_is_not_given_twice(tmp_path, claimant):
    mine = Claims(tmp_path)
    with mine.locked():
        assert mine.take(["a", "b", "c"]) == ["c"]
    claimant.kill()
    claimant.wait()
    with mine.locked():
        assert mine.take(["a", "b", "c"]) == ["a", "b", "c"]
    mine.close()


def test_a_process_number_that_is_used_again_is_another_process(tmp_path):
    claim = {**identity(), "started": "1", "runs": ["a"]}
    (tmp_path / "old.json").write_text(json.dumps(claim))
    mine = Claims(tmp_path)
    with mine.locked():
        assert mine.take(["a"]) == ["a"]
    mine.close()


@pytest.mark.parametrize(("age", "free"), [(0, []), (claims_module.STALE / 2, []), (2 * claims_module.STALE, ["a"])])
def test_a_claim_from_another_machine_holds_while_it_is_renewed(tmp_path, age, free):
    path = tmp_path / "there.json"
    path.write_text(json.dumps({**identity(), "machine": "elsewhere", "runs": ["a"]}))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    mine = Claims(tmp_path)
    with mine.locked():
        assert mine.take(["a"]) == free
    mine.close()


def test_a_sign_of_life_makes_no_claim_where_it_was_taken_away(tmp_path, monkeypatch):
    monkeypatch.setattr(claims_module, "HEARTBEAT", 0.01)
    with contextlib.closing(Claims(tmp_path)) as claims:
        assert claims.take(["a"]) == ["a"]
        [path] = tmp_path.glob("*.json")
        os.utime(path, (0, 0))
        while path.stat().st_mtime == 0:
            time.sleep(0.001)
        path.unlink()
        time.sleep(0.1)
        assert list(tmp_path.glob("*.json")) == []


def test_a_claim_from_the_future_holds_when_the_clock_went_backwards(tmp_path):
    path = tmp_path / "there.json"
    path.write_text(json.dumps({**identity(), "machine": "elsewhere", "runs": ["a"]}))
    os.utime(path, (path.stat().st_mtime + 3600,) * 2)
    mine = Claims(tmp_path)
    with mine.locked():
        assert mine.take(["a"]) == []
    mine.close()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"pid": 3}'])
def test_a_damaged_claim_holds_nothing(tmp_path, damage):
    (tmp_path / "broken.json").write_text(damage)
    mine = Claims(tmp_path)
    with mine.locked():
        assert mine.take(["a"]) == ["a"]
    mine.close()
    assert not list(tmp_path.glob("*.json"))


def test_what_killed_processes_left_is_tidied_once_nobody_else_works_there(tmp_path, claimant):
    store = Store(tmp_path / "s")
    store.open({}, ["a"])
    inside = tmp_path / "s" / ".sweep"
    (theirs,) = tmp_path.glob("*.json")
    theirs.rename(inside / "claims" / theirs.name)
    half = [inside / name for name in (".runs.txt.1.2.tmp", "claims/.x-1.json.1.2.tmp", "checkpoints/.p.safetensors.1")]
    (inside / "checkpoints").mkdir()
    for path in half:
        path.touch()
    store.tidy()
    assert all(path.exists() for path in half)
    claimant.kill()
    claimant.wait()
    store.tidy()
    assert sorted(p.name for p in inside.rglob("*") if p.is_file()) == ["lock", "runs.txt"]


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
