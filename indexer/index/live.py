"""A gallery's vectors in memory, with what a search needs to know of each beside them.

Row numbers of the database are never given twice, so they grow for ever. Here each detection has a
slot, counted from 0 in the order of rows. The slot of a removed detection stays empty until a new
index is filled; it costs some 40 bytes, and a little time in every filtered search.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from indexer.index.engines import open_index
from indexer.locks import ReadWriteLock
from indexer.records import EVERY_SCENE, Generation, SceneFilter
from indexer.rows import scenes as scene_rows
from indexer.rows.people import StoredPeople
from models.similarity import gallery_vectors


@dataclass(frozen=True)
class Nearest:
    """What an index found, nearest first.

    Attributes:
        rows, scenes: [M] int64, of the detections found.
        similarities: [M] float32, class-weighted similarities as the engine computed them.
        all_found: whether there is nothing beyond these.
    """

    rows: NDArray[np.int64]
    scenes: NDArray[np.int64]
    similarities: NDArray[np.float32]
    all_found: bool


class PeopleIndex(Protocol):
    """What a gallery searches: the people of one generation, wherever their vectors are.

    Attributes:
        generation: whose people they are.
        change: the number of the newest change that it holds.
        outside: whether other processes use the same one; it is then brought up from the database
            alone, by replace.
    """

    generation: Generation
    change: int
    outside: bool

    def __len__(self) -> int:
        """How many people there are."""

    @property
    def gone(self) -> int:
        """How many places are empty."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory of this process."""

    def close(self) -> None:
        """Let go of connections."""

    def rows(self) -> NDArray[np.int64]:
        """The rows held, ascending."""

    def look(self, connection: Connection) -> int:
        """The number of the newest change that it holds, as a connection of Store.read shows it."""

    def alone(self) -> AbstractContextManager[None]:
        """While open, no other process brings it up."""

    def add(self, found: StoredPeople, change: int) -> None:
        """Hold these people, too."""

    def remove(self, rows: NDArray[np.int64], change: int) -> None:
        """Hold these rows no longer."""

    def replace(self, scenes: Sequence[int], found: StoredPeople | None, *, fewer: bool) -> None:
        """Hold, of some scenes, exactly these people.

        Args:
            scenes: at most a few thousand numbers.
            fewer: whether others may be held.
        """

    def meant(self, connection: Connection, filter: SceneFilter) -> Any:
        """The scenes that a filter means, in the form that search takes as scenes."""

    def search(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        scenes: Any,
        not_scenes: NDArray[np.int64],
        min_score: float | None,
        not_rows: NDArray[np.int64],
    ) -> Nearest:
        """The k detections nearest to a query [D] among those that are allowed.

        Args:
            scenes: which scenes to search, of meant; None is all of them.
            not_scenes: numbers of scenes to leave out.
            min_score: the lowest detection score to search.
            not_rows: detections to leave out.
        """


@dataclass(frozen=True)
class View:
    """A generation and the index of its people: a query must be described and ranked by one."""

    generation: Generation
    live: PeopleIndex


def number_of(view: View | None) -> int | None:
    """The number of a view's generation; None, for the active generation, without a view."""
    return None if view is None else view.generation.number


class LiveIndex:
    """A vector index in memory that many threads may search while one changes it. A PeopleIndex.

    Attributes:
        generation: whose people they are.
        change: the number of the newest change that it holds.
    """

    outside = False

    def __init__(self, engine: str, generation: Generation) -> None:
        self.generation = generation
        self.change = 0
        self._index = open_index(engine, generation.model.embedding_dim)
        self._lock = ReadWriteLock()
        self._slots = 0
        # By slot; grown by doubling. 0 is no scene's number, and empty slots have it.
        self._rows = np.zeros(0, np.int64)
        self._scenes = np.zeros(0, np.int64)
        self._scores = np.zeros(0, np.float32)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def gone(self) -> int:
        """How many slots are empty."""
        return self._slots - len(self._index)

    @property
    def nbytes(self) -> int:
        beside = self._rows.nbytes + self._scenes.nbytes + self._scores.nbytes
        return self._index.nbytes + beside

    def rows(self) -> NDArray[np.int64]:
        """The rows held, ascending."""
        with self._lock.reading():
            rows: NDArray[np.int64] = self._rows[self._index.ids()]
            return rows

    def close(self) -> None:
        pass

    def look(self, connection: Connection) -> int:
        return self.change

    def alone(self) -> AbstractContextManager[None]:
        return nullcontext()

    def meant(self, connection: Connection, filter: SceneFilter) -> NDArray[np.int64] | None:
        """The numbers of the scenes; None for all."""
        return None if filter == EVERY_SCENE else scene_rows.numbers(connection, filter)

    def add(self, found: StoredPeople, change: int) -> None:
        """
        Raises:
            ValueError: their rows do not rise, beginning above all rows ever added.
        """
        new_vectors = gallery_vectors(found.detections)
        with self._lock.writing():
            count = len(found.rows)
            if count:
                last = self._rows[self._slots - 1] if self._slots else -1
                if (np.diff(found.rows, prepend=last) <= 0).any():
                    raise ValueError(f"expected rising rows above {last}")
                slots = np.arange(self._slots, self._slots + count)
                self._grow(self._slots + count)
                self._index.add(slots, new_vectors)
                self._rows[slots] = found.rows
                self._scenes[slots] = found.scenes
                self._scores[slots] = found.detections.scores
                self._slots += count
            self.change = change

    def remove(self, rows: NDArray[np.int64], change: int) -> None:
        with self._lock.writing():
            self._empty(self._slots_of(rows))
            self.change = change

    def replace(self, scenes: Sequence[int], found: StoredPeople | None, *, fewer: bool) -> None:
        """Hold, of some scenes, exactly these people; who is held already stays as they are.

        Raises:
            ValueError: as add does.
        """
        with self._lock.reading():
            of_scenes = np.isin(self._scenes[: self._slots], scenes)
            held = self._rows[: self._slots][of_scenes]
        wanted = np.zeros(0, np.int64) if found is None else found.rows
        with self._lock.writing():
            self._empty(self._slots_of(np.setdiff1d(held, wanted)))
        if found is not None:
            new = ~np.isin(wanted, held)
            self.add(found.select(new), self.change)

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
            slots = hits.ids[0][found]
            all_found = len(slots) < k or k == len(self._index)
            return Nearest(
                self._rows[slots], self._scenes[slots], hits.similarities[0][found], all_found
            )

    def _allowed(
        self,
        scenes: NDArray[np.int64] | None,
        not_scenes: NDArray[np.int64],
        min_score: float | None,
        not_rows: NDArray[np.int64],
    ) -> NDArray[np.bool_] | None:
        """By slot, whether it may be found; None when all may."""
        if scenes is None and not len(not_scenes) and min_score is None and not len(not_rows):
            return None
        of_slots = self._scenes[: self._slots]
        largest = int(of_slots.max(initial=0))
        wanted = np.full(largest + 1, scenes is None)
        if scenes is not None:
            wanted[scenes[scenes <= largest]] = True
        wanted[not_scenes[not_scenes <= largest]] = False
        allowed: NDArray[np.bool_] = wanted[of_slots]
        if min_score is not None:
            allowed &= self._scores[: self._slots] >= np.float32(min_score)
        allowed[self._slots_of(not_rows)] = False
        return allowed

    def _empty(self, slots: NDArray[np.int64]) -> None:
        self._index.remove(slots)
        self._scenes[slots] = 0
        self._scores[slots] = 0

    def _slots_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The slots of those rows that were ever added."""
        used = self._rows[: self._slots]
        slots: NDArray[np.int64] = np.searchsorted(used, rows)
        inside = slots < self._slots
        inside[inside] = used[slots[inside]] == rows[inside]
        return slots[inside]

    def _grow(self, length: int) -> None:
        if length > len(self._rows):
            more = max(length, 2 * len(self._rows)) - len(self._rows)
            self._rows = np.concatenate([self._rows, np.zeros(more, np.int64)])
            self._scenes = np.concatenate([self._scenes, np.zeros(more, np.int64)])
            self._scores = np.concatenate([self._scores, np.zeros(more, np.float32)])
