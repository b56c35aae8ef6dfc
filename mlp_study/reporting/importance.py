"""How much of a result's variance each factor, and each pair of factors, explains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from mlp_study.reporting.factors import Row, is_number, levels_of, measured, text

if TYPE_CHECKING:
    import numpy as np

MOST_FACTORS, MOST_LEVELS = 6, 6  # of the decomposition; numbers with more values are put into classes of equal size


@dataclass(frozen=True)
class Share:
    """A term of the decomposition.

    Attributes:
        factors: one, or two that act together; none for the rest.
        part: of the variance, in [0, 1].
        p: how often chance alone makes a term explain as much (F test); NaN for the rest.
    """

    factors: tuple[str, ...]
    part: float
    p: float = math.nan


def decomposition(rows: Sequence[Row], factors: Sequence[str], metric: str) -> list[Share]:
    """The variance of ``metric`` over the runs that have it: main effects, interactions of two factors, and the rest.

    Type II sums of squares of a linear model on indicators: what a term explains beyond all terms that do not contain
    it, less what as many indicators of pure noise would explain, over the total (epsilon squared, Kelley 1935). In a
    complete, balanced sweep the terms are those of the classical analysis of variance and all parts add up to 1.
    The last share, without factors, is what the model leaves: seeds, and interactions of three and more. With one run
    of each combination an interaction of two cannot be told from the seeds either, and is left to the rest.

    Args:
        rows: the runs.
        factors: the first six that vary are taken.
        metric: a column of the table.

    Returns:
        the shares, the largest first, then the rest; nothing where all runs are alike, or too few to know the noise.
    """
    import numpy as np

    known = [row for row in rows if not np.isnan(measured(row, metric))]
    y = np.array([measured(row, metric) for row in known])
    y = y - y.mean() if len(y) else y
    total = float(y @ y)
    if total <= 1e-24 * max(len(y), 1):
        return []
    coded = [_indicators(known, key) for key in factors[:MOST_FACTORS]]
    terms: dict[tuple[str, ...], np.ndarray] = {(): np.ones((len(y), 1))}
    terms |= {(key,): own for key, own in zip(factors, coded, strict=False)}
    for (a, left), (b, right) in combinations(zip(factors, coded, strict=False), 2):
        terms[a, b] = (left[:, :, None] * right[:, None, :]).reshape(len(y), -1)
    explained = _Explained(terms, y)
    model = list(terms)
    if explained.by(model)[1] >= len(y):
        model = [term for term in terms if len(term) < 2]
    whole, columns = explained.by(model)
    spare = len(y) - columns
    if spare < 1:
        return []
    noise = max(0.0, total - whole) / spare  # the mean square of what the model leaves
    shares = []
    for term in filter(None, model):
        others = [other for other in model if not set(term) <= set(other)]
        (more, own), (less, before) = explained.by([*others, term]), explained.by(others)
        gained, freedom = max(0.0, more - less), own - before
        part = max(0.0, gained - freedom * noise) / total
        shares.append(Share(term, part, _chance(gained, freedom, noise, spare)))
    rest = Share((), min(1.0, noise * (len(y) - 1) / total))
    return [*sorted(shares, key=lambda share: -share.part), rest]


def _chance(gained: float, freedom: int, noise: float, spare: int) -> float:
    """The F test's p: ``gained`` is a sum of squares of ``freedom`` degrees, ``noise`` a mean square of ``spare``."""
    from scipy.special import fdtrc

    if not freedom or not gained:
        return 1.0
    return float(fdtrc(freedom, spare, gained / freedom / noise)) if noise else 0.0


def _indicators(rows: Sequence[Row], key: str) -> np.ndarray:
    """[N, L] zeros and ones: which of a factor's values, or classes of values, each run has."""
    import numpy as np

    levels = levels_of(rows, key)
    if len(levels) > MOST_LEVELS and all(is_number(row.get(key)) for row in rows):
        values = np.array([float(row[key]) for row in rows])
        edges = np.unique(np.quantile(values, np.linspace(0, 1, MOST_LEVELS + 1)[1:-1]))
        codes = np.searchsorted(edges, values, side="right")
    else:
        place = {name: i for i, name in enumerate(levels)}
        codes = np.array([place[text(row.get(key))] for row in rows])
    return np.eye(int(codes.max()) + 1)[codes]


class _Explained:
    """What sets of terms explain, from one matrix of cross products."""

    def __init__(self, terms: dict[tuple[str, ...], Any], y: np.ndarray) -> None:
        import numpy as np

        design = np.concatenate(list(terms.values()), axis=1)
        self.gram, self.projected = design.T @ design, design.T @ y
        ends = np.cumsum([own.shape[1] for own in terms.values()])
        self.columns = {
            term: np.arange(end - own.shape[1], end) for (term, own), end in zip(terms.items(), ends, strict=True)
        }

    def by(self, terms: Sequence[tuple[str, ...]]) -> tuple[float, int]:
        """The sum of squares, and the degrees of freedom: the rank of these terms' indicators.

        Those of an interaction contain those of its factors, so the system is solved in the range that they span.
        """
        import numpy as np

        chosen = np.concatenate([self.columns[term] for term in terms])
        values, vectors = np.linalg.eigh(self.gram[np.ix_(chosen, chosen)])
        along = vectors.T @ self.projected[chosen]
        kept = values > 1e-10 * values[-1]
        return float((along[kept] ** 2 / values[kept]).sum()), int(kept.sum())
