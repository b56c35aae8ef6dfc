"""One study, several processes: killed ones, four at once, on a journal and in a real PostgreSQL."""

from __future__ import annotations

import collections
import dataclasses
import getpass
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.study import StudyDirection
from sqlalchemy import text

from mlp_study.errors import ConfigError
from mlp_study.records.recorder import Recorder
from mlp_study.search import storage, trial_owners
from mlp_study.search.shared_study import SharedStudy
from mlp_study.search.storage import StudyStorage
from mlp_study.search.sweeper import Search, quiet_optuna
from mlp_study.search.sweeper_settings import read_settings
from tests.search.searches import LR, node_of, outcomes, refused, rows, search, space_of, started, study

TRIALS = 12
COUNT = ("hydra.sweeper.n_jobs=2", f"hydra.sweeper.n_trials={TRIALS}")


PROPOSE, TELL = "mlp_study.search.shared_study:SharedStudy._propose", "mlp_study.search.shared_study:SharedStudy.tell"
EPOCH = "mlp_study.records.recorder:Recorder.epoch_ended"


def workers(rounds, folder, *overrides, **variables):
    """Processes that run the command: how each of them ended, round by round; see ``worker``."""
    with started(folder, *overrides, words=["tests.search.worker", json.dumps(rounds)], **variables) as process:
        out, _ = process.communicate()
        assert process.returncode == 0, out
        return ended(out)


def ended(out):
    found = [line for line in out.splitlines() if line.startswith("ended ")]
    assert found, out
    return json.loads(found[0].removeprefix("ended "))


def complete(found, trials=TRIALS):
    """No trial is lost, none is there twice, and each has a value."""
    assert [t.number for t in found.trials] == list(range(trials))
    assert collections.Counter(t.state.name for t in found.trials) == {"COMPLETE": trials}
    assert len({tuple(sorted(t.params.items())) for t in found.trials}) == trials


@pytest.mark.slow
def test_a_killed_search_goes_on_as_if_it_had_not_been(monkeypatch, tmp_path):
    more = (LR, "activation=relu,tanh", *COUNT, "hydra.sweeper.sampler.n_startup_trials=3", "trainer.max_epochs=3")
    search(monkeypatch, tmp_path / "whole", *more)
    folder = tmp_path / "killed"
    # Between two trials of one batch, amid the training of one, and between a batch's two results.
    calls = [[f"{PROPOSE}#2"], [f"{EPOCH}#3"], [f"{TELL}#2"]]
    assert workers(calls, folder, *more) == [[-signal.SIGKILL]] * 3
    states = collections.Counter(t.state.name for t in study(folder).trials)
    assert states["RUNNING"] > 0
    with (folder / "optuna.journal").open("a") as file:  # what a power cut leaves
        file.write('{"op_code": 8, "work')
    search(monkeypatch, folder, *more)
    complete(study(folder))
    assert outcomes(study(folder)) == outcomes(study(tmp_path / "whole"))
    runs = [int(row["trial"]) for row in rows(folder / "trials.csv")]
    assert runs == list(range(TRIALS))


def test_an_interrupted_search_gives_its_trials_back(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(Recorder, "epoch_ended", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        search(monkeypatch, tmp_path / "s", LR, "hydra.sweeper.n_trials=2", "trainer.max_epochs=50")
    assert stopped.value.code == 130
    assert f"the same command with sweep_dir={tmp_path / 's'} resumes" in capsys.readouterr().err
    assert [t.state.name for t in study(tmp_path / "s").trials] == ["WAITING", "WAITING"]


def test_a_line_that_another_process_is_writing_is_kept_and_one_that_it_could_not_end_is_cut_off(tmp_path):
    """A process that joins must not cut the journal's end while others write, nor write behind half a line."""
    first, path = opened(tmp_path), tmp_path / "optuna.journal"
    first.create_new_study([StudyDirection.MAXIMIZE], "one")
    first.create_new_study([StudyDirection.MAXIMIZE], "two")
    half = path.read_bytes()[:-9]
    path.write_bytes(half)
    joined = opened(tmp_path)
    assert [study.study_name for study in joined.get_all_studies()] == ["one"]
    assert path.read_bytes() == half  # the rest may come any moment
    joined.create_new_study([StudyDirection.MAXIMIZE], "three")
    assert [study.study_name for study in opened(tmp_path).get_all_studies()] == ["one", "three"]


def opened(folder):
    """Optuna's storage of the journal in ``folder``."""
    found = StudyStorage(None, folder)
    found.open()
    return found.optuna


@pytest.mark.parametrize(
    "line", ["null", "[]", "{}", "flipped", '{"op_code":99,"worker_id":"a"}', '{"op_code":0,"worker_id":"a"}']
)
def test_a_journal_with_a_damaged_line_is_named(tmp_path, line):
    settings, space = read_settings(node_of()), space_of(LR)
    (tmp_path / "optuna.journal").write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"optuna\.journal cannot be opened"):
        SharedStudy(StudyStorage(None, tmp_path), settings, space)


FOUR = [[f"{PROPOSE}#1", "", "", ""]]  # of four that begin together one is killed when it has its first trial


@pytest.mark.slow
def test_four_workers_repeat_no_cell_of_a_grid(tmp_path):
    more = (*COUNT, "optimizer.lr=range(1,13)", "hydra/sweeper/sampler=grid")
    assert workers(FOUR, tmp_path / "s", *more) == [[-signal.SIGKILL, 0, 0, 0]]
    found = study(tmp_path / "s")
    complete(found)
    assert sorted(t.params["optimizer.lr"] for t in found.trials) == list(range(1, 13))


def test_a_trial_that_others_have_taken_over_is_theirs_to_tell(tmp_path):
    """A process that slept for minutes counts as dead; when it wakes it must not disturb the study."""
    settings = read_settings(node_of(n_trials=2, n_jobs=2))
    sleeper, other = (SharedStudy(StudyStorage(None, tmp_path), settings, space_of(LR)) for _ in range(2))
    slept = sleeper.ask()
    other.give_back(slept)  # as if it were dead
    taken = other.ask()
    assert [trial.number for trial in taken] == [0, 1]
    other.tell(taken[0], {}, "COMPLETE", [0.5])
    assert slept[0].report(0.1, 1) is False
    sleeper.tell(slept[0], {}, "COMPLETE", [0.1])
    other.give_back([taken[1]])
    sleeper.tell(slept[1], {}, "FAIL", None)
    assert [(t.state.name, t.values) for t in other.trials()] == [("COMPLETE", [0.5]), ("WAITING", None)]
    sleeper.close(), other.close()


@pytest.fixture
def two(monkeypatch, tmp_path):
    """Two processes' views of one study of two trials."""
    monkeypatch.setattr("mlp_study.search.sweeper.POLL", 0)
    settings = read_settings(node_of(n_trials=2, n_jobs=2))
    both = [SharedStudy(StudyStorage(None, tmp_path), settings, space_of(LR)) for _ in range(2)]
    yield both
    for one in both:
        one.close()


def loop(study, ran):
    """A process's work, with trials that end at once."""

    def batch(_, trials):
        for trial in trials:
            study.tell(trial, {}, "COMPLETE", [0.5])
            ran.append(trial.number)

    Search._loop(SimpleNamespace(_batch=batch), study)


def test_a_process_waits_for_trials_that_another_one_begins_before_it_can_ask(two):
    """Of two that begin together the first has all trials; the second must not end: it would find no best one."""
    (ours, theirs), taken, ran = two, [], []
    ask = ours.ask

    def late():
        for trial in taken:
            theirs.tell(trial, {}, "COMPLETE", [0.5])
        taken[:] = taken or theirs.ask()
        return ask()

    ours.ask = late
    loop(ours, ran)
    assert [trial.state.name for trial in ours.trials()] == ["COMPLETE"] * 2
    assert ran == []


def test_trials_that_another_process_gives_back_at_the_last_moment_are_run(two):
    (ours, theirs), ran = two, []
    taken, ask = theirs.ask(), ours.ask

    def early():
        batch = ask()
        theirs.give_back(taken)  # stopped just after this look
        taken.clear()
        return batch

    ours.ask = early
    loop(ours, ran)
    assert ran == [0, 1]


PASSWORD = "hunter2hunter2"


@dataclasses.dataclass
class Server:
    """A PostgreSQL server of Debian's package that asks for a password; ``run`` is for its own commands."""

    address: str
    run: Callable[..., None]
    options: str

    def start(self):
        self.run("pg_ctl", "-w", "-t", "240", "-o", self.options, "-l", "log", "start")

    def stop(self):
        """As a crash: open connections break."""
        self.run("pg_ctl", "-m", "immediate", "-w", "stop")


@pytest.fixture(scope="module")
def server():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert found, "Debian's package postgresql is missing: bash scripts/test.sh installs it"
    as_root = getpass.getuser() == "root"  # whom PostgreSQL does not serve
    folder, port = Path(tempfile.mkdtemp(prefix="postgresql")), free_port()
    (folder / "password").write_text(PASSWORD)
    for path in [folder, folder / "password"] if as_root else []:
        shutil.chown(path, "postgres", "postgres")

    def run(command, *words):
        who = {"user": "postgres", "group": "postgres", "extra_groups": []} if as_root else {}
        done = subprocess.run(
            [found[-1] / command, "-D", folder / "data", *words],
            cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, **who,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    run("initdb", "-U", "me", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    started = Server(f"127.0.0.1:{port}/postgres", run, options)
    started.start()
    yield started
    started.stop()
    shutil.rmtree(folder)


@pytest.fixture
def postgresql(server):
    """The server's address."""
    return server.address


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def command_lines():
    """Of all processes, but for this one's."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:  # it has just ended
            continue


@pytest.mark.slow
def test_four_workers_on_postgresql_and_nobody_sees_the_password(tmp_path, postgresql):
    folder, url = tmp_path / "s", f"postgresql://me:{PASSWORD}@{postgresql}"
    more = (*COUNT, LR, "hydra.sweeper.storage='${oc.env:STUDY}'", "wandb.mode=offline", "report=true")
    with started(folder, *more, words=["tests.search.worker", json.dumps(FOUR)], STUDY=url) as process:
        while process.poll() is None:
            assert not [line for line in command_lines() if PASSWORD.encode() in line]
            time.sleep(0.1)
        out = process.stdout.read()
    assert ended(out) == [[-signal.SIGKILL, 0, 0, 0]], out
    complete(study(folder, url))
    assert PASSWORD not in out
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"multirun.yaml", "report.html"} <= {path.name for path in files}
    assert [path for path in files if path.suffix == ".wandb"]
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


@pytest.mark.slow
def test_the_password_may_come_from_libpqs_own_places(monkeypatch, tmp_path, capsys, postgresql):
    storage = f"hydra.sweeper.storage=postgresql://me@{postgresql}"
    line = refused(monkeypatch, capsys, tmp_path / "r", LR, storage)
    assert "no password supplied" in line
    (tmp_path / "pgpass").write_text(f"{postgresql.replace('/', ':')}:me:{PASSWORD}\n")
    (tmp_path / "pgpass").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    name = "hydra.sweeper.study_name=pgpass"
    search(monkeypatch, tmp_path / "s", LR, storage, name, "hydra.sweeper.n_trials=2")
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    search(monkeypatch, tmp_path / "s", LR, storage, name, "hydra.sweeper.n_trials=3")
    assert len(study(tmp_path / "s", f"postgresql://me@{postgresql}", "pgpass").trials) == 3


def away_before(monkeypatch, server, call, seconds):
    """The server crashes before this call, and is back some seconds later; see ``kill_before`` of ``worker``."""
    module, name, last = call.replace("#", ":").split(":")
    kind, method = getattr(importlib.import_module(module), name.split(".")[0]), name.split(".")[1]
    whole, left, back = getattr(kind, method), [int(last)], threading.Timer(seconds, server.start)

    def crashing(*args, **kwargs):
        left[0] -= 1
        if left[0] == 0:
            server.stop()
            back.start()
        return whole(*args, **kwargs)

    monkeypatch.setattr(kind, method, crashing)
    return back


PRUNER = ("hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=100")  # it looks, and prunes none


@pytest.mark.slow
def test_a_server_that_restarts_during_a_search_costs_nothing(monkeypatch, tmp_path, server):
    """Amid a batch's proposals, in training, and before and between a batch's results."""
    more = (LR, "activation=relu,tanh", *COUNT, *PRUNER, "hydra.sweeper.sampler.n_startup_trials=3")
    search(monkeypatch, tmp_path / "whole", *more)
    url = f"postgresql://me:{PASSWORD}@{server.address}"
    with monkeypatch.context() as patched:
        patched.setenv("STUDY", url)
        calls = (f"{PROPOSE}#2", f"{EPOCH}#3", f"{TELL}#3", f"{TELL}#6", f"{PROPOSE}#8")
        restarts = [away_before(patched, server, call, 1) for call in calls]
        restarted = ("hydra.sweeper.storage='${oc.env:STUDY}'", "hydra.sweeper.study_name=restarted")
        search(patched, tmp_path / "s", *more, *restarted)
    assert all(back.finished.is_set() for back in restarts)
    found = study(tmp_path / "s", url, "restarted")
    complete(found)
    assert outcomes(found) == outcomes(study(tmp_path / "whole"))
    assert [t.intermediate_values.keys() for t in found.trials] == [{1, 2}] * TRIALS


@pytest.mark.slow
def test_a_server_that_stays_away_ends_the_search_in_a_line_and_the_next_command_goes_on(
    monkeypatch, tmp_path, capsys, server
):
    more = (LR, *COUNT, *PRUNER, "hydra.sweeper.study_name=away", "hydra.sweeper.storage='${oc.env:STUDY}'")
    url = f"postgresql://me:{PASSWORD}@{server.address}"
    monkeypatch.setenv("STUDY", url)
    with monkeypatch.context() as patched:
        patched.setattr(storage, "PATIENCE", 0.1)
        back = away_before(patched, server, f"{EPOCH}#9", 3600)
        line = refused(patched, capsys, tmp_path / "s", *more)
        back.cancel()
        server.start()
    assert "cannot be opened" in line
    assert PASSWORD not in line
    states = collections.Counter(t.state.name for t in study(tmp_path / "s", url, "away").trials)
    assert 0 < states["COMPLETE"] < TRIALS
    assert set(states) <= {"COMPLETE", "RUNNING", "WAITING"}
    search(monkeypatch, tmp_path / "s", *more)
    complete(study(tmp_path / "s", url, "away"))


def test_trials_of_another_machine_are_given_back_when_its_heartbeat_is_old(monkeypatch, postgresql):
    monkeypatch.setattr(trial_owners, "HEARTBEAT", 3600)  # no further sign, however slow this machine is
    url = f"postgresql://me:{PASSWORD}@{postgresql}"
    settings = read_settings(node_of(n_trials=2, n_jobs=2, study_name="far"))
    with quiet_optuna():
        far, near = (SharedStudy(StudyStorage(url, Path()), settings, space_of(LR)) for _ in range(2))
        trials = far.ask()
        assert near.ask() == []
        with near.storage.database.engine.begin() as connection:
            connection.execute(text("UPDATE trial_heartbeats SET heartbeat = heartbeat - interval '1 minute'"))
        taken = near.ask()
        assert [trial.trial.params for trial in taken] == [trial.trial.params for trial in trials]
        for trial in taken:
            near.tell(trial, {}, "COMPLETE", [0.5])
        far.tell(trials[0], {}, "COMPLETE", [0.1])
        assert [(t.number, t.values) for t in far.trials()] == [(0, [0.5]), (1, [0.5])]
        far.close(), near.close()
