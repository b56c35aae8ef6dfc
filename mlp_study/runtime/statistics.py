"""Means over seeds: of the finite values, with the sample deviation and Student's t interval.

One value has neither deviation nor interval: both are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.95


def mean_deviation(values: Sequence[float]) -> tuple[float, float, int]:
    """Return mean, sample deviation (NaN of fewer than two) and number of the finite values."""
    finite = [value for value in values if math.isfinite(value)]
    n = len(finite)
    mean = math.fsum(finite) / n if n else math.nan
    return mean, math.dist(finite, [mean] * n) / math.sqrt(n - 1) if n > 1 else math.nan, n


def t_quantile(freedom: float, below: float = (1 + CONFIDENCE) / 2) -> float:
    """Return Student's t below which a share ``below`` lies; by default the end of the two-sided 95 % interval."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, below))


def half_width(deviation: float, n: int) -> float:
    """Return half the width of the 95 % interval of a mean of n values; NaN of fewer than two."""
    return t_quantile(n - 1) * deviation / math.sqrt(n) if n > 1 else math.nan


def grouped(values: np.ndarray, group_of: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Do ``mean_deviation`` for many groups at once.

    Args:
        values: [row, ...].
        group_of: [row], each row's group.
        count: of groups.

    Returns:
        Three times [group, ...]: mean, deviation and number of the finite values.
    """
    import numpy as np

    finite = np.isfinite(values)

    def summed(what: np.ndarray) -> np.ndarray:
        total = np.zeros((count, *values.shape[1:]))
        np.add.at(total, group_of, what)
        return total

    n = summed(finite.astype(float))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = summed(np.where(finite, values, 0.0)) / n
        squares = summed(np.where(finite, values - mean[group_of], 0.0) ** 2)
        deviation = np.sqrt(squares / np.where(n > 1, n - 1, np.nan))
    return mean, deviation, n.astype(int)


def half_widths(deviation: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the ``half_width`` of each mean of ``grouped``."""
    import numpy as np

    sizes, place = np.unique(n, return_inverse=True)  # a quantile takes long, and few sizes differ
    error = np.array([half_width(1.0, size) for size in sizes.tolist()])
    half: np.ndarray = deviation * error[place.reshape(n.shape)]
    return half
