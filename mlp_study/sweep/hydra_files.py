"""A member's ``.hydra/`` folder, as Hydra writes it for a single run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlp_study.runtime.files import write_file

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlp_study.sweep.plan import Cell

DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class HydraFiles:
    """Writes ``.hydra/{config,hydra,overrides}.yaml``.

    Args:
        composed: any job's composed config: its ``hydra`` node is the same for all jobs but for a few values.
    """

    def __init__(self, composed: DictConfig) -> None:
        from omegaconf import OmegaConf

        self._hydra: Any = OmegaConf.to_container(composed.hydra, resolve=False, enum_to_str=True)

    def write(self, folder: Path, cell: Cell) -> None:
        """Write the files of one member.

        Raises:
            WriteError: the disk is full or read-only.
        """
        if self._hydra["output_subdir"] is None:
            return
        place, overrides = folder / self._hydra["output_subdir"], list(cell.overrides)
        named = {"override_dirname": ",".join(sorted(overrides)), "id": cell.number, "num": cell.number}
        hydra = {
            **self._hydra,
            "overrides": {**self._hydra["overrides"], "task": overrides},
            "job": {**self._hydra["job"], **named},
            "runtime": {**self._hydra["runtime"], "output_dir": str(folder.absolute())},
        }
        contents = {"config": cell.config.to_dict(), "hydra": {"hydra": hydra}, "overrides": overrides}
        for name, content in contents.items():
            text = yaml.dump(content, Dumper=DUMPER, sort_keys=False, allow_unicode=True, default_flow_style=False)
            write_file(place / f"{name}.yaml", text)


def typed(overrides: Sequence[str]) -> list[str]:
    """What the user typed for the run, without Hydra's own settings."""
    return [override for override in overrides if not override.startswith(("hydra.", "hydra/"))]
