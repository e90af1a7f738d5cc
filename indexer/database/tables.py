"""The tables of a gallery's database, as the newest migration leaves them.

A change here needs a migration in migrations/versions and a new FORMAT; a test compares the two.
"""

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

from indexer.database.statements import WHOLE

FORMAT = 7  # the number of the newest migration, which is also its revision: 0007

metadata = MetaData()

generations = Table(  # whose embeddings there are: one row for each model
    "generations",
    metadata,
    Column("number", WHOLE, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("state", String, nullable=False),  # building, active (exactly one), kept
    Column("model_name", String, nullable=False),
    Column("model_fingerprint", String, nullable=False, unique=True),
    Column("embedding_dim", WHOLE, nullable=False),
    Column("model_path", String),
    Column("created_at", WHOLE, nullable=False),
    Column("activated_at", WHOLE),
    sqlite_autoincrement=True,
)

scenes = Table(
    "scenes",
    metadata,
    Column("number", WHOLE, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("sha256", String, nullable=False, unique=True),
    Column("content_bytes", WHOLE, nullable=False),
    Column("width", WHOLE, nullable=False),
    Column("height", WHOLE, nullable=False),
    Column("format", String, nullable=False),
    Column("orientation", WHOLE, nullable=False),
    Column("external_id", String, unique=True),
    Column("camera_id", String),
    Column("captured_at", WHOLE),  # microseconds since 1970, UTC; so are all times
    Column("created_at", WHOLE, nullable=False),
    Column("attributes", String, nullable=False),  # a JSON object
    Column("checksum", WHOLE),  # CRC-32 of the columns above but the number, and of the tags
    Index("scenes_by_camera", "camera_id"),
    Index("scenes_by_time", "captured_at"),
    sqlite_autoincrement=True,
)

scene_tags = Table(
    "scene_tags",
    metadata,
    Column("scene", WHOLE, ForeignKey("scenes.number", ondelete="CASCADE"), primary_key=True),
    Column("position", WHOLE, primary_key=True),  # tags come back in the order given
    Column("tag", String, nullable=False),
    UniqueConstraint("tag", "scene"),
)

detections = Table(
    "detections",
    metadata,
    Column("row", WHOLE, primary_key=True),  # the id in a vector index; never given twice
    Column("id", String, nullable=False),  # survives a change of the model, where the box does
    Column(
        "generation",
        ForeignKey("generations.number", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("scene", WHOLE, ForeignKey("scenes.number", ondelete="CASCADE"), nullable=False),
    # float32 values in columns of doubles: exact both ways
    Column("x1", Float, nullable=False),
    Column("y1", Float, nullable=False),
    Column("x2", Float, nullable=False),
    Column("y2", Float, nullable=False),
    Column("score", Float, nullable=False),
    Column("checksum", WHOLE, nullable=False),  # CRC-32 of the row and its embedding
    UniqueConstraint("id", "generation"),
    Index("detections_by_scene", "scene"),
    sqlite_autoincrement=True,
)

# The unit embedding, as little-endian float32. A gallery vector is score × embedding, which
# models.similarity makes when the index is loaded: from a score of zero no embedding could be had
# back.
vectors = Table(
    "vectors",
    metadata,
    Column("row", WHOLE, ForeignKey("detections.row", ondelete="CASCADE"), primary_key=True),
    Column("embedding", LargeBinary, nullable=False),
)

changes = Table(  # every committed change, in order
    "changes",
    metadata,
    Column("number", WHOLE, primary_key=True),
    Column("kind", String, nullable=False),
    Column("subject", String, nullable=False),  # the id of the scene or detection
    Column("at", WHOLE, nullable=False),
    Column("scene", WHOLE),  # its number, also once it is gone; absent where none is concerned
    sqlite_autoincrement=True,
)

jobs = Table(  # work that is longer than a request
    "jobs",
    metadata,
    Column("number", WHOLE, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),
    Column("state", String, nullable=False),  # queued, running, succeeded, failed, cancelled
    Column("arguments", String, nullable=False),  # a JSON object
    Column("key", String),  # the name of the API key that asked for it
    Column("done", WHOLE, nullable=False),  # items dealt with, failed ones too
    Column("total", WHOLE),
    Column("failed", WHOLE, nullable=False),
    Column("result", String),  # a JSON object; what there is of it while the job runs
    Column("problem", String),  # a JSON object
    Column("created_at", WHOLE, nullable=False),
    Column("started_at", WHOLE),
    Column("progressed_at", WHOLE),
    Column("finished_at", WHOLE),
    Column("resumed_at", WHOLE),  # the start of the latest attempt, and what was done by then
    Column("resumed_done", WHOLE),
    Column("lease", String),  # who runs it, and until when nobody else may
    Column("lease_until", WHOLE),
    Column("attempts", WHOLE, nullable=False),
    Column("deaths", WHOLE, nullable=False),  # attempts that just ended, since it last got on
    Column("cancel_requested", Boolean, nullable=False),
    Index("jobs_by_state", "state"),
    sqlite_autoincrement=True,
)

job_errors = Table(
    "job_errors",
    metadata,
    Column("number", WHOLE, primary_key=True),
    Column("job", WHOLE, ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
    Column("item", String, nullable=False),
    Column("problem", String, nullable=False),  # a JSON object
    UniqueConstraint("job", "item"),
)

replies = Table(  # answers to requests with an Idempotency-Key, to be given again
    "replies",
    metadata,
    Column("key_name", String, primary_key=True),  # of the API key; "" without one
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("status", WHOLE, nullable=False),
    Column("headers", String, nullable=False),  # a JSON object
    Column("body", LargeBinary, nullable=False),
    Column("created_at", WHOLE, nullable=False),
    Index("replies_by_time", "created_at"),
)

labels = Table(  # who people say a detection is, in every generation that has it
    "labels",
    metadata,
    Column("detection", String, primary_key=True),
    Column("scene", WHOLE, ForeignKey("scenes.number", ondelete="CASCADE"), nullable=False),
    Column("label", String, nullable=False),
    Column("at", WHOLE, nullable=False),
    Index("labels_by_scene", "scene"),
)

calibrations = Table(  # what a score is worth, measured on labels
    "calibrations",
    metadata,
    Column("id", String, primary_key=True),
    Column("model_fingerprint", String, nullable=False),
    Column("labels_sha256", String, nullable=False),  # of the labels it was measured on
    Column("created_at", WHOLE, nullable=False),
    Column("content", String, nullable=False),  # models.evaluation.calibration, as JSON
    Index("calibrations_by_model", "model_fingerprint", "id"),
)

audit = Table(  # who did what; written in the transaction of what it tells of
    "audit",
    metadata,
    Column("number", WHOLE, primary_key=True),
    Column("at", WHOLE, nullable=False),
    Column("key", String),  # the name of the API key; absent without keys
    Column("action", String, nullable=False),
    Column("subject", String),
    Column("details", String, nullable=False),  # a JSON object: ids, names of fields, counts
    Index("audit_by_subject", "subject"),
    sqlite_autoincrement=True,
)

erasures = Table(
    "erasures",
    metadata,
    Column("id", String, primary_key=True),
    Column("accepted_at", WHOLE, nullable=False),
    Column("completed_at", WHOLE),
    Column("key", String),
    Column("pending", String),  # a JSON object: what to erase; absent once nothing of it is left
    Column("receipt", String, nullable=False),  # a JSON object
)

scene_generations = Table(  # which scenes a generation has; in some of them it found nobody
    "scene_generations",
    metadata,
    Column(
        "generation",
        ForeignKey("generations.number", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("scene", WHOLE, ForeignKey("scenes.number", ondelete="CASCADE"), primary_key=True),
    Index("scene_generations_by_scene", "scene"),
)

suppressed = Table(  # boxes of detections that were deleted: no generation gets them again
    "suppressed",
    metadata,
    Column("number", WHOLE, primary_key=True),
    Column("scene", WHOLE, ForeignKey("scenes.number", ondelete="CASCADE"), nullable=False),
    Column("x1", Float, nullable=False),
    Column("y1", Float, nullable=False),
    Column("x2", Float, nullable=False),
    Column("y2", Float, nullable=False),
    Index("suppressed_by_scene", "scene"),
)

indexes = Table(  # how far each index outside of this process has come
    "indexes",
    metadata,
    Column(
        "generation",
        WHOLE,
        ForeignKey("generations.number", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("engine", String, primary_key=True),
    Column("name", String, nullable=False),  # of the collection there
    Column("change", WHOLE, nullable=False),  # the number of the newest one it holds
    Column("at", WHOLE, nullable=False),
)
