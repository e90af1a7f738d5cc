"""Scenes in the database: their metadata, tags and checksums; filters as SQL.

Functions take a connection of Store.read, or of Store.write where they change something.
"""

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)

from indexer.database.statements import TimeOfDay, chunks
from indexer.database.tables import detections, scene_tags, scenes
from indexer.errors import ExternalIdConflictError, GalleryDamagedError, SceneNotFoundError
from indexer.ids import new_id
from indexer.records import NewScene, SceneFilter, StoredScene
from indexer.rows import change_log, generations, people
from indexer.rows.people import StoredPeople
from indexer.times import microseconds, now, since_midnight, time_of
from models.detections import Detections

# Reading


def get(connection: Connection, id: str, generation: int | None = None) -> StoredScene:
    """A scene and who is in it.

    Args:
        generation: the number of the one whose people are meant; None is the active one.

    Raises:
        SceneNotFoundError: there is none.
    """
    found = _read(connection, select(scenes).where(scenes.c.id == id))
    if not found:
        raise SceneNotFoundError(f"there is no scene {id}")
    return _with_people(connection, found, generation)[0]


def find(connection: Connection, sha256: str) -> StoredScene | None:
    """The scene with this content and who is in it, if it is stored."""
    found = _read(connection, select(scenes).where(scenes.c.sha256 == sha256))
    return next(iter(_with_people(connection, found)), None)


def numbered(connection: Connection, numbers: Collection[int]) -> dict[int, StoredScene]:
    """Scenes by number, without their detections; unknown numbers are left out."""
    found: dict[int, StoredScene] = {}
    for chunk in chunks(numbers):
        found |= _read(connection, select(scenes).where(scenes.c.number.in_(chunk)))
    return found


def page(
    connection: Connection,
    filter: SceneFilter,
    limit: int,
    after: str | None = None,
    *,
    newest_first: bool = False,
) -> list[StoredScene]:
    """At most limit scenes by rising id, or falling with newest_first, of those behind after."""
    id = scenes.c.id
    statement = select(scenes).where(_condition(filter)).limit(limit)
    statement = statement.order_by(id.desc() if newest_first else id)
    if after is not None:
        statement = statement.where(id < after if newest_first else id > after)
    return _with_people(connection, _read(connection, statement))


def count(connection: Connection, filter: SceneFilter) -> int:
    """How many scenes pass a filter."""
    statement = select(func.count()).select_from(scenes).where(_condition(filter))
    return connection.scalar(statement) or 0


def numbers(connection: Connection, filter: SceneFilter) -> NDArray[np.int64]:
    """The numbers of the scenes that pass a filter."""
    found = connection.scalars(select(scenes.c.number).where(_condition(filter)))
    return np.fromiter(found, np.int64)


def numbers_of(connection: Connection, ids: Collection[str]) -> NDArray[np.int64]:
    """The numbers of scenes by their ids; unknown ids are left out."""
    found: list[int] = []
    for chunk in chunks(ids):
        found += connection.scalars(select(scenes.c.number).where(scenes.c.id.in_(chunk)))
    return np.array(found, np.int64)


def years_captured(
    connection: Connection, start: datetime, end: datetime
) -> tuple[int, int] | None:
    """The first and the last year, in UTC, in which scenes were captured in start ≤ t < end.

    None when there are none.
    """
    at = scenes.c.captured_at
    statement = select(func.min(at), func.max(at)).where(
        at >= microseconds(start), at < microseconds(end)
    )
    first, last = connection.execute(statement).one()
    return None if first is None else (time_of(first).year, time_of(last).year)


def originals_bytes(connection: Connection) -> int:
    """Bytes of the originals of all scenes."""
    return int(connection.scalar(select(func.sum(scenes.c.content_bytes))) or 0)


def contents(connection: Connection) -> set[str]:
    """The SHA-256 of every scene's original."""
    return set(connection.scalars(select(scenes.c.sha256)))


def check(connection: Connection) -> None:
    """Read every scene.

    Raises:
        GalleryDamagedError: one is not what was written.
    """
    for chunk in chunks(connection.scalars(select(scenes.c.number)).all()):
        numbered(connection, chunk)


# Changing


def add(
    connection: Connection, scene: NewScene, seen: Mapping[int, Detections]
) -> tuple[str, dict[int, StoredPeople]]:
    """Insert a scene and who is in it.

    Args:
        seen: who is in it, by the number of the generation that sees them.

    Returns:
        Its id, and who was stored in each generation.

    Raises:
        ExternalIdConflictError: another scene has this external id.
    """
    _check_external_id(connection, scene.external_id, number=None)
    id = new_id("img_")
    values = {
        "id": id,
        "sha256": scene.sha256,
        "content_bytes": len(scene.content),
        "width": scene.width,
        "height": scene.height,
        "format": scene.format,
        "orientation": scene.orientation,
        "external_id": scene.external_id,
        "camera_id": scene.camera_id,
        "captured_at": _microseconds(scene.captured_at),
        "created_at": microseconds(now()),
        "attributes": json.dumps(dict(scene.attributes)),
    }
    values["checksum"] = checksum(values, list(dict.fromkeys(scene.tags)))
    inserted = connection.execute(insert(scenes).values(values))
    (number,) = inserted.inserted_primary_key or (0,)
    _set_tags(connection, number, scene.tags)
    active = generations.active(connection)
    # The active one goes first: the others take their ids from it.
    order = sorted(seen, key=lambda each: (active is None or each != active.number, each))
    stored = {each: people.add(connection, number, each, seen[each]) for each in order}
    found = len(stored[order[0]].rows) if order else 0
    change_log.record(connection, "scene_added", id, scene=number, detections=found)
    return id, stored


def patch(connection: Connection, id: str, changed: Mapping[str, object]) -> None:
    """Set some of external_id, camera_id, captured_at, tags, attributes.

    Raises:
        SceneNotFoundError: there is none.
        ExternalIdConflictError: another scene has this external id.
        ValueError: a key is none of these, or a value has the wrong type.
    """
    number = connection.scalar(select(scenes.c.number).where(scenes.c.id == id))
    if number is None:
        raise SceneNotFoundError(f"there is no scene {id}")
    values: dict[str, object] = {}
    for key, value in changed.items():
        if key == "tags" and isinstance(value, (tuple, list)):
            connection.execute(delete(scene_tags).where(scene_tags.c.scene == number))
            _set_tags(connection, number, value)
        elif key == "attributes" and isinstance(value, Mapping):
            values[key] = json.dumps(dict(value))
        elif key == "captured_at" and (value is None or isinstance(value, datetime)):
            values[key] = _microseconds(value)
        elif key in ("external_id", "camera_id") and (value is None or isinstance(value, str)):
            values[key] = value
        else:
            raise ValueError(f"expected metadata of a scene, got {key} of {type(value).__name__}")
    if "external_id" in values:
        _check_external_id(connection, changed["external_id"], number=number)
    if values:
        connection.execute(update(scenes).where(scenes.c.number == number).values(values))
    _update_checksum(connection, number)
    change_log.record(connection, "scene_changed", id, scene=number, fields=sorted(changed))


def remove(connection: Connection, id: str, **details: object) -> tuple[str, NDArray[np.int64]]:
    """Delete a scene and who is in it.

    Args:
        details: for the audit trail.

    Returns:
        The SHA-256 of its original, and the rows of its detections in all generations, ascending.

    Raises:
        SceneNotFoundError: there is none.
    """
    wanted = select(scenes.c.number, scenes.c.sha256).where(scenes.c.id == id)
    found = connection.execute(wanted).first()
    if found is None:
        raise SceneNotFoundError(f"there is no scene {id}")
    own = select(detections.c.row).where(detections.c.scene == found.number)
    rows = np.fromiter(connection.scalars(own.order_by(detections.c.row)), np.int64)
    connection.execute(delete(scenes).where(scenes.c.number == found.number))
    change_log.record(connection, "scene_removed", id, scene=found.number, **details)
    return found.sha256, rows


# Within


def _read(connection: Connection, statement: Any) -> dict[int, StoredScene]:
    """Scenes by number, without their detections, in the order of a statement."""
    rows = {row.number: row for row in connection.execute(statement)}
    tags: dict[int, list[str]] = {number: [] for number in rows}
    for chunk in chunks(rows):
        tagged = select(scene_tags).where(scene_tags.c.scene.in_(chunk))
        for row in connection.execute(tagged.order_by(scene_tags.c.position)):
            tags[row.scene].append(row.tag)
    try:
        return {number: _scene(row, tags[number]) for number, row in rows.items()}
    except (TypeError, ValueError, OverflowError) as error:  # a time or attributes unreadable
        raise GalleryDamagedError(f"a scene is not as it was written: {error}") from error


def _with_people(
    connection: Connection, found: Mapping[int, StoredScene], generation: int | None = None
) -> list[StoredScene]:
    seen = people.by_scene(connection, found, generation)
    return [replace(scene, detections=tuple(seen[number])) for number, scene in found.items()]


def _scene(row: Any, tags: Sequence[str]) -> StoredScene:
    if checksum(row._asdict(), tags) != row.checksum:
        raise ValueError(row.id)
    return StoredScene(
        id=row.id,
        sha256=row.sha256,
        width=row.width,
        height=row.height,
        format=row.format,
        orientation=row.orientation,
        external_id=row.external_id,
        camera_id=row.camera_id,
        captured_at=None if row.captured_at is None else time_of(row.captured_at),
        created_at=time_of(row.created_at),
        tags=tuple(tags),
        attributes=json.loads(row.attributes),
    )


def checksum(values: Mapping[str, Any], tags: Sequence[str]) -> int:
    """CRC-32 of a scene's columns, by name, and of its tags in order."""
    return zlib.crc32(json.dumps([*(values[name] for name in _SUMMED), *tags]).encode())


_SUMMED = (
    *("id", "sha256", "content_bytes", "width", "height", "format", "orientation"),
    *("external_id", "camera_id", "captured_at", "created_at", "attributes"),
)


def _update_checksum(connection: Connection, number: int) -> None:
    own = scenes.c.number == number
    row = connection.execute(select(scenes).where(own)).one()
    tagged = select(scene_tags.c.tag).where(scene_tags.c.scene == number)
    tags = list(connection.scalars(tagged.order_by(scene_tags.c.position)))
    new = checksum(row._asdict(), tags)
    connection.execute(update(scenes).where(own).values(checksum=new))


def _check_external_id(connection: Connection, external_id: object, *, number: int | None) -> None:
    if external_id is None:
        return
    holder = select(scenes.c.id).where(scenes.c.external_id == external_id)
    if number is not None:
        holder = holder.where(scenes.c.number != number)
    other = connection.scalar(holder)
    if other is not None:
        raise ExternalIdConflictError(f"the external id {external_id!r} belongs to {other}")


def _set_tags(connection: Connection, number: int, tags: Sequence[str]) -> None:
    unique = list(dict.fromkeys(tags))
    if unique:
        connection.execute(
            insert(scene_tags),
            [{"scene": number, "position": at, "tag": tag} for at, tag in enumerate(unique)],
        )


def _condition(filter: SceneFilter) -> ColumnElement[bool]:
    """A filter as SQL on the scenes table."""
    column = scenes.c
    all_of: list[ColumnElement[bool]] = [true()]
    if filter.camera_in is not None:
        all_of.append(column.camera_id.in_(filter.camera_in))
    if filter.camera_not_in:
        others = column.camera_id.not_in(filter.camera_not_in)
        all_of.append(or_(column.camera_id.is_(None), others))
    if filter.captured_from is not None:
        all_of.append(column.captured_at >= _microseconds(filter.captured_from))
    if filter.captured_to is not None:
        all_of.append(column.captured_at < _microseconds(filter.captured_to))
    if filter.time_of_day is not None:
        hours = filter.time_of_day
        start, end = since_midnight(hours.start), since_midnight(hours.end)
        shown = TimeOfDay(column.captured_at, literal(hours.zone))
        within = and_ if start <= end else or_
        all_of.append(within(shown >= start, shown < end))
    all_of += [column.number.in_(_with_tags([tag])) for tag in filter.tags_all]
    if filter.tags_any:
        all_of.append(column.number.in_(_with_tags(filter.tags_any)))
    if filter.tags_none:
        all_of.append(column.number.not_in(_with_tags(filter.tags_none)))
    if filter.scene_not_in:
        all_of.append(column.id.not_in(filter.scene_not_in))
    if filter.external_id is not None:
        all_of.append(column.external_id == filter.external_id)
    return and_(*all_of)


def _with_tags(tags: Sequence[str]) -> Any:
    return select(scene_tags.c.scene).where(scene_tags.c.tag.in_(tags))


def _microseconds(time: datetime | None) -> int | None:
    return None if time is None else microseconds(time)
