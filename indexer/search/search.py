"""From a query to hits: an index is asked for more until nothing can be missing."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from indexer.database import generations
from indexer.database.store import Snapshot, Store
from indexer.errors import GenerationGoneError, GenerationNotFoundError
from indexer.index.live import PeopleIndex
from indexer.records import GalleryHit, Generation, SceneFilter
from indexer.search.ranking import GroupBy, lowest_needed, ranked


def search(
    store: Store,
    live: PeopleIndex,
    generation: Generation,
    query: NDArray[np.float32],
    *,
    k: int,
    filter: SceneFilter,
    min_score: float | None,
    min_detection_score: float | None,
    group_by: GroupBy,
    exclude_scene_ids: Collection[str],
) -> list[GalleryHit]:
    """The k people most like a query, or the k scenes: Gallery.search.

    Args:
        live: the index of the generation's people.
    """
    dim = generation.model.embedding_dim
    if query.shape != (dim,) or abs(np.linalg.norm(query) - 1) > 1e-3:
        raise ValueError(f"expected a query [{dim}] of unit length")
    if k < 1:
        raise ValueError(f"expected k of at least 1, got {k}")
    wanted = k + 16
    gone = np.zeros(0, np.int64)
    with store.read() as snapshot:
        _check_there(snapshot, generation)
        left_out = snapshot.numbers_of({*exclude_scene_ids, *filter.scene_not_in})
        meant = live.meant(snapshot, replace(filter, scene_not_in=()))
        while True:
            nearest = live.search(
                query.astype(np.float32),
                wanted,
                scenes=meant,
                not_scenes=left_out,
                min_score=min_detection_score,
                not_rows=gone,
            )
            lowest = lowest_needed(nearest, k, group_by, min_score, len(query))
            if not nearest.all_found and nearest.similarities[-1] >= lowest:
                wanted *= 4
                continue
            rows = nearest.rows[nearest.similarities >= lowest]
            people = list(snapshot.people(rows.tolist()))
            missing = np.setdiff1d(rows, [row for found in people for row in found.rows])
            if not len(missing):
                return ranked(snapshot, people, query, k, group_by, min_score)
            gone = np.concatenate([gone, missing])  # added after this snapshot, or just removed


def _check_there(snapshot: Snapshot, generation: Generation) -> None:
    try:
        generations.get(snapshot.connection, generation.id)
    except GenerationNotFoundError:
        raise GenerationGoneError("the model was changed, and its generation deleted") from None
