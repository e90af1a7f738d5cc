"""The numbered list of changes, by which an index knows what it lacks.

Functions take a connection of Store.read, or of Store.write where they change something.
"""

from collections.abc import Iterator

from sqlalchemy import Connection, and_, func, insert, select

from indexer.database.statements import chunks
from indexer.database.tables import changes
from indexer.rows import audit
from indexer.times import microseconds, now

REMOVALS = ("scene_removed", "detection_removed")  # kinds of changes that take people away


def last(connection: Connection) -> int:
    """The number of the newest change; 0 before the first."""
    return connection.scalar(select(func.max(changes.c.number))) or 0


def record(
    connection: Connection, kind: str, subject: str, *, scene: int | None = None, **details: object
) -> None:
    """Number a change, and enter it into the audit trail.

    Args:
        subject: the id of what was changed.
        scene: the number of the scene whose people, or whose metadata, are changed.
        details: for the audit trail.
    """
    values = {"kind": kind, "subject": subject, "at": microseconds(now()), "scene": scene}
    connection.execute(insert(changes).values(values))
    audit.record(connection, kind, subject, details)


def scenes_changed(connection: Connection, after: int, *, fewer: bool) -> Iterator[list[int]]:
    """Numbers of scenes touched by changes after `after`, ascending, at most CHUNK at a time.

    Args:
        fewer: the scenes from which people were removed; otherwise all others.
    """
    later = and_(changes.c.number > after, changes.c.scene.is_not(None))
    removing = select(changes.c.scene).where(later, changes.c.kind.in_(REMOVALS))
    which = changes.c.scene.in_(removing) if fewer else changes.c.scene.not_in(removing)
    wanted = select(changes.c.scene).where(later, which).distinct().order_by(changes.c.scene)
    yield from chunks([int(number or 0) for number in connection.scalars(wanted)])
