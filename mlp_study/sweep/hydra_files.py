"""A member's ``.hydra/`` folder, as Hydra writes it for a single run, without composing the config once more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlp_study.runtime.files import write_file

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mlp_study.sweep.plan import Cell

_OVERRIDES, _NUMBER, _FOLDER, _NAME = "<<overrides>>", "<<number>>", "<<folder>>", "<<dirname>>"
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class HydraFiles:
    """Writes ``.hydra/{config,hydra,overrides}.yaml``.

    Args:
        composed: any job's composed config: its ``hydra`` node is the same for all jobs but for four values.
    """

    def __init__(self, composed: DictConfig) -> None:
        from omegaconf import OmegaConf

        node: Any = OmegaConf.to_container(composed.hydra, resolve=False, enum_to_str=True)
        node["overrides"]["task"] = _OVERRIDES
        node["job"]["override_dirname"] = _NAME
        node["job"]["id"] = node["job"]["num"] = _NUMBER
        node["runtime"]["output_dir"] = _FOLDER
        self.subdir: str | None = node["output_subdir"]
        self._template = _text({"hydra": node})

    def write(self, folder: Path, cell: Cell) -> None:
        """The files of one member.

        Raises:
            WriteError: the disk is full or read-only.
        """
        if self.subdir is None:
            return
        place, overrides = folder / self.subdir, list(cell.overrides)
        indented = "".join(f"\n    - {line[2:]}" for line in _text(overrides).splitlines()) if overrides else " []"
        hydra = self._template.replace(f" {_OVERRIDES}", indented).replace(_NUMBER, str(cell.number))
        hydra = hydra.replace(_FOLDER, _scalar(str(folder.absolute()))).replace(
            _NAME, _scalar(",".join(sorted(overrides)))
        )
        write_file(place / "config.yaml", _text(cell.config.to_dict()))
        write_file(place / "hydra.yaml", hydra)
        write_file(place / "overrides.yaml", _text(overrides))


def _text(value: Any) -> str:
    return str(yaml.dump(value, Dumper=DUMPER, sort_keys=False, allow_unicode=True, default_flow_style=False))


def _scalar(text: str) -> str:
    return _text([text]).rstrip("\n").removeprefix("- ")


def typed(overrides: Sequence[str]) -> list[str]:
    """What the user typed for the run, without Hydra's own settings."""
    return [override for override in overrides if not override.startswith(("hydra.", "hydra/"))]
