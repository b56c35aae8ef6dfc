"""The wheel works where the clone is not: configs travel inside it, and a run starts in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The command's standard output; its standard error is in the failure's message."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "MLP_STUDY_DATA", "WANDB_API_KEY"}}
    done = subprocess.run(
        [*map(str, command)],
        check=False,
        cwd=cwd,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the sources, so that nothing is written beside them."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("mlp_study", "hydra_plugins", "conf", "sweeps"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source, cwd=source)
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """An environment with the wheel, that borrows this one's other packages through a path file: nothing is downloaded.

    A path file adds a folder without reading the path files in it, so an editable install there stays unseen.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False, symlinks=True)
    interpreter = home / "bin" / "python"
    installed = Path(run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    (installed / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    run(sys.executable, "-m", "pip", "--python", interpreter, "install", "--no-deps", "--no-index", wheel, cwd=home)
    return interpreter


def test_the_installed_package_is_the_wheels(python, tmp_path):
    where = run(
        python,
        "-c",
        "import mlp_study, hydra_plugins.mlp_study as p; print(mlp_study.__file__, p.__file__)",
        cwd=tmp_path,
    )
    assert all(Path(file).is_relative_to(python.parents[1]) for file in where.split())


def test_every_module_config_and_type_marker_travels(wheel):
    def ours(names):
        return {name for name in names if name.endswith((".py", ".yaml", "py.typed")) and ".dist-info" not in name}

    with ZipFile(wheel) as archive:
        packed = ours(archive.namelist())

    def files(folder):
        return {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*")}

    inside = {f"mlp_study/{name}" for folder in ("conf", "sweeps") for name in files(folder)}
    assert packed == ours(files("mlp_study") | files("hydra_plugins") | inside)


def test_help_names_the_factors(python, tmp_path):
    shown = run(python, "-m", "mlp_study.train", "--help", cwd=tmp_path)
    assert all(factor in shown for factor in ("activation", "optimizer", "data.scale", "relu", "sigmoid"))
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_a_preset_and_a_sweep_are_found(python, tmp_path):
    plan = ["trainer=debug", "dry_run=true"]
    for asked in (["+experiment=raw_relu", "data=digits"], ["optimizer=adam_keras"], ["+sweeps=activation_by_scale"]):
        assert "Sweep of" in run(python, "-m", "mlp_study.train", *asked, *plan, cwd=tmp_path)


def test_the_command_beside_the_modules(python, tmp_path):
    command = python.with_name("mlp-study")
    assert "diagnose" in run(command, cwd=tmp_path)
    run(command, "train", "trainer=debug", "wandb.mode=disabled", "hydra.run.dir=here", cwd=tmp_path)
    assert (tmp_path / "here" / "result.json").is_file()


def test_an_unpacked_zip_works_from_another_folder(tmp_path):
    """No git, no symbolic links, no installation: the sources alone, on the path."""
    for name in ("mlp_study", "hydra_plugins", "conf", "sweeps"):
        shutil.copytree(ROOT / name, tmp_path / "zip" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "zip" / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\n# Mine?\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '1,2,3'}}}\n"
    )
    (tmp_path / "elsewhere").mkdir()
    command = (sys.executable, "-m", "mlp_study.train", "+sweeps=mine", "dry_run=true")
    assert "Sweep of 3 runs" in run(*command, cwd=tmp_path / "elsewhere", PYTHONPATH=str(tmp_path / "zip"))


def test_a_run_in_an_empty_folder(python, tmp_path):
    arguments = ["data=digits", "trainer.max_epochs=2", "wandb.mode=offline", "hydra.run.dir=here"]
    run(python, "-m", "mlp_study.train", *arguments, cwd=tmp_path, HOME=str(tmp_path / "home"))
    result = json.loads((tmp_path / "here" / "result.json").read_text())
    assert result["outcome"] == "completed"
    assert result["epochs"] == 2
    assert (tmp_path / "here" / "model.safetensors").is_file()
