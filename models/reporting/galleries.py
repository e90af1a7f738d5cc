"""Galleries of growing size: how search does when there is more to search."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.datasets.scene import Query, SceneDataset

SEED = 0


def gallery_sizes(dataset: SceneDataset) -> tuple[int, ...]:
    """5, 10, 20, 50, … while clearly smaller than the largest gallery, and that one itself."""
    largest = max((len(query.gallery) for query in dataset.queries), default=0)
    series = (factor * 10**power for power in range(6) for factor in (1, 2, 5))
    return (*(size for size in series if 5 <= size <= 0.7 * largest), largest) if largest else ()


def with_galleries_of(dataset: SceneDataset, size: int, *, seed: int = SEED) -> SceneDataset:
    """The same queries, each in a gallery of `size` scenes of its own.

    All scenes that show the person stay, even where they are more than `size`; the rest is filled
    with the gallery's other scenes in one random order, which is the same for every size and every
    query: a gallery is part of each larger one.
    """
    rank = np.random.default_rng(seed).permutation(len(dataset.scenes))
    queries = tuple(_with_gallery_of(dataset, query, size, rank) for query in dataset.queries)
    return replace(dataset, queries=queries)


def _with_gallery_of(
    dataset: SceneDataset, query: Query, size: int, rank: NDArray[np.int64]
) -> Query:
    shown = _shows(dataset, query)
    order = np.lexsort((rank[query.gallery], ~shown))
    kept = np.sort(order[: max(size, int(shown.sum()))])
    truth = query.truth
    if truth is not None:
        truth = np.column_stack([np.searchsorted(kept, truth[:, 0]), truth[:, 1]])
    return replace(query, gallery=query.gallery[kept], truth=truth)


def _shows(dataset: SceneDataset, query: Query) -> NDArray[np.bool_]:
    """At which places of its gallery [G] the query's person is to be found."""
    if query.truth is not None:
        shown = np.zeros(len(query.gallery), dtype=np.bool_)
        shown[query.truth[:, 0]] = True
        return shown
    scenes = (dataset.scenes[index] for index in query.gallery)
    return np.array(
        [((scene.person_ids == query.person_id) & ~scene.ignore).any() for scene in scenes],
        dtype=np.bool_,
    )
