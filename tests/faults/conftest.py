"""Fixtures of the faults: a server of commands, random moments from recorded seeds."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from tests.faults.commands import GRID, Server, metrics


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``seed`` is repeated: its random moments follow from the seed in its name."""
    if "seed" in metafunc.fixturenames:
        share = next(metafunc.definition.iter_markers("repetitions"), None)
        wanted = metafunc.config.getoption("repetitions")
        part, divisor = (share.args[0], share.args[1]) if share else (1, 1)
        metafunc.parametrize("seed", range(max(1, wanted * part // divisor)))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("faults"))
    yield found
    found.close()


@pytest.fixture
def chance(seed: int, request: pytest.FixtureRequest) -> random.Random:
    """Recorded: the seed is part of the test's name."""
    return random.Random(f"{request.function.__name__} {seed}")


@pytest.fixture(scope="session")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    """The numbers of ``GRID`` that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "s"
    command = server.sweep(folder, *GRID)
    assert command.wait() == 0, command.err
    return metrics(folder)
