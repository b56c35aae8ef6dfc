"""No config runs code, whatever its way to a command; and none reads the environment's secrets."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.faults.commands import Command, Server, said_clearly
from tests.security.attacks import ATTACKS, as_overrides, as_yaml, nodes
from tests.sweep.sweeps import ROOT, SMALL

TRUST = "MLP_STUDY_TRUST_CONFIGS"
KEY = "0123456789abcdef" * 2 + "01234567"
ONE = [*SMALL, "trainer.max_epochs=1"]


def refused(command: Command, canary: Path, name: str = "") -> str:
    """It ended in one line, and nothing was touched."""
    assert command.wait(60) == 1, (name, command.out, command.err)
    said_clearly(command)
    assert not canary.exists(), name
    assert KEY not in command.out + command.err
    return command.errors[0]


def start_each(server: Server, folder: Path, canary: Path, way: str) -> dict[str, Command]:
    """One command for each attack that comes this way; a sweep, for which Hydra calls most."""
    started = {}
    for number, (name, hydra, evil) in enumerate(nodes(canary)):
        place = folder / str(number)
        (place / "experiment").mkdir(parents=True)
        (place / "experiment" / "evil.yaml").write_text(as_yaml(hydra, evil))
        (place / "primary.yaml").write_text(yaml.safe_dump({"defaults": ["config", {"experiment": "evil"}, "_self_"]}))
        argv = {
            "override": as_overrides(hydra, evil),
            "config-dir": ["--config-dir", str(place), "+experiment=evil"],
            "searchpath": [f"hydra.searchpath=[file://{place}]", "+experiment=evil"],
            "primary": ["--config-dir", str(place), "--config-name", "primary"],
        }[way]
        if argv:
            flags = ["-m"] if number % 2 or "sweeper" in name or "launcher" in name else []
            started[name] = server.start([*flags, *ONE, *argv], cwd=str(place))
    return started


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("override", marks=SLOW),
        "config-dir",
        *(pytest.param(w, marks=SLOW) for w in ("searchpath", "primary")),
    ],
)
def test_a_config_runs_no_code(server: Server, tmp_path: Path, canary: Path, way: str) -> None:
    commands = start_each(server, tmp_path / "c", canary, way)
    assert len(commands) >= len(ATTACKS) * 2 // 3
    for name, command in commands.items():
        refused(command, canary, name)


@pytest.mark.parametrize(
    "line",
    [
        "+hydra.callbacks.evil={_target_: os.mkdir, path: CANARY}",
        "++hydra.callbacks=${experiment.evil}",
        "hydra.run.dir=CANARY",
        "hydra/launcher=evil",
        "~hydra.callbacks",
        "--experimental-rerun=PICKLE",
        "--config-dir=CANARY",
        "-m",
    ],
)
def test_a_resumed_folder_runs_no_code(server: Server, tmp_path: Path, canary: Path, line: str) -> None:
    pickled(tmp_path / "config.pickle", canary)
    (tmp_path / "run" / ".hydra").mkdir(parents=True)
    line = line.replace("CANARY", str(canary)).replace("PICKLE", str(tmp_path / "config.pickle"))
    overrides = [*ONE, "+experiment.evil.x={_target_: os.mkdir, path: " + str(canary) + "}", line]
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    said = refused(server.start([f"resume={tmp_path / 'run'}"], cwd=str(tmp_path)), canary)
    assert "resume=" in said
    assert "no setting of a run" in said


class Evil:
    """Makes a folder where it is unpickled."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.place,)


def pickled(path: Path, canary: Path) -> None:
    path.write_bytes(pickle.dumps(Evil(str(canary))))


def test_no_pickle_is_read_and_no_package_imported(server: Server, tmp_path: Path, canary: Path) -> None:
    pickled(tmp_path / "config.pickle", canary)
    (tmp_path / "evilmodule.py").write_text(f"import os\nos.mkdir({str(canary)!r})")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "primary.yaml").write_text("defaults: [config]\nhydra: {searchpath: ['pkg://evilmodule']}")
    (tmp_path / "c" / "second.yaml").write_text("place: 'pkg://evilmodule'\nhydra: {searchpath: ['${place}']}")
    importable = f"import sys; sys.path.append({str(tmp_path)!r})"
    own = ["--config-dir", str(tmp_path / "c"), "--config-name"]
    lines = [
        ("train", ["--experimental-rerun", str(tmp_path / "config.pickle")], "pickle"),
        ("train", ["hydra.searchpath=[pkg://evilmodule]", *ONE], "hydra.searchpath"),
        ("train", ["hydra.searchpath=['file://a','pkg://evilmodule']", *ONE], "hydra.searchpath"),
        ("train", ["-m", "hydra.searchpath=[pkg://evilmodule]", *ONE], "hydra.searchpath"),
        ("train", [*own, "primary", *ONE], "hydra.searchpath"),
        ("train", [*own, "second"], "hydra.searchpath"),
        ("train", ["--config-path", "pkg://evilmodule", *ONE], "--config-path"),
        ("diagnose", ["hydra.searchpath=[pkg://evilmodule]"], "hydra.searchpath"),
        ("diagnose", ["+hydra.callbacks.evil={_target_: os.mkdir, path: " + str(canary) + "}"], "hydra.callbacks"),
        ("reproduce", ["hydra.searchpath=[pkg://evilmodule]", "source=raw_relu"], "hydra.searchpath"),
    ]
    commands = [
        (server.start(argv, module=module, cwd=str(tmp_path), inject=importable), says) for module, argv, says in lines
    ]
    for command, says in commands:
        assert says in refused(command, canary)


def test_the_jobs_of_another_launcher_run_no_code(server: Server, tmp_path: Path, canary: Path) -> None:
    """Its processes compose their own configs, out of this command's sight."""
    (tmp_path / "c" / "experiment").mkdir(parents=True)
    (tmp_path / "c" / "experiment" / "good.yaml").write_text(as_yaml({}, None))
    hydra = {"callbacks": {"evil": {"_target_": "os.mkdir", "path": str(canary)}}}
    (tmp_path / "c" / "experiment" / "evil.yaml").write_text(as_yaml(hydra, None))
    (tmp_path / "c" / "experiment" / "leak.yaml").write_text("# @package _global_\nexperiment: {name: '${oc.env:KEY}'}")
    own = [
        "-m",
        "--config-dir",
        str(tmp_path / "c"),
        *ONE,
        f"hydra.sweep.dir={tmp_path / 's'}",
        "hydra/launcher=joblib",
    ]
    environment = {"PYTHONPATH": str(ROOT), "KEY": KEY}
    for extra in (["+experiment=good,evil"], ["+experiment=good,evil", "hydra/sweeper=basic"]):
        said = refused(server.start([*own, *extra], cwd=str(tmp_path), env=environment), canary)
        assert "hydra.callbacks" in said
    leaking = server.start([*own, "+experiment=leak", "hydra.launcher.n_jobs=1"], cwd=str(tmp_path), env=environment)
    assert leaking.wait(60) == 1
    assert "oc.env" in leaking.err
    assert not holding(tmp_path, KEY)


def holding(folder: Path, secret: str) -> list[Path]:
    return [p for p in folder.rglob("*") if secret in p.name or (p.is_file() and secret.encode() in p.read_bytes())]


@pytest.mark.parametrize(
    "override",
    [
        "+experiment.name=${oc.env:WANDB_API_KEY}",
        "wandb.group=${oc.env:WANDB_API_KEY}",
        "hydra.run.dir=${oc.env:WANDB_API_KEY}",
        'wandb.group=${oc.decode:"${oc.env:WANDB_API_KEY}"}',
        "wandb.group=${oc.${x}:WANDB_API_KEY}",
        "hydra.sweeper.study_name=${oc.env:WANDB_API_KEY}",
        "hydra.sweeper.storage=${oc.env:WANDB_API_KEY}",
        "hydra.sweeper.storage='postgresql://127.0.0.1:PORT/${oc.env:WANDB_API_KEY}'",
    ],
)
def test_no_secret_is_read(server: Server, tmp_path: Path, canary: Path, override: str) -> None:
    search = ["-m", "hydra/sweeper=optuna", "optimizer.lr=interval(0.1,1)"] if "sweeper" in override else []
    if "${x}" in override:
        override = override.replace("${x}", "${experiment.x}")
        search = ["+experiment.x=env"]
    environment = {"WANDB_API_KEY": KEY}
    command = server.start([*search, *ONE, override], cwd=str(tmp_path), env=environment)
    refused(command, canary)
    assert not holding(tmp_path, KEY)


def test_a_file_sends_no_password_to_a_server(server: Server, tmp_path: Path, canary: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"postgresql+psycopg://me@127.0.0.1:{listener.getsockname()[1]}/x"
        (tmp_path / "experiment").mkdir()
        text = as_yaml({"sweeper": {"storage": url}}, None)
        (tmp_path / "experiment" / "evil.yaml").write_text(text)
        chosen = ["-m", "--config-dir", str(tmp_path), "+experiment=evil", "hydra/sweeper=optuna"]
        command = server.start(
            [*chosen, *ONE, "optimizer.lr=interval(0.1,1)"], cwd=str(tmp_path), env={"PGPASSWORD": KEY}
        )
        assert "storage" in refused(command, canary)
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize("module", ["train", "diagnose", "reproduce"])
def test_an_error_shows_no_password(server: Server, tmp_path: Path, canary: Path, module: str) -> None:
    secret = "fish:and@chips"
    for text in (
        f"hydra.sweeper.storage=postgresql://me:{secret}@127.0.0.1:9/x?sslmode=require",
        f"x=a://b:{secret}@c",
    ):
        command = server.start(
            [text, "token=fish:and@chips"], module=module, cwd=str(tmp_path), env={"MY_TOKEN": secret}
        )
        refused(command, canary)
        assert "chips" not in command.err
        assert "fish" not in command.err


def test_a_person_may_trust_configs(server: Server, tmp_path: Path, canary: Path) -> None:
    override = f"+hydra.callbacks.mine={{_target_: os.mkdir, path: {canary}}}"
    command = server.start([*ONE, override, "wandb.group=${oc.env:HOME}"], cwd=str(tmp_path), env={TRUST: "1"})
    command.wait(60)
    assert canary.is_dir()


def test_what_is_documented_still_works(server: Server, tmp_path: Path) -> None:
    """The settings that may differ, and a storage from the environment with options after it."""
    database = f"sqlite:///{tmp_path}/study.db"
    one = [
        *ONE,
        f"hydra.run.dir={tmp_path}/r",
        "hydra.job.chdir=true",
        "hydra.verbose=true",
        "hydra.output_subdir=null",
    ]
    many = ["-m", *ONE, f"sweep_dir={tmp_path}/s", "seed=0,1", "hydra.launcher.workers=1"]
    searched = ["-m", "hydra/sweeper=optuna", *ONE, f"hydra.sweep.dir={tmp_path}/o", "optimizer.lr=interval(0.1,1)"]
    named = "hydra.sweeper.storage='${oc.env:STUDY}?timeout=9'"
    words = ["hydra.sweeper.n_trials=1", "hydra.launcher.executor=process", "hydra.launcher.slurm.partition=gpu", named]
    commands = [server.start([*argv, "report=false"], cwd=str(tmp_path), env={"STUDY": database}) for argv in
                (one, many, [*searched, *words, "hydra.sweeper.sampler={name: tpe, n_startup_trials: 3}"])]  # fmt: skip
    for command in commands:
        assert command.wait(120) == 0, command.err
    assert (tmp_path / "study.db").is_file()


def test_another_application_may_do_what_hydra_allows(tmp_path: Path) -> None:
    """With the project's plugins, but none of its limits."""
    (tmp_path / "app.py").write_text(
        "import hydra\n@hydra.main(version_base='1.3', config_path=None)\ndef main(cfg):\n    print(cfg.x)\nmain()"
    )
    callback = "+hydra.callbacks.c={_target_: hydra.experimental.callbacks.LogJobReturnCallback}"
    command = [sys.executable, "app.py", "-m", "+x=1,${oc.env:HOME}", "hydra/launcher=population", callback]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": "at-home"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "at-home" in done.stdout
