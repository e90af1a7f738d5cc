"""Calibrations of a gallery: what scores are worth, measured on its labels."""

from collections.abc import Sequence

import numpy as np

from indexer.gallery.writer import Writer
from indexer.index.live import View
from indexer.records import StoredCalibration
from indexer.rows import calibrations
from indexer.rows.crowd import labelled
from models.detections import Detections
from models.evaluation.calibration import calibrate

MOST_CALIBRATIONS = 100  # of one model; older ones are deleted


class Calibrations:
    """The calibrations, as gallery.calibrations. The one in use is held in memory."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._store = writer.store
        self._used: StoredCalibration | None = None

    def make(self, targets: Sequence[float] | None = None) -> StoredCalibration:
        """Measure on the labels what scores are worth; from now on it is the calibration in use.

        Args:
            targets: false-match rates to have thresholds for, see models.evaluation.calibration.

        Raises:
            CalibrationError: the labels are too few for it.
            StorageFullError: nothing was changed.
        """
        generation = self._writer.index.refresh().generation
        with self._store.read() as connection:
            crowd = labelled(connection, generation)
        nobody = Detections.empty(generation.model.embedding_dim)
        places = np.repeat(np.arange(len(crowd.scenes)), [len(own) for own in crowd.ids])
        made = calibrate(
            np.concatenate([nobody.embeddings, *(own.embeddings for own in crowd.people)]),
            np.concatenate([nobody.scores, *(own.scores for own in crowd.people)]),
            [str(label) for own in crowd.labels for label in own],
            places,
            targets=targets,
        )
        with self._writer.changing(), self._store.write() as connection:
            id = calibrations.add(
                connection,
                generation.model.fingerprint,
                crowd.labels_sha256,
                made,
                MOST_CALIBRATIONS,
            )
        return self.get(id)

    def all(self) -> list[StoredCalibration]:
        """Those made with the active model, newest first: the first is the one in use."""
        fingerprint = self._writer.index.generation.model.fingerprint
        with self._store.read() as connection:
            return calibrations.of_model(connection, fingerprint, MOST_CALIBRATIONS)

    def get(self, id: str) -> StoredCalibration:
        """The one with this id, of any model.

        Raises:
            CalibrationNotFoundError: there is none.
        """
        with self._store.read() as connection:
            return calibrations.get(connection, id)

    def in_use(self, *, view: View | None = None) -> StoredCalibration | None:
        """The newest one made with the view's model (by default the active one), if any."""
        generation = self._writer.index.refresh().generation if view is None else view.generation
        with self._store.read() as connection:
            newest = calibrations.newest_id(connection, generation.model.fingerprint)
            if newest is None:
                return None
            known = self._used  # reading one takes longer than a search
            if known is None or known.id != newest:
                known = self._used = calibrations.get(connection, newest)
            return known
