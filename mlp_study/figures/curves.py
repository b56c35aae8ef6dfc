"""Learning curves: loss and accuracy against epochs, of one run or of many with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlp_study.figures.style import COLOURS, LINE, MARKERS, Sheet, entries_across, plain
from mlp_study.runtime.statistics import grouped, half_widths

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Rows = pd.DataFrame | Mapping[str, NDArray[Any]]

PANEL = 4.5  # inches
DECADES = 100.0  # a loss whose means lie further apart than this many times gets a logarithmic axis
STYLES: dict[str, dict[str, Any]] = {  # dashed and hollow against solid and filled: also told apart in a single epoch
    "train": {"linestyle": "--", "marker": "o", "markersize": 3.5, "markerfacecolor": "white"},
    "val": {"linestyle": "-", "marker": "o", "markersize": 3.5},
}
WIDEST, QUANTILE = 0.5, 0.75  # a band that covers more than half of the axis in a quarter of its epochs is left out
MARGIN = 0.05  # of what the means span, beyond them on either side
LEAST = {"loss": 0.05, "accuracy": 0.02}  # of a loss, and an accuracy: an axis over less has ticks of many digits
BELOW_CHANCE = 0.03  # an accuracy axis begins at the latest
ABOVE = 1e3  # times the middle group's first loss: where a loss axis of several groups ends at the latest
LEFT = f" Triangle: a loss above the axis, which ends at {ABOVE:,.0f} times the middle group's first training loss."
STOPPED = "early_stopped"  # the outcome of a run whose last value counts on
KEPT = "a run that stopped early keeps its last value to its planned end"
UNITS = {"loss": "loss (mean per image)", "accuracy": "accuracy (share of images)"}


def learning_curves(
    curves: Rows,
    by: str | None = None,
    metrics: Sequence[str] = ("loss", "accuracy"),
    title: str = "",
    validation: str = "validation",
    loss_end: float | None = None,
    chance: float | None = None,
) -> Figure:
    """Training (dashed) and validation (solid) curves, one panel a metric.

    Args:
        curves: rows of ``curves.csv`` (``epoch``, ``train/loss``, ...), those of several runs below each other. Rows of
            one group and epoch are seeds: the line is their mean, the band its 95 % interval (Student's t). Columns of
            one length by their names will do: a run's own figure need not wait for the import of pandas.
        by: the column of a data frame that groups runs, such as ``activation``: one colour and marker a group. None:
            one group.
        metrics: the panels, of ``loss`` and ``accuracy``.
        title: above it all.
        validation: what the solid lines are called; ``test`` where the test set validates.
        loss_end: where the loss axis ends at the latest; None: at ``loss_limit`` of these groups.
        chance: the accuracy of one answer to every image, drawn as a dotted line; None: not drawn.
    """
    from matplotlib.lines import Line2D

    groups = [("", curves)] if by is None else _split(curves, by)
    seeds = [_seeds(rows) for _, rows in groups]
    rounds = [divmod(i, len(COLOURS)) for i in range(len(groups))]  # the second through the colours has other markers
    looks = [(COLOURS[place], MARKERS[(place + again) % len(MARKERS)]) for again, place in rounds]
    names = [f"{name} (n = {n})" for (name, _), n in zip(groups, seeds, strict=True)] if by else []
    width = PANEL * len(metrics)
    rows = -(-len(names) // entries_across(names, width)) if names else 0
    limit, leaving = _limit([table for _, table in groups], loss_end)
    caption = _caption(seeds, curves, metrics) + LEFT * (leaving and "loss" in metrics)
    caption += "" if chance is None else f" Dotted: chance, {chance:.3g}."
    sheet = Sheet(width, 3.0 + LINE * (rows + 1), title, caption)
    if names:
        look = zip(names, looks, strict=True)
        sheet.legend([Line2D([], [], color=c, marker=m, markersize=4, label=name) for name, (c, m) in look])
    words = {"train": "training", "val": validation}
    sheet.legend([Line2D([], [], color="0.3", **STYLES[part], label=words[part]) for part in STYLES])
    last = float(_column(curves, "epoch").max(initial=1.0))
    for place, metric in enumerate(metrics):
        axes = sheet.panel(PANEL * place + 0.78, PANEL * (place + 1) - 0.15, below=0.5, above=0.08)
        axes.set_xlim(min(1.0, last) - 0.02 * last - 0.2, 1.02 * last + 0.2)
        for (_, table), (colour, marker) in zip(groups, looks, strict=True):
            _draw_group(axes, table, metric, colour, marker)
            if metric == "loss":
                _mark_leaving(axes, table, limit, colour)
        axes.set_xlabel("epoch (passes over the training images)")
        axes.set_ylabel(UNITS.get(metric, metric))
        axes.locator_params(axis="x", integer=True, min_n_ticks=1)
        plain(axes)
        _scale(axes, metric, limit)
        if metric == "accuracy" and chance is not None:
            axes.axhline(chance, color="0.5", linestyle=":", linewidth=1.2, zorder=0)
            axes.set_ylim(min(axes.get_ylim()[0], chance - BELOW_CHANCE))
        for (_, table), (colour, _) in zip(groups, looks, strict=True):  # the means have set the axis, bands do not
            _draw_bands(axes, table, metric, colour)
    return sheet.figure


def _limit(tables: Sequence[Rows], loss_end: float | None) -> tuple[float, bool]:
    """Where the loss axis ends at the latest, and whether a group goes beyond."""
    limit = loss_limit([_first_loss(table) for table in tables]) if loss_end is None else loss_end
    some = [table for table in tables if any(len(_beyond(table, part, -math.inf)) for part in STYLES)]
    beyond = [any(len(_beyond(table, part, limit)) for part in STYLES) for table in some]
    limit = math.inf if all(beyond) else limit  # curves that all leave have no other to flatten
    return limit, any(beyond) and math.isfinite(limit)


def _split(curves: Any, by: str) -> list[tuple[str, Rows]]:
    return [(str(name), rows) for name, rows in curves.groupby(by, sort=False)]


def _column(rows: Rows, name: str) -> NDArray[Any]:
    import numpy as np

    return np.asarray(rows[name], dtype=float)


def _seeds(rows: Rows) -> int:
    """How many runs the rows are of: how often an epoch occurs."""
    import numpy as np

    return int(np.unique(_column(rows, "epoch"), return_counts=True)[1].max(initial=0))


def loss_limit(first_losses: Sequence[float]) -> float:
    """Where the loss axis of several groups ends, so that one that leaves for 1e38 does not flatten the others.

    A thousand times the middle group's first training loss, or a thousand if that is more, up to a full decade. The
    lower of two middle ones counts. Infinite for fewer than two groups, which have no others to flatten.

    Args:
        first_losses: each group's mean training loss after its first epoch; those that are not finite count as largest.
    """
    if len(first_losses) < 2:
        return math.inf
    middle = sorted(loss if math.isfinite(loss) else math.inf for loss in first_losses)[(len(first_losses) - 1) // 2]
    return 10.0 ** math.ceil(math.log10(ABOVE * max(1.0, middle))) if middle < math.inf else math.inf


def _first_loss(rows: Rows) -> float:
    """The mean training loss of the first epoch that has one."""
    mean: Any = mean_and_interval(rows, "train/loss")[1] if "train/loss" in rows else ()
    return float(mean[0]) if len(mean) else math.nan


def _beyond(rows: Rows, part: str, limit: float) -> Any:
    """The epochs in which a group's mean loss lies above ``limit``."""
    if f"{part}/loss" not in rows:
        return ()
    epochs, mean, *_ = mean_and_interval(rows, f"{part}/loss")
    return epochs[mean > limit]


def _mark_leaving(axes: Axes, rows: Rows, limit: float, colour: str) -> None:
    """Triangles at the upper end of the axis, where a group's loss lies above it."""
    style: dict[str, Any] = {"color": colour, "markersize": 6, "clip_on": False, "zorder": 5}
    for part in STYLES:
        if len(found := _beyond(rows, part, limit)):
            found = found[:: max(1, len(found) // 20)]
            axes.plot(found, [limit] * len(found), "^", **style)


def _draw_group(axes: Axes, rows: Rows, metric: str, colour: str, marker: str) -> None:
    """One group's two lines, and a cross where a loss stopped being finite."""
    for part, style in STYLES.items():
        name = f"{part}/{metric}"
        if name not in rows:
            continue
        epochs, mean, _, lost = mean_and_interval(rows, name)
        every = max(1, len(epochs) // 20)
        axes.plot(epochs, mean, color=colour, linewidth=1.4, markevery=every, **{**style, "marker": marker})
        if lost and len(epochs):
            axes.plot(epochs[-1:], mean[-1:], "x", color=colour, markersize=10, markeredgewidth=2)


def _draw_bands(axes: Axes, rows: Rows, metric: str, colour: str) -> None:
    """A group's intervals, faintly, on an axis that stands."""
    for part in STYLES:
        if f"{part}/{metric}" not in rows:
            continue
        epochs, mean, half, _ = mean_and_interval(rows, f"{part}/{metric}")
        if ends := band(mean, half, limits(metric), axes.get_ylim(), axes.get_yscale() == "log"):
            axes.fill_between(epochs, *ends, color=colour, alpha=0.12, linewidth=0)


def band(
    mean: Any, half: Any, values: tuple[float, float], ends: tuple[float, float], logarithmic: bool
) -> tuple[Any, Any] | None:
    """Both ends of an interval inside an axis; None if there is none, or it covers most of the axis at most epochs.

    Args:
        mean: by epoch.
        half: of the interval, by epoch; NaN where there is none.
        values: what the value cannot be below and above.
        ends: of the axis.
        logarithmic: whether the axis is.
    """
    import numpy as np

    low, high = np.clip([np.clip(mean - half, *values), np.clip(mean + half, *values)], *ends)
    if not (half > 0).any():
        return None
    scale = np.log if logarithmic else np.asarray
    share = np.nanquantile((scale(high) - scale(low)) / np.diff(scale(ends)), QUANTILE)
    return (low, high) if share < WIDEST else None


def limits(metric: str) -> tuple[float, float]:
    """What a metric cannot be below and above, where its interval ends too."""
    return (0.0, 1.0) if metric == "accuracy" else (0.0, float("inf"))


def mean_and_interval(rows: Rows, name: str) -> tuple[Any, Any, Any, bool]:
    """Epochs, mean over runs, half of its 95 % interval, and whether a value was lost to a loss that is not finite.

    The interval is t(0.975, n - 1) * s / sqrt(n) with the sample deviation s of the n finite values; NaN for n = 1.
    A value that was not measured in an epoch (NaN beside a finite training loss) is not lost.
    """
    import numpy as np

    values, loss = _column(rows, name), _column(rows, "train/loss")
    finite = np.isfinite(values)
    epochs, place = np.unique(_column(rows, "epoch")[finite], return_inverse=True)
    mean, deviation, n = grouped(values[finite], place, len(epochs))
    return epochs, mean, half_widths(deviation, n), bool((~finite & (~np.isnan(values) | ~np.isfinite(loss))).any())


def _scale(axes: Axes, metric: str, limit: float) -> None:
    """The means set the axis: a loss over two decades a logarithmic one, up to ``limit``; accuracies one in 0 to 1."""
    import numpy as np

    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    values = np.concatenate([*lines, np.zeros(0)])
    if not len(values):
        axes.text(0.5, 0.5, "nothing finite to show", ha="center", va="center", transform=axes.transAxes, color="0.35")
        axes.set_yticks([])
        return
    logarithmic, bottom, top = axis_ends(metric, float(values.min()), float(values.max()), limit)
    if logarithmic:
        axes.set_yscale("log")
    elif metric == "loss":
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))
    axes.set_ylim(bottom, top)


def axis_ends(metric: str, least: float, most: float, limit: float) -> tuple[bool, float, float]:
    """Whether an axis is logarithmic, and its ends, from the smallest and the largest mean on it."""
    low, high = least, min(most, limit) if metric == "loss" else most
    if metric == "loss" and 0 < low < most / DECADES:
        beyond = max(high / low, 10.0) ** MARGIN
        return True, low / beyond, limit if high == limit else high * beyond
    least = LEAST[metric] * (max(abs(low), abs(high)) if metric == "loss" else 1.0) or MARGIN
    beyond = max(MARGIN * (high - low), (least - high + low) / 2)
    if metric == "accuracy":
        low, high = max(low, -0.02 + beyond), max(min(high, 1.02 - beyond), 0.02 - beyond)
    return False, low - beyond, limit if high == limit else high + beyond


def _caption(seeds: list[int], curves: Rows, metrics: Sequence[str]) -> str:
    import numpy as np

    # an epoch without validation has no value, which is not a divergence: only a training loss is there every epoch
    shown = [name for name in map(str, curves) if name.split("/")[-1] in metrics]
    infinite = any(np.isinf(_column(curves, name)).any() for name in shown)
    lost = infinite or ("train/loss" in curves and bool(np.isnan(_column(curves, "train/loss")).any()))
    several = max(seeds, default=0) > 1
    text = (
        "Mean over n seeds; band: its 95 % interval, left out where it covers most of the axis."
        if several
        else f"n = {sum(seeds)} run{'s' * (sum(seeds) != 1)}."
    )
    return text + (" Cross: from there on a loss is not finite." if lost else "")


def carried_to(outcome: str, ended: int, planned: int, longest: int) -> int:
    """The epoch until which a run's last value counts among those of other runs: a mean is of the same ones throughout.

    A run that stopped early had been given up to ``planned`` epochs; of any other the last epoch is its end: one that
    diverged has no value to keep, and one that was pruned might have gone anywhere.

    Args:
        outcome: of the run.
        ended: its last epoch.
        planned: its epochs, had it not stopped.
        longest: the last epoch of any run.
    """
    return max(ended, min(planned, longest)) if outcome == STOPPED else ended
