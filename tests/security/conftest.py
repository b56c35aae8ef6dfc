"""Fixtures of the attacks: a server of commands, and a canary that nothing may touch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.commands import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("security"))
    yield found
    found.close()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file or folder that is there only if an attack has succeeded."""
    return tmp_path / "canary"
