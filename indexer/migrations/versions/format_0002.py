"""Jobs with their errors, and answers kept to be given again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("arguments", sa.String, nullable=False),
        sa.Column("key", sa.String),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("result", sa.String),
        sa.Column("problem", sa.String),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("started_at", sa.Integer),
        sa.Column("progressed_at", sa.Integer),
        sa.Column("finished_at", sa.Integer),
        sa.Column("resumed_at", sa.Integer),
        sa.Column("resumed_done", sa.Integer),
        sa.Column("lease", sa.String),
        sa.Column("lease_until", sa.Integer),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("deaths", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("jobs_by_state", "jobs", ["state"])
    op.create_table(
        "job_errors",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column(
            "job", sa.Integer, sa.ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("item", sa.String, nullable=False),
        sa.Column("problem", sa.String, nullable=False),
        sa.UniqueConstraint("job", "item"),
    )
    op.create_table(
        "replies",
        sa.Column("key_name", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("headers", sa.String, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Integer, nullable=False),
    )
    op.create_index("replies_by_time", "replies", ["created_at"])
