"""What a search leaves behind: the best trial as a command and as YAML, the table of trials, importance, figures."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlp_study.config.schema import GROUPS
from mlp_study.errors import StudyError
from mlp_study.records import wandb_run
from mlp_study.reporting.make import PAGE, report_at_end
from mlp_study.reporting.search import ABOUT, FORMAT, IMPORTANCE, TRIALS, read_search
from mlp_study.runtime.files import file_lock, write_file
from mlp_study.search.batches import sets_seed
from mlp_study.search.figures import draw, value_at
from mlp_study.search.objective import Objective
from mlp_study.search.space import text
from mlp_study.sweep.summary import aligned

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from mlp_study.config.schema import RunConfig
    from mlp_study.search.search import Search
    from mlp_study.search.study import SharedStudy

log = logging.getLogger(__name__)

BEST, FIGURES = "best.yaml", "figures"
MARK = ".outcome"  # of which trials everything has been written
SHOWN = 10  # trials in the printed table


class Outcome:
    """The results of a search whose trials have all ended."""

    def __init__(self, search: Search, study: SharedStudy) -> None:
        self.search, self.study = search, study
        self.folder = search.folder
        self.objectives: Sequence[Objective] = search.settings.objectives
        self.trials: list[FrozenTrial] = study.trials()

    def write(self) -> dict[str, Any]:
        """All files; prints the best trials and the command that runs the best one again.

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
        mark = hashlib.sha256(trials.encode()).hexdigest()
        with file_lock(self.folder / f"{MARK}.lock"):
            there = all((self.folder / name).exists() for name in (BEST, TRIALS, ABOUT, IMPORTANCE, FIGURES))
            if not there or not same(self.folder / MARK, mark):
                write_file(self.folder / TRIALS, trials)
                self._write(rows, best)
                write_file(self.folder / MARK, mark)
        self.show(best)
        return {"name": "optuna", **self.result(best)}

    def _write(self, rows: Sequence[Mapping[str, Any]], best: Sequence[FrozenTrial]) -> None:
        """Everything but the table of trials."""
        shares = importance(self.study.study, self.objectives)
        write_file(self.folder / IMPORTANCE, table([{"objective": m, **found} for m, found in shares.items()]))
        write_file(self.folder / ABOUT, json.dumps(self.about(), indent=1) + "\n")
        content = self.yaml_of(best[0])
        for path in (self.folder / BEST, self.folder / "experiment" / BEST):
            write_file(path, content)
        results = yaml.safe_dump({"name": "optuna", **self.result(best)}, sort_keys=False)
        write_file(self.folder / "optimization_results.yaml", results)
        images = draw(self.study.study, self.objectives, self.folder / FIGURES)
        made = report_at_end(self.folder) if self.search.ours and self.search.report else None
        self.track(rows, images | (made.figures if made else {}), best[0])

    def best(self) -> list[FrozenTrial]:
        """The best trial; of several objectives all that none is better than, the best in the first one first."""
        from optuna.trial import TrialState

        if not any(t.state == TrialState.COMPLETE for t in self.trials):
            return []
        if len(self.objectives) == 1:
            return [self.study.study.best_trial]
        first = -1 if self.objectives[0].maximize else 1
        return sorted(self.study.study.best_trials, key=lambda t: (first * t.values[0], t.number))

    def nothing(self) -> str:
        """Why no trial has a value."""
        ended = [trial.state.name for trial in self.trials]
        counts = ", ".join(f"{ended.count(state)} {state.lower()}" for state in dict.fromkeys(ended))
        causes = dict.fromkeys(str(t.user_attrs["cause"]) for t in self.trials if "cause" in t.user_attrs)
        why = f"; causes: {'; '.join(list(causes)[:3])}" if causes else ""
        return f"no trial has a value ({counts or 'no trials'}){why}; table: {self.folder / TRIALS}"

    def row(self, trial: FrozenTrial) -> dict[str, Any]:
        """A trial's line of the table."""
        values = dict(zip((o.metric for o in self.objectives), trial.values or (), strict=False))
        about = {k: v for k, v in trial.user_attrs.items() if k.endswith(" deviation") or k == "cause"}
        outcomes = trial.user_attrs.get("outcomes", [])
        ended = {"outcomes": " ".join(dict.fromkeys(outcomes)), "last epoch": trial.last_step}
        runs = {"run_ids": " ".join(trial.user_attrs.get("run_ids", []))}
        return {
            "trial": trial.number,
            "state": trial.state.name.lower(),
            **values,
            **trial.params,
            **about,
            **ended,
            **runs,
        }

    def about(self) -> dict[str, Any]:
        """What the columns of the table of trials mean: objectives and parameters."""
        found = {name: d for trial in self.trials for name, d in trial.distributions.items()}
        parameters = {
            name: {
                "log": bool(getattr(d, "log", False)),
                "choices": [str(c) for c in getattr(d, "choices", ())] or None,
            }
            for name, d in found.items()
        }
        return {
            "format": FORMAT,
            "study": self.search.settings.study_name,
            "objectives": {o.metric: o.direction for o in self.objectives},
            "parameters": parameters,
        }

    def overrides(self, trial: FrozenTrial) -> list[str]:
        """What a single run of this trial takes, with its first seed; what a YAML file has set is spelt out."""
        found: list[str] = trial.user_attrs.get("overrides", [])
        if seeds := trial.user_attrs.get("seeds"):
            found = [*(o for o in found if not sets_seed(o)), f"seed={seeds[0]}"]
        typed = [o for o in found if not o.lstrip("+").startswith(("sweep_dir=", "sweeps=", "experiment"))]
        if self.search.config is None or len(typed) == len([o for o in found if not o.startswith("sweep_dir=")]):
            return typed
        return spelt_out(found, typed, self.search.config)

    def command(self, trial: FrozenTrial) -> str:
        """The command that runs it again."""
        return shlex.join(["python", "-m", "mlp_study.train", *self.overrides(trial)])

    def yaml_of(self, trial: FrozenTrial) -> str:
        """The trial as an experiment's YAML."""
        values = ", ".join(f"{o.metric} {v:.6g}" for o, v in zip(self.objectives, trial.values, strict=True))
        head = (
            "# @package _global_\n"
            f"# Trial {trial.number} of {len(self.trials)}, study {self.search.settings.study_name!r}: {values}\n"
            f"# {self.command(trial)}\n"
            "# As an experiment: python -m mlp_study.train "
            f"'hydra.searchpath=[file://{self.folder.absolute()}]' +experiment=best\n"
        )
        return head + yaml.safe_dump(nested(self.overrides(trial)), sort_keys=False, allow_unicode=True)

    def show(self, best: Sequence[FrozenTrial]) -> None:
        """Print the best trials, what matters, and how to go on."""
        from optuna.trial import TrialState

        ended = [trial.state.name.lower() for trial in self.trials]
        counts = ", ".join(f"{ended.count(state)} {state}" for state in dict.fromkeys(ended))
        first = self.objectives[0]
        complete = [t for t in self.trials if t.state == TrialState.COMPLETE]
        ranked = sorted(complete, key=lambda t: t.values[0], reverse=first.maximize)
        shown = list(best if len(self.objectives) > 1 else ranked)[:SHOWN]
        names = list(dict.fromkeys(name for trial in shown for name in trial.params))
        lines = [["trial", *(o.metric for o in self.objectives), *names]]
        for trial in shown:
            numbers = [f"{v:.4g}" + self._spread(trial, o) for o, v in zip(self.objectives, trial.values, strict=True)]
            lines.append([str(trial.number), *numbers, *(short(trial.params.get(name, "-")) for name in names)])
        print(
            f"{len(self.trials)} trials: {counts}"
            + (", the Pareto front:" if len(self.objectives) > 1 else ", the best:")
        )
        print(aligned(lines))
        record = read_search(self.folder)
        for metric, found in record.importance.items() if record else ():
            print(f"importance for {metric}: {', '.join(f'{name} {share:.2f}' for name, share in found.items())}")
        print(f"best trial {best[0].number}: {self.command(best[0])}")
        print(f"{self.folder / BEST}, {self.folder / TRIALS}, {self.folder / FIGURES}", flush=True)
        if (self.folder / PAGE).is_file():
            print(f"report: {self.folder / PAGE}", flush=True)

    @staticmethod
    def _spread(trial: FrozenTrial, objective: Objective) -> str:
        spread = trial.user_attrs.get(f"{objective.metric} deviation")
        return "" if spread is None else f" ± {spread:.2g}"

    def result(self, best: Sequence[FrozenTrial]) -> dict[str, Any]:
        """What Hydra's stock plugin writes as ``optimization_results.yaml``; here also returned."""
        if len(self.objectives) == 1:
            return {"best_params": dict(best[0].params), "best_value": best[0].values[0]}
        return {"solutions": [{"params": dict(t.params), "values": list(t.values)} for t in best]}

    def track(self, rows: Sequence[Mapping[str, Any]], images: dict[str, Path], best: FrozenTrial) -> None:
        """The search's own W&B run: the table of trials, the best one, the figures."""
        here = self.search.here
        if here is None:
            return
        config = here.config(best.user_attrs.get("overrides", []))
        about = {"trials": len(rows), "space": self.search.space.described(), "sweep_dir": str(self.folder)}
        run = wandb_run.open_sweep(self.folder, config, here.name, about)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        run.table("trials", columns, [[finite(row.get(column)) for column in columns] for row in rows])
        values = {f"best/{o.metric}": v for o, v in zip(self.objectives, best.values, strict=True)}
        run.summary({**values, **{f"best/{k}": v for k, v in best.params.items()}, "best/trial": best.number})
        run.images(images)
        run.finish()
        wandb_run.wait()


def importance(study: Any, objectives: Sequence[Objective]) -> dict[str, dict[str, float]]:
    """Each parameter's share in each objective's variance, by fANOVA (Hutter et al. 2014); none if undefined."""
    import optuna

    found: dict[str, dict[str, float]] = {}
    for place, objective in enumerate(objectives):
        usable = [t for t in study.get_trials(deepcopy=False) if t.values and math.isfinite(t.values[place])]
        values = {t.values[place] for t in usable if t.state == optuna.trial.TrialState.COMPLETE}
        if len(values) < 2:
            continue
        try:
            shares = optuna.importance.get_param_importances(
                study,
                evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
                target=partial(value_at, place),
            )
        except (ValueError, RuntimeError) as error:  # such as no parameter that all trials have
            log.debug("no importance for %s: %s", objective.metric, error)
            continue
        found[objective.metric] = {name: round(float(share), 4) for name, share in shares.items()}
    return found


def spelt_out(found: Sequence[str], typed: Sequence[str], config: Callable[[Sequence[str]], RunConfig]) -> list[str]:
    """``typed`` with overrides added until it has the results that ``found`` has; ``config`` composes either."""
    wanted = config(found).determining()
    choices = [f"{kind}={wanted[kind]['name']}" for kind in GROUPS]
    given = [o for o in typed if o.partition("=")[0] not in GROUPS]
    there = config([*choices, *given]).determining()
    more = [
        f"{section}.{key}={text(value)}"
        for section, values in wanted.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
        if there.get(section, {}).get(key) != value
    ]
    top = [f"{key}={text(v)}" for key, v in wanted.items() if not isinstance(v, Mapping) and there.get(key) != v]
    return [*choices, *given, *more, *top]


def same(path: Path, content: str) -> bool:
    """Whether the file is there with this content."""
    return path.is_file() and path.read_text(encoding="utf-8") == content


def nested(overrides: Sequence[str]) -> dict[str, Any]:
    """Overrides as the content of a config file: groups into its defaults list, values into sections."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    tree: dict[str, Any] = {"defaults": []}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key, value = override.key_or_group, plain(override.value())
        if key in GROUPS:
            tree["defaults"].append({f"override /{key}": value})
            continue
        if key.split(".")[0] == "hydra" or "/" in key:
            continue
        *above, last = key.split(".")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def plain(value: Any) -> Any:
    """A parsed override's value as YAML has it."""
    from hydra.core.override_parser.types import QuotedString

    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.text if isinstance(value, QuotedString) else value


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = io.StringIO()
    writer = csv.DictWriter(lines, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()})
    return lines.getvalue()


def short(value: Any) -> str:
    """A parameter's value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def finite(value: Any) -> Any:
    """What a W&B table takes."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
