"""What requests and responses hold. A name that is not listed here is refused: a typo in a
filter must not widen a search."""

import math
from datetime import UTC, datetime, time
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from indexer.records import GalleryHit, SceneFilter, StoredDetection, StoredScene, TimeOfDay

MAX_TAGS = 32
MAX_ATTRIBUTES = 32
MAX_DELETED_IDS = 1000
LEAST_RATE = 1e-9  # no labels support a smaller one
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"


def utc_text(value: datetime) -> str:
    """RFC 3339, in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _in_range(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time lies outside the years 1 to 9999 in UTC") from None


Time = Annotated[AwareDatetime, AfterValidator(_in_range), PlainSerializer(utc_text)]
ExternalId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/-]{1,255}$")]
CameraId = Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=255)]
Tag = Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=64)]
AttributeName = Annotated[str, StringConstraints(pattern=PRINTABLE, min_length=1, max_length=64)]
AttributeValue = Annotated[str, StringConstraints(pattern=PRINTABLE, max_length=1024)]
Id = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Schema(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Box(Schema):
    """Pixels of the upright image (after EXIF), origin top left; x2 and y2 are exclusive."""

    x1: FiniteFloat
    y1: FiniteFloat
    x2: FiniteFloat
    y2: FiniteFloat

    @field_validator("x2", "y2")
    @classmethod
    def _is_after(cls, value: float, info: ValidationInfo) -> float:
        first = {"x2": "x1", "y2": "y1"}[str(info.field_name)]
        if value <= info.data.get(first, -math.inf):
            raise ValueError(f"must be larger than {first}")
        return value

    @classmethod
    def of(cls, box: tuple[float, float, float, float]) -> Self:
        """From x1, y1, x2, y2; to the hundredth of a pixel."""
        x1, y1, x2, y2 = (round(float(side), 2) for side in box)
        return cls(x1=x1, y1=y1, x2=x2, y2=y2)


# --- requests


class ImageMetadata(Schema):
    """What the sender knows about an image."""

    external_id: ExternalId | None = None
    camera_id: CameraId | None = None
    captured_at: Time | None = None
    tags: list[Tag] = Field([], max_length=MAX_TAGS)
    attributes: dict[AttributeName, AttributeValue] = Field({}, max_length=MAX_ATTRIBUTES)


class MetadataPatch(Schema):
    """A merge patch (RFC 7386): what is named changes, null removes, the rest stays."""

    external_id: ExternalId | None = None
    camera_id: CameraId | None = None
    captured_at: Time | None = None
    tags: list[Tag] | None = Field(None, max_length=MAX_TAGS)
    attributes: dict[AttributeName, AttributeValue | None] | None = None

    def changes(self, stored: StoredScene) -> dict[str, object]:
        """What Gallery.patch needs, attributes merged with the stored ones."""
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

    ids: list[Id] = Field(min_length=1, max_length=MAX_DELETED_IDS)


class UploadQuery(Schema):
    """Parameters of POST /gallery/images."""

    on_duplicate: Literal["return", "error"] = Field(
        "return", description="What to answer when byte-identical files are stored already."
    )
    wait: bool = Field(
        True, description="With false, the answer is a job: the images are added after it."
    )


class ListQuery(Schema):
    """Parameters of GET /gallery/images."""

    camera_id: list[CameraId] = Field([], description="Of any of these cameras.")
    tag: list[Tag] = Field([], max_length=MAX_TAGS, description="With all of these tags.")
    captured_after: Time | None = Field(None, description="Taken at this time or later.")
    captured_before: Time | None = Field(None, description="Taken before this time.")
    external_id: ExternalId | None = None
    order: Literal["oldest", "newest"] = Field(
        "oldest", description="Which came first, or last, is first; keep it while paging."
    )
    limit: int = Field(50, ge=1, description="Most items of a page.")
    cursor: str | None = Field(None, max_length=1024, description="next_cursor of a page before.")
    count: bool = Field(False, description="Whether to count all that match, as `total`.")

    def scene_filter(self) -> SceneFilter:
        """The same as the gallery says it."""
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


class CameraFilter(Schema):
    """Of which cameras; images without a camera pass `not_in`."""

    in_: list[CameraId] | None = Field(None, alias="in")
    not_in: list[CameraId] = []


class TimeFilter(Schema):
    """from ≤ captured_at < to; images without captured_at fail either."""

    from_: Time | None = Field(None, alias="from")
    to: Time | None = None


def _clock_time(value: str) -> str:
    time.fromisoformat(value)  # the pattern lets 29:00 pass
    return value


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        raise ValueError("no time zone of the IANA database") from None
    return value


ClockTime = Annotated[
    str,
    StringConstraints(pattern=r"^[0-2][0-9]:[0-5][0-9](:[0-5][0-9])?$"),
    AfterValidator(_clock_time),
]
Zone = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]{1,64}$"), AfterValidator(_known_zone)
]


class TimeOfDayFilter(Schema):
    """from ≤ captured_at < to, by the clocks of a time zone, on whatever day. It may pass midnight:
    20:00 to 06:00 is the night. Images without captured_at fail."""

    from_: ClockTime = Field(alias="from", examples=["20:00"])
    to: ClockTime = Field(examples=["06:00"])
    tz: Zone = Field(description="As the IANA database names it.", examples=["Europe/Berlin"])

    @model_validator(mode="after")
    def _is_some_time(self) -> Self:
        if time.fromisoformat(self.from_) == time.fromisoformat(self.to):
            raise ValueError("from and to are the same time")
        return self

    def as_gallery(self) -> TimeOfDay:
        """The same as the gallery says it."""
        return TimeOfDay(time.fromisoformat(self.from_), time.fromisoformat(self.to), self.tz)


class TagFilter(Schema):
    """With all of, at least one of, none of these tags."""

    all: list[Tag] = []
    any: list[Tag] = []
    none: list[Tag] = []


class ImageFilter(Schema):
    """Images that are left out."""

    not_in: list[Id] = []


class SearchFilter(Schema):
    """Which images are searched; applied before ranking, so that `limit` is honest."""

    camera_id: CameraFilter = CameraFilter.model_construct(in_=None, not_in=[])
    captured_at: TimeFilter = TimeFilter.model_construct(from_=None, to=None)
    time_of_day: TimeOfDayFilter | None = None
    tags: TagFilter = TagFilter()
    image_id: ImageFilter = ImageFilter()

    def lists(self) -> dict[str, int]:
        """Length of each list of values, by its place."""
        return {
            "camera_id/in": len(self.camera_id.in_ or ()),
            "camera_id/not_in": len(self.camera_id.not_in),
            "tags/all": len(self.tags.all),
            "tags/any": len(self.tags.any),
            "tags/none": len(self.tags.none),
            "image_id/not_in": len(self.image_id.not_in),
        }

    def scene_filter(self) -> SceneFilter:
        """The same as the gallery says it."""
        cameras = self.camera_id.in_
        return SceneFilter(
            camera_in=None if cameras is None else tuple(cameras),
            camera_not_in=tuple(self.camera_id.not_in),
            captured_from=self.captured_at.from_,
            captured_to=self.captured_at.to,
            time_of_day=None if self.time_of_day is None else self.time_of_day.as_gallery(),
            tags_all=tuple(self.tags.all),
            tags_any=tuple(self.tags.any),
            tags_none=tuple(self.tags.none),
            scene_not_in=tuple(self.image_id.not_in),
        )


class Query(Schema):
    """One picture of the person: exactly one of image, image_base64, image_id, detection_id.

    With `box`, the person in that box; with `crop`, the whole picture is the person; with
    neither, the person found most surely in the picture.
    """

    image: int | None = Field(None, ge=0, description="Which `image` part of the form, from 0.")
    image_base64: str | None = Field(None, description="A picture's file, in base64.")
    image_id: Id | None = Field(None, description="A stored image.")
    detection_id: Id | None = Field(None, description="A stored detection; needs no box.")
    box: Box | None = None
    crop: bool = Field(False, description="The whole picture is one person's crop.")

    @model_validator(mode="after")
    def _names_one_picture(self) -> Self:
        named = (self.image, self.image_base64, self.image_id, self.detection_id)
        if sum(value is not None for value in named) != 1:
            raise ValueError("give one of image, image_base64, image_id, detection_id")
        if self.crop and (self.box is not None or self.detection_id is not None):
            raise ValueError("crop does not go with box or detection_id")
        if self.box is not None and self.detection_id is not None:
            raise ValueError("detection_id has its own box")
        return self


class Rerank(Schema):
    """Rank the best `top_n` hits anew; those behind them follow in the order of their scores.

    `k_reciprocal`: by the neighbours that a hit and the query have in common among these hits
    (Zhong et al. 2017). `cbgm`: by the people who stand with the person in the query's scene and in
    the hit's (context bipartite graph matching, Li and Miao 2021); it needs scenes as queries: a
    stored detection, or a scene with or without a box, not a crop.
    """

    method: Literal["none", "cbgm", "k_reciprocal"] = "none"
    top_n: int = Field(200, ge=1, le=500)


class SearchRequest(Schema):
    """Whom to look for, where, and how many answers.

    Without `queries`, each uploaded `image` is one person's crop.
    """

    queries: list[Query] = Field([], description="Pictures of the one person looked for.")
    fusion: Literal["max", "mean"] = Field(
        "max",
        description="Several queries: rank by the best score of any, or by their mean embedding.",
    )
    limit: int = Field(20, ge=1, description="Most hits.")
    min_score: FiniteFloat | None = None
    max_fmr: FiniteFloat | None = Field(
        None,
        ge=LEAST_RATE,
        lt=1,
        description="Give hits of at most this false-match rate; needs a calibration that "
        "supports it.",
    )
    min_detection_score: FiniteFloat | None = Field(None, ge=0, le=1)
    filter: SearchFilter = SearchFilter()
    group_by: Literal["detection", "image"] = Field(
        "detection", description="With image, only the best hit of each image."
    )
    rerank: Rerank = Rerank()
    exclude_query_image: bool = Field(
        True, description="Leave out the stored image that a query comes from or is identical to."
    )
    include: list[Literal["crop_url", "explanation"]] = Field(
        [], description="What each hit is to hold besides."
    )


# --- responses


class ModelOfIndex(Schema):
    """Whose embeddings these are: the generation of the index, and its model."""

    generation: str
    model: str
    model_sha256: str


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
        """As the gallery has it."""
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
    """How many were deleted; the rest was not there."""

    deleted: int


class Embedding(Schema):
    """A detection's embedding, unit length."""

    detection_id: str
    embedding: list[float]
    generation: str
    model: str
    model_sha256: str


class DetectedPeople(Schema):
    """People in a picture, surest first."""

    width: int
    height: int
    detections: list[Detection]
    timings_ms: dict[str, float]


class UsedQuery(Schema):
    """How a query was understood; width and height are those of the box."""

    box: Box | None
    width: float
    height: float
    embedding_norm: float | None = Field(
        description="How surely the query is a person, in [0, 1]: its detection score, which the "
        "norm of an embedding says. It does not change the ranking. Null for a box or crop that "
        "was given: the model describes it, and does not judge it."
    )
    warnings: list[Literal["small_query", "no_company"]] = Field(
        description="small_query: less than 20 px wide or 40 px high. no_company: nobody else is "
        "in the scene, so cbgm cannot help."
    )


class HitImage(Schema):
    """The image of a hit."""

    id: str
    external_id: str | None
    camera_id: str | None
    captured_at: Time | None
    width: int
    height: int

    @classmethod
    def of(cls, stored: StoredScene) -> Self:
        """As the gallery has it."""
        return cls(
            id=stored.id,
            external_id=stored.external_id,
            camera_id=stored.camera_id,
            captured_at=stored.captured_at,
            width=stored.width,
            height=stored.height,
        )


class Explanation(Schema):
    """The two factors of a score."""

    norm: float = Field(description="How surely it is a person: the detection score, in [0, 1].")
    cosine: float = Field(description="How like the query they look: the similarity, in [−1, 1].")


class Hit(Schema):
    """One answer: score is detection_score × similarity and ranks, unless `rerank` asks for
    another order; it is no probability."""

    rank: int
    score: float
    similarity: float
    fmr: float | None = Field(
        description="How often somebody else scores as much in one comparison, by the calibration "
        "in use; with several queries, at most. Null without a calibration."
    )
    likely_match: bool | None = Field(
        None,
        description="Whether the similarity is above `index.match_similarity`; null without it.",
    )
    detection: ImageDetection
    image: HitImage
    matched_query: int | None = Field(None, description="With fusion max: which query it is near.")
    crop_url: str | None = Field(None, description="When asked for in `include`.")
    explanation: Explanation | None = Field(None, description="When asked for in `include`.")

    @classmethod
    def of(
        cls,
        hit: GalleryHit,
        *,
        rank: int,
        fmr: float | None,
        match_similarity: float | None,
        **optional: Any,
    ) -> Self:
        """As the gallery found it."""
        return cls(
            rank=rank,
            score=hit.score,
            similarity=round(hit.similarity, 6),
            fmr=fmr,
            likely_match=None if match_similarity is None else hit.similarity > match_similarity,
            detection=ImageDetection.of(hit.detection),
            image=HitImage.of(hit.scene),
            **optional,
        )


class SearchedIndex(ModelOfIndex):
    """What was searched: all that matched the filter, exactly."""

    exact: bool
    as_of: Time
    match_similarity: float | None = Field(
        description="From the model's card: of different people fewer than 1 % are so alike, "
        "measured on the people that the model was validated on; null where nobody measured it."
    )
    calibration: str | None = Field(description="The one that `fmr` comes from; null without one.")


class SearchResponse(Schema):
    """Hits, best first."""

    search_id: str
    query: list[UsedQuery]
    hits: list[Hit]
    rerank: Rerank = Field(description="What ranked the hits; with method none, their scores.")
    index: SearchedIndex
    timings_ms: dict[str, float]


class ProblemError(Schema):
    """One place that is wrong."""

    pointer: str
    code: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    retryable: bool
    request_id: str
    errors: list[ProblemError] | None = None
    limits: dict[str, int] | None = None
    results: list[AddedImage | FailedImage] | None = None


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


def metadata_bytes(metadata: ImageMetadata) -> int:
    """How large metadata is, as JSON."""
    return len(metadata.model_dump_json(exclude_defaults=True).encode())
