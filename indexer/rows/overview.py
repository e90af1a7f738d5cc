"""What a gallery holds, in a few numbers: its cameras, tags and labels."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from indexer.database.tables import detections, generations, labels, scene_tags, scenes
from indexer.times import time_of

MOST_LISTED = 1000


@dataclass(frozen=True)
class CameraCount:
    """How many scenes a camera has, and when the first and the last of them were taken.

    Attributes:
        camera_id: None stands for scenes without a camera.
        first_captured_at, last_captured_at: None where no scene says when it was taken.
    """

    camera_id: str | None
    scenes: int
    first_captured_at: datetime | None
    last_captured_at: datetime | None


@dataclass(frozen=True)
class Overview:
    """How much there is.

    Attributes:
        detections: of the active generation.
        labelled: how many of these have a label.
        people: how many different labels they have.
        cameras: by name, at most MOST_LISTED.
        tags: each with how many scenes have it, the most frequent first; at most MOST_LISTED.
    """

    scenes: int
    detections: int
    labelled: int
    people: int
    cameras: tuple[CameraCount, ...]
    tags: tuple[tuple[str, int], ...]


def overview(connection: Connection) -> Overview:
    """Count it all, as a connection of Store.read shows it."""
    own = detections.c.generation == generations.c.number
    answering = generations.c.state == "active"
    found = connection.scalar(
        select(func.count()).select_from(detections.join(generations, own)).where(answering)
    )
    labelled = connection.execute(
        select(func.count(), func.count(labels.c.label.distinct()))
        .select_from(
            labels.join(detections, labels.c.detection == detections.c.id).join(generations, own)
        )
        .where(answering)
    ).one()
    column = scenes.c
    cameras = connection.execute(
        select(
            column.camera_id,
            func.count(),
            func.min(column.captured_at),
            func.max(column.captured_at),
        )
        .group_by(column.camera_id)
        .order_by(column.camera_id)
        .limit(MOST_LISTED)
    )
    tags = connection.execute(
        select(scene_tags.c.tag, func.count())
        .group_by(scene_tags.c.tag)
        .order_by(func.count().desc(), scene_tags.c.tag)
        .limit(MOST_LISTED)
    )
    return Overview(
        scenes=connection.scalar(select(func.count()).select_from(scenes)) or 0,
        detections=found or 0,
        labelled=labelled[0],
        people=labelled[1],
        cameras=tuple(CameraCount(name, n, _time(a), _time(b)) for name, n, a, b in cameras),
        tags=tuple((tag, count) for tag, count in tags),
    )


def _time(stored: int | None) -> datetime | None:
    return None if stored is None else time_of(stored)
