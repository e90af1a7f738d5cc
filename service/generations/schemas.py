"""What requests and responses about models hold."""

from typing import Any, Literal, Self

from pydantic import Field

from indexer.records import GenerationCount
from service.http.fields import Schema, Time
from service.running.detectors import KnownModel


class GenerationRecord(Schema):
    """The people that one model finds. "active" is the one that answers, "building" one that gets
    ready for that, "kept" one that could answer again."""

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
    """A model that is there."""

    name: str = Field(description="Of its directory; routes take it.")
    model: str = Field(description="The name on its card.")
    model_sha256: str
    head: str
    backbone: str
    embedding_dim: int
    terms: str = Field(description="What it may be used for.")
    metrics: dict[str, Any] = Field(description="By dataset, as it was measured.")
    active: bool
    generation: GenerationRecord | None = Field(description="Null: no image was indexed by it.")

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
        "auto", description="auto: it answers once it has all images. manual: it is kept."
    )
    skip_unreadable: bool = Field(
        False,
        description="Go on without images whose pictures cannot be read: nobody is found in them. "
        "Otherwise the job names them and fails, and the model is not changed.",
    )
    min_map_ratio: float | None = Field(
        None,
        gt=0,
        le=10,
        description="With activate=auto: it answers only when its search mAP on the labelled "
        "people is at least this share of what it is now. 20 of them or more must have their "
        "label in another image, too.",
    )
