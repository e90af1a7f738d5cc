"""What requests and responses about models hold."""

from typing import Any, Literal, Self

from pydantic import Field

from indexer.records import GenerationCount
from service.http.fields import Schema, Time
from service.running.detectors import KnownModel


class GenerationRecord(Schema):
    """The people that one model finds in all images. Searches use the "active" one; a "building"
    one is being made; a "kept" one can be activated.
    """

    id: str
    state: Literal["active", "building", "kept"]
    model: str
    model_sha256: str
    images: int
    detections: int
    created_at: Time
    activated_at: Time | None

    @classmethod
    def of(cls, count: GenerationCount) -> Self:
        """From the gallery's generation and its counts."""
        found = count.generation
        return cls(
            id=found.id,
            state=found.state,
            model=found.model.name,
            model_sha256=found.model.fingerprint,
            images=count.scenes,
            detections=count.detections,
            created_at=found.created_at,
            activated_at=found.activated_at,
        )


class ModelRecord(Schema):
    """A model that can be used."""

    name: str = Field(description="The name of its directory; routes use it.")
    model: str = Field(description="The name on its card.")
    model_sha256: str
    head: str
    backbone: str
    embedding_dim: int
    terms: str = Field(description="What it may be used for.")
    metrics: dict[str, Any] = Field(description="What was measured, by dataset.")
    active: bool
    generation: GenerationRecord | None = Field(description="Null if it has indexed no image.")

    @classmethod
    def of(cls, known: KnownModel, count: GenerationCount | None) -> Self:
        """From its card, with its generation in the gallery."""
        card = known.card
        return cls(
            name=known.name,
            model=card.name,
            model_sha256=card.fingerprint,
            head=card.head,
            backbone=card.backbone,
            embedding_dim=card.embedding_dim,
            terms=card.terms,
            metrics=card.metrics,
            active=count is not None and count.generation.state == "active",
            generation=None if count is None else GenerationRecord.of(count),
        )


class ModelList(Schema):
    """All models."""

    items: list[ModelRecord]


class ReindexQuery(Schema):
    """Parameters of POST /models/{name}/reindex."""

    activate: Literal["auto", "manual"] = Field(
        "auto",
        description="auto: searches use it once all images are indexed. manual: it is kept "
        "until you activate it.",
    )
    skip_unreadable: bool = Field(
        False,
        description="Skip images whose files cannot be read; nobody is found in them. "
        "Otherwise the job lists them and fails, and the model does not change.",
    )
    min_map_ratio: float | None = Field(
        None,
        gt=0,
        le=10,
        description="With activate=auto: switch only if its search mAP on the labelled people "
        "is at least this share of the present model's. At least 20 of them must "
        "be labelled in another image, too.",
    )
