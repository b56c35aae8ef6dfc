"""Companions for tests, in a home where nobody is logged in to W&B."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


def leave_home(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """An environment without W&B's credentials and settings."""
    home.mkdir(exist_ok=True)
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))


@pytest.fixture(scope="session")
def shared_tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tracking.Tracker]:
    """One companion for all tests that leave it alive: its start takes a second."""
    found = tracking.Tracker()
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_home(monkeypatch, tmp_path_factory.mktemp("home"))
        found.send({"do": "prepare", "mode": "offline"})
    yield found
    found.close()


@pytest.fixture
def tracker(shared_tracker: tracking.Tracker, monkeypatch: pytest.MonkeyPatch) -> tracking.Tracker:
    """The shared companion as this process's."""
    monkeypatch.setattr(tracking, "_tracker", shared_tracker)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return shared_tracker


@pytest.fixture
def own_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tracking.Tracker]:
    """A companion for one test: none is started before the test needs it."""
    leave_home(monkeypatch, tmp_path / "home")
    found = tracking.Tracker()
    monkeypatch.setattr(tracking, "_tracker", found)
    yield found
    found.close()
