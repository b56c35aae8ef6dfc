"""W&B for tests, in a home where nobody is logged in to W&B."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlp_study.records import wandb_run


def leave_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """An environment without W&B's credentials and settings."""
    home.mkdir(exist_ok=True)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))


@pytest.fixture
def wandb_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[wandb_run.WandbThread]:
    """A thread for one test: W&B is not started before the test needs it, and ended with it."""
    wandb_run._thread.close()  # W&B has one service a process
    leave_home(monkeypatch, tmp_path / "home")
    found = wandb_run.WandbThread()
    monkeypatch.setattr(wandb_run, "_thread", found)
    yield found
    found.close()
