"""Why does my MLP stop learning when I switch sigmoid for ReLU, and what exactly would make it learn?"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "diagnose": "mlp_study.doctor.call",
    "load_run": "mlp_study.records.run_folder",
    "load_results": "mlp_study.records.runs_table",
    "watch": "mlp_study.doctor.watch",
    "TrainingHealthWarning": "mlp_study.doctor.watch",
    "Doctor": "mlp_study.doctor.callback",
    "register_activation": "mlp_study.factors.activations",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mlp_study' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the names that are imported when they are asked for, too."""
    return sorted({*globals(), *_HOMES})


class _Package(ModuleType):
    """The package, in which ``diagnose`` is the function even after the command's module of that name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):  # importing a module sets its name in its package
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
