"""Generations: the embeddings of several models, one of which answers; boxes that stay away."""

import sqlalchemy as sa
from alembic import op

from indexer.ids import new_id

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "generations",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("model_name", sa.String, nullable=False),
        sa.Column("model_fingerprint", sa.String, nullable=False, unique=True),
        sa.Column("embedding_dim", sa.Integer, nullable=False),
        sa.Column("model_path", sa.String),
        sa.Column("created_at", sa.Integer, nullable=False),
        sa.Column("activated_at", sa.Integer),
        sqlite_autoincrement=True,
    )
    op.execute(
        sa.text(
            "INSERT INTO generations SELECT 1, :id, 'active', model_name, model_fingerprint,"
            " embedding_dim, model_path, created_at, created_at FROM gallery"
        ).bindparams(id=new_id("gen_"))
    )
    op.drop_table("gallery")
    op.create_table(
        "detections_new",
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("id", sa.String, nullable=False),
        sa.Column(
            "generation",
            sa.Integer,
            sa.ForeignKey("generations.number", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column(
            "scene", sa.Integer, sa.ForeignKey("scenes.number", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("x1", sa.Float, nullable=False),
        sa.Column("y1", sa.Float, nullable=False),
        sa.Column("x2", sa.Float, nullable=False),
        sa.Column("y2", sa.Float, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("checksum", sa.Integer, nullable=False),
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
    op.create_table(
        "scene_generations",
        sa.Column(
            "generation",
            sa.Integer,
            sa.ForeignKey("generations.number", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column(
            "scene",
            sa.Integer,
            sa.ForeignKey("scenes.number", ondelete="CASCADE"),
            primary_key=True,
        ),
    )
    op.create_index("scene_generations_by_scene", "scene_generations", ["scene"])
    op.execute("INSERT INTO scene_generations SELECT 1, number FROM scenes")
    op.create_table(
        "suppressed",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column(
            "scene", sa.Integer, sa.ForeignKey("scenes.number", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("x1", sa.Float, nullable=False),
        sa.Column("y1", sa.Float, nullable=False),
        sa.Column("x2", sa.Float, nullable=False),
        sa.Column("y2", sa.Float, nullable=False),
    )
    op.create_index("suppressed_by_scene", "suppressed", ["scene"])
