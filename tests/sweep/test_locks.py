"""Who works on what: lock files of living and dead processes, of this machine and of others."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlp_study.runtime.processes import identity
from mlp_study.sweep import locks as locks_module
from mlp_study.sweep.locks import STALE, Locks, held_in

OTHER = """
import sys, time
from pathlib import Path
from mlp_study.sweep.locks import Locks
print(*Locks(Path(sys.argv[1])).take(["a", "b"]), flush=True)
time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds a and b."""
    process = subprocess.Popen([sys.executable, "-c", OTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().split() == ["a", "b"]
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def mine(tmp_path):
    with contextlib.closing(Locks(tmp_path)) as found:
        yield found


def left_by(folder: Path, name: str = "a", **about: object) -> Path:
    """A lock of another process."""
    path = folder / f"{name}.lock"
    path.write_text(json.dumps({**identity(), "token": "other", **about}))
    return path


def test_what_a_living_process_holds_is_not_given_twice(other, mine):
    assert mine.take(["a", "b", "c"]) == ["c"]
    assert mine.others() == {"a", "b"}
    other.kill()
    other.wait()
    assert mine.take(["a", "b", "c"]) == ["a", "b", "c"]
    assert mine.others() == set()


def test_what_is_given_back_is_free_and_nothing_stays_behind(tmp_path, mine):
    assert mine.take(["runs/of a/b", "x"]) == ["runs/of a/b", "x"]
    [held] = held_in(tmp_path)
    assert set(held.names) == {"runs/of a/b", "x"}
    assert held.owner.pid == os.getpid()
    mine.give_back(["x"])
    with contextlib.closing(Locks(tmp_path)) as second:
        assert second.take(["runs/of a/b", "x"]) == ["x"]
    mine.close()
    assert list(tmp_path.iterdir()) == []


def test_a_process_number_that_is_used_again_is_another_process(tmp_path, mine):
    left_by(tmp_path, started="1")
    assert mine.take(["a"]) == ["a"]


@pytest.mark.parametrize(("age", "free"), [(0, []), (STALE / 2, []), (-3600, []), (2 * STALE, ["a"])])
def test_a_lock_from_another_machine_holds_while_it_is_renewed(tmp_path, mine, age, free):
    path = left_by(tmp_path, machine="elsewhere")
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    assert mine.take(["a"]) == free


def test_the_job_itself_before_it_was_requeued_holds_nothing(tmp_path, mine, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    left_by(tmp_path, machine="elsewhere", job="17", restart=0)
    assert mine.take(["a"]) == ["a"]


def test_a_job_that_is_over_is_forgotten(tmp_path, mine):
    left_by(tmp_path, machine="elsewhere", job="17_3")
    mine.forget_job("17")
    assert mine.take(["a"]) == []
    mine.forget_job("17_3")
    assert mine.take(["a"]) == ["a"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 3}'])
@pytest.mark.parametrize(("age", "free"), [(0, []), (2 * STALE, ["a"])])
def test_a_lock_without_an_owner_is_being_made_unless_it_is_old(tmp_path, mine, content, age, free):
    path = tmp_path / "a.lock"
    path.write_text(content)
    os.utime(path, (time.time() - age,) * 2)
    assert mine.take(["a"]) == free


def test_an_owner_that_names_a_path_frees_no_other_file(tmp_path, mine):
    left_by(tmp_path, started="1", token="../x")
    assert mine.take(["a"]) == []


def test_a_sign_of_life_makes_no_file_where_it_was_taken_away(tmp_path, mine, monkeypatch):
    monkeypatch.setattr(locks_module, "HEARTBEAT", 0.01)
    assert mine.take(["a"]) == ["a"]
    [path] = tmp_path.glob("*.lock")
    os.utime(path, (0, 0))
    while path.stat().st_mtime == 0:
        time.sleep(0.001)
    path.unlink()
    time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []


def test_who_slept_and_was_taken_for_dead_gives_back_only_what_is_still_its_own(tmp_path, mine):
    mine.take(["a", "b"])
    about = json.loads((tmp_path / "a.lock").read_text())
    left_by(tmp_path, machine="elsewhere", token=about["token"])
    os.utime(tmp_path / "a.lock", (0, 0))
    with contextlib.closing(Locks(tmp_path)) as second:
        assert second.take(["a"]) == ["a"]
        mine.close()
        assert [held.names for held in held_in(tmp_path)] == [("a",)]


def test_of_many_that_want_a_dead_processs_locks_each_lock_goes_to_one(tmp_path):
    names = [f"run{number}" for number in range(40)]
    for name in names:
        left_by(tmp_path, name, started="1")
    crew = [Locks(tmp_path) for _ in range(8)]
    with ThreadPoolExecutor(len(crew)) as pool:
        taken = [name for found in pool.map(lambda locks: locks.take(names), crew) for name in found]
    assert len(taken) == len(set(taken))
    for locks in crew:
        taken += locks.take(set(names) - set(taken))
    assert sorted(taken) == sorted(names)
    for locks in crew:
        locks.close()


def test_an_exclusive_section_has_one_process_at_a_time(tmp_path):
    inside: list[int] = []

    def count(number: int) -> int:
        with contextlib.closing(Locks(tmp_path)) as locks, locks.exclusive("table"):
            inside.append(number)
            found = len(inside)
            time.sleep(0.01)
            inside.remove(number)
            return found

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(count, range(6))) == [1] * 6
    assert list(tmp_path.iterdir()) == []


def test_what_dead_processes_left_is_tidied_once_nobody_else_is_there(tmp_path, other, mine):
    left_by(tmp_path, ".table", started="1")
    assert not mine.tidy()
    assert {path.name for path in tmp_path.iterdir()} == {"a.lock", "b.lock"}
    other.kill()
    other.wait()
    assert mine.tidy()
    mine.close()
    assert list(tmp_path.iterdir()) == []
