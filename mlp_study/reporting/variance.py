"""How much of a result's variance each factor, and each pair of factors, explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from mlp_study.reporting.axes import Run, is_number, levels_of, measured, text

if TYPE_CHECKING:
    import numpy as np

MOST_FACTORS, MOST_LEVELS = 6, 6  # of the decomposition; numbers with more values are put into classes of equal size


@dataclass(frozen=True)
class Share:
    """A term of the decomposition.

    Attributes:
        factors: one, or two that act together; none for the rest.
        part: of the variance, in [0, 1].
        p: how often chance alone makes a term explain as much (F test); NaN for the rest, and where no combination has
            been run twice: chance is then unknown.
    """

    factors: tuple[str, ...]
    part: float
    p: float = math.nan


def decomposition(runs: Sequence[Run], factors: Sequence[str], metric: str) -> list[Share]:
    """The variance of ``metric`` over the runs that have it: main effects, interactions of two factors, and the rest.

    Type II sums of squares of a linear model on indicators: what a term explains beyond all terms that do not contain
    it. What as many indicators of pure noise would explain is taken off (epsilon squared, Kelley 1935). Noise is what
    differs among runs of one combination; with one run of each combination it is unknown, nothing is taken off, no term
    has a p, and an interaction may be seeds as well. In a complete, balanced sweep the terms are those of the classical
    analysis of variance. The last share, without factors, is the rest up to 1.

    Args:
        runs: of which those count that have the metric.
        factors: the first six that vary are taken.
        metric: a column of the runs' table.

    Returns:
        the shares, the largest first, then the rest; nothing where all runs are alike, or of one factor with one run
        a value.
    """
    import numpy as np
    from scipy.stats import f

    known = [run for run in runs if not math.isnan(measured(run, metric))]
    y = np.array([measured(run, metric) for run in known])
    y = y - y.mean() if len(y) else y
    total = float(y @ y)
    noise, spare = _noise([tuple(text(run.get(key)) for key in factors) for run in known], y)
    factors = factors[:MOST_FACTORS]
    if total <= 1e-24 * max(len(y), 1) or not factors or (len(factors) == 1 and not spare):
        return []
    coded = {key: _indicators(known, key) for key in factors}
    terms: dict[tuple[str, ...], np.ndarray] = {(): np.ones((len(y), 1))}
    terms |= {(key,): own for key, own in coded.items()}
    for a, b in combinations(factors, 2):
        terms[a, b] = (coded[a][:, :, None] * coded[b][:, None, :]).reshape(len(y), -1)
    shares = []
    for term in filter(None, terms):
        others = [other for other in terms if not set(term) <= set(other)]
        without = np.concatenate([terms[other] for other in others], axis=1)
        less, before = _explained(without, y)
        more, own = _explained(np.concatenate([without, terms[term]], axis=1), y)
        gained, freedom = max(0.0, more - less), own - before
        if freedom:
            p = float(f.sf(gained / freedom / noise, freedom, spare)) if spare else math.nan
            shares.append(Share(term, max(0.0, gained - freedom * noise) / total, p))
    rest = Share((), max(0.0, 1 - sum(share.part for share in shares)))
    return [*sorted(shares, key=lambda share: -share.part), rest]


def _noise(settings: Sequence[tuple[str, ...]], y: np.ndarray) -> tuple[float, int]:
    """The mean square among runs of the same combination, and its degrees of freedom; zeros if none was run twice."""
    import numpy as np

    place = {combination: i for i, combination in enumerate(dict.fromkeys(settings))}
    own = np.array([place[combination] for combination in settings], dtype=int)
    spare = len(y) - len(place)
    within = y - (np.bincount(own, weights=y) / np.bincount(own))[own] if spare else y
    return (max(float(within @ within), 1e-12 * float(y @ y)) / spare if spare else 0.0), spare


def _indicators(runs: Sequence[Run], key: str) -> np.ndarray:
    """[N, L] zeros and ones: which of a factor's values, or classes of values, each run has."""
    import numpy as np

    levels = levels_of(runs, key)
    if len(levels) > MOST_LEVELS and all(is_number(run.get(key)) for run in runs):
        values = np.array([float(run[key]) for run in runs])
        edges = np.unique(np.quantile(values, np.linspace(0, 1, MOST_LEVELS + 1)[1:-1]))
        codes = np.searchsorted(edges, values, side="right")
    else:
        place = {name: i for i, name in enumerate(levels)}
        codes = np.array([place[text(run.get(key))] for run in runs])
    return np.eye(int(codes.max()) + 1)[codes]


def _explained(design: np.ndarray, y: np.ndarray) -> tuple[float, int]:
    """The sum of squares that indicators explain, and its degrees of freedom: their rank.

    Those of an interaction contain those of its factors, so the system is solved in the range that they span.
    """
    import numpy as np

    values, vectors = np.linalg.eigh(design.T @ design)
    along = vectors.T @ (design.T @ y)
    kept = values > 1e-10 * values[-1]
    return float((along[kept] ** 2 / values[kept]).sum()), int(kept.sum())
