"""A checksum of each scene, so that damage to what its sender said is noticed."""

import json
import zlib

import sqlalchemy as sa
from alembic import op

from indexer.database.statements import WHOLE

revision = "0006"
down_revision = "0005"
SUMMED = (
    *("id", "sha256", "content_bytes", "width", "height", "format", "orientation"),
    *("external_id", "camera_id", "captured_at", "created_at", "attributes"),
)


def upgrade() -> None:
    op.add_column("scenes", sa.Column("checksum", WHOLE))
    connection = op.get_bind()
    tags: dict[int, list[str]] = {}
    ordered = "SELECT scene, tag FROM scene_tags ORDER BY scene, position"
    for scene, tag in connection.execute(sa.text(ordered)):
        tags.setdefault(scene, []).append(tag)
    for row in connection.execute(sa.text("SELECT * FROM scenes")).all():
        told = [*(row._mapping[name] for name in SUMMED), *tags.get(row.number, ())]
        connection.execute(
            sa.text("UPDATE scenes SET checksum = :checksum WHERE number = :number"),
            {"checksum": zlib.crc32(json.dumps(told).encode()), "number": row.number},
        )
