"""Import Lightning without what no command uses: 2 of the 4.6 s of processor time that ``import lightning`` takes."""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType
from typing import Any

UNUSED = ("torchvision", "scipy", "matplotlib")  # torchmetrics imports them for its image, audio and plotting metrics


def import_lightning() -> None:
    """Import ``lightning.pytorch`` without the compiler behind ``torch.compile`` and the packages of ``UNUSED``.

    For a process of our own, before anything else imports Lightning. Code that imports it by itself, such as a
    notebook, gets all of it.
    """
    if "lightning" in sys.modules:
        return
    from lightning_utilities.core import imports

    names: Any = imports  # Any: types let nobody assign to functions
    check, package_available = names.RequirementCache._check_available, names.package_available

    def check_without_unused(self: Any) -> None:
        if (self.requirement or self.module or "").startswith(UNUSED):
            self.available, self.message = False, "mlp_study's commands do not import it"
        else:
            check(self)

    names.RequirementCache._check_available = check_without_unused
    names.package_available = lambda name: name not in UNUSED and package_available(name)
    importlib.import_module("torch")
    compiler: Any = None if "torch._dynamo" in sys.modules else ModuleType("torch._dynamo")
    if compiler is not None:  # Lightning asks it whether a network is compiled; no command compiles one
        compiler.OptimizedModule = type("OptimizedModule", (), {})
        compiler.disable = lambda function, *_, **__: function
        sys.modules["torch._dynamo"] = compiler
    gc.disable()  # it would look through a million new objects again and again, and free none
    try:
        importlib.import_module("lightning.pytorch")
    finally:
        gc.enable()
        if compiler is not None:
            del sys.modules["torch._dynamo"]
        names.RequirementCache._check_available, names.package_available = check, package_available
