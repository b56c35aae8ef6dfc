"""Where the project's YAML files lie."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """The folder ``conf`` or ``sweeps``: inside the package in a wheel, beside it in a clone."""
    package = Path(__file__).resolve().parents[1]
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def group_folder(group: str) -> Path:
    """Where a config group's YAML files lie: ``sweeps/`` stands beside ``conf/``, every other group in it."""
    return shipped("sweeps") if group == "sweeps" else shipped("conf") / group
