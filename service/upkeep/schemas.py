"""What requests and responses about snapshots, erasures, the audit trail and the index hold."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator

from indexer.gallery.snapshots import Snapshot
from indexer.records import StoredScene
from indexer.rows.audit import AuditEntry
from indexer.rows.erasures import Erasure
from indexer.times import time_of
from service.generations.schemas import GenerationRecord
from service.http.fields import ExternalId, Id, ModelOfIndex, Schema, Time
from service.labels.schemas import LabelName
from service.search.filters import SearchFilter
from service.search.schemas import Query
from service.upkeep.erasing import Meant, Selected

MAX_ERASED_IDS = 1000
ERASED = Field(min_length=1, max_length=MAX_ERASED_IDS, fail_fast=True)
MAX_LISTED_MATCHES = 1000
REMAINS = (
    "The pictures stay, and still show the person: only the detections and their embeddings are "
    "erased, and the person is found there again if the picture is ever deleted and added anew. "
    'With "erase": "images" the pictures go, too.'
)

What = Literal["images", "detections"]


class SnapshotRecord(Schema):
    """A snapshot. If its manifest cannot be read, all but id, state and problem are null."""

    id: str
    state: Literal["whole", "damaged"] = Field(
        description="As its manifest says; only a restore reads and checks every file."
    )
    created_at: Time | None = None
    images: int | None = None
    detections: int | None = None
    bytes: int | None = Field(
        None, description="The size of all its files; linked originals take no extra space."
    )
    last_change: int | None = None
    database_format: int | None = None
    model: str | None = None
    model_sha256: str | None = None
    damaged: list[str] | None = Field(
        None,
        description="SHA-256 of originals that were already missing or damaged in the gallery.",
    )
    problem: str | None = None

    @classmethod
    def of(cls, found: Snapshot) -> Self:
        """From a snapshot on disk."""
        made = found.manifest
        if made is None:
            return cls(id=found.id, state="damaged", problem="Its manifest cannot be read.")
        return cls(
            id=found.id,
            state="whole",
            created_at=time_of(made.created_at),
            images=made.scenes,
            detections=made.detections,
            bytes=made.nbytes,
            last_change=made.last_change,
            database_format=made.database_format,
            model=made.model_name,
            model_sha256=made.model_fingerprint,
            damaged=list(made.damaged),
        )


class SnapshotList(Schema):
    """All snapshots, oldest first."""

    items: list[SnapshotRecord]


class AcceptedSnapshot(Schema):
    """The snapshot will be there when the job has succeeded."""

    snapshot_id: str
    job_id: str
    state: str


class AuditQuery(Schema):
    """Parameters of GET /audit."""

    action: str | None = Field(None, max_length=64, description="Only entries of this kind.")
    subject: str | None = Field(None, max_length=64, description="Only entries about this id.")
    limit: int = Field(50, ge=1, description="How many items a page has at most.")
    cursor: str | None = Field(
        None, max_length=1024, description="The `next_cursor` of the previous page."
    )


class AuditRecord(Schema):
    """One entry of the audit trail."""

    number: int
    at: Time
    key: str | None = Field(
        description="Name of the API key; null without keys. In parentheses if no request did "
        "it: (retention), (automatic), (command line)."
    )
    action: str
    subject: str | None
    details: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """As the gallery has it."""
        return cls(
            number=entry.number,
            at=entry.at,
            key=entry.key,
            action=entry.action,
            subject=entry.subject,
            details=dict(entry.details),
        )


class AuditPage(Schema):
    """A page of the audit trail, newest first; next_cursor is null after the last."""

    items: list[AuditRecord]
    next_cursor: str | None


class IndexRecord(ModelOfIndex):
    """How much the index holds, and how much of it is unused."""

    engine: str
    rows: int = Field(description="Detections in the index.")
    gone: int = Field(description="Gaps that deleted detections left; compaction frees them.")
    bytes: int = Field(description="Memory of the index.")
    database_bytes: int
    database_free_bytes: int = Field(description="How many of these are unused.")
    last_change: int
    index_change: int = Field(description="The last change that the index has applied.")
    compacted_at: Time | None = Field(
        description="Null if never, or before the audit trail begins."
    )
    generations: list[GenerationRecord] = Field(description="Oldest first.")


SELECTIONS = ("image_ids", "external_ids", "detection_ids", "label", "filter", "query")


class ErasureRequest(Schema):
    """What to erase: exactly one of image_ids, external_ids, detection_ids, label, filter, query;
    with mode execute, only the token of a preview.
    """

    mode: Literal["preview", "execute"]
    token: str | None = Field(
        None, max_length=64, description="The token of the preview to execute."
    )
    image_ids: Annotated[list[Id], ERASED] | None = None
    external_ids: Annotated[list[ExternalId], ERASED] | None = None
    detection_ids: Annotated[list[Id], ERASED] | None = None
    label: LabelName | None = Field(None, description="Everybody with this label.")
    filter: SearchFilter | None = Field(None, description="With one condition at least.")
    query: Query | None = Field(
        None, description="Everybody whose score for this person is at least min_score."
    )
    min_score: FiniteFloat | None = Field(
        None, description="The lowest score to erase; needed with query."
    )
    erase: What = Field(
        "images",
        description="images: whole images, with everybody in them. detections: only those "
        "that detection_ids, label or query select; their pictures still show the "
        "person.",
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        given = [name for name in SELECTIONS if getattr(self, name) is not None]
        if self.mode == "execute":
            if self.token is None or given or self.model_fields_set - {"mode", "token"}:
                raise ValueError("execute takes the token of a preview, and nothing else")
            return self
        if self.token is not None:
            raise ValueError("a preview takes no token")
        if len(given) != 1:
            raise ValueError(f"give one of {', '.join(SELECTIONS)}")
        if (self.query is None) != (self.min_score is None):
            raise ValueError("query and min_score go together")
        if self.filter == SearchFilter():
            raise ValueError("the filter needs a condition; without one it means every image")
        if self.erase == "detections" and given[0] not in ("detection_ids", "label", "query"):
            raise ValueError("erase detections goes with detection_ids, label or query")
        return self

    def meant(self, like: NDArray[np.float32] | None) -> Meant:
        """As a selection of the gallery.

        Args:
            like: the embedding of `query`, [D], unit length.
        """
        return Meant(
            filter=None if self.filter is None else self.filter.scene_filter(),
            scene_ids=self.image_ids,
            external_ids=self.external_ids,
            like=like,
            min_score=self.min_score or 0.0,
            label=self.label,
            detection_ids=self.detection_ids,
            whole_scenes=self.erase == "images",
        )


class ErasureMatch(Schema):
    """An image that would be erased, or would lose detections."""

    image_id: str
    external_id: str | None
    camera_id: str | None
    captured_at: Time | None
    detection_ids: list[str] = Field(description="The detections that would be erased.")
    score: float | None = Field(description="The highest score, if a query was given.")
    similarity: float | None

    @classmethod
    def of(cls, scene: StoredScene, selected: Selected) -> Self:
        """What of one scene would be erased."""
        best = selected.best.get(scene.id)
        return cls(
            image_id=scene.id,
            external_id=scene.external_id,
            camera_id=scene.camera_id,
            captured_at=scene.captured_at,
            detection_ids=[one.id for one in scene.detections if one.id in selected.detections],
            score=None if best is None else best.score,
            similarity=None if best is None else round(best.similarity, 6),
        )


class ErasurePreview(Schema):
    """What would be erased. The token is for exactly this, once, until expires_at."""

    token: str | None = Field(description="Null when there is nothing to erase.")
    expires_at: Time | None
    erase: What
    images: int = Field(description="How many images would be erased; 0 if only detections are.")
    detections: int
    matches: list[ErasureMatch] = Field(
        description=f"Best first, or oldest; at most {MAX_LISTED_MATCHES}."
    )
    remains: str | None = Field(description="What would stay and still show the person.")
    snapshots: list[str] = Field(description="Snapshots that hold some of it, and would stay.")


class AcceptedErasure(Schema):
    """The erasure is accepted and will be done, even if the service is restarted; see GET
    /erasures/{erasure_id}.
    """

    erasure_id: str
    job_id: str | None = Field(
        description="Null when the job queue is full: it is then done without a job, within "
        "minutes."
    )
    state: Literal["running"] = "running"


class ErasureReceipt(Schema):
    """A receipt. It names what was erased only by the SHA-256 of each id."""

    id: str
    state: Literal["running", "completed"]
    accepted_at: Time
    completed_at: Time | None
    by: str | None = Field(description="Name of the API key; null without keys.")
    erased: What
    images: int
    detections: int
    originals: int
    ids_sha256: list[str]
    remains: str | None = Field(description="What stays and still shows the person.")
    snapshots: list[str] | None = Field(
        None, description="Snapshots that still hold some of it; delete them, too."
    )

    @classmethod
    def of(cls, erasure: Erasure, snapshots: Sequence[str] | None = None) -> Self:
        """As the gallery has it."""
        optional: dict[str, Any] = {} if snapshots is None else {"snapshots": list(snapshots)}
        return cls(
            id=erasure.id,
            state="running" if erasure.completed_at is None else "completed",
            accepted_at=erasure.accepted_at,
            completed_at=erasure.completed_at,
            by=erasure.by,
            erased=erasure.what,
            images=erasure.images,
            detections=erasure.detections,
            originals=erasure.originals,
            ids_sha256=list(erasure.ids_sha256),
            remains=REMAINS if erasure.what == "detections" else None,
            **optional,
        )


class ErasuresQuery(Schema):
    """Parameters of GET /erasures."""

    limit: int = Field(50, ge=1, description="How many items a page has at most.")
    cursor: str | None = Field(
        None, max_length=1024, description="The `next_cursor` of the previous page."
    )


class ErasurePage(Schema):
    """A page of receipts, newest first; next_cursor is null after the last."""

    items: list[ErasureReceipt]
    next_cursor: str | None
