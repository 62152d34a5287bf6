"""Figures from many: percentiles, medians of ratios."""

import math
from collections.abc import Iterable, Sequence
from statistics import median


def percentile(values: Iterable[float], share: float) -> float:
    """Return the smallest value that at least this share (0 to 1) of them does not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[max(1, math.ceil(share * len(ordered))) - 1] if ordered else math.nan


def median_ratio(mine: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of what each of mine is to its neighbour in the same round; NaN of none.

    A round's two were measured a few seconds apart, on a machine that was as quiet or as busy for one as for the other.
    """
    ratios = [one / other for one, other in zip(mine, others, strict=True)]
    return median(ratios) if ratios else math.nan
