"""Labels of detections, and calibrations measured on them."""

import sqlalchemy as sa
from alembic import op

from indexer.database.statements import WHOLE

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("detection", sa.String, primary_key=True),
        sa.Column(
            "scene", WHOLE, sa.ForeignKey("scenes.number", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("at", WHOLE, nullable=False),
    )
    op.create_index("labels_by_scene", "labels", ["scene"])
    op.create_table(
        "calibrations",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("model_fingerprint", sa.String, nullable=False),
        sa.Column("labels_sha256", sa.String, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("content", sa.String, nullable=False),
    )
    op.create_index("calibrations_by_model", "calibrations", ["model_fingerprint", "id"])
