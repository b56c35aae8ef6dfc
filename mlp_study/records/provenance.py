"""Where a result comes from: the versions of what computed it and the commit of this code."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("mlp_study", "torch", "lightning", "torchvision", "numpy", "hydra-core", "wandb")


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result can depend on; gathered once per process."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a clone that was never installed
            continue
    return found


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """Return the commit of the clone that this code runs from, with ``-dirty`` if tracked files differ from it.

    None where the package is not in the root of a clone (an installed wheel), or git is missing or slow: a virtual
    environment that happens to lie inside somebody's repository is not run from that repository.
    """
    return commit_of(Path(__file__).resolve().parents[2])


def commit_of(root: Path) -> str | None:
    """Return the commit checked out in ``root``; None if ``root`` is not the root of a clone."""
    if not (root / ".git").exists():
        return None
    # The safe.directory setting: the clone may belong to another user (a container's mounted folder).
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root)]
    describe = [*command, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(describe, env=environment, capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
