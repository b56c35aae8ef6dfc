"""The table of all runs under a folder: one row a run, made from their ``result.json`` alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import DataError
from mlp_study.records.run_folder import CURVES, RESULT, read_json

if TYPE_CHECKING:
    import pandas as pd

SKIPPED = {"wandb", "figures", "checkpoints"}  # folders inside runs that hold no runs
NOT_COLUMNS = {"format", "config", "versions", "diagnostics", "population", "overrides"}


def load_results(folder: Path | str) -> pd.DataFrame:
    """Read one row for each finished run below ``folder``, in the order of their folders.

    Columns: ``run_id``; what was set, under the names a user types (``activation``, ``activation.slope``,
    ``data.scale``, ``optimizer.lr``, ...); ``outcome``, ``cause``; the metrics (``test/accuracy``, ...); diagnostics as
    ``initial/NAME`` and ``final/NAME``; ``population.size``, ``population.index``; ``folder``. Lists, and options that
    are a number in one run and a word in another, are texts.

    Damaged or newer records never stop it: ``table.attrs["damaged"]`` holds a line for each, and
    ``table.attrs["unfinished"]`` the folders that have curves but no result yet.

    Raises:
        DataError: ``folder`` does not exist.
    """
    top = Path(folder)
    if not top.is_dir():
        raise DataError(f"{top} is not a folder; it takes the folder of a run or of a sweep")
    damaged: list[str] = []
    unfinished: list[str] = []
    table = framed([row for row, _ in finished_runs(top, damaged, unfinished)])
    table.attrs.update(damaged=damaged, unfinished=unfinished)
    return table


def framed(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a data frame of rows: columns as the first run has them, then what only others have, the folder last."""
    import pandas as pd

    names = dict.fromkeys(name for row in rows for name in row)
    table = pd.DataFrame.from_records(rows, columns=[*(name for name in names if name != "folder"), "folder"])
    for name in table.columns:
        if table[name].dtype == object and len({type(value) for value in table[name]} & {str, bool, int, float}) > 1:
            table[name] = table[name].map(lambda value: value if value is None else str(value))
    return table


def finished_runs(
    top: Path, damaged: list[str], unfinished: list[str]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield row and record of each finished run at or below ``top``; list the damaged and unfinished ones."""
    for place, finished in run_folders(top):
        if not finished:
            unfinished.append(str(place))
            continue
        try:
            yield read_run(place)
        except DataError as error:
            damaged.append(str(error))


def run_folders(top: Path) -> Iterator[tuple[Path, bool]]:
    """Yield each run's folder at or below ``top``, sorted, and whether it is finished; runs do not lie inside runs."""
    for place, inside, files in os.walk(top):
        if RESULT in files or CURVES in files:
            inside.clear()
            yield Path(place), RESULT in files
        else:
            inside[:] = sorted(name for name in inside if name not in SKIPPED and not name.startswith("."))


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a finished run's line of the table, and the record that it is made from.

    Raises:
        DataError: the record is damaged, no result of a run, or of a newer version; the message names the file.
    """
    result = read_json(folder / RESULT)
    try:
        row = row_of(result, folder)
        float(row.get("test/accuracy", math.nan)), str(row["outcome"])
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{folder / RESULT} is no result of a run") from error
    return row, result


def row_of(result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a run's line of the table."""
    row: dict[str, Any] = {"run_id": result["run_id"], **flattened(result["config"])}
    row.update((key, value) for key, value in result.items() if key not in NOT_COLUMNS)
    for when, found in result["diagnostics"].items():
        row.update((f"{when}/{name}", value) for name, value in found.items())
    row.update((f"population.{key}", value) for key, value in result["population"].items())
    return {**row, "folder": str(folder)}


def flattened(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what determines a result, under the names a user types.

    >>> flattened({"optimizer": {"name": "sgd", "lr": 0.1}, "model": {"widths": [128, 64]}, "seed": 0})
    {'optimizer': 'sgd', 'optimizer.lr': 0.1, 'model.widths': '[128,64]', 'seed': 0}
    """
    from mlp_study.config.schema import indifferent_settings

    indifferent = indifferent_settings()
    row: dict[str, Any] = {}
    for section, values in config.items():
        if section == "experiment":  # whatever else it holds describes the source, not the run
            row.update(
                {
                    k: values[v]
                    for k, v in {"experiment": "name", "experiment.variant": "variant"}.items()
                    if v in values
                }
            )
        elif isinstance(values, Mapping):
            named = {section: values["name"]} if "name" in values else {}
            row.update(named | {f"{section}.{key}": value for key, value in values.items() if key != "name"})
        else:
            row[section] = values
    kept = {key: value for key, value in row.items() if key not in indifferent}
    return {
        key: str(value).replace(" ", "") if isinstance(value, list | dict) else value for key, value in kept.items()
    }
