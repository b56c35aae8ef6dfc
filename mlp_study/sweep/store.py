"""A sweep's folder: whose it is, each run's place in it, and who trains what. Finished runs are never touched.

- ``sweep.json``: what this sweep keeps fixed; format version
- ``multirun.yaml``: the sweep's own composed config
- ``runs.csv``, at the end ``runs.parquet``: the table of all runs
- ``<run_id>/``: each run's records
- ``.sweep/``: the ids of all runs asked for, locks of living processes, checkpoints of populations that train
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import ConfigError, DataError
from mlp_study.records.run_folder import RESULT, read_json
from mlp_study.records.runs_table import flattened
from mlp_study.runtime.files import TEMPORARY, refuse_links, write_file
from mlp_study.runtime.reading import opened, parsed, read_bytes, read_record
from mlp_study.sweep.locks import Locks
from mlp_study.sweep.plan import Cell, Population

if TYPE_CHECKING:
    from omegaconf import DictConfig

FORMAT = 1  # of sweep.json; a newer one is refused
HEADER_BYTES = 100 * 10**6  # the largest header that safetensors allows
MANIFEST, INSIDE, RUNS, LOCKS = "sweep.json", ".sweep", "runs.txt", "locks"


class Store:
    """The runs of one sweep folder, shared by all processes that work on it. Nothing is written before ``open``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.locks = Locks(folder / INSIDE / LOCKS)
        self._without_links = False

    def check(self, fixed: Mapping[str, Any] | None) -> dict[str, Any]:
        """The manifest that this sweep will have there; ``fixed`` are its settings that do not vary, None: unknown.

        Raises:
            ConfigError: the folder belongs to something else, to another sweep, or to a newer version.
        """
        path = self.folder / MANIFEST
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"sweep_dir={self.folder} is a file; it takes a folder")
        if not path.exists():
            if (self.folder / RESULT).exists():
                raise ConfigError(f"sweep_dir={self.folder} is a single run's folder; choose a new one")
            if self._foreign() and not asked_for(self.folder):
                raise ConfigError(f"sweep_dir={self.folder} is not empty and holds no sweep; choose a new folder")
            return {"format": FORMAT, "kind": "mlp_study sweep", "fixed": dict(fixed or {})}
        manifest = read_manifest(path)
        if fixed is not None:
            manifest["fixed"] = self._common(manifest["fixed"], fixed)
        return manifest

    def open(self, fixed: Mapping[str, Any] | None, run_ids: Sequence[str] = ()) -> None:
        """Make the folder, or take it up again; ``fixed`` as for ``check``, ``run_ids`` are those asked for.

        Raises:
            ConfigError: another process has made another sweep of it in the meantime.
            WriteError: the disk is full or read-only.
        """
        self._check_links()
        with self.exclusive():
            text = json.dumps(self.check(fixed), indent=1) + "\n"
            path, runs = self.folder / MANIFEST, self.folder / INSIDE / RUNS
            known = dict.fromkeys(asked_for(self.folder))
            if set(run_ids) - set(known):
                write_file(runs, "".join(f"{run_id}\n" for run_id in {**known, **dict.fromkeys(run_ids)}))
            if not path.exists() or read_bytes(path) != text.encode():
                write_file(path, text)

    def interrupted(self) -> Iterator[tuple[str, ...]]:
        """The members of each population that has a checkpoint, none of them finished."""
        for path in self._checkpoints():
            members = members_of(path)
            if members and not any(self.finished(run_id) for run_id in members):
                yield members

    def tidy(self, all_done: bool = False) -> None:
        """Remove checkpoints that nobody needs: of populations whose members were all finished in other company.

        Where nobody else is at work, also locks and half-written files of killed processes.

        Raises:
            WriteError: the folder cannot be written.
        """
        self._check_links()
        for path in self._checkpoints():
            if all_done or all(self.finished(run_id) for run_id in members_of(path)):
                path.unlink(missing_ok=True)
        with self.exclusive():
            if self.locks.tidy():
                for path in (self.folder / INSIDE).rglob(f".*{TEMPORARY}"):
                    path.unlink(missing_ok=True)

    def _check_links(self) -> None:
        """Refuse a folder in which a link leads elsewhere, once: it may have been made by a stranger.

        Raises:
            ConfigError: it names the link.
        """
        if not self._without_links:
            inside = self.folder / INSIDE
            for folder in (self.folder, inside, *(path for path in inside.glob("*") if path.is_dir())):
                refuse_links(folder)
        self._without_links = True

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / INSIDE / "checkpoints").glob("*.safetensors"))

    def place(self, run_id: str) -> Path:
        """A run's folder."""
        return self.folder / run_id

    def checkpoint(self, population: Population) -> Path:
        """Where a population's checkpoint lies while it trains."""
        return self.folder / INSIDE / "checkpoints" / f"{population.name}.safetensors"

    def finished(self, run_id: str, retry_failed: bool = False) -> bool:
        """Whether the run has its result; with ``retry_failed`` a failed one, or a damaged one, counts as none."""
        path = self.place(run_id) / RESULT
        if not path.is_file():
            return False
        if not retry_failed:
            return path.stat().st_size > 0
        with contextlib.suppress(DataError):
            return bool(read_json(path)["outcome"] != "failed")
        return False

    def exclusive(self) -> AbstractContextManager[None]:
        """A section in which only one process at a time writes the folder's own files."""
        return self.locks.exclusive("folder")

    @contextlib.contextmanager
    def claimed(self, cells: Sequence[Cell], retry_failed: bool = False) -> Iterator[list[Cell]]:
        """Those cells that are not finished and that no other process trains; inside the block no other gets them."""

        def left() -> list[str]:
            return [cell.run_id for cell in cells if not self.finished(cell.run_id, retry_failed)]

        self._check_links()
        mine = self.locks.take(left())
        try:
            mine_now = set(mine) & set(left())  # another process may have finished some before they were locked
            for run_id in mine_now:
                refuse_links(self.place(run_id))
            yield [cell for cell in cells if cell.run_id in mine_now]
        finally:
            self.locks.give_back(mine)

    def close(self) -> None:
        """Give back what is locked."""
        self.locks.close()

    def _foreign(self) -> bool:
        """Whether the folder has anything in it that is not this process's doing."""
        return self.folder.is_dir() and any(p.name not in (INSIDE, "multirun.yaml") for p in self.folder.iterdir())

    def _common(self, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
        """What both sweeps keep fixed; a contradiction means that the folder is another sweep's."""
        for key in ours:  # a choice stands before its options
            if key in theirs and theirs[key] != ours[key]:
                raise ConfigError(
                    f"sweep_dir={self.folder} holds another sweep: there {key}={theirs[key]}, here {key}={ours[key]}; "
                    f"choose another folder, or sweep over both ({key}={theirs[key]},{ours[key]})"
                )
        return {key: value for key, value in theirs.items() if key in ours}


def sweep_folder(master: DictConfig) -> Path:
    """The sweep's folder: ``sweep_dir``, else Hydra's own."""
    own = master.get("sweep_dir")
    return Path(str(master.hydra.sweep.dir if own is None else own))


def write_multirun(master: DictConfig, folder: Path) -> None:
    """``multirun.yaml``: the sweep's own config, as Hydra's sweeper leaves it.

    Raises:
        WriteError: the disk is full or read-only.
    """
    from omegaconf import OmegaConf

    write_file(folder / "multirun.yaml", OmegaConf.to_yaml(master))


def asked_for(folder: Path) -> list[str]:
    """The ids of all runs that commands on this folder have asked for; none if it was not written down."""
    try:
        return read_bytes(folder / INSIDE / RUNS).decode().split()
    except (OSError, ValueError):
        return []


def members_of(checkpoint: Path) -> tuple[str, ...]:
    """The run ids in a checkpoint's header, read without torch; none if it is damaged or gone."""
    try:
        with opened(checkpoint) as file:
            header = parsed(file.read(min(int.from_bytes(file.read(8), "little"), HEADER_BYTES)))
        return tuple(map(str, parsed(header["__metadata__"]["story"].encode())["run_ids"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def read_manifest(path: Path) -> dict[str, Any]:
    """The content of a ``sweep.json``.

    Raises:
        ConfigError: it is damaged, something else, or of a newer version.
    """
    try:
        manifest = read_record(path)
    except DataError as error:
        raise ConfigError(f"{error}; remove it if the folder is to be used again") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != "mlp_study sweep" or "format" not in manifest:
        raise ConfigError(f"{path} belongs to something else; choose another sweep_dir")
    manifest = {"fixed": {}, **manifest}
    if not (isinstance(manifest["format"], int) and isinstance(manifest["fixed"], dict)):
        raise ConfigError(f"{path} is damaged; remove it if the folder is to be used again")
    if manifest["format"] > FORMAT:
        raise ConfigError(
            f"{path} was written by a newer mlp_study (format {manifest['format']}, this one knows {FORMAT}); "
            "choose another sweep_dir, or update"
        )
    return manifest


def fixed_settings(cells: Sequence[Cell]) -> dict[str, Any]:
    """The settings that determine results and have the same value in all cells, under the names a user types."""
    first = flattened(cells[0].config.determining())
    for cell in cells[1:]:
        row = flattened(cell.config.determining())
        for key in [key for key, value in first.items() if key not in row or row[key] != value]:
            del first[key]
    return first
