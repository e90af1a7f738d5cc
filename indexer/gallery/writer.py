"""How a gallery is changed: by one at a time, in the database first, in the index after it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.database import audit
from indexer.database.store import Change, Store
from indexer.errors import GalleryError, StorageFullError
from indexer.files.object_originals import ObjectOriginals
from indexer.files.originals import Originals
from indexer.files.reserve import Reserve
from indexer.gallery.opening import sweep
from indexer.index.follower import Answering

T = TypeVar("T")


class Changes:
    """What every change of a gallery needs.

    Attributes:
        directory: the gallery's.
        store, originals, reserve: what is changed on disk.
        answering: the index that follows.
        on_step: called with the name of each step of a change; tests end the process in it.
        closed: whether changes are refused.
    """

    def __init__(
        self,
        directory: Path,
        store: Store,
        originals: Originals | ObjectOriginals,
        reserve: Reserve,
        answering: Answering,
        on_step: Callable[[str], None],
    ) -> None:
        self.directory = directory
        self.store = store
        self.originals = originals
        self.reserve = reserve
        self.answering = answering
        self.on_step = on_step
        self.closed = False

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One change at a time, on an index that is not behind."""
        with self.answering.writing:
            if self.closed:
                raise GalleryError(f"the gallery {self.directory} is closed")
            with self.store.changing():
                self.answering.refresh()
                yield

    @contextmanager
    def writing(self) -> Iterator[Change]:
        """One change that leaves every vector as it is; the index takes over its number."""
        with self.store.write() as change:
            yield change
            number = change.last_change()
        self.answering.follow(number)

    def deleting(self, delete: Callable[[], T]) -> T:
        """Delete, with the reserve's space when the disk is full."""
        try:
            return delete()
        except StorageFullError:
            self.reserve.give_up()
            return delete()

    def refill(self) -> None:
        """Take the reserve's space again."""
        with suppress(StorageFullError):  # then the next add says so
            self.reserve.fill()

    def note(self, action: str, subject: str | None, **details: object) -> None:
        """Enter something into the audit trail that changes nothing else."""

        def enter() -> None:
            with self.store.write() as change:
                audit.record(change.connection, action, subject, details)

        self.deleting(enter)

    def unindex(self, rows: NDArray[np.int64], change: int) -> None:
        """After the commit of a change: let the index hold these rows no more."""
        self.answering.follow(change, lambda: self.answering.live.remove(rows, change))

    def erase_original(self, sha256: str) -> None:
        """Delete a file that no scene has any more, unless a snapshot is to hold it still: who
        makes the snapshot deletes it then."""
        if not self.store.kept():
            self.originals.remove(sha256)

    def let_go(self) -> None:
        """After a snapshot: delete the originals that were kept back for it."""
        with self.answering.writing, self.store.changing():
            kept = self.store.kept()
            self.originals.let_go(erase=not kept)
            if not kept and (self.store.shared or isinstance(self.originals, ObjectOriginals)):
                sweep(self.directory, self.store, self.originals)  # what was left where it was
