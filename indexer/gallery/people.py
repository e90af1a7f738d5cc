"""The people of a gallery: one by one, with their labels, or all at once."""

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from indexer.gallery.writer import Writer
from indexer.index.live import View, number_of
from indexer.records import Crowd, Generation, StoredDetection
from indexer.rows import change_log, labels, people
from indexer.rows.crowd import everybody, labelled


class People:
    """The people, as gallery.people; those of a view's generation or, without a view, of the active
    one."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store

    def get(self, detection_id: str, *, view: View | None = None) -> StoredDetection:
        """
        Raises:
            DetectionNotFoundError: there is none.
            DetectionGoneError: only another generation has it.
        """
        with self._store.read() as connection:
            return people.get(connection, detection_id, number_of(view))

    def with_ids(self, ids: Collection[str]) -> list[StoredDetection]:
        """Detections by id; unknown ids are left out."""
        with self._store.read() as connection:
            return people.with_ids(connection, ids)

    def with_label(self, label: str) -> list[StoredDetection]:
        """Detections that have this label."""
        with self._store.read() as connection:
            return people.with_label(connection, label)

    def embedding(self, detection_id: str, *, view: View | None = None) -> NDArray[np.float32]:
        """The embedding [D] of a detection, of unit length.

        Raises:
            DetectionNotFoundError, DetectionGoneError: as get does.
            GalleryDamagedError: it is not what was written.
        """
        with self._store.read() as connection:
            return people.embedding(connection, detection_id, number_of(view))

    def labelled(self, *, view: View | None = None, generation: Generation | None = None) -> Crowd:
        """Everybody who has a label; scenes in which nobody has one are left out.

        Args:
            generation: whose people; it need not be the active one. By default the view's.
        """
        generation = generation or self._generation(view)
        with self._store.read() as connection:
            return labelled(connection, generation)

    def everybody(
        self,
        *,
        scene_ids: Collection[str] | None = None,
        most: int | None = None,
        view: View | None = None,
    ) -> Crowd:
        """Everybody, of all scenes or of some; scenes in which nobody was found are included.

        Args:
            scene_ids: unknown ids are left out.
            most: how many people to read at most; each takes 4 × D bytes of memory.

        Raises:
            CrowdTooLargeError: there are more people.
        """
        generation = self._generation(view)
        with self._store.read() as connection:
            return everybody(connection, generation, scene_ids=scene_ids, most=most)

    def label(self, detection_id: str, label: str) -> StoredDetection:
        """Say who a detection is, replacing an earlier label. Labels never change a ranking.

        Raises:
            DetectionNotFoundError, DetectionGoneError: as get does.
            StorageFullError: nothing was changed.
        """
        with self._writer.changing(), self._writer.writing() as connection:
            labels.put(connection, detection_id, label)
            return people.get(connection, detection_id)

    def remove_label(self, detection_id: str) -> None:
        """Take a detection's label away.

        Raises:
            DetectionNotFoundError, LabelNotFoundError: there is none.
        """

        def delete() -> int:
            with self._store.write() as connection:
                labels.remove(connection, detection_id)
                return change_log.last(connection)

        with self._writer.changing():
            self.get(detection_id)
            self._writer.index.follow(self._writer.deleting(delete))
            self._writer.refill()

    def remove(self, detection_id: str) -> None:
        """Remove one person from a scene, which stays; no other model brings them back.

        Raises:
            DetectionNotFoundError: there is none.
            DetectionGoneError: only another generation has it.
        """

        def delete() -> tuple[NDArray[np.int64], int]:
            with self._store.write() as connection:
                rows = people.remove(connection, detection_id)
                return rows, change_log.last(connection)

        with self._writer.changing():
            self.get(detection_id)
            self._writer.unindex(*self._writer.deleting(delete))
            self._writer.refill()

    def _generation(self, view: View | None) -> Generation:
        return self._writer.index.refresh().generation if view is None else view.generation
