"""Bootstrap intervals: how much a figure varies if other people, scenes or queries are drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDS = 1000
COVERED = 0.95


@dataclass(frozen=True)
class Estimate:
    """A measured figure, and the ends of its 95 % interval; None where too little was measured."""

    value: float
    low: float | None
    high: float | None


def resamples(count: int, *, rounds: int = ROUNDS, seed: int = 0) -> NDArray[np.int64]:
    """How often each of `count` things is drawn, in rounds of `count` draws: [rounds, count]."""
    draw = np.random.default_rng(seed)
    return draw.multinomial(count, np.full(count, 1 / count), size=rounds)


def estimate(value: float, resampled: NDArray[np.floating]) -> Estimate:
    """A figure with its percentile interval.

    Args:
        value: as measured; the interval is stretched to include it if need be.
        resampled: [rounds], the same of each round; NaN where a round has none.
    """
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return Estimate(value, None, None)
    low, high = percentiles(known)
    return Estimate(value, min(low, value), max(high, value))


def percentiles(values: NDArray[np.floating]) -> tuple[float, float]:
    """The ends of the 95 % interval, each one of the values [R] themselves."""
    left_out = (1 - COVERED) / 2
    low, high = np.quantile(values, [left_out, 1 - left_out], method="inverted_cdf")
    return float(low), float(high)
