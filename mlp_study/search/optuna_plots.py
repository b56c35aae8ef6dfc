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

from mlp_study.runtime.files import write_file
from mlp_study.search.objective import Objective

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

CONTOURS = 4  # parameters in the contour figure: it has a panel for each pair


def draw(study: Study, objectives: Sequence[Objective], folder: Path) -> dict[str, Path]:
    """Draw what can be drawn of ``study`` into ``folder``; PNG files by name. What Optuna cannot draw is left out.

    Raises:
        WriteError: the disk is full or read-only.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.use("Agg", force=False)
    import matplotlib.pyplot as plt

    found: dict[str, Path] = {}
    usable = drawable(study, objectives)
    for name, plot in _plots(usable, objectives):
        try:
            # Optuna sets its style for the whole process: it must not reach the figures that are drawn after its own
            with warnings.catch_warnings(), mpl.rc_context():
                warnings.simplefilter("ignore")
                axes = plot()
                first = axes.flat[0] if hasattr(axes, "flat") else axes
                figure: Figure = first.figure
                figure.set_size_inches(*_size(axes))
                if hasattr(axes, "flat"):  # narrow panels, long names
                    for panel in axes.flat:
                        panel.tick_params(axis="x", labelrotation=30)
                path = folder / f"{name}.png"
                _save(figure, path)
                found[name] = path
        except (ValueError, RuntimeError, IndexError, TypeError, ZeroDivisionError) as error:
            log.debug("no figure %s: %s", name, error)
        finally:
            plt.close("all")
    return found


def drawable(study: Study, objectives: Sequence[Objective]) -> Study:
    """The study without the trials whose value is infinite, which no axis can show."""
    import optuna

    kept = [
        trial for trial in study.get_trials(deepcopy=False) if not trial.values or all(map(math.isfinite, trial.values))
    ]
    copy = optuna.create_study(directions=[o.direction for o in objectives], sampler=optuna.samplers.RandomSampler(0))
    copy.add_trials([trial for trial in kept if trial.state.is_finished()])
    return copy


def _plots(study: Study, objectives: Sequence[Objective]) -> list[tuple[str, Callable[[], Any]]]:
    from optuna.distributions import CategoricalDistribution
    from optuna.importance import FanovaImportanceEvaluator
    from optuna.visualization import matplotlib as plots

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
    """A trial's value of one of the objectives."""
    return float(trial.values[place])


def _size(axes: Any) -> tuple[float, float]:
    """Inches: a panel takes about three."""
    rows, columns = (axes.shape if axes.ndim == 2 else (1, len(axes))) if hasattr(axes, "shape") else (1, 2)
    return min(20.0, max(7.0, 3.2 * columns)), min(20.0, max(4.5, 3.0 * rows))


def _save(figure: Any, path: Path) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100, bbox_inches="tight")
    write_file(path, png.getvalue())
