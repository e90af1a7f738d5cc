"""Generations: the embeddings of several models, one of which answers; boxes that stay away."""

import sqlalchemy as sa
from alembic import op

from indexer.database.statements import WHOLE
from indexer.ids import new_id

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "generations",
        sa.Column("number", WHOLE, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("model_name", sa.String, nullable=False),
        sa.Column("model_fingerprint", sa.String, nullable=False, unique=True),
        sa.Column("embedding_dim", WHOLE, nullable=False),
        sa.Column("model_path", sa.String),
        sa.Column("created_at", WHOLE, nullable=False),
        sa.Column("activated_at", WHOLE),
        sqlite_autoincrement=True,
    )
    op.execute(
        sa.text(
            "INSERT INTO generations SELECT 1, :id, 'active', model_name, model_fingerprint,"
            " embedding_dim, model_path, created_at, created_at FROM gallery"
        ).bindparams(id=new_id("gen_"))
    )
    op.drop_table("gallery")
    if op.get_bind().dialect.name == "sqlite":
        _write_detections_anew()
    else:
        _widen_detections()
    op.create_table(
        "scene_generations",
        sa.Column(
            "generation",
            WHOLE,
            sa.ForeignKey("generations.number", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column(
            "scene",
            WHOLE,
            sa.ForeignKey("scenes.number", ondelete="CASCADE"),
            primary_key=True,
        ),
    )
    op.create_index("scene_generations_by_scene", "scene_generations", ["scene"])
    op.execute("INSERT INTO scene_generations SELECT 1, number FROM scenes")
    op.create_table(
        "suppressed",
        sa.Column("number", WHOLE, primary_key=True),
        sa.Column(
            "scene", WHOLE, sa.ForeignKey("scenes.number", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("x1", sa.Float, nullable=False),
        sa.Column("y1", sa.Float, nullable=False),
        sa.Column("x2", sa.Float, nullable=False),
        sa.Column("y2", sa.Float, nullable=False),
    )
    op.create_index("suppressed_by_scene", "suppressed", ["scene"])


def _write_detections_anew() -> None:
    """SQLite cannot take away that an id is unique."""
    op.create_table(
        "detections_new",
        sa.Column("row", WHOLE, primary_key=True),
        sa.Column("id", sa.String, nullable=False),
        sa.Column(
            "generation",
            WHOLE,
            sa.ForeignKey("generations.number", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column(
            "scene", WHOLE, sa.ForeignKey("scenes.number", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("x1", sa.Float, nullable=False),
        sa.Column("y1", sa.Float, nullable=False),
        sa.Column("x2", sa.Float, nullable=False),
        sa.Column("y2", sa.Float, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("checksum", WHOLE, nullable=False),
        sa.UniqueConstraint("id", "generation"),
        sqlite_autoincrement=True,
    )
    op.execute(
        "INSERT INTO detections_new"
        " SELECT row, id, 1, scene, x1, y1, x2, y2, score, checksum FROM detections"
    )
    # Rows are never given twice, also not those of detections that are gone.
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'detections_new'")
    op.execute("UPDATE sqlite_sequence SET name = 'detections_new' WHERE name = 'detections'")
    # Foreign keys are not enforced while migrations run: the vectors stay where they are.
    op.drop_table("detections")
    op.rename_table("detections_new", "detections")
    op.create_index("detections_by_scene", "detections", ["scene"])


def _widen_detections() -> None:
    of_the_first = sa.text("1")
    generation = sa.Column("generation", WHOLE, nullable=False, server_default=of_the_first)
    op.add_column("detections", generation)
    op.alter_column("detections", "generation", server_default=None)
    op.create_foreign_key(
        None, "detections", "generations", ["generation"], ["number"], ondelete="CASCADE"
    )
    op.drop_constraint("detections_id_key", "detections", type_="unique")
    op.create_unique_constraint(None, "detections", ["id", "generation"])
