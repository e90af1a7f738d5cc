"""Calibrations of a gallery: what scores are worth, measured on its labels."""

from collections.abc import Sequence

import numpy as np

from indexer.database.crowd import labelled
from indexer.errors import CalibrationNotFoundError
from indexer.gallery.writer import Changes
from indexer.records import GalleryModel, Generation, StoredCalibration
from models.detections import Detections
from models.evaluation.calibration import calibrate

KEPT_CALIBRATIONS = 100


class Calibrations:
    """Those of one gallery. The one in use is kept in memory."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._store = changes.store
        self._used: StoredCalibration | None = None

    def make(self, generation: Generation, targets: Sequence[float] | None) -> StoredCalibration:
        """Measure one on the labels, as a generation has them: Gallery.calibrate."""
        with self._store.read() as snapshot:
            crowd = labelled(snapshot, generation)
        nobody = Detections.empty(generation.model.embedding_dim)
        places = np.repeat(np.arange(len(crowd.scenes)), [len(own) for own in crowd.ids])
        made = calibrate(
            np.concatenate([nobody.embeddings, *(own.embeddings for own in crowd.people)]),
            np.concatenate([nobody.scores, *(own.scores for own in crowd.people)]),
            [str(label) for own in crowd.labels for label in own],
            places,
            targets=targets,
        )
        with self._changes.changing(), self._store.write() as change:
            id = change.add_calibration(
                generation.model.fingerprint, crowd.labels_sha256, made, KEPT_CALIBRATIONS
            )
        return self.get(id)

    def of(self, model: GalleryModel) -> list[StoredCalibration]:
        """Those made with a model, newest first."""
        with self._store.read() as snapshot:
            return snapshot.calibrations(model.fingerprint, KEPT_CALIBRATIONS)

    def get(self, id: str) -> StoredCalibration:
        """The one with this id, of whatever model.

        Raises:
            CalibrationNotFoundError: when there is none.
        """
        with self._store.read() as snapshot:
            found = snapshot.calibration(id)
        if found is None:
            raise CalibrationNotFoundError(f"there is no calibration {id}")
        return found

    def newest(self, model: GalleryModel) -> StoredCalibration | None:
        """The newest one made with a model; None when there is none."""
        with self._store.read() as snapshot:
            newest = snapshot.newest_calibration(model.fingerprint)
            if newest is None:
                return None
            known = self._used  # reading one takes longer than a search
            if known is None or known.id != newest:
                known = self._used = snapshot.calibration(newest)
            return known
