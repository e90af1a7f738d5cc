"""Jobs with their errors, and answers kept to be given again."""

import sqlalchemy as sa
from alembic import op

from indexer.database.statements import WHOLE

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("number", WHOLE, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("arguments", sa.String, nullable=False),
        sa.Column("key", sa.String),
        sa.Column("done", WHOLE, nullable=False),
        sa.Column("total", WHOLE),
        sa.Column("failed", WHOLE, nullable=False),
        sa.Column("result", sa.String),
        sa.Column("problem", sa.String),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("started_at", WHOLE),
        sa.Column("progressed_at", WHOLE),
        sa.Column("finished_at", WHOLE),
        sa.Column("resumed_at", WHOLE),
        sa.Column("resumed_done", WHOLE),
        sa.Column("lease", sa.String),
        sa.Column("lease_until", WHOLE),
        sa.Column("attempts", WHOLE, nullable=False),
        sa.Column("deaths", WHOLE, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("jobs_by_state", "jobs", ["state"])
    op.create_table(
        "job_errors",
        sa.Column("number", WHOLE, primary_key=True),
        sa.Column("job", WHOLE, sa.ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
        sa.Column("item", sa.String, nullable=False),
        sa.Column("problem", sa.String, nullable=False),
        sa.UniqueConstraint("job", "item"),
    )
    op.create_table(
        "replies",
        sa.Column("key_name", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("status", WHOLE, nullable=False),
        sa.Column("headers", sa.String, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", WHOLE, nullable=False),
    )
    op.create_index("replies_by_time", "replies", ["created_at"])
