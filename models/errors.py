"""The errors of this project: one family, one class per condition.

PersonSearchError
├── ImageError
│   ├── UnsupportedImageError
│   ├── ImageTooLargeError
│   ├── TooManyPixelsError
│   ├── ImageTooSmallError
│   ├── TooComplexImageError
│   ├── CorruptImageError
│   └── TruncatedImageError
├── BoxError
├── ModelFileError
├── DatasetError
└── CalibrationError
"""

from collections.abc import Mapping


class PersonSearchError(Exception):
    """Something that a caller can understand and mend.

    Attributes:
        code: a stable snake_case name of the condition, as API problems carry it.
        limits: the limits that were passed, by name, for a message that a program can read.
    """

    code = "internal"

    def __init__(self, message: str, *, limits: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.limits = dict(limits or {})


class ImageError(PersonSearchError):
    """A picture cannot be used."""

    code = "image_corrupt"


class UnsupportedImageError(ImageError):
    """The bytes are not of a picture format that is read."""

    code = "unsupported_image_format"


class ImageTooLargeError(ImageError):
    """The file has too many bytes."""

    code = "image_too_large"


class TooManyPixelsError(ImageError):
    """The picture has too many pixels, or too long a side; found out before decoding."""

    code = "image_too_many_pixels"


class ImageTooSmallError(ImageError):
    """The picture's shorter side has too few pixels, by itself or beside the longer one."""

    code = "image_too_small"


class TooComplexImageError(ImageError):
    """Decoding the picture would take more work than a picture of its size is worth."""

    code = "image_too_complex"


class CorruptImageError(ImageError):
    """The format is known, but the data cannot be decoded."""

    code = "image_corrupt"


class TruncatedImageError(ImageError):
    """The file ends before the picture does."""

    code = "image_truncated"


class BoxError(PersonSearchError):
    """A box is not finite, is empty, or does not lie in its picture."""

    code = "box_outside_image"


class ModelFileError(PersonSearchError):
    """A model file is missing, damaged, or not one of ours."""

    code = "model_file"


class DatasetError(PersonSearchError):
    """A dataset on disk is incomplete or contradicts its format."""

    code = "dataset"


class CalibrationError(PersonSearchError):
    """There are too few labelled people, or pairs of them, to tell an error rate from."""

    code = "calibration_unsupported"
