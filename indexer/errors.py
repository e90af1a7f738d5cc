"""What can go wrong with a gallery.

GalleryError
├── SceneNotFoundError
├── DetectionNotFoundError
├── LabelNotFoundError
├── CalibrationNotFoundError
├── CrowdTooLargeError
├── NothingToEvaluateError
├── ExternalIdConflictError
├── InvalidCursorError
├── JobNotFoundError
├── JobConflictError
├── TooManyJobsError
├── GalleryLockedError
├── GalleryMismatchError
├── GalleryDamagedError
├── SnapshotNotFoundError
├── SnapshotBusyError
├── SnapshotDamagedError
├── ErasureNotFoundError
├── ErasureChangedError
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
    """More people are to be read at once than memory is meant for."""

    code = "too_many_people"


class NothingToEvaluateError(GalleryError):
    """No query can be asked: no label is in two scenes."""

    code = "nothing_to_evaluate"


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
    """What would be erased is not what was agreed to."""

    code = "erasure_changed"


class StorageFullError(GalleryError):
    """No space is left; nothing of what was being stored was kept."""

    code = "insufficient_storage"


class JobNotFoundError(GalleryError):
    """No job has this id, or it is not the caller's."""

    code = "not_found"


class JobConflictError(GalleryError):
    """A job has ended, and cannot be changed any more."""

    code = "job_conflict"


class TooManyJobsError(GalleryError):
    """As many jobs wait as may."""

    code = "overloaded"
