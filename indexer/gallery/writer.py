"""How a gallery is changed: by one at a time, in the database first, in the index after it."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from indexer.database.store import Store
from indexer.errors import GalleryError, StorageFullError
from indexer.files.object_originals import ObjectOriginals
from indexer.files.originals import Originals
from indexer.files.reserve import Reserve
from indexer.gallery.opening import sweep
from indexer.index.follower import ActiveIndex
from indexer.rows import change_log

T = TypeVar("T")


class Writer:
    """What every change of a gallery needs.

    Attributes:
        directory: the gallery's.
        store, originals, reserve: what is changed on disk.
        index: the index that follows.
        on_step: called with the name of each step of a change; tests end the process in it.
        exclusive: held while a snapshot is made, something is erased, or the gallery is compacted:
            one of these at a time.
        closed: whether changes are refused.
    """

    def __init__(
        self,
        directory: Path,
        store: Store,
        originals: Originals | ObjectOriginals,
        reserve: Reserve,
        index: ActiveIndex,
        on_step: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.store = store
        self.originals = originals
        self.reserve = reserve
        self.index = index
        self.on_step = on_step
        self.exclusive = threading.Lock()
        self.closed = False

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One change at a time, on an index that is up to date. The same thread may nest it.

        Raises:
            GalleryError: the gallery is closed.
        """
        with self.index.writing:
            if self.closed:
                raise GalleryError(f"the gallery {self.directory} is closed")
            with self.store.changing():
                self.index.refresh()
                yield

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction that leaves every vector as it is; the index takes over its number."""
        with self.store.write() as connection:
            yield connection
            number = change_log.last(connection)
        self.index.follow(number)

    def deleting(self, delete: Callable[[], T]) -> T:
        """Delete; when the disk is full, give up the reserve's space and try once more."""
        try:
            return delete()
        except StorageFullError:
            self.reserve.give_up()
            return delete()

    def refill(self) -> None:
        """Take the reserve's space again."""
        with suppress(StorageFullError):  # then the next add says so
            self.reserve.fill()

    def unindex(self, rows: NDArray[np.int64], change: int) -> None:
        """Take rows out of the index, after the commit of a change."""
        self.index.follow(change, lambda: self.index.live.remove(rows, change))

    def erase_originals(self, contents: Collection[str]) -> None:
        """Delete files that no scene has any more. While another process makes a snapshot, they
        stay, marked: that process deletes them at the end."""
        if self.store.originals_held():
            self.originals.mark(contents)
        else:
            self.originals.remove(contents)

    def release_originals(self) -> None:
        """After a snapshot: delete the originals that were held for it."""
        with self.index.writing, self.store.changing():
            held = self.store.originals_held()
            self.originals.release(erase=not held)
            if not held and (self.store.shared or isinstance(self.originals, ObjectOriginals)):
                sweep(self.directory, self.store, self.originals)  # also what others left
