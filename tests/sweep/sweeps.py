"""Small sweeps for tests: through the command in this process, or as a command of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hydra_plugins.mlp_study import register  # by name, as in mlp_study.config.hydra_app
from mlp_study import train
from mlp_study.config.composing import register_groups
from mlp_study.config.hydra_app import run_hydra
from mlp_study.config.schema import RunConfig
from mlp_study.config.shipped import shipped
from mlp_study.sweep.fast_compose import Composer
from mlp_study.sweep.grid import expand
from mlp_study.sweep.plan import Cell
from tests.small_runs import logging_as_before

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model.widths=[8]", "data.limit=64", "trainer.max_epochs=2", "wandb.mode=disabled", "probes.ends=[]")


def sweep(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> None:
    """The command in this process, without its report; raises SystemExit where the command exits."""
    monkeypatch.setattr(sys, "argv", ["train", "-m", *SMALL, "report=false", f"sweep_dir={folder}", *overrides])
    with logging_as_before():
        run_hydra(train.run, "train", "")


def start(
    folder: Path, *overrides: str, small: Sequence[str] = SMALL, path: Path = ROOT, **more: Any
) -> subprocess.Popen[str]:
    """The command as a process of its own, its output in pipes; ``path`` is where Python looks first."""
    command = [sys.executable, "-m", "mlp_study.train", "-m", *small, f"sweep_dir={folder}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent, **more
    )


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Each finished run's result.json by its folder's name."""
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/result.json")}


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """What shows that a result was written anew."""
    return {p.parent.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.glob("*/result.json")}


@contextlib.contextmanager
def hydra_of(overrides: Sequence[str] = ()) -> Iterator[tuple[Any, Any]]:
    """Hydra's loader and a sweep's composed config."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    register_groups()
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(shipped("conf"))):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("config", list(overrides), run_mode=RunMode.MULTIRUN)


def cells(*overrides: str) -> list[Cell]:
    """What a sweep of two epochs of 64 images is planned from."""
    with hydra_of() as (loader, master):
        composer = Composer(loader, master)
        jobs = expand(["data.limit=64", "trainer.max_epochs=2", *overrides], loader)
    configs = [RunConfig.from_dict(composer.compose(job)) for job in jobs]
    return [Cell(config.run_id, config, tuple(job)) for config, job in zip(configs, jobs, strict=True)]
