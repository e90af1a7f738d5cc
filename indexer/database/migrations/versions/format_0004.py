"""The audit trail, and erasures with their receipts."""

import sqlalchemy as sa
from alembic import op

from indexer.database.statements import WHOLE

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("number", WHOLE, primary_key=True),
        sa.Column("at", WHOLE, nullable=False),
        sa.Column("key", sa.String),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("subject", sa.String),
        sa.Column("details", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_subject", "audit", ["subject"])
    op.create_table(
        "erasures",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("accepted_at", WHOLE, nullable=False),
        sa.Column("completed_at", WHOLE),
        sa.Column("key", sa.String),
        sa.Column("pending", sa.String),
        sa.Column("receipt", sa.String, nullable=False),
    )
