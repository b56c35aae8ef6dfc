"""A population's checkpoint: one safetensors file, without pickle, from which training continues bit by bit."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlp_study.errors import DataError
from mlp_study.runtime.files import TEMPORARY
from mlp_study.runtime.reading import parsed
from mlp_study.training.members import EndedMember, Tally

if TYPE_CHECKING:
    from torch import Tensor

    from mlp_study.config.schema import RunConfig
    from mlp_study.training.module import PopulationModule

FORMAT = 1


def write_checkpoint(path: Path, module: PopulationModule) -> None:
    """Write the population as it stands after ``module.updates.step_count`` steps: the whole file or none.

    Within an epoch, the sums over the training images seen so far go with it.

    Raises:
        DataError: the disk is full or read-only; a former checkpoint is then still there.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {f"model.{name}": t for name, t in module.mlp.tensors().items()}
    tensors |= {f"updates.{name}": t for name, t in module.updates.tensors().items()}
    for k, ended in module.ended.items():
        tensors |= {f"frozen.{k}.{name}": t for name, t in ended.tensors.items()}
    within = module.updates.step_count > module.epochs_done * module.feed.sizes.steps
    tally = module.tallies["train"] if within else Tally()
    if tally.loss_K is not None and tally.correct_K is not None:
        tensors |= {"tally.loss": tally.loss_K, "tally.correct": tally.correct_K}
    progress = {
        "format": FORMAT,
        "run_ids": [c.run_id for c in module.configs],
        "epochs_done": module.epochs_done,
        "step_count": module.updates.step_count,
        "seen": tally.seen,
        "seconds": module.seconds,
        "train_seconds": module.train_seconds + (module.seconds_in_epoch if within else 0.0),
        "live": module.live,
        "frozen": {k: {"outcome": f.outcome, "cause": f.cause, "step": f.step} for k, f in module.ended.items()},
        "curves": module.curves,
        "diagnostics": module.diagnostics,
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    temporary.unlink(missing_ok=True)  # it may be a stranger's link
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    progress["crc32"] = _checksum(whole)
    try:
        save_file(whole, temporary, metadata={"story": json.dumps(progress)})
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"the checkpoint {path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path, module: PopulationModule) -> None:
    """Bring a fresh population and its data to where the checkpoint stands.

    Raises:
        DataError: the file is damaged, or belongs to other runs.
    """
    progress, tensors = _read(path, module.configs)
    try:
        _restore(module, progress, tensors)
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"the checkpoint {path} does not fit these runs ({error}); delete it to start again") from error


def _restore(module: PopulationModule, progress: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    def under(prefix: str) -> dict[str, Any]:
        return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

    ended = progress["frozen"].items()
    module.ended = {int(k): EndedMember(tensors=under(f"frozen.{k}."), **about) for k, about in ended}
    if len(progress["live"]) < len(module.live):
        gone = [k for k in module.live if k not in progress["live"]]
        kept, module.ended = module.ended, {k: module.ended[k] for k in gone}
        module.compact()
        module.ended = kept
    for name, tensor in module.mlp.tensors().items():
        tensor.data.copy_(tensors[f"model.{name}"])
    for name, tensor in module.updates.tensors().items():
        tensor.copy_(tensors[f"updates.{name}"])
    if "tally.loss" in tensors:
        module.carried = Tally(tensors["tally.loss"], tensors["tally.correct"], progress["seen"])
    module.updates.step_count = progress["step_count"]
    module.epochs_done, module.train_seconds = progress["epochs_done"], progress["train_seconds"]
    module.seconds_before = progress.get("seconds", module.train_seconds)
    module.curves, module.diagnostics = progress["curves"], progress["diagnostics"]
    rows = [row for member in progress["curves"] for row in member] + [*progress["diagnostics"]]
    if not all(isinstance(row, dict) for row in rows) or not isinstance(module.seconds_before, float):
        raise ValueError("its curves are no numbers by name")
    module.data.skip(module.epochs_done + 1, module.updates.step_count - module.epochs_done * module.feed.sizes.steps)


def _checksum(tensors: Mapping[str, Tensor]) -> int:
    """Compute a checksum of all numbers: safetensors notices only a damaged header."""
    import torch

    found = 0
    for name in sorted(tensors):
        numbers: Any = tensors[name].reshape(-1).view(torch.uint8).numpy()  # a buffer, as its types don't say
        found = zlib.crc32(numbers, found)
    return found


def _read(path: Path, configs: Sequence[RunConfig]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            progress = parsed((file.metadata() or {}).get("story", "{}").encode())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(f"the checkpoint {path} cannot be read ({error}); delete it to start again") from error
    known = progress.get("crc32") if isinstance(progress, dict) else None  # an older version has none
    if known not in (None, _checksum(tensors)):
        raise DataError(f"the checkpoint {path} is damaged: its numbers have changed; delete it to start again")
    if (
        not isinstance(progress, dict)
        or progress.get("format") != FORMAT
        or progress.get("run_ids") != [c.run_id for c in configs]
    ):
        raise DataError(
            f"the checkpoint {path} belongs to other runs than the ones asked for; delete it to start again"
        )
    return progress, tensors
