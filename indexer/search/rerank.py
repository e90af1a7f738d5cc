"""Other orders for the best hits of a search, which their scores alone do not give."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indexer.records import Crowd, GalleryHit
from models.reranking.cbgm import Context, revise
from models.reranking.k_reciprocal import k_reciprocal
from models.similarity import gallery_vectors

MOST_PEOPLE = 3
"""So many people of the query's scene are matched, the one looked for among them: k2 of CBGM."""


def by_neighbours(
    hits: Sequence[GalleryHit], queries: Sequence[NDArray[np.float32]], crowd: Crowd
) -> list[int]:
    """By k-reciprocal neighbours among the hits.

    Args:
        hits: by falling score.
        queries: [D] each, unit length; a hit is as similar to them as to the nearest one.
        crowd: the people of the hits' scenes.

    Returns:
        The places of the hits in the new order, of equal ones the better score first; hits that
        are not in the crowd are left out.
    """
    where = _where(crowd)
    there = [place for place, hit in enumerate(hits) if hit.detection.id in where]
    if not there:
        return []
    embeddings = np.stack(
        [
            crowd.people[scene].embeddings[place]
            for scene, place in (where[hits[one].detection.id] for one in there)
        ]
    ).astype(np.float64)
    to_query = (embeddings @ np.stack(queries).astype(np.float64).T).max(axis=1)
    scores = np.array([hits[one].score for one in there])
    far = k_reciprocal(to_query, embeddings @ embeddings.T, scores)
    return [there[place] for place in np.argsort(far, kind="stable").tolist()]


def by_context(
    hits: Sequence[GalleryHit],
    companies: Sequence[NDArray[np.float32]],
    crowd: Crowd,
    *,
    fusion: Literal["max", "mean"],
) -> list[int]:
    """By matching the people of the query's scene with those of each hit's scene (CBGM).

    Only the hits are put in order: others of their scenes, whom the matching may prefer, do not
    become hits.

    Args:
        hits: by falling score.
        companies: of each query [K, D], the person looked for and the others in its scene.
        crowd: the people of the hits' scenes.
        fusion: whether the largest or the mean of the revised similarities to several queries
            counts.

    Returns:
        As `by_neighbours` does.
    """
    where = _where(crowd)
    there = [place for place, hit in enumerate(hits) if hit.detection.id in where]
    if not there:
        return []
    vectors = np.concatenate([gallery_vectors(people) for people in crowd.people])
    counts = [len(people) for people in crowd.people]
    starts = np.cumsum([0, *counts[:-1]])
    rows = np.arange(len(vectors))
    revised = []
    for people in companies:
        similarity = (vectors.astype(np.float64) @ people[0].astype(np.float64)).astype(np.float32)
        context = Context([people], hits=len(rows), most_people=MOST_PEOPLE)
        revised.append(revise(similarity, starts, vectors, rows, context, 0))
    fused = np.max(revised, axis=0) if fusion == "max" else np.mean(revised, axis=0)
    own = [starts[scene] + place for scene, place in (where[hits[i].detection.id] for i in there)]
    nearest_first = np.argsort(-np.round(fused[own], 6), kind="stable")
    return [there[place] for place in nearest_first.tolist()]


def _where(crowd: Crowd) -> dict[str, tuple[int, int]]:
    """Scene and place in it, by the id of a detection."""
    return {
        id: (scene, place) for scene, ids in enumerate(crowd.ids) for place, id in enumerate(ids)
    }
