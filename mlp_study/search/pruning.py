"""Trials that are being trained report each epoch; what the pruner gives up is frozen, the time goes to the others."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, Trainer
from optuna.exceptions import UpdateFinishedTrialError

from mlp_study.errors import ConfigError
from mlp_study.search.objective import Objective
from mlp_study.search.storage import StudyStorage

if TYPE_CHECKING:
    from optuna import Trial

    from mlp_study.training.module import PopulationModule


@dataclass
class OwnTrial:
    """A trial that this process runs.

    Attributes:
        trial: Optuna's.
        overrides: what it sets.
        seeds: one a repeat; empty: the config's own.
        run_ids: its runs, one a repeat, once they are planned.
        reported: epochs whose value is in the study already.
        pruned: the epoch, or repeat, at which the pruner gave it up.
        failed: why it cannot be trained.
        storage: the study's; None: it is never away.
    """

    trial: Trial
    overrides: list[str]
    seeds: list[int] = field(default_factory=list)
    run_ids: list[str] = field(default_factory=list)
    reported: set[int] = field(default_factory=set)
    pruned: int | None = None
    failed: str | None = None
    storage: StudyStorage | None = None

    @property
    def number(self) -> int:
        """The trial's number, which is its job's."""
        return int(self.trial.number)

    def report(self, value: float, step: int) -> bool:
        """Report ``value`` unless it is known from before an interruption; whether the pruner gives the trial up."""
        if step not in self.reported:
            with contextlib.suppress(UpdateFinishedTrialError):  # told by a process that has taken it over
                self._patiently(lambda: self.trial.report(value, step))
            self.reported.add(step)
        if self.pruned is None and self._patiently(self.trial.should_prune):
            self.pruned = step
        return self.pruned is not None

    def _patiently(self, act: Callable[[], Any]) -> Any:
        """A server that stays away fails no run: nothing is reported or pruned, and telling the result will say so."""
        with contextlib.suppress(ConfigError):
            return act() if self.storage is None else self.storage.patiently(act)


class Pruning(Callback):
    """Reports each trial's value at each epoch, the seeds' values as one, and freezes what is pruned.

    Args:
        trials: those that are trained, with their runs.
        objective: what is reported.
    """

    def __init__(self, trials: Sequence[OwnTrial], objective: Objective) -> None:
        self.trials, self.objective = list(trials), objective
        self._ids: weakref.WeakKeyDictionary[PopulationModule, dict[str, int]] = weakref.WeakKeyDictionary()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Prune after the recording, so that a pruned member's last row is that of this epoch."""
        module: PopulationModule = pl_module
        if module not in self._ids:
            self._ids[module] = {config.run_id: k for k, config in enumerate(module.configs)}
        frozen = 0
        for trial in self.trials:
            if self._given_up(trial, module, self._ids[module]):
                frozen += self._freeze(trial, module, self._ids[module])
        if frozen and not module.active_places():
            trainer.should_stop = True
        elif frozen and len(module.active_places()) <= len(module.live) // 2:
            module.compact()

    def _given_up(self, trial: OwnTrial, module: PopulationModule, ids: dict[str, int]) -> bool:
        if trial.pruned is not None:
            return True
        members = [ids[run_id] for run_id in trial.run_ids if run_id in ids]
        curves = [module.curves[k][-1] for k in members if k not in module.ended and module.curves[k]]
        fresh = [row for row in curves if row["epoch"] == module.epochs_done]
        if not any(self.objective.metric in row for row in fresh):
            return False  # all its members have ended, or this epoch was not validated
        counted = [value for k in members if (value := self._value(module, k)) is not None]
        return bool(counted) and trial.report(self.objective.combine(counted), module.epochs_done)

    def _value(self, module: PopulationModule, k: int) -> float | None:
        """A member's last validated value; a diverged one's is what the objective says."""
        outcome = module.ended[k].outcome if k in module.ended else ""
        row = next((row for row in reversed(module.curves[k]) if self.objective.metric in row), {})
        return self.objective.value({**row, "outcome": outcome})

    def _freeze(self, trial: OwnTrial, module: PopulationModule, ids: dict[str, int]) -> int:
        """End its members, unless another trial still needs the same run."""
        needed = {run_id for other in self.trials if other.pruned is None for run_id in other.run_ids}
        doomed = {ids[run_id] for run_id in trial.run_ids if run_id in ids and run_id not in needed}
        places = [place for place in module.active_places() if module.live[place] in doomed]
        for place in places:
            module.end_member(place, "pruned", f"trial {trial.number} was given up by the pruner at {trial.pruned}")
        return len(places)
