"""Write and read a run's folder: ``model.safetensors``, ``curves.csv`` and, written last, ``result.json``."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import DataError
from mlp_study.records.provenance import git_commit, versions
from mlp_study.runtime.files import write_file
from mlp_study.runtime.reading import parsed, read_bytes, read_record

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from mlp_study.config.schema import RunConfig
    from mlp_study.training.results import MemberResult, Metrics

FORMAT = 1  # of result.json; a reader refuses newer ones
RESULT, CURVES, MODEL = "result.json", "curves.csv", "model.safetensors"
CURVE_COLUMNS = ("epoch", "step", "seconds", "train/loss", "train/accuracy", "val/loss", "val/accuracy")
WHOLE = ("epoch", "step")  # columns of whole numbers
NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass
class Run:
    """A finished run, read back.

    Attributes:
        folder: where it lies.
        config: its resolved configuration.
        curves: one row an epoch: ``epoch, step, seconds, train/loss, ...``, then diagnostics.
        result: the content of ``result.json``.
        model: the plain network on scaled images [N, I], in evaluation mode; None if it was not kept.
    """

    folder: Path
    config: RunConfig
    curves: pd.DataFrame
    result: dict[str, Any]
    model: nn.Sequential | None


def write_run(
    folder: Path,
    result: MemberResult,
    *,
    overrides: Sequence[str] = (),
    wandb_id: str | None = None,
    save_model: bool = True,
) -> None:
    """Write a finished run's records; ``result.json`` comes last, so that a folder that has one is complete.

    Args:
        folder: the run's folder, made if it is not there.
        result: what training handed over.
        overrides: what the user typed.
        wandb_id: the id of its W&B run, if it has one.
        save_model: whether to keep the weights.

    Raises:
        WriteError: the disk is full or read-only; ``result.json`` is then not there.
    """
    if save_model and result.weights:
        write_file(folder / MODEL, model_bytes(result))
    write_curves(folder, result.curves)
    write_file(folder / RESULT, json_text(result_of(result, overrides, wandb_id)))


def result_of(result: MemberResult, overrides: Sequence[str], wandb_id: str | None) -> dict[str, Any]:
    """Return the content of ``result.json``: what happened, then where it comes from, then the whole config."""
    config = result.config
    return {
        "format": FORMAT,
        "run_id": config.run_id,
        "outcome": result.outcome,
        "cause": result.cause,
        "overrides": list(overrides),
        **result.metrics,
        "validation_is_test": config.data.validation == "test",
        "diagnostics": result.diagnostics,
        "population": result.population,
        "device": result.device,
        "wandb_id": wandb_id,
        "git_commit": git_commit(),
        "versions": versions(),
        "config": config.to_dict(),
    }


def json_text(value: Any) -> str:
    """Encode as strict JSON. NaN and the infinities, which JSON lacks, become the texts of ``NON_FINITE``.

    Texts rather than null, because a diverged run's infinite loss is not a NaN; Python's ``float`` and JavaScript's
    ``Number`` both read them.
    """
    return json.dumps(_finite(value), allow_nan=False, ensure_ascii=False, indent=1) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read a ``result.json``, with its non-finite numbers as numbers again.

    Raises:
        DataError: it is damaged, no result of a run, or of a newer version; the message names the file.
    """
    try:
        found = read_record(path)
        whole = isinstance(found["format"], int) and isinstance(found["config"], dict)
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise DataError(f"{path} is no result of a run")
    if found["format"] > FORMAT:
        raise DataError(f"{path} was written by a newer mlp_study (format {found['format']}, this one reads {FORMAT})")
    # The config stays as it is: a tag may be called NaN, and the config's own reader takes these texts as numbers.
    return {key: value if key in ("config", "overrides") else _non_finite(value) for key, value in found.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    value = value.item() if hasattr(value, "item") else value  # numbers of numpy and torch
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_non_finite(item) for item in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


def write_curves(folder: Path, rows: Sequence[Metrics]) -> None:
    """Write ``curves.csv``: one row an epoch, ``CURVE_COLUMNS`` first, then diagnostics; unmeasured values are empty.

    Raises:
        WriteError: the disk is full or read-only; the former file is then still there.
    """
    columns = list(dict.fromkeys([*CURVE_COLUMNS, *(key for row in rows for key in row)]))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([row.get(column, "") for column in columns] for row in rows)
    write_file(folder / CURVES, text.getvalue())


def read_rows(folder: Path) -> list[Metrics]:
    """Read the rows of ``curves.csv``, without what was not measured; none if the file is missing or empty.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / CURVES
    return _rows_of(read_columns(folder)) if path.exists() and path.stat().st_size else []  # emptied by a power cut


def _rows_of(columns: Mapping[str, Sequence[float | None]]) -> list[Metrics]:
    lines = zip(*columns.values(), strict=True)
    return [{name: v for name, v in zip(columns, line, strict=True) if v is not None} for line in lines]


def read_columns(folder: Path) -> dict[str, list[float | None]]:
    """Read the columns of ``curves.csv`` by name, one number an epoch; None where nothing was measured.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = folder / CURVES
    try:
        lines = [line for line in csv.reader(io.StringIO(read_bytes(path).decode())) if line]
        if not lines or "epoch" not in lines[0]:
            raise ValueError("it has no column epoch")
        if max(map(len, lines)) > len(lines[0]):
            raise ValueError("a line has more values than there are columns")
        columns = zip_longest(*lines, fillvalue="")
        return {name: _numbers(texts, int if name in WHOLE else float) for name, *texts in columns}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _numbers(texts: Sequence[str], kind: type[int] | type[float]) -> list[float | None]:
    return [kind(text) if text else None for text in texts] if "" in texts else list(map(kind, texts))


def load_curves(folder: Path | str) -> pd.DataFrame:
    """Read the curves in a run's folder, also of a run that has not finished.

    Raises:
        DataError: there are none, or the file is damaged.
    """
    import pandas as pd

    path = Path(folder) / CURVES
    if not path.exists():
        raise DataError(f"{path} does not exist")
    columns = read_columns(Path(folder))  # not pandas' reader: its default rounds in some versions
    return pd.DataFrame(_rows_of(columns), columns=list(columns))


def model_bytes(result: MemberResult) -> bytes:
    """Encode the weights as safetensors, with all that is needed to rebuild the network from this file alone."""
    from safetensors.torch import save

    inputs, classes = _ends(result.weights.values())
    about = {"format": "pt", "config": json.dumps(_finite(result.config.to_dict()))}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in result.weights.items()}
    return save(tensors, metadata={**about, "inputs": str(inputs), "classes": str(classes)})


def load_model(path: Path) -> nn.Sequential:
    """Read the plain network in a ``model.safetensors``, in evaluation mode.

    Raises:
        DataError: the file is missing, damaged, or does not fit the config in it.
    """
    import torch
    from safetensors import safe_open

    from mlp_study.config.schema import RunConfig
    from mlp_study.model.population import build_sequential

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        config = RunConfig.from_dict(parsed(about["config"].encode()))
        with torch.device("meta"):  # takes no memory, whatever sizes a damaged file names
            planned = build_sequential(config, int(about["inputs"]), int(about["classes"]))
        if wrong := [n for n, p in planned.named_parameters() if n in tensors and tensors[n].shape != p.shape]:
            raise ValueError(f"the shape of {wrong[0]} is not what its config says")
        model = build_sequential(config, int(about["inputs"]), int(about["classes"]))
        model.load_state_dict(tensors, strict=False)  # BatchNorm's count of batches is not part of what was learned
    except Exception as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if missing := [name for name, _ in model.named_parameters() if name not in tensors]:
        raise DataError(f"{path} cannot be read: it lacks {', '.join(missing)}")
    return model.eval()


def _ends(weights: Iterable[Any]) -> tuple[int, int]:
    """Count the inputs of the first layer and the outputs of the last."""
    matrices = [tensor for tensor in weights if tensor.ndim == 2]
    return matrices[0].shape[1], matrices[-1].shape[0]


def load_run(folder: Path | str) -> Run:
    """Read a finished run: config, curves, result and network.

    Raises:
        DataError: the folder holds no finished run, or a damaged or newer one.
    """
    from mlp_study.config.schema import RunConfig

    folder = Path(folder)
    if not (folder / RESULT).is_file():
        raise DataError(f"{folder} holds no finished run: it has no {RESULT}")
    result = read_json(folder / RESULT)
    model = load_model(folder / MODEL) if (folder / MODEL).is_file() else None
    return Run(folder, RunConfig.from_dict(result["config"]), load_curves(folder), result, model)
