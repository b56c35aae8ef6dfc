"""A study with everything that page, figures and tables are made from, computed once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlp_study.reporting.answer import answer, claims_answer
from mlp_study.reporting.comparing import comparison_answer
from mlp_study.reporting.factors import METRIC, factors_of, groups_of, measured, mechanisms_of
from mlp_study.reporting.importance import Share, decomposition
from mlp_study.reporting.reading import CURVE_METRICS, KEPT, STOPPED, Study, carried_on, read_curves
from mlp_study.reporting.search import search_answer

if TYPE_CHECKING:
    import numpy as np

EXPLAINED = (METRIC, "val/accuracy", "test/loss", "epochs")


@dataclass(frozen=True)
class Analysis:
    """What is known about a study.

    Attributes:
        study: the runs as read.
        axes: all settings that vary.
        factors: those of them that do not follow from others.
        groups: indices of the runs of each combination of factors.
        mechanisms: why each run failed, None if it did not.
        shares: the decomposition of each metric's variance, on the data set with the most runs.
        curves: [run, epoch, metric]; runs that stopped early keep their last values.
        main_data: the data set with the most runs, if there are several; accuracies of data sets are never pooled in
            the answer and the decomposition.
        answer: the sentence.
    """

    study: Study
    axes: list[str]
    factors: list[str]
    groups: dict[tuple[str, ...], list[int]]
    mechanisms: list[str | None]
    shares: dict[str, list[Share]]
    curves: np.ndarray
    main_data: str | None
    answer: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The finished runs."""
        return self.study.rows

    @property
    def kept(self) -> str:
        """What a reader of curves of several runs must know of those that stopped early; empty if none did."""
        return KEPT if len(self.rows) > 1 and any(row["outcome"] == STOPPED for row in self.rows) else ""

    def value(self, run: int, metric: str) -> float:
        """A run's number, NaN if it has none; ``gap`` is training less test accuracy."""
        row = self.rows[run]
        if metric == "gap":
            return measured(row, "train/accuracy") - measured(row, "test/accuracy")
        return measured(row, metric)


def analysed(study: Study) -> Analysis:
    """The analysis of a study's finished runs."""
    rows = study.rows
    axes, factors = factors_of(rows, study.settings, study.kind)
    groups = groups_of(rows, factors)
    curves = read_curves(study)
    mechanisms = mechanisms_of(rows, groups, still_falling(curves))
    data = Counter(str(row.get("data")) for row in rows)
    main = data.most_common(1)[0][0] if len(data) > 1 else None
    chosen = [i for i, row in enumerate(rows) if main is None or str(row.get("data")) == main]
    own = [rows[i] for i in chosen]
    _, own_factors = factors_of(own, study.settings, study.kind)
    nested = study.claims is not None  # variants lie inside experiments: no main effects
    shares = {} if nested else {name: decomposition(own, own_factors, name) for name in EXPLAINED}
    found = Analysis(study, axes, factors, groups, mechanisms, shares, carried_on(study, curves), main, "")
    if study.kind == "comparison":
        sentence = comparison_answer(found)
    else:
        sentence = answer(
            own,
            own_factors,
            groups_of(own, own_factors),
            [mechanisms[i] for i in chosen],
            shares.get(METRIC, []),
            searched=study.search is not None,
        )
    if not rows and study.damaged:
        sentence = "No finished run could be read."
    if study.claims:
        told = claims_answer(study.claims["claims"])
        sentence = f"{sentence} {told}" if study.kind == "comparison" else f"{told} {sentence}"
    if study.search:
        sentence = f"{search_answer(study.search)} {sentence}"
    return replace(found, answer=sentence)


def still_falling(curves: np.ndarray) -> list[bool]:
    """Of each run, whether its training loss fell by at least 1 % from the last epoch but one to the last."""
    import numpy as np

    found = []
    for loss in curves[:, :, CURVE_METRICS.index("train/loss")]:
        known = loss[np.isfinite(loss)]
        found.append(len(known) > 1 and bool(known[-1] < 0.99 * known[-2]))
    return found
