"""Exact search with FAISS's kernels over rows that we lay out ourselves.

faiss.IndexFlat has one array; removing a row moves all rows behind it, 62 ms with a million. Here
rows lie in blocks, the last row takes the place of a removed one, and FAISS searches each block
with the rows that a filter allows as its IDSelector. Nothing is copied when the index grows.
"""

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.index.vector_index import Hits

BLOCK_ROWS = 65_536

# Queries × dimensions from which FAISS multiplies matrices. Its default of 128,000 leaves batches
# below 500 queries of 256 dimensions at single speed, 8 times slower; below 257 a single query gets
# 3 times slower.
faiss.cvar.distance_compute_blas_threshold = 1024


class FaissFlatIndex:
    """A VectorIndex: flat, float32, exact."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._count = 0
        self._blocks: list[NDArray[np.float32]] = []
        self._ids = np.zeros(0, np.int64)  # the id in each place, grown by doubling
        self._place = np.zeros(0, np.int64)  # the place of each id, −1 where there is none

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        return self._count * self._dim * 4 + self._ids.nbytes + self._place.nbytes

    def ids(self) -> NDArray[np.int64]:
        return np.sort(self._ids[: self._count])

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        if not len(ids):
            return
        if vectors.shape != (len(ids), self._dim):
            raise ValueError(f"expected vectors [{len(ids)}, {self._dim}], got {vectors.shape}")
        end = self._count + len(ids)
        place = _grown(self._place, int(ids.max()) + 1, fill=-1)
        if (place[ids] >= 0).any() or len(np.unique(ids)) != len(ids):
            raise ValueError("an id is there already")
        self._place, self._ids = place, _grown(self._ids, end, fill=-1)
        while len(self._blocks) * BLOCK_ROWS < end:
            self._blocks.append(np.empty((BLOCK_ROWS, self._dim), np.float32))

        taken = 0
        while taken < len(ids):
            block, row = divmod(self._count + taken, BLOCK_ROWS)
            step = min(BLOCK_ROWS - row, len(ids) - taken)
            self._blocks[block][row : row + step] = vectors[taken : taken + step]
            taken += step
        self._ids[self._count : end] = ids
        self._place[ids] = np.arange(self._count, end)
        self._count = end

    def remove(self, ids: NDArray[np.int64]) -> None:
        for number in ids.tolist():
            if not 0 <= number < len(self._place) or self._place[number] < 0:
                continue
            place, last = int(self._place[number]), self._count - 1
            self._row(place)[:] = self._row(last)
            self._row(last)[:] = 0  # nothing of it stays in memory
            self._ids[place] = self._ids[last]
            self._place[self._ids[last]] = place
            self._place[number] = -1
            self._count = last
        del self._blocks[-(-self._count // BLOCK_ROWS) :]

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> Hits:
        # One thread: two OpenMP threads on two busy cores made a query 2 to 6 times slower, and
        # searches already run side by side. The setting belongs to the calling thread, so it is
        # made here.
        faiss.omp_set_num_threads(1)
        queries = np.ascontiguousarray(queries, np.float32)
        ids: list[NDArray[np.int64]] = [np.full((len(queries), k), -1, np.int64)]
        similarities = [np.full((len(queries), k), -np.inf, np.float32)]
        for start in range(0, self._count, BLOCK_ROWS):
            block_ids = self._ids[start : min(start + BLOCK_ROWS, self._count)]
            mask = None if allowed is None else _lookup(allowed, block_ids)
            if mask is not None and not mask.any():
                continue
            rows, products = _nearest(
                queries, self._blocks[start // BLOCK_ROWS], len(block_ids), k, mask
            )
            found = rows >= 0
            ids.append(np.where(found, block_ids[rows], -1))
            similarities.append(np.where(found, products, np.float32(-np.inf)))

        all_ids, all_similarities = np.hstack(ids), np.hstack(similarities)
        # ids of −1 sort behind every real one: their similarity is −inf and no real one's is
        best = np.lexsort((all_ids, -all_similarities), axis=1)[:, :k]
        return Hits(
            np.take_along_axis(all_ids, best, axis=1),
            np.take_along_axis(all_similarities, best, axis=1),
        )

    def _row(self, place: int) -> NDArray[np.float32]:
        block, row = divmod(place, BLOCK_ROWS)
        view: NDArray[np.float32] = self._blocks[block][row]
        return view


def _nearest(
    queries: NDArray[np.float32],
    block: NDArray[np.float32],
    count: int,
    k: int,
    mask: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Row numbers (−1 for none) and inner products [Q, k] among the first count rows of a block."""
    k = min(k, count)
    rows = np.empty((len(queries), k), np.int64)
    products = np.empty((len(queries), k), np.float32)
    selector = None
    if mask is not None:
        bits = np.packbits(mask, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
    faiss.knn_inner_product(
        faiss.swig_ptr(queries),
        faiss.swig_ptr(block),
        block.shape[1],
        len(queries),
        count,
        k,
        faiss.swig_ptr(products),
        faiss.swig_ptr(rows),
        selector,
    )
    return rows, products


def _lookup(allowed: NDArray[np.bool_], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    if not len(allowed):
        return np.zeros(len(ids), np.bool_)
    mask: NDArray[np.bool_] = allowed[np.minimum(ids, len(allowed) - 1)]
    return mask & (ids < len(allowed))


def _grown(array: NDArray[np.int64], length: int, *, fill: int) -> NDArray[np.int64]:
    """The array, or a copy at least twice as long."""
    if length <= len(array):
        return array
    longer = np.full(max(length, 2 * len(array)), fill, np.int64)
    longer[: len(array)] = array
    return longer
