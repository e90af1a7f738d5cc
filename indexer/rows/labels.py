"""Labels in the database: who people say a detection is, in every generation that has it.

Functions take a connection of Store.read, or of Store.write where they change something.
"""

from collections.abc import Collection

from sqlalchemy import Connection, delete, insert, select

from indexer.database.statements import chunks
from indexer.database.tables import detections, labels
from indexer.errors import DetectionNotFoundError, LabelNotFoundError
from indexer.rows import change_log
from indexer.times import microseconds, now

_BY_ROW = (
    select(detections.c.row, labels.c.label)
    .join_from(labels, detections, labels.c.detection == detections.c.id)
    .order_by(detections.c.row)
)


def of_generation(connection: Connection, generation: int) -> dict[int, str]:
    """All labels of a generation, by its number: by the rows of their detections, rising."""
    own = _BY_ROW.where(detections.c.generation == generation)
    return {row.row: row.label for row in connection.execute(own)}


def at_rows(connection: Connection, rows: Collection[int]) -> dict[int, str]:
    """Labels by the rows of their detections; rows without a label are left out."""
    found: dict[int, str] = {}
    for chunk in chunks(rows):
        some = connection.execute(_BY_ROW.where(detections.c.row.in_(chunk)))
        found |= {row.row: row.label for row in some}
    return found


def put(connection: Connection, detection_id: str, label: str) -> None:
    """Say who a detection is, replacing an earlier label.

    Raises:
        DetectionNotFoundError: there is none.
    """
    own = select(detections.c.scene).where(detections.c.id == detection_id)
    scene = connection.scalar(own)
    if scene is None:
        raise DetectionNotFoundError(f"there is no detection {detection_id}")
    connection.execute(delete(labels).where(labels.c.detection == detection_id))
    connection.execute(
        insert(labels).values(
            detection=detection_id, scene=scene, label=label, at=microseconds(now())
        )
    )
    change_log.record(connection, "detection_labelled", detection_id)


def remove(connection: Connection, detection_id: str) -> None:
    """Take a detection's label away.

    Raises:
        LabelNotFoundError: it has none.
    """
    own = labels.c.detection == detection_id
    if not connection.execute(delete(labels).where(own)).rowcount:
        raise LabelNotFoundError(f"the detection {detection_id} has no label")
    change_log.record(connection, "label_removed", detection_id)
