"""A gallery's vectors in memory, with what a search needs to know of each beside them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.engines import open_index
from indexer.locks import ReadWriteLock
from indexer.store import People
from models.similarity import gallery_vectors


@dataclass(frozen=True)
class Nearest:
    """What the index found, nearest first.

    Attributes:
        rows, scenes: [M] int64, of the detections found.
        similarities: [M] float32, class-weighted similarities as the engine computed them.
        all_found: whether there is nothing beyond these.
    """

    rows: NDArray[np.int64]
    scenes: NDArray[np.int64]
    similarities: NDArray[np.float32]
    all_found: bool


class LiveIndex:
    """A vector index that many threads may search while one changes it.

    Attributes:
        change: the number of the newest change that it holds.
    """

    def __init__(self, engine: str, dim: int) -> None:
        self.change = 0
        self._index = open_index(engine, dim)
        self._lock = ReadWriteLock()
        # By row; 0 is no scene's number, and rows that are gone keep it.
        self._scenes = np.zeros(0, np.int64)
        self._scores = np.zeros(0, np.float32)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def nbytes(self) -> int:
        return self._index.nbytes + self._scenes.nbytes + self._scores.nbytes

    def rows(self) -> NDArray[np.int64]:
        """The rows held, ascending."""
        with self._lock.reading():
            return self._index.ids()

    def add(self, people: People, change: int) -> None:
        new_vectors = gallery_vectors(people.detections)
        with self._lock.writing():
            if len(people.rows):
                self._grow(int(people.rows.max()) + 1)
                self._index.add(people.rows, new_vectors)
                self._scenes[people.rows] = people.scenes
                self._scores[people.rows] = people.detections.scores
            self.change = change

    def remove(self, rows: NDArray[np.int64], change: int) -> None:
        with self._lock.writing():
            self._index.remove(rows)
            self._scenes[rows] = 0
            self.change = change

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        scenes: NDArray[np.int64] | None,
        not_scenes: NDArray[np.int64],
        min_score: float | None,
        not_rows: NDArray[np.int64],
    ) -> Nearest:
        """The k detections nearest to a query [D] among those that are allowed.

        Args:
            scenes: numbers of the scenes to search; None is all of them.
            not_scenes: numbers of scenes to leave out.
            min_score: the lowest detection score to search.
            not_rows: detections to leave out.
        """
        with self._lock.reading():
            allowed = self._allowed(scenes, not_scenes, min_score, not_rows)
            k = min(k, len(self._index))
            if k == 0:
                none = np.zeros(0, np.int64)
                return Nearest(none, none, np.zeros(0, np.float32), all_found=True)
            hits = self._index.search(query[None], k, allowed)
            found = hits.ids[0] >= 0
            rows = hits.ids[0][found]
            all_found = len(rows) < k or k == len(self._index)
            return Nearest(rows, self._scenes[rows], hits.similarities[0][found], all_found)

    def _allowed(
        self,
        scenes: NDArray[np.int64] | None,
        not_scenes: NDArray[np.int64],
        min_score: float | None,
        not_rows: NDArray[np.int64],
    ) -> NDArray[np.bool_] | None:
        """By row, whether it may be found; None when all may."""
        if scenes is None and not len(not_scenes) and min_score is None and not len(not_rows):
            return None
        largest = int(self._scenes.max(initial=0))
        wanted = np.full(largest + 1, scenes is None)
        if scenes is not None:
            wanted[scenes[scenes <= largest]] = True
        wanted[not_scenes[not_scenes <= largest]] = False
        allowed: NDArray[np.bool_] = wanted[self._scenes]
        if min_score is not None:
            allowed &= self._scores >= np.float32(min_score)
        allowed[not_rows[not_rows < len(allowed)]] = False
        return allowed

    def _grow(self, length: int) -> None:
        if length > len(self._scenes):
            more = max(length, 2 * len(self._scenes)) - len(self._scenes)
            self._scenes = np.concatenate([self._scenes, np.zeros(more, np.int64)])
            self._scores = np.concatenate([self._scores, np.zeros(more, np.float32)])
