"""Changes name the scene they are of; how far an index outside of this process has come."""

import sqlalchemy as sa
from alembic import op

from indexer.database.statements import WHOLE

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("changes", sa.Column("scene", WHOLE))
    op.create_table(
        "indexes",
        sa.Column(
            "generation",
            WHOLE,
            sa.ForeignKey("generations.number", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("engine", sa.String, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("change", WHOLE, nullable=False),
        sa.Column("at", WHOLE, nullable=False),
    )
