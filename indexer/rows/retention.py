"""How long scenes stay, by camera."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, func, or_, select

from indexer.database.tables import scenes
from indexer.times import microseconds

OTHERS = "*"


def parse_retention(text: str) -> dict[str, int]:
    """Read days by camera from "gate=30,*=365"; * is every other camera, and images without one.

    A camera's name may hold =, but no comma.

    Raises:
        ValueError: says which entry is wrong, and how.
    """
    days: dict[str, int] = {}
    for entry in filter(None, (each.strip() for each in text.split(","))):
        camera, equals, number = (part.strip() for part in entry.rpartition("="))
        if not equals or not camera:
            raise ValueError(f"expected camera=days, a comma between entries; got {entry!r}")
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 36_500):
            raise ValueError(f"expected whole days from 1 to 36500 for {camera!r}, got {number!r}")
        if camera in days:
            raise ValueError(f"the camera {camera!r} stands twice")
        days[camera] = int(number)
    return days


def expired(connection: Connection, days: Mapping[str, int], at: datetime, limit: int) -> list[str]:
    """At most limit ids of scenes that are too old, oldest first.

    A scene's age counts from when it was taken or, where nobody said, added.
    """
    if not days:
        return []
    taken = func.coalesce(scenes.c.captured_at, scenes.c.created_at)
    named = [camera for camera in days if camera != OTHERS]
    too_old = []
    for camera, count in days.items():
        of_camera = scenes.c.camera_id == camera
        if camera == OTHERS:
            of_camera = or_(scenes.c.camera_id.is_(None), scenes.c.camera_id.not_in(named))
        too_old.append(and_(of_camera, taken < microseconds(at - timedelta(days=count))))
    found = select(scenes.c.id).where(or_(*too_old)).order_by(taken, scenes.c.id).limit(limit)
    return list(connection.scalars(found))


def is_expired(connection: Connection, days: Mapping[str, int], at: datetime, id: str) -> bool:
    """Whether a scene is there and too old."""
    row = connection.execute(
        select(scenes.c.camera_id, scenes.c.captured_at, scenes.c.created_at).where(
            scenes.c.id == id
        )
    ).first()
    if row is None:
        return False
    count = days.get(row.camera_id or OTHERS, days.get(OTHERS))
    taken = row.created_at if row.captured_at is None else row.captured_at
    return count is not None and taken < microseconds(at - timedelta(days=count))
