"""The slow, obvious engine against which the others are tested."""

import numpy as np
from numpy.typing import NDArray

from indexer.index.vector_index import Hits


class ExactIndex:
    """A VectorIndex of one matrix, one product and one full sort."""

    def __init__(self, dim: int) -> None:
        self._ids = np.zeros(0, np.int64)
        self._vectors = np.zeros((0, dim), np.float32)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def nbytes(self) -> int:
        return self._ids.nbytes + self._vectors.nbytes

    def ids(self) -> NDArray[np.int64]:
        return np.sort(self._ids)

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        if np.isin(ids, self._ids).any() or len(np.unique(ids)) != len(ids):
            raise ValueError("an id is there already")
        self._ids = np.concatenate([self._ids, ids])
        self._vectors = np.concatenate([self._vectors, vectors])

    def remove(self, ids: NDArray[np.int64]) -> None:
        kept = ~np.isin(self._ids, ids)
        self._ids, self._vectors = self._ids[kept], self._vectors[kept]

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> Hits:
        ids, vectors = self._ids, self._vectors
        if allowed is not None:
            kept = np.isin(ids, np.flatnonzero(allowed))
            ids, vectors = ids[kept], vectors[kept]
        found = np.full((len(queries), k), -1, np.int64)
        similarities = np.full((len(queries), k), -np.inf, np.float32)
        for row, query in enumerate(queries):
            products = vectors @ query
            best = np.lexsort((ids, -products))[:k]
            found[row, : len(best)] = ids[best]
            similarities[row, : len(best)] = products[best]
        return Hits(found, similarities)
