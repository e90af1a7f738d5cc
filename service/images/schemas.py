"""What requests and responses about images and the people in them hold."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, field_validator

from indexer.records import SceneFilter, StoredDetection, StoredScene
from service.http.errors import RequestError
from service.http.fields import (
    MAX_TAGS,
    PRINTABLE,
    Box,
    CameraId,
    ExternalId,
    Id,
    ModelOfIndex,
    Schema,
    Tag,
    Time,
)

MAX_ATTRIBUTES = 32
MAX_DELETED_IDS = 1000

AttributeName = Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=64)]
AttributeValue = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=1024)]


# --- requests


class ImageMetadata(Schema):
    """What the sender knows about an image."""

    external_id: ExternalId | None = None
    camera_id: CameraId | None = None
    captured_at: Time | None = None
    tags: list[Tag] = Field([], max_length=MAX_TAGS)
    attributes: dict[AttributeName, AttributeValue] = Field({}, max_length=MAX_ATTRIBUTES)


class ImportLine(ImageMetadata):
    """One line of a manifest: a file, and what is known about it."""

    file: Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=4096)] = (
        Field(description="Path below the import directory.")
    )


class MetadataPatch(Schema):
    """A merge patch (RFC 7386): the fields you send change, null removes one, the rest stays."""

    external_id: ExternalId | None = None
    camera_id: CameraId | None = None
    captured_at: Time | None = None
    tags: list[Tag] | None = Field(None, max_length=MAX_TAGS)
    attributes: dict[AttributeName, AttributeValue | None] | None = Field(
        None, max_length=2 * MAX_ATTRIBUTES
    )

    def changes(self, stored: StoredScene) -> dict[str, object]:
        """The fields to change, attributes merged with the stored ones."""
        changes: dict[str, object] = {name: getattr(self, name) for name in self.model_fields_set}
        if "tags" in changes:
            changes["tags"] = tuple(self.tags or ())
        if "attributes" in changes:
            merged: dict[str, str | None] = {**stored.attributes, **(self.attributes or {})}
            if self.attributes is None:
                merged = {}
            changes["attributes"] = {k: v for k, v in merged.items() if v is not None}
        return changes


class DeleteImages(Schema):
    """Which images to delete."""

    ids: list[Id] = Field(min_length=1, max_length=MAX_DELETED_IDS, fail_fast=True)


class UploadQuery(Schema):
    """Parameters of POST /gallery/images."""

    on_duplicate: Literal["return", "error"] = Field(
        "return", description="What to answer when the same file is stored already, byte for byte."
    )
    wait: bool = Field(
        True, description="With false, the answer is a job, and the images are added later."
    )


class ListQuery(Schema):
    """Parameters of GET /gallery/images."""

    camera_id: list[CameraId] = Field(
        [], max_length=10_000, fail_fast=True, description="From any of these cameras."
    )
    tag: list[Tag] = Field([], max_length=MAX_TAGS, description="With all of these tags.")
    captured_after: Time | None = Field(None, description="Taken at this time or later.")
    captured_before: Time | None = Field(None, description="Taken before this time.")
    external_id: ExternalId | None = None
    order: Literal["oldest", "newest"] = Field(
        "oldest", description="Which images come first; keep it the same while paging."
    )
    limit: int = Field(50, ge=1, description="How many items a page has at most.")
    cursor: str | None = Field(
        None, max_length=1024, description="The `next_cursor` of the previous page."
    )
    count: bool = Field(False, description="Whether to count all that match, as `total`.")

    def scene_filter(self) -> SceneFilter:
        """As a SceneFilter of the gallery."""
        return SceneFilter(
            camera_in=tuple(self.camera_id) or None,
            captured_from=self.captured_after,
            captured_to=self.captured_before,
            tags_all=tuple(self.tag),
            external_id=self.external_id,
        )


class ContentQuery(Schema):
    """Parameters of GET …/content."""

    original: bool = Field(False, description="The file as it was sent; needs scope admin.")


class ThumbnailQuery(Schema):
    """Parameters of GET …/thumbnail."""

    size: int = Field(
        256,
        description="Longest side in pixels.",
        json_schema_extra={"enum": [128, 256, 512, 1024]},
    )

    @field_validator("size")
    @classmethod
    def _is_listed(cls, value: int) -> int:
        if value not in (128, 256, 512, 1024):
            raise ValueError("must be one of 128, 256, 512, 1024")
        return value


# --- responses


class Detection(Schema):
    """A person found in a picture that is not stored."""

    box: Box
    detection_score: float


class ImageDetection(Detection):
    """A person found in a stored image; label is who people say it is."""

    id: str
    label: str | None

    @classmethod
    def of(cls, stored: StoredDetection) -> Self:
        """From a stored detection."""
        return cls(
            id=stored.id,
            box=Box.of(stored.box),
            detection_score=round(stored.score, 6),
            label=stored.label,
        )


class DetectionRecord(ImageDetection):
    """A stored detection and where it is."""

    image_id: str


class ImageRecord(Schema):
    """A stored image."""

    id: str
    external_id: str | None
    sha256: str
    width: int
    height: int
    format: str
    orientation_applied: int
    camera_id: str | None
    captured_at: Time | None
    created_at: Time
    tags: list[str]
    attributes: dict[str, str]
    detections: list[ImageDetection]


class AddedImage(ImageRecord):
    """A stored image, and whether it is new."""

    status: Literal["created", "duplicate"]
    index: ModelOfIndex
    timings_ms: dict[str, float]


class FailedImage(Schema):
    """A file that was not added."""

    status: Literal["failed"]
    problem: dict[str, Any]


class AddedImages(Schema):
    """One entry per file, in order."""

    results: list[AddedImage | FailedImage]


class ImagePage(Schema):
    """A page of images; next_cursor is null after the last."""

    items: list[ImageRecord]
    next_cursor: str | None
    total: int | None = None


class Deleted(Schema):
    """How many were deleted; the others did not exist."""

    deleted: int


class Embedding(Schema):
    """A detection's embedding, unit length."""

    detection_id: str
    embedding: list[float]
    generation: str
    model: str
    model_sha256: str


def image_record(scene: StoredScene) -> dict[str, Any]:
    """Fields of an ImageRecord."""
    return {
        "id": scene.id,
        "external_id": scene.external_id,
        "sha256": scene.sha256,
        "width": scene.width,
        "height": scene.height,
        "format": scene.format,
        "orientation_applied": scene.orientation,
        "camera_id": scene.camera_id,
        "captured_at": scene.captured_at,
        "created_at": scene.created_at,
        "tags": list(scene.tags),
        "attributes": dict(scene.attributes),
        "detections": [ImageDetection.of(found) for found in scene.detections],
    }


def check_metadata_size(about: ImageMetadata, limit: int) -> None:
    """Refuse metadata of one image that is larger than a setting allows.

    Args:
        limit: bytes, as JSON.

    Raises:
        RequestError: validation_failed.
    """
    if len(about.model_dump_json(exclude_defaults=True).encode()) > limit:
        raise RequestError(
            "validation_failed",
            f"/metadata: more than {limit} bytes for one image.",
            limits={"metadata_max_bytes": limit},
        )
