"""From what an engine found to what a search answers: exact scores, a settled order, groups."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from indexer.index.live import Nearest
from indexer.records import GalleryHit, StoredDetection
from indexer.rows import labels, scenes
from indexer.rows.people import StoredPeople

GroupBy = Literal["detection", "image"]


def lowest_needed(
    nearest: Nearest, k: int, group_by: GroupBy, min_score: float | None, dim: int
) -> float:
    """The similarity, as an engine computes it, below which nothing can be among the k answers.

    A float32 inner product of dim terms is off by at most dim × 2⁻²⁴ for vectors of length 1, in
    whatever order the terms are added; scaling by the score adds as much as one more term, and a
    query may be longer than 1 by a thousandth. Rounding to 6 decimals moves a score by half of
    1e-6.
    """
    error = 1.01 * (dim + 4) * 2.0**-24
    lowest = -np.inf if min_score is None else min_score - error - 1e-6
    leaders = nearest.similarities
    if group_by == "image":
        _, first = np.unique(nearest.scenes, return_index=True)
        leaders = leaders[np.sort(first)]
    if len(leaders) >= k:
        lowest = max(lowest, float(leaders[k - 1]) - 2 * error - 1e-6)
    return lowest


def ranked(
    connection: Connection,
    people: list[StoredPeople],
    query: NDArray[np.float32],
    k: int,
    group_by: GroupBy,
    min_score: float | None,
) -> list[GalleryHit]:
    """The k best of some people, compared in double precision."""
    found = []
    for some in people:
        cosines = some.detections.embeddings.astype(np.float64) @ query.astype(np.float64)
        weighted = np.round(some.detections.scores * cosines, 6) + 0.0  # no −0.0
        found += list(
            zip(
                (-weighted).tolist(),
                some.ids,
                cosines.tolist(),
                some.scenes.tolist(),
                some.detections.boxes.tolist(),
                some.detections.scores.tolist(),
                some.rows.tolist(),
                strict=True,
            )
        )
    found.sort(key=lambda one: one[:2])
    if min_score is not None:
        found = [one for one in found if -one[0] >= min_score]
    if group_by == "image":
        first_of_scene: dict[int, Any] = {}
        for one in found:
            first_of_scene.setdefault(one[3], one)
        found = list(first_of_scene.values())
    found = found[:k]
    about = scenes.numbered(connection, {one[3] for one in found})
    given = labels.at_rows(connection, [one[6] for one in found])
    return [
        GalleryHit(
            StoredDetection(
                id, about[number].id, (box[0], box[1], box[2], box[3]), score, given.get(row)
            ),
            about[number],
            score=-negative + 0.0,
            similarity=max(-1.0, min(1.0, cosine)),
        )
        for negative, id, cosine, number, box, score, row in found
    ]
