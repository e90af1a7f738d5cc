"""Search figures over queries, with intervals for asking about other people."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Estimate, estimate, resamples
from models.evaluation.search import TOP_K, SearchResult

LEAST_PEOPLE = 5
"""Fewer people say nothing of how far a figure would be off for others: no interval."""


@dataclass(frozen=True)
class SearchFigures:
    """How well people are found again.

    Attributes:
        queries, people: how many were asked, for how many people.
        map, top_1, top_5, top_10: in [0, 1], the means over queries, with the 95 % intervals of
            people drawn anew, each with all of their queries.
    """

    queries: int
    people: int
    map: Estimate
    top_1: Estimate
    top_5: Estimate
    top_10: Estimate


def search_figures(result: SearchResult, people: NDArray[np.int64]) -> SearchFigures:
    """The figures of one or more queries.

    Args:
        people: [Q], who each query asks for, as any number.
    """
    _, people = np.unique(people, return_inverse=True)
    count = int(people.max()) + 1
    drawn = resamples(count)
    asked = np.bincount(people)

    def mean(values: NDArray[np.float64]) -> Estimate:
        value = float(values.mean())
        if count < LEAST_PEOPLE:
            return Estimate(value, None, None)
        return estimate(value, (drawn @ np.bincount(people, values)) / (drawn @ asked))

    top_1, top_5, top_10 = (mean((result.first_right < k).astype(np.float64)) for k in TOP_K)
    return SearchFigures(len(people), count, mean(result.average_precisions), top_1, top_5, top_10)
