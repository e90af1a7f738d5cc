"""The first format: scenes with their tags, detections, embeddings, and a list of changes."""

import sqlalchemy as sa
from alembic import op

from indexer.database.statements import WHOLE

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "gallery",
        sa.Column("id", WHOLE, primary_key=True),
        sa.Column("model_name", sa.String, nullable=False),
        sa.Column("model_fingerprint", sa.String, nullable=False),
        sa.Column("embedding_dim", WHOLE, nullable=False),
        sa.Column("model_path", sa.String),
        sa.Column("created_at", WHOLE, nullable=False),
    )
    op.create_table(
        "scenes",
        sa.Column("number", WHOLE, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("sha256", sa.String, nullable=False, unique=True),
        sa.Column("content_bytes", WHOLE, nullable=False),
        sa.Column("width", WHOLE, nullable=False),
        sa.Column("height", WHOLE, nullable=False),
        sa.Column("format", sa.String, nullable=False),
        sa.Column("orientation", WHOLE, nullable=False),
        sa.Column("external_id", sa.String, unique=True),
        sa.Column("camera_id", sa.String),
        sa.Column("captured_at", WHOLE),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("attributes", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("scenes_by_camera", "scenes", ["camera_id"])
    op.create_index("scenes_by_time", "scenes", ["captured_at"])
    op.create_table(
        "scene_tags",
        sa.Column(
            "scene",
            WHOLE,
            sa.ForeignKey("scenes.number", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", WHOLE, primary_key=True),
        sa.Column("tag", sa.String, nullable=False),
        sa.UniqueConstraint("tag", "scene"),
    )
    op.create_table(
        "detections",
        sa.Column("row", WHOLE, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column(
            "scene", WHOLE, sa.ForeignKey("scenes.number", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("x1", sa.Float, nullable=False),
        sa.Column("y1", sa.Float, nullable=False),
        sa.Column("x2", sa.Float, nullable=False),
        sa.Column("y2", sa.Float, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("checksum", WHOLE, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("detections_by_scene", "detections", ["scene"])
    op.create_table(
        "vectors",
        sa.Column(
            "row", WHOLE, sa.ForeignKey("detections.row", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("embedding", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("number", WHOLE, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("subject", sa.String, nullable=False),
        sa.Column("at", WHOLE, nullable=False),
        sqlite_autoincrement=True,
    )
