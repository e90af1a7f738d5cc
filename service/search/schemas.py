"""What requests and responses about searches hold."""

from typing import Any, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from indexer.records import GalleryHit, StoredScene
from indexer.search.query import QueryWarning
from service.http.fields import LEAST_RATE, Box, Id, ModelOfIndex, Schema, Time
from service.http.long_texts import LongText
from service.images.schemas import Detection, ImageDetection
from service.search.filters import SearchFilter

MOST_QUERIES = 256
"""What PERSON_SEARCH_SEARCH_MAX_QUERIES may be at most."""

# --- requests


class Query(Schema):
    """One picture of the person: exactly one of image, image_base64, image_id, detection_id.

    With `box`, the person in that box; with `crop`, the whole picture is the person; with
    neither, the person found most surely in the picture.
    """

    image: int | None = Field(None, ge=0, description="Which `image` part of the form, from 0.")
    image_base64: LongText | None = Field(None, description="A picture's file, in base64.")
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
    """Puts the best `top_n` hits in a new order; the rest follow by score.

    `k_reciprocal`: by how many neighbours a hit and the query share among these hits (Zhong et al.
    2017). `cbgm`: by whether the same other people are in the query's scene and the hit's (context
    bipartite graph matching, Li and Miao 2021); it needs scenes as queries: a stored detection, or
    a scene with or without a box, not a crop.
    """

    method: Literal["none", "cbgm", "k_reciprocal"] = "none"
    top_n: int = Field(200, ge=1, le=500)


class SearchRequest(Schema):
    """Whom to look for, where, and how many answers.

    Without `queries`, each uploaded `image` is one person's crop.
    """

    queries: list[Query] = Field(
        [], max_length=MOST_QUERIES, description="Pictures of the one person looked for."
    )
    fusion: Literal["max", "mean"] = Field(
        "max",
        description="Several queries: rank by the best score of any, or by their mean embedding.",
    )
    limit: int = Field(20, ge=1, description="How many hits to return at most.")
    min_score: FiniteFloat | None = None
    max_fmr: FiniteFloat | None = Field(
        None,
        ge=LEAST_RATE,
        lt=1,
        description="Return only hits with at most this false-match rate; needs a calibration "
        "that covers it.",
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
        [], max_length=16, description="What else each hit should contain."
    )


# --- responses


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
        description="How sure the model is that the query is a person, in [0, 1]: its "
        "detection score. It does not change the ranking. Null for a box or crop "
        "that you gave: the model does not score those."
    )
    warnings: list[QueryWarning] = Field(
        description="small_query: less than 20 px wide or 40 px high. no_company: nobody else "
        "is in the scene, so cbgm cannot help. wide_crop: the crop is wider than "
        "high, so it may be a whole scene; in a scene, send a box."
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
        """From a stored scene."""
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
    """One result. Results are ordered by score = detection_score × similarity, unless `rerank` asks
    for another order. A score is not a probability.
    """

    rank: int
    score: float
    similarity: float
    fmr: float | None = Field(
        description="How often a different person reaches this score in one comparison, by "
        "the calibration in use; with several queries, an upper bound. Null "
        "without a calibration."
    )
    likely_match: bool | None = Field(
        None,
        description="Whether the similarity is above `index.match_similarity`; null without it.",
    )
    detection: ImageDetection
    image: HitImage
    matched_query: int | None = Field(
        None, description="With fusion max: the query that gave the score."
    )
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
        """From a hit of the gallery."""
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
        description="From the model's card: fewer than 1 % of pairs of different people are "
        "this similar, measured on the model's validation data; null if not "
        "measured."
    )
    calibration: str | None = Field(
        description="The calibration that `fmr` comes from; null without one."
    )


class SearchResponse(Schema):
    """Hits, best first."""

    search_id: str
    query: list[UsedQuery]
    hits: list[Hit]
    rerank: Rerank = Field(description="How the hits were ordered; with method none, by score.")
    index: SearchedIndex
    timings_ms: dict[str, float]
