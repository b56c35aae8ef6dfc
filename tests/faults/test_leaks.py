"""What must not leak: memory and file handles over many populations, secrets, permissions, and code from configs."""

from __future__ import annotations

import ast
import json
import os
import stat
import time
from pathlib import Path

import pytest

from tests.faults.commands import GRID, RUNS, Server, metrics, said_clearly
from tests.records.server import Server as WandbServer
from tests.sweep.sweeps import ROOT, SMALL, results

pytestmark = pytest.mark.slow

KEY = "0123456789abcdef" * 2 + "01234567"

METER = """
import gc, json, os, threading
from pathlib import Path
from mlp_study.sweep import executor
real, log = executor.Executor.population, open("meter.jsonl", "w", buffering=1)
def metered(self, cells):
    found = real(self, cells)
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    handles = len(os.listdir("/proc/self/fd"))
    print(json.dumps([resident, handles, threading.active_count()]), file=log)
    return found
executor.Executor.population = metered
"""


def test_memory_and_handles_do_not_grow(server: Server, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Over ten populations for each repetition: 1,000 of them with ``--repetitions 100``."""
    count = max(40, 10 * pytestconfig.getoption("repetitions"))
    axes = (f"seed=range(0,{count})", "data.split_seed=0", "max_members=1", "trainer.max_epochs=1", "save=none")
    here = "hydra.launcher.executor=process"  # the process that is watched
    command = server.sweep(tmp_path / "s", *axes, "report=false", here, cwd=str(tmp_path), inject=METER)
    assert command.wait(400 + 2 * count) == 0, command.err
    rows = [json.loads(line) for line in (tmp_path / "meter.jsonl").read_text().splitlines()]
    assert len(rows) == count
    (early, handles, threads), (late, *rest) = rows[count // 3], rows[-1]
    assert rest == [handles, threads]
    assert late - early < 10e6 + 20e3 * count, "bytes"


def test_secrets_stay_in_the_environment(server: Server, tmp_path: Path) -> None:
    """Neither W&B's key nor a database's password is in a file, in what is printed, or in the list of processes."""
    wandb = WandbServer()
    environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": wandb.url, "PGPASSWORD": "fish-and-chips"}
    seen: set[str] = set()
    commands = [
        server.sweep(tmp_path / "s", *GRID, "wandb.mode=online", env=environment),
        server.sweep(
            tmp_path / "o", "hydra/sweeper=optuna", "activation=relu,tanh",
            "hydra.sweeper.storage=postgresql+psycopg://me:fish-and-chips@127.0.0.1:9/x", env=environment,
        ),
    ]  # fmt: skip
    while not all(command.ended() for command in commands):
        seen |= {_arguments(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
        time.sleep(0.05)
    wandb.close()
    assert commands[0].code == 0, commands[0].err
    assert commands[1].code == 1
    said_clearly(commands[1])
    assert seen
    texts = [*seen, *(text for command in commands for text in (command.out, command.err))]
    for secret in (KEY, "fish-and-chips"):
        assert not [text for text in texts if secret in text]
        assert not [p for p in tmp_path.rglob("*") if p.is_file() and secret.encode() in p.read_bytes()]


def _arguments(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_the_users_umask_holds_for_every_file_and_folder(server: Server, tmp_path: Path, umask: int) -> None:
    command = server.sweep(tmp_path / "s", *GRID, "trainer.max_epochs=2", "wandb.mode=offline", umask=umask)
    assert command.wait() == 0, command.err
    ours = [p for p in (tmp_path / "s").rglob("*") if "wandb" not in p.parts]
    assert len(ours) > 6 * 5
    for path in [tmp_path / "s", *ours]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o777 if path.is_dir() else 0o666) & ~umask, (path, oct(mode))


@pytest.mark.parametrize(
    "override",
    [
        "+activation._target_=os.system", "activation={name: relu, _target_: os.system}", "+_target_=os.system",
        "++model._target_=subprocess.run", "+data._target_=os.system", "activation=os.system", "+os=${os.system:touch}",
        "hydra.launcher._target_=os.system", "hydra.sweeper._target_=subprocess.Popen",
    ],
)  # fmt: skip
def test_a_config_cannot_execute_code(server: Server, tmp_path: Path, override: str) -> None:
    command = server.sweep(tmp_path / "s", "trainer.max_epochs=1", "seed=0,1", override)
    assert command.wait() == 1
    said_clearly(command)
    assert not results(tmp_path / "s")


def test_a_searchs_own_function_runs_only_where_the_environment_names_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(
        "open('imported', 'w').close()\ndef f(config, trial): open('called', 'w').close()"
    )
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\nhydra: {sweeper: {custom_search_space: evil.f}}"
    (tmp_path / "experiment" / "innocent.yaml").write_text(text)
    options = ["hydra/sweeper=optuna", "optimizer.lr=interval(0.1,1)", "hydra.sweeper.n_trials=1"]
    chosen = ["--config-dir", str(tmp_path), "+experiment=innocent", *options, "trainer.max_epochs=1"]
    importable = f"import sys; sys.path.append({str(tmp_path)!r})"
    for allowed in ("", "evil.g", "evil.f"):
        environment = {**os.environ, "MLP_STUDY_CUSTOM_SEARCH_SPACE": allowed}
        command = server.sweep(tmp_path / "s", *chosen, cwd=str(tmp_path), env=environment, inject=importable)
        assert command.wait() == (0 if allowed == "evil.f" else 1), command.err
        ran = {place.name for place in tmp_path.iterdir()} & {"imported", "called"}
        assert ran == ({"imported", "called"} if allowed == "evil.f" else set())
        if allowed != "evil.f":
            said_clearly(command)
            assert "MLP_STUDY_CUSTOM_SEARCH_SPACE" in command.errors[0]


def test_models_and_checkpoints_are_read_without_pickle() -> None:
    """Nothing that lies in a folder is unpickled; the standard library does it for a process and its own children."""
    found = set()
    for path in [*(ROOT / "mlp_study").rglob("*.py"), *(ROOT / "hydra_plugins").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            call = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            loads = call in ("torch.load", "np.load", "pd.read_pickle", "joblib.load", "yaml.load", "utils.pickle_load")
            loads = loads and "SafeLoader" not in ast.unparse(node)
            if {"pickle", "dill", "cloudpickle", "shelve", "marshal"} & set(names) or loads:
                found.add(str(path.relative_to(ROOT)))
    assert found == set()


@pytest.mark.parametrize("answer", [401, 429, 500, "slow"])
def test_wandbs_server_refuses_or_is_slow(server: Server, tmp_path: Path, answer: int | str, undisturbed) -> None:
    wandb = Refusing(answer)
    environment = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": wandb.url}
    command = server.sweep(tmp_path / "s", *GRID, "wandb.mode=online", env=environment)
    assert command.wait(300) == 0, command.err
    wandb.close()
    assert metrics(tmp_path / "s") == undisturbed
    assert len(results(tmp_path / "s")) == RUNS
    assert "W&B: " in command.out + command.err + (tmp_path / "s" / "train.log").read_text()
    assert KEY not in command.out + command.err


class Refusing(WandbServer):
    """Answers everything with an error, or after half a minute."""

    def __init__(self, answer: int | str) -> None:
        super().__init__()
        handler = self._server.RequestHandlerClass

        def refuse(self) -> None:
            self.body()
            if answer == "slow":
                time.sleep(30)
                self.close_connection = True
            else:
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

        for name in ("do_GET", "do_POST", "do_PUT"):
            setattr(handler, name, refuse)


def test_names_from_others_forge_no_line(server: Server, tmp_path: Path) -> None:
    """A terminal's escape sequences and line ends: in an error, in a log, in a sweep that somebody else has made."""
    evil = "a\x1b[31m\nerror: all is lost"
    command = server.start(["data=mnist", f"data.root='{evil}'"], cwd=str(tmp_path))
    assert command.wait() == 1
    said_clearly(command)
    sweep = server.start(["-m", *SMALL, "seed=0,1", f"sweep_dir='{tmp_path / evil}'", "report=false"])
    assert sweep.wait() == 0, sweep.err
    [one, other] = sorted((tmp_path / evil).glob("*/result.json"))
    one.write_text(json.dumps({**json.loads(one.read_text()), "outcome": "failed", "cause": evil}))
    (tmp_path / evil / "runs.csv").unlink()
    status = server.start([str(tmp_path / evil)], module="status")
    assert status.wait() == 0, status.err
    for told in (command.err, status.out, (other.parent / "train.log").read_text()):
        assert "\\x1b[31m error: all is lost" in told
        assert "\x1b" not in told
        assert "\nerror: all is lost" not in told


def test_no_folder_is_world_writable(tmp_path: Path, server: Server) -> None:
    command = server.sweep(tmp_path / "s", "seed=0", "trainer.max_epochs=1", umask=0o022)
    assert command.wait() == 0, command.err
    assert not [p for p in tmp_path.rglob("*") if p.lstat().st_mode & stat.S_IWOTH]
