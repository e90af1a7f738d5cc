"""The erasures of a gallery: rows, index, originals, and every other place with the bytes.

What is to go is written down first (indexer/rows/erasures.py); each step here can be repeated.
"""

import logging
from collections.abc import Callable, Collection
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from indexer.errors import (
    DetectionNotFoundError,
    ErasureChangedError,
    SceneNotFoundError,
    StorageFullError,
)
from indexer.files.originals import ORIGINALS
from indexer.gallery.accepted import Accepted
from indexer.gallery.writer import Writer
from indexer.rows import change_log, erasures, people, scenes
from indexer.rows.audit import acting_as
from indexer.rows.erasures import Erasure, Pending

ERASED_AT_ONCE = 100  # scenes or detections, in one transaction

_log = logging.getLogger(__name__)


class Erasures:
    """The erasures, as gallery.erasures."""

    def __init__(self, writer: Writer, accepted: Accepted) -> None:
        self._writer = writer
        self._store = writer.store
        self._accepted = accepted

    def get(self, id: str) -> Erasure:
        """The receipt of an erasure.

        Raises:
            ErasureNotFoundError: there is none.
        """
        with self._store.read() as connection:
            return erasures.get(connection, id)

    def page(self, *, limit: int, before: str | None = None) -> list[Erasure]:
        """At most limit receipts, newest first, of those with ids below before."""
        with self._store.read() as connection:
            return erasures.page(connection, limit, before)

    def begin(
        self,
        *,
        scene_ids: Collection[str] = (),
        detection_ids: Collection[str] = (),
        agreed: Callable[[], bool] = lambda: True,
    ) -> Erasure:
        """Begin an erasure: when this returns, it will be done, whatever happens meanwhile.

        Args:
            scene_ids: erased whole, with everybody in them; unknown ids are left out.
            detection_ids: instead of scene_ids, people to erase from their scenes, whose pictures
                stay and still show them.
            agreed: called while nothing can change: is this what is meant to be erased?

        Raises:
            ErasureChangedError: it is not agreed; nothing is erased.
            ValueError: both are given, or neither.
        """
        if bool(scene_ids) == bool(detection_ids):
            raise ValueError("expected scenes, or detections")

        def accept() -> Erasure:
            begun = None
            try:
                with self._store.write() as connection:
                    begun = erasures.accept(
                        connection, scene_ids=scene_ids, detection_ids=detection_ids
                    )
                    self._accepted.write(connection, begun.id)
            except BaseException:
                if begun is not None:
                    self._accepted.forget(begun.id)
                raise
            return begun

        with self._writer.changing():
            if not agreed():
                raise ErasureChangedError("what would be erased is not what the preview showed")
            erasure = self._writer.deleting(accept)
        self._writer.on_step("accepted")
        return erasure

    def finish(
        self, id: str, *, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Erasure:
        """Do what is left of an erasure; afterwards nothing of it can be found any more.

        In the database file, its log, the originals, other files of the gallery's directory, the
        index in memory. Snapshots are left as they are.

        Raises:
            ErasureNotFoundError: there is none.
            StorageFullError: there is no space to write the database anew. The rows are deleted;
                finish_all, or the next opening, tries the rest again.
            GalleryError: a read does not end; the same.
        """
        with self._writer.exclusive:
            self._finish(id, on_progress)
        return self.get(id)

    def finish_all(self) -> None:
        """Go on with what a death left undone; what has no space waits for the next call."""
        with self._store.read() as connection:
            unfinished = erasures.unfinished(connection)
        for id in unfinished:
            try:
                self.finish(id)
            except StorageFullError as error:
                _log.warning("the erasure %s is not finished: %s", id, error)

    def _finish(self, id: str, on_progress: Callable[[int, int], None]) -> None:
        writer = self._writer
        with self._store.read() as connection:
            erasure = erasures.get(connection, id)
            pending = erasures.pending(connection, id)
        if pending is None:
            self._accepted.forget(id)
            return
        ids = [*pending.scenes, *pending.detections]
        with acting_as(erasure.by):
            for start in range(0, len(ids), ERASED_AT_ONCE):
                with writer.changing():
                    self._erase_some(id, ids[start : start + ERASED_AT_ONCE])
                on_progress(start, len(ids))
            with writer.changing():
                self._forget(pending)
                writer.on_step("compacted")
                with self._store.write() as connection:
                    if erasures.pending(connection, id) is not None:
                        erasures.complete(connection, id)
                self._store.empty_log()
                self._accepted.forget(id)
        writer.refill()
        writer.on_step("completed")
        on_progress(len(ids), len(ids))

    def _erase_some(self, erasure: str, ids: Collection[str]) -> None:
        """Remove scenes or detections in one transaction; what is gone is passed over."""
        writer = self._writer
        rows: list[NDArray[np.int64]] = []
        contents: list[str] = []

        def delete() -> int:
            rows.clear()
            contents.clear()
            with self._store.write() as connection:
                for id in ids:
                    with suppress(SceneNotFoundError, DetectionNotFoundError):  # gone already
                        if id.startswith("img_"):
                            sha256, of_scene = scenes.remove(connection, id, erasure=erasure)
                            contents.append(sha256)
                            rows.append(of_scene)
                        else:
                            rows.append(people.remove(connection, id, erasure=erasure))
                writer.on_step("erasing")
                return change_log.last(connection)

        number = writer.deleting(delete)
        writer.on_step("erasure committed")
        writer.unindex(np.concatenate([*rows, np.zeros(0, np.int64)]), number)
        writer.on_step("erasure unindexed")
        writer.erase_originals(contents)
        writer.on_step("originals erased")

    def _forget(self, pending: Pending) -> None:
        """After the rows are deleted: every other place where an erasure's bytes may be."""
        writer = self._writer
        with self._store.read() as connection:
            stored = scenes.contents(connection)
        left = [one for one in pending.contents if one[0] not in stored]  # not added since
        writer.erase_originals([sha256 for sha256, _ in left])
        writer.originals.quarantine.remove([sha256 for sha256, _ in left])
        erasures.remove_copies(writer.directory, left, but=writer.directory / ORIGINALS)
        with self._store.write() as connection:
            erasures.remove_mentions(connection, pending)
        writer.reserve.give_up()
        self._store.vacuum()
