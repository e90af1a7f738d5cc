"""The index of the active generation, and how it keeps up with the database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from indexer.database.store import Store
from indexer.errors import GalleryDamagedError, GalleryError
from indexer.index.engines import OUTSIDE, MilvusServer
from indexer.index.live import LiveIndex, PeopleIndex
from indexer.records import Generation
from indexer.rows import change_log, generations, people, scenes

if TYPE_CHECKING:
    from indexer.index.milvus import MilvusIndex


class ActiveIndex:
    """The index of the active generation; activating another one puts its index here.

    Attributes:
        live: that index. Read it once where you need it twice: it may be replaced at any time.
        writing: the lock of whoever changes the database.
    """

    def __init__(
        self, directory: Path, engine: str, store: Store, milvus: MilvusServer | None
    ) -> None:
        self._directory = directory
        self._engine = engine
        self._store = store
        self._milvus = milvus
        self.writing = threading.RLock()
        self._catching = threading.RLock()  # held while the index is brought up to a change
        self._stale = False
        self.live = self._load_active()

    @property
    def generation(self) -> Generation:
        return self.live.generation

    def close(self) -> None:
        self.live.close()

    # Keeping up

    def refresh(self) -> PeopleIndex:
        """The index, brought up to what the database holds now where it may be behind."""
        if self._stale:
            with self.writing, self._catching:
                if self._stale:
                    self.live = self._load_active()
                    self._stale = False
        if self._store.shared or self.live.outside:
            self._take_over()
        return self.live

    def distrust(self) -> None:
        """Have the next call fill a new index: this one may lack a change."""
        self._stale = True

    @contextmanager
    def following(self) -> Iterator[None]:
        """Update the index after a commit; if that fails, the next call fills a new one."""
        try:
            with self._catching:
                yield
        except BaseException:
            self.distrust()
            raise

    def follow(self, change: int, update: Callable[[], None] = lambda: None) -> None:
        """Update the index after a commit, unless a search that saw the commit has done so."""
        with self.following():
            if self.live.outside:
                self._take_over()
            elif self.live.change < change:
                update()
                self.live.change = change

    def _take_over(self) -> None:
        """Bring the index up to date with the changes of this and other processes."""
        with self._store.read() as connection:
            if change_log.last(connection) <= self.live.look(connection):
                return
        with self._catching, self.live.alone(), self._store.read() as connection:
            last, live = change_log.last(connection), self.live
            if last <= live.look(connection):
                return
            generation = generations.active(connection)
            if generation is None or generation.number != live.generation.number:
                self.live = self._load_active()
                return
            for fewer in (True, False):
                for touched in change_log.scenes_changed(connection, live.change, fewer=fewer):
                    found = people.in_scenes(connection, touched, generation.number)
                    live.replace(touched, found, fewer=fewer)
            live.change = last

    # Filling

    def load(self, generation: Generation) -> PeopleIndex:
        """An index of the people of a generation, filled from the database.

        Raises:
            GalleryDamagedError: a row is not what was written.
            GalleryError: there is not enough memory.
        """
        if self._engine in OUTSIDE:
            outside = self._outside(generation)
            outside.open()
            return outside
        live = LiveIndex(self._engine, generation)
        try:
            with self._store.read() as connection:
                change = change_log.last(connection)
                for some in people.everybody(connection, generation.number):
                    live.add(some, change)
                live.change = change
        except MemoryError:
            held = len(live)
            del live
            raise GalleryError(
                f"there is not enough memory for the people in {self._directory}: it ended after "
                f"{held:,} of them"
            ) from None
        return live

    def catch_up(self, fresh: PeopleIndex, stored: NDArray[np.int64]) -> None:
        """Add to a new index what came since it was filled, and remove what went.

        Args:
            stored: the rows that it shall hold, ascending.
        """
        held = fresh.rows()
        with self._store.read() as connection:
            change = change_log.last(connection)
            fresh.remove(np.setdiff1d(held, stored), change)
            for some in people.at_rows(connection, np.setdiff1d(stored, held).tolist()):
                fresh.add(some, change)

    def rebuild(self) -> None:
        """Fill a new index from the database, checking every row, and take it.

        Raises:
            GalleryDamagedError: when a row is not what was written; the old index stays.
        """
        with self._store.read() as connection:
            scenes.check(connection)
        generation = self.generation
        if self._engine in OUTSIDE:
            index = self._outside(generation)
            with index.alone():
                with self._store.read() as connection:
                    index.look(connection)
                index.rebuild()
            return
        fresh = self.load(generation)
        with self.writing, self._catching:
            self.refresh()
            if generation.number == self.generation.number:  # else nobody needs it
                self.catch_up(fresh, self.live.rows())
                self.live = fresh

    def drop(self, generation: Generation) -> None:
        """Delete what an index server holds of a generation, where there is one."""
        if self._engine in OUTSIDE:
            index = self._outside(generation)
            with self._store.read() as connection:
                index.look(connection)
            index.drop()

    def _load_active(self) -> PeopleIndex:
        with self._store.read() as connection:
            generation = generations.active(connection)
        if generation is None:
            raise GalleryDamagedError(f"{self._directory} does not say whose embeddings answer")
        return self.load(generation)

    def _outside(self, generation: Generation) -> "MilvusIndex":
        from indexer.index.milvus import MilvusIndex  # only who asks for Milvus needs to have it

        assert self._milvus is not None  # check_engine has seen to it
        return MilvusIndex(self._engine, generation, self._store, self._milvus)
