"""What a search leaves: the table of trials, importance, the best trial as YAML, figures, a W&B run, a summary."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from mlp_study.errors import StudyError
from mlp_study.records import wandb_run
from mlp_study.records.trials import ABOUT, FORMAT, IMPORTANCE, TRIALS
from mlp_study.runtime.files import table_cell, write_file
from mlp_study.search.best_trial import best_yaml, command, single_run
from mlp_study.search.distributions import override_text
from mlp_study.search.optuna_plots import draw, value_at
from mlp_study.sweep.printing import aligned

if TYPE_CHECKING:
    from mlp_study.search.batches import Populations
    from mlp_study.search.objective import Objective
    from mlp_study.search.shared_study import SharedStudy

log = logging.getLogger(__name__)

BEST, FIGURES, RESULTS = "best.yaml", "figures", "optimization_results.yaml"
SHOWN = 10  # trials in the printed table


class SearchResults:
    """The results of a search whose trials have all ended.

    Args:
        study: the study.
        folder: the search's.
        populations: composes configs, and names the search's W&B run; None for a task that is not this project's.
        make_page: makes the report's page at the end; None: no page.
    """

    def __init__(
        self,
        study: SharedStudy,
        folder: Path,
        populations: Populations | None,
        make_page: Callable[[], Any] | None,
    ) -> None:
        self.study, self.folder, self.populations, self.make_page = study, folder, populations, make_page
        self.objectives: Sequence[Objective] = study.settings.objectives
        self.trials: list[FrozenTrial] = study.trials()

    def write(self) -> dict[str, Any]:
        """Write all files; print the best trials and the command that runs the best one again.

        Of the processes that share a folder the first one to end writes them; the others, and the same command again,
        find that they are there.

        Raises:
            StudyError: no trial has a value.
            WriteError: the disk is full or read-only.
        """
        rows = [self.row(trial) for trial in self.trials]
        trials, best = table(rows), self.best()
        if not best:
            write_file(self.folder / TRIALS, trials)
            raise StudyError(self.nothing())
        with self.study.storage.locked(self.study.settings.study_name):
            files = (ABOUT, IMPORTANCE, FIGURES, RESULTS, *([BEST] if self.populations else []))
            whole = all((self.folder / name).exists() for name in files)
            if not whole or (self.folder / TRIALS).read_text(encoding="utf-8") != trials:
                self._write(rows, trials, best)
        self.show(best)
        return {"name": "optuna", **self.result(best)}

    def _write(self, rows: Sequence[Mapping[str, Any]], trials: str, best: Sequence[FrozenTrial]) -> None:
        """Write everything; the last file says that all are there."""
        (self.folder / RESULTS).unlink(missing_ok=True)
        write_file(self.folder / TRIALS, trials)
        shares = importance(self.study.study, self.objectives)
        write_file(self.folder / IMPORTANCE, table([{"objective": m, **found} for m, found in shares.items()]))
        write_file(self.folder / ABOUT, json.dumps(self.about(), indent=1) + "\n")
        values = ", ".join(f"{o.metric} {v:.6g}" for o, v in zip(self.objectives, best[0].values, strict=True))
        about = f"Trial {best[0].number} of {len(rows)}, study {self.study.settings.study_name!r}: {values}"
        if self.populations is not None:
            content = best_yaml(about, self.populations.config(self.overrides(best[0])), self.folder)
            for path in (self.folder / "experiment" / BEST, self.folder / BEST):
                write_file(path, content)
        images = draw(self.study.study, self.objectives, self.folder / FIGURES)
        page = self.make_page() if self.make_page else None
        self.track(rows, images | dict(page.figures if page else {}), best[0])
        results = yaml.safe_dump({"name": "optuna", **self.result(best)}, sort_keys=False)
        write_file(self.folder / RESULTS, results)
        if page:
            print(f"report: {page.page}", flush=True)

    def best(self) -> list[FrozenTrial]:
        """Return the best trial; of several objectives those that none is better than, in the first's order."""
        if not any(state_of(trial) == "complete" for trial in self.trials):
            return []
        if len(self.objectives) == 1:
            return [self.study.study.best_trial]
        first = -1 if self.objectives[0].maximize else 1
        return sorted(self.study.study.best_trials, key=lambda t: (first * t.values[0], t.number))

    def counts(self) -> str:
        """Count the trials of each state, in words."""
        counts = Counter(sorted(map(state_of, self.trials)))
        return ", ".join(f"{count} {state}" for state, count in counts.items()) or "no trials"

    def nothing(self) -> str:
        """Say why no trial has a value."""
        causes = dict.fromkeys(str(t.user_attrs["cause"]) for t in self.trials if "cause" in t.user_attrs)
        why = f"; causes: {'; '.join(list(causes)[:3])}" if causes else ""
        found = "fulfils the constraints" if any(t.values for t in self.trials) else "has a value"
        return f"no trial {found} ({self.counts()}){why}; table: {self.folder / TRIALS}"

    def row(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return a trial's line of the table."""
        attributes = trial.user_attrs
        return {
            "trial": trial.number,
            "state": state_of(trial),
            **dict(zip((o.metric for o in self.objectives), trial.values or (), strict=False)),
            **{name: override_text(value) for name, value in trial.params.items()},
            **{key: value for key, value in attributes.items() if key.endswith(" deviation") or key == "cause"},
            **{f"beyond {text}": max(0.0, violation) for text, violation in trial.constraints.items()},
            "outcomes": " ".join(dict.fromkeys(attributes.get("outcomes", []))),
            "last epoch": trial.last_step,
            "run_ids": " ".join(attributes.get("run_ids", [])),
        }

    def about(self) -> dict[str, Any]:
        """Say what the columns of the table of trials mean: objectives and parameters."""
        found: dict[str, Any] = {name: d for trial in self.trials for name, d in trial.distributions.items()}
        parameters = {
            name: {
                "log": bool(getattr(d, "log", False)),
                "choices": [override_text(c) for c in getattr(d, "choices", ())] or None,
            }
            for name, d in found.items()
        }
        return {
            "format": FORMAT,
            "study": self.study.settings.study_name,
            "objectives": {o.metric: o.direction for o in self.objectives},
            "parameters": parameters,
        }

    def overrides(self, trial: FrozenTrial) -> list[str]:
        """Return what a single run of this trial takes."""
        found = trial.user_attrs.get("overrides") or self.study.space.overrides(trial.params)  # the stock plugin's
        return single_run(found, trial.user_attrs.get("seeds", []))

    def show(self, best: Sequence[FrozenTrial]) -> None:
        """Print the best trials, what matters, and how to go on."""
        first, several = self.objectives[0], len(self.objectives) > 1
        complete = [t for t in self.trials if state_of(t) == "complete"]
        ranked = sorted(complete, key=lambda t: t.values[0], reverse=first.maximize)
        shown = list(best if several else ranked)[:SHOWN]
        names = list(dict.fromkeys(name for trial in shown for name in trial.params))
        lines = [["trial", *(o.metric for o in self.objectives), *names]]
        for trial in shown:
            numbers = [f"{v:.4g}" + spread(trial, o) for o, v in zip(self.objectives, trial.values, strict=True)]
            lines.append([str(trial.number), *numbers, *(short(trial.params.get(name, "-")) for name in names)])
        print(f"{len(self.trials)} trials: {self.counts()}, the {'Pareto front' if several else 'best'}:")
        print(aligned(lines))
        with (self.folder / IMPORTANCE).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                metric = row.pop("objective")
                shares = sorted(((float(share), name) for name, share in row.items() if share), reverse=True)
                print(f"importance for {metric}: {', '.join(f'{name} {share:.2f}' for share, name in shares)}")
        again, files = self.overrides(best[0]), [BEST, TRIALS, FIGURES] if self.populations else [TRIALS, FIGURES]
        print(f"best trial {best[0].number}: {command(again, self.folder) if self.populations else shlex.join(again)}")
        print(", ".join(str(self.folder / name) for name in files), flush=True)

    def result(self, best: Sequence[FrozenTrial]) -> dict[str, Any]:
        """Return what Hydra's stock plugin writes as ``optimization_results.yaml``."""
        if len(self.objectives) == 1:
            return {"best_params": dict(best[0].params), "best_value": best[0].values[0]}
        return {"solutions": [{"params": dict(t.params), "values": list(t.values)} for t in best]}

    def track(self, rows: Sequence[Mapping[str, Any]], images: dict[str, Path], best: FrozenTrial) -> None:
        """Record the search's own W&B run: the table of trials, the best one, the figures."""
        if self.populations is None:
            return
        config = self.populations.config(self.overrides(best))
        about = {"trials": len(rows), "space": self.study.space.described(), "sweep_dir": str(self.folder)}
        run = wandb_run.open_sweep(self.folder, config, self.populations.name, about)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        run.table("trials", columns, [[finite(row.get(column)) for column in columns] for row in rows])
        values = {f"best/{o.metric}": v for o, v in zip(self.objectives, best.values, strict=True)}
        run.summary({**values, **{f"best/{k}": v for k, v in best.params.items()}, "best/trial": best.number})
        run.images(images)
        run.finish()
        wandb_run.wait()


def importance(study: optuna.Study, objectives: Sequence[Objective]) -> dict[str, dict[str, float]]:
    """Return each parameter's share in each objective's variance, by fANOVA (Hutter et al. 2014); none if undefined."""
    found: dict[str, dict[str, float]] = {}
    for place, objective in enumerate(objectives):
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({t.values[place] for t in trials if math.isfinite(t.values[place])}) < 2:
            continue
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        target = partial(value_at, place)
        try:
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
        except (ValueError, RuntimeError) as error:  # such as no parameter that all trials have
            log.debug("no importance for %s: %s", objective.metric, error)
            continue
        found[objective.metric] = {name: round(float(share), 4) for name, share in shares.items()}
    return found


def state_of(trial: FrozenTrial) -> str:
    """Return a trial's state in a word; one that has a value but violates a constraint is ``infeasible``."""
    violated = any(violation > 0 for violation in trial.constraints.values())
    return "infeasible" if violated and trial.state == TrialState.COMPLETE else trial.state.name.lower()


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = io.StringIO()
    writer = csv.DictWriter(lines, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: table_cell(value) for name, value in row.items()} for row in rows)
    return lines.getvalue()


def spread(trial: FrozenTrial, objective: Objective) -> str:
    """Write the deviation of a trial's repeats; nothing for a single run."""
    deviation = trial.user_attrs.get(f"{objective.metric} deviation")
    return "" if deviation is None else f" ± {deviation:.2g}"


def short(value: Any) -> str:
    """Write a parameter's value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def finite(value: Any) -> Any:
    """Return what a W&B table takes."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
