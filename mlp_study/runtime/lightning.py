"""The names of Lightning that the project uses, and the one place that imports them."""

from __future__ import annotations

import importlib
import sys

from mlp_study.runtime.startup import lean

try:
    with lean():
        importlib.import_module("lightning.pytorch")
except (ImportError, AttributeError):  # a release that wants more of what is left out: once more, whole
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightning"]:
        del sys.modules[name]

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

__all__ = ["Callback", "LightningDataModule", "LightningEnvironment", "LightningModule", "Trainer"]
