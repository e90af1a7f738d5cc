"""What can go wrong with a gallery.

GalleryError
├── SceneNotFoundError
├── DetectionNotFoundError
│   └── DetectionGoneError
├── LabelNotFoundError
├── CalibrationNotFoundError
├── CrowdTooLargeError
├── NothingToEvaluateError
├── NobodyInQueryError
├── NotCalibratedError
├── OppositeQueriesError
├── ExternalIdConflictError
├── InvalidCursorError
├── JobNotFoundError
├── JobConflictError
├── TooManyJobsError
├── GalleryLockedError
├── GalleryMismatchError
├── GalleryDamagedError
├── GalleryNotEmptyError
├── SnapshotNotFoundError
├── SnapshotBusyError
├── SnapshotDamagedError
├── ErasureNotFoundError
├── ErasureChangedError
├── GenerationNotFoundError
├── GenerationGoneError
├── GenerationBuildingError
├── GenerationActiveError
├── GenerationSwappedError
├── ReindexIncompleteError
├── DatabaseUnavailableError
└── StorageFullError
"""

from models.errors import PersonSearchError


class GalleryError(PersonSearchError):
    """A gallery cannot do what was asked."""

    code = "gallery"


class SceneNotFoundError(GalleryError):
    """No stored scene has this id."""

    code = "not_found"


class DetectionNotFoundError(GalleryError):
    """No stored detection has this id."""

    code = "not_found"


class LabelNotFoundError(GalleryError):
    """The detection has no label."""

    code = "not_found"


class CalibrationNotFoundError(GalleryError):
    """No stored calibration has this id."""

    code = "not_found"


class CrowdTooLargeError(GalleryError):
    """More people would be read at once than the limit on memory allows."""

    code = "too_many_people"


class NothingToEvaluateError(GalleryError):
    """There is no query to measure with: no label is in two scenes."""

    code = "nothing_to_evaluate"


class NobodyInQueryError(GalleryError):
    """Nobody was found in the picture of a query."""

    code = "no_person_in_query"


class NotCalibratedError(GalleryError):
    """A false-match rate was asked for, and no calibration tells at which score it is reached."""

    code = "not_calibrated"


class OppositeQueriesError(GalleryError):
    """The embeddings of several queries cancel out, so their mean is nobody."""

    code = "validation_failed"


class DetectionGoneError(DetectionNotFoundError):
    """Another model saw a detection with this id; the active one does not."""

    code = "detection_gone"


class ExternalIdConflictError(GalleryError):
    """Another scene already has this external id."""

    code = "external_id_conflict"


class InvalidCursorError(GalleryError):
    """A cursor was not made by this gallery."""

    code = "invalid_cursor"


class GalleryLockedError(GalleryError):
    """Another process, or another Gallery in this one, has the directory open."""

    code = "gallery_locked"


class GalleryMismatchError(GalleryError):
    """The gallery belongs to another model, or was written by a newer version of this code."""

    code = "gallery_mismatch"


class GalleryDamagedError(GalleryError):
    """What is on disk is not what was written."""

    code = "gallery_damaged"


class GalleryNotEmptyError(GalleryError):
    """A gallery cannot be imported where there is one already."""

    code = "gallery"


class SnapshotNotFoundError(GalleryError):
    """There is no such snapshot."""

    code = "not_found"


class SnapshotBusyError(GalleryError):
    """Another snapshot is being made in the same place."""

    code = "snapshot_busy"


class SnapshotDamagedError(GalleryError):
    """A snapshot is not what was written."""

    code = "gallery_damaged"


class ErasureNotFoundError(GalleryError):
    """There is no such erasure."""

    code = "not_found"


class ErasureChangedError(GalleryError):
    """What would be erased has changed since it was agreed to."""

    code = "erasure_changed"


class GenerationNotFoundError(GalleryError):
    """No generation has this id."""

    code = "not_found"


class GenerationGoneError(GalleryError):
    """The generation that a search began with was deleted meanwhile."""

    code = "generation_gone"


class GenerationBuildingError(GalleryError):
    """Another generation is being built; there is one at a time."""

    code = "generation_building"


class GenerationActiveError(GalleryError):
    """The generation is the one that answers: it cannot be deleted, or built anew."""

    code = "generation_active"


class GenerationSwappedError(GalleryError):
    """The people to store are those of a model whose generation is no longer active; try again."""

    code = "gallery"


class ReindexIncompleteError(GalleryError):
    """Some scenes could not be indexed anew, so the generation cannot answer."""

    code = "reindex_incomplete"


class TooFewLabelsError(GalleryError):
    """So few people are labelled that two models cannot be compared."""

    code = "too_few_labels"


class GenerationWorseError(GalleryError):
    """Another model finds people again less well than it has to."""

    code = "generation_worse"


class StorageFullError(GalleryError):
    """No space is left; nothing of what was being stored is stored."""

    code = "insufficient_storage"


class DatabaseUnavailableError(GalleryError):
    """The database server, or another server of the gallery, cannot be reached or is too busy.

    What was being stored may be stored, or not: the same request again does no harm.
    """

    code = "database_unavailable"


class JobNotFoundError(GalleryError):
    """No job has this id, or it is not the caller's."""

    code = "not_found"


class JobConflictError(GalleryError):
    """A job has ended, and cannot be changed any more."""

    code = "job_conflict"


class TooManyJobsError(GalleryError):
    """The job queue is full."""

    code = "overloaded"
