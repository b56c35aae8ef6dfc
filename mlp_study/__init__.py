"""Why does my MLP stop learning when I switch sigmoid for ReLU, and what exactly would make it learn?"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load_run": "mlp_study.records.run_folder",
    "load_results": "mlp_study.records.runs_table",
    "watch": "mlp_study.doctor.watch",
    "TrainingHealthWarning": "mlp_study.doctor.watch",
    "Doctor": "mlp_study.doctor.callback",
}


def __getattr__(name: str) -> Any:
    """``load_run``, ``load_results`` and ``diagnose``, imported when they are asked for."""
    if name == "diagnose":
        return importlib.import_module("mlp_study.diagnose")  # a module that can be called
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mlp_study' has no attribute {name!r}")


def __dir__() -> list[str]:
    """With the names that are imported when they are asked for."""
    return sorted({*globals(), *_HOMES, "diagnose"})
