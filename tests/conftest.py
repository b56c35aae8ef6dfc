"""Fixtures that every test may use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples each time, so that one more failing example is a finding of whoever looks for it and not of CI:
# `pytest --hypothesis-profile=default` tries others.
# Nor may the clock decide: neither how long an example takes nor how long it takes to make.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

# One thread for each process that shares the cores: before anything imports torch, and for the commands that tests run.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--repetitions 200``: how often each fault of tests/faults is injected, at moments from recorded seeds."""
    wanted = int(os.environ.get("MLP_STUDY_FAULTS", "3"))
    parser.addoption("--repetitions", type=int, default=wanted, help="repetitions of each fault (MLP_STUDY_FAULTS)")


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """A folder with the real MNIST and Fashion-MNIST, named by MLP_STUDY_DATA; without it the test is skipped.

    Where the variable is set, as in CI, a folder that lacks them fails the test instead of skipping it.
    """
    folder = os.environ.get("MLP_STUDY_DATA", "")
    if not folder:
        pytest.skip("needs the real MNIST and Fashion-MNIST: set MLP_STUDY_DATA to a folder that holds them")
    root = Path(folder).resolve()
    for kind in ("MNIST", "FashionMNIST"):
        assert (root / kind / "raw").is_dir(), f"MLP_STUDY_DATA={folder} has no {kind}/raw"
    return root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
