"""Optuna's figures of a study as PNG files: history, importance, slices, contours, parallel coordinates, curves."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.visualization import matplotlib as plots

from mlp_study.runtime.files import write_file

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from mlp_study.search.objective import Objective

log = logging.getLogger(__name__)

CONTOURS = 4  # parameters in the contour figure: it has a panel for each pair


def draw(study: optuna.Study, objectives: Sequence[Objective], folder: Path) -> dict[str, Path]:
    """Draw what can be drawn of ``study`` into ``folder``; return PNG files by name. The rest is left out.

    Raises:
        WriteError: the disk is full or read-only.
    """
    mpl.use("Agg", force=False)
    import matplotlib.pyplot as plt

    found: dict[str, Path] = {}
    for name, plot in _plots(drawable(study), objectives):
        try:
            # Optuna sets its style for the whole process: it must not reach the figures that are drawn after its own
            with warnings.catch_warnings(), mpl.rc_context():
                warnings.simplefilter("ignore")
                png = _png(np.atleast_2d(plot()))
        except (ValueError, RuntimeError, IndexError, TypeError, ZeroDivisionError) as error:
            log.debug("no figure %s: %s", name, error)
        else:
            found[name] = folder / f"{name}.png"
            write_file(found[name], png)
        finally:
            plt.close("all")
    return found


def _png(axes: np.ndarray) -> bytes:
    """Return the figure of these panels; each takes about three inches."""
    rows, columns = axes.shape
    figure = axes[0, 0].figure
    figure.set_size_inches(min(20.0, max(7.0, 3.2 * columns)), min(20.0, max(4.5, 3.0 * rows)))
    for panel in axes.flat if axes.size > 1 else ():  # narrow panels, long names
        panel.tick_params(axis="x", labelrotation=30)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100, bbox_inches="tight")
    return png.getvalue()


def drawable(study: optuna.Study) -> optuna.Study:
    """Return the study without the trials whose value is infinite, which no axis can show."""
    copy = optuna.create_study(directions=study.directions, sampler=optuna.samplers.RandomSampler(0))
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    copy.add_trials([trial for trial in trials if all(map(math.isfinite, trial.values or ()))])
    return copy


def _plots(study: optuna.Study, objectives: Sequence[Objective]) -> list[tuple[str, Callable[[], Any]]]:
    kinds = {name: d for trial in study.trials for name, d in trial.distributions.items()}
    names = sorted(kinds, key=lambda name: isinstance(kinds[name], CategoricalDistribution))  # a contour needs numbers
    ended = [trial.params for trial in study.trials if trial.values]
    crossed = [name for name in names if len({params[name] for params in ended if name in params}) > 1][:CONTOURS]
    found: list[tuple[str, Callable[[], Any]]] = []
    for place, objective in enumerate(objectives):
        one: dict[str, Any] = {"target_name": objective.metric}
        if len(objectives) > 1:
            one["target"] = partial(value_at, place)
        end = "" if len(objectives) == 1 else f"_{objective.metric.replace('/', '_')}"
        found += [
            (f"history{end}", partial(plots.plot_optimization_history, study, **one)),
            (f"slice{end}", partial(plots.plot_slice, study, **one)),
            (f"parallel_coordinate{end}", partial(plots.plot_parallel_coordinate, study, **one)),
        ]
        if len(names) > 1:
            fanova = FanovaImportanceEvaluator(seed=0)
            found.append((f"importance{end}", partial(plots.plot_param_importances, study, fanova, **one)))
        if len(crossed) > 1:
            found.append((f"contour{end}", partial(plots.plot_contour, study, crossed, **one)))
    if len(objectives) == 1 and any(trial.intermediate_values for trial in study.trials):
        found.append(("intermediate_values", lambda: plots.plot_intermediate_values(study)))
    if 1 < len(objectives) <= 3:
        metrics = [objective.metric for objective in objectives]
        found.append(("pareto_front", lambda: plots.plot_pareto_front(study, target_names=metrics)))
    return found


def value_at(place: int, trial: FrozenTrial) -> float:
    """Return a trial's value of one of the objectives."""
    return float(trial.values[place])
