"""Context bipartite graph matching: who stands with a person says who the person is.

The scenes of a query's best hits are looked at again: the people of the query's scene and the
people found there are matched, one to one, for the largest sum of similarities, and whoever is
matched with the person looked for is as similar as the best pair of the matching.

Reference:
    Li and Miao, Sequential End-to-end Network for Efficient Person Search, AAAI 2021, section 3.4;
    the similarity is that of its code: the best pair's, not the person's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TIGHT = 1e-8
"""Below it, a difference of similarities is none."""


@dataclass(frozen=True, eq=False)
class Context:
    """Who stands with each query's person.

    Attributes:
        people: Of each query [K, D] unit embeddings of the people in its scene, the person looked
            for first, the others from the surest on.
        hits: The scenes of so many best hits are matched (k1).
        most_people: So many of the people are matched at most, the person looked for among them
            (k2).
    """

    people: Sequence[NDArray[np.float32]]
    hits: int
    most_people: int


def revise(
    similarity: NDArray[np.float32],
    starts: NDArray[np.int64],
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    context: Context,
    number: int,
) -> NDArray[np.float32]:
    """The similarities of a gallery's detections to a query, after matching the best scenes.

    Args:
        similarity: [M], of the gallery's detections, scene by scene.
        starts: [G], where among them each scene begins.
        vectors: [N, D], those of all scenes.
        rows: [M], which of the vectors are the gallery's.
        number: of the query.
    """
    revised = similarity.copy()
    people = context.people[number][: context.most_people].astype(np.float64)
    best = _largest(similarity, context.hits)
    ends = np.append(starts[1:], len(similarity))
    for place in np.unique(np.searchsorted(starts, best, side="right") - 1).tolist():
        found = np.arange(starts[place], ends[place])
        weights = (people @ vectors[rows[found]].T.astype(np.float64)).astype(np.float32)
        partners = match(weights)
        paired = partners >= 0
        if paired[0]:
            strongest = weights[paired, partners[paired]].max()
            revised[found[partners[0]]] = strongest
    return revised


def match(weights: NDArray[np.floating]) -> NDArray[np.int64]:
    """The one-to-one matching of rows and columns with the largest sum of weights [A, B].

    As many pairs as the smaller side has. Where several matchings are best, it is the one that
    augmenting paths find, taking the smaller side one after another (the columns when the sides
    are equal) and trying the larger side in its order.

    Returns:
        [A], the column of each row, −1 for none.

    Reference:
        Kuhn 1955 and Munkres 1957, with labels that bound the weights from above.
    """
    fewer_rows = weights.shape[0] < weights.shape[1]
    table = np.asarray(weights if fewer_rows else weights.T, np.float64).tolist()
    wide = max(weights.shape)
    upper = [max(line) for line in table]
    lower = [0.0] * wide
    owner = [-1] * wide

    def grow(line: int, lines: set[int], columns: set[int]) -> tuple[bool, float]:
        """Whether a path of tight pairs from the line ends free, and the least slack beside it."""
        lines.add(line)
        slack = float("inf")
        for column in range(wide):
            if column in columns:
                continue
            above = upper[line] + lower[column] - table[line][column]
            if above >= TIGHT:
                slack = min(slack, above)
                continue
            columns.add(column)
            done = owner[column] < 0
            if not done:
                done, further = grow(owner[column], lines, columns)
                slack = min(slack, further)
            if done:
                owner[column] = line
                return True, slack
        return False, slack

    for line in range(len(table)):
        while True:
            lines: set[int] = set()
            columns: set[int] = set()
            done, slack = grow(line, lines, columns)
            if done:
                break
            for touched in lines:
                upper[touched] -= slack
            for touched in columns:
                lower[touched] += slack

    partners = np.full(weights.shape[0], -1, np.int64)
    for column, line in enumerate(owner):
        if line >= 0:
            row, partner = (line, column) if fewer_rows else (column, line)
            partners[row] = partner
    return partners


def _largest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Indices of the `count` largest values, the earlier ones among equals."""
    if count >= len(values):
        return np.arange(len(values))
    bound = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > bound)
    return np.concatenate([above, np.flatnonzero(values == bound)[: count - len(above)]])
