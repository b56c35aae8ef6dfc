"""What a report is made of: the runs below some folders, read so that nothing damaged stops it."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import DataError
from mlp_study.figures.curves import carried_to
from mlp_study.records.run_folder import CURVES, RESULT, read_columns
from mlp_study.records.runs_table import finished_runs, flattened
from mlp_study.records.trials import SearchRecord, read_search
from mlp_study.runtime.reading import parsed, read_bytes

if TYPE_CHECKING:
    import numpy as np

CURVE_METRICS = (
    "train/loss", "train/accuracy", "val/loss", "val/accuracy", "dead", "saturated", "seconds", "step",
)  # fmt: skip
NAMED = 3  # compared folders in the title
CLAIMS, MULTIRUN = "reproduction.json", "multirun.yaml"


@dataclass
class Study:
    """Everything below the folders of one report.

    Attributes:
        kind: ``run``, ``sweep``, ``search``, ``reproduction``, or ``comparison`` of several folders.
        folders: what was asked for.
        runs: one line a finished run, as ``load_results`` has them.
        settings: the columns of ``runs`` that a user sets, in their order.
        damaged: a line for each record that could not be read.
        unfinished: folders of runs that have curves but no result yet.
        commands: what made the runs, as typed.
        commits: how many runs each commit of the code has trained.
        versions: how many runs each version of a package has trained, as ``name version``.
        devices: how many runs each device has trained.
        overrides: of each run, as typed.
        claims: the content of a reproduction's ``reproduction.json``.
        search: the trials, if the folder is that of a search that has ended.
    """

    kind: str
    folders: list[Path]
    runs: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, None] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    commits: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)
    overrides: list[list[str]] = field(default_factory=list)
    claims: dict[str, Any] | None = None
    search: SearchRecord | None = None

    @property
    def title(self) -> str:
        """The folder's name and what it is, or the names of those that are compared."""
        names = list(short_names(self.folders).values())
        if len(names) == 1:
            return f"{self.folders[0].resolve().name}: report of a {self.kind}"
        more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
        return f"Comparison of {_listed([*names[:NAMED], *more])}"


def read_study(folders: Sequence[Path]) -> Study:
    """All runs at or below the folders; of several folders, the row says under ``folders`` where it is from.

    Raises:
        DataError: a folder does not exist, or there is no run below any of them.
    """
    several = len(folders) > 1
    study = Study("comparison" if several else "sweep", list(folders), settings={"folders": None} if several else {})
    results: list[dict[str, Any]] = []
    names = short_names(folders)
    for top in folders:
        if not top.is_dir():
            raise DataError(f"{top} is not a folder; report takes the folder of a run, of a sweep or of reproduce")
        for row, result in finished_runs(top, study.damaged, study.unfinished):
            study.runs.append({**row, "folders": names[top]} if several else row)
            study.settings |= dict.fromkeys(flattened(result["config"]))
            results.append(result)
            study.overrides.append([str(override) for override in result.get("overrides") or []])
    if not (study.runs or study.damaged or study.unfinished):
        raise DataError(f"{', '.join(map(str, folders))} holds no run: there is no {RESULT} and no {CURVES} below it")
    _describe(study, results)
    return study


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def short_names(folders: Sequence[Path]) -> dict[Path, str]:
    """Folders as seen from the one that they share."""
    shared = os.path.commonpath([folder.resolve().parent for folder in folders])
    return {folder: Path(os.path.relpath(folder.resolve(), shared)).as_posix() for folder in folders}


def _describe(study: Study, results: Sequence[Mapping[str, Any]]) -> None:
    """Kind, claims, commands, versions and commits."""
    for result in results:
        study.commits[str(result.get("git_commit"))] += 1
        study.devices[str(result.get("device"))] += 1
        versions = result.get("versions")
        for name, version in versions.items() if isinstance(versions, Mapping) else ():
            study.versions[f"{name} {version}"] += 1
    for top in study.folders:
        if (top / CLAIMS).is_file():
            study.claims = study.claims or _claims(top / CLAIMS, study)
        study.commands += _commands(top)
    if len(study.folders) == 1:
        study.search = _search(study.folders[0], study)
    if study.claims:
        study.kind = "reproduction" if len(study.folders) == 1 else study.kind
        typed = [f"seeds={study.claims.get('seeds')}", *(study.claims.get("overrides") or [])]
        study.commands.append(command("reproduce", typed))
    elif study.search:
        study.kind = "search"
    elif len(study.folders) == 1 and len(study.runs) == 1 and (study.folders[0] / RESULT).is_file():
        study.kind = "run"
        study.commands = [command("train", study.overrides[0])]


def _claims(path: Path, study: Study) -> dict[str, Any] | None:
    try:
        found = parsed(read_bytes(path), finite=True)
        if not (isinstance(found, dict) and isinstance(found.get("claims"), list)):
            raise ValueError("it is no reproduction")
        if not isinstance(found.get("overrides") or [], list) or not all(map(_is_row, found["claims"])):
            raise ValueError("its claims are no table")
    except (OSError, ValueError) as error:
        study.damaged.append(f"{path} cannot be read: {error}")
        return None
    return found


def _is_row(claim: Any) -> bool:
    """Whether it has texts and numbers by name."""
    return isinstance(claim, dict) and not any(isinstance(value, list | dict) for value in claim.values())


def _search(top: Path, study: Study) -> SearchRecord | None:
    try:
        return read_search(top)
    except DataError as error:
        study.damaged.append(str(error))
        return None


def _commands(top: Path) -> list[str]:
    """The sweep's command, from Hydra's own record of it, less what follows from ``-m`` and ``sweep_dir``."""
    if not (top / MULTIRUN).is_file():
        return []
    import yaml

    try:
        found = yaml.load(read_bytes(top / MULTIRUN, 2**20), Loader=yaml.CSafeLoader)
        hydras, task = ([str(o) for o in found["hydra"]["overrides"][kind]] for kind in ("hydra", "task"))
        implied = ["hydra.mode=MULTIRUN", *(o.replace("sweep_dir=", "hydra.sweep.dir=") for o in task)]
        return [command("train", ["-m", *(o for o in hydras if o not in implied), *task])]
    except Exception:  # whatever is wrong with that file, the page does without it
        return []


def command(name: str, words: Sequence[str]) -> str:
    """A command of the package as a shell takes it."""
    return shlex.join(["python", "-m", f"mlp_study.{name}", *words])


def read_curves(study: Study) -> np.ndarray:
    """All runs' curves [run, epoch, metric] in the order of ``CURVE_METRICS``; NaN where nothing was measured.

    A damaged file leaves its run without curves and is reported in ``study.damaged``.
    """
    import numpy as np

    found = [_columns(Path(row["folder"]), study) for row in study.runs]
    epochs = max((len(columns["epoch"]) for columns in found if columns), default=0)
    curves = np.full((len(found), epochs, len(CURVE_METRICS)), np.nan, dtype=np.float32 if epochs > 500 else float)
    for k, columns in enumerate(found):
        for place, name in enumerate(CURVE_METRICS):
            if name in columns:
                curves[k, : len(columns[name]), place] = columns[name]
    return curves


def carried_on(study: Study, curves: np.ndarray) -> np.ndarray:
    """Curves [run, epoch, metric] in which runs that stopped early keep the last value of each metric."""
    import numpy as np

    kept = curves.copy()
    for k, row in enumerate(study.runs):
        measured = np.isfinite(curves[k])
        ended = int(measured.any(axis=1).nonzero()[0].max(initial=-1)) + 1
        last = carried_to(str(row["outcome"]), ended, int(row.get("trainer.max_epochs") or ended), curves.shape[1])
        for place in range(curves.shape[2]):
            if last > ended and measured[:, place].any():
                kept[k, ended:last, place] = curves[k, measured[:, place].nonzero()[0].max(), place]
    return kept


def _columns(folder: Path, study: Study) -> dict[str, list[float | None]]:
    try:
        return read_columns(folder)
    except DataError as error:
        study.damaged.append(str(error))
        return {}
