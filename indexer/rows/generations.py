"""Generations in the database: which models' people are stored, and which of them is active.

Functions take a connection of Store.read, or of Store.write where they change something.
"""

from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from indexer.database.tables import detections, generations, labels, scene_generations, scenes
from indexer.errors import GenerationNotFoundError
from indexer.ids import new_id
from indexer.records import GalleryModel, Generation, GenerationCount, GenerationState
from indexer.times import microseconds, now, time_of

ACTIVE = select(generations.c.number).where(generations.c.state == "active").scalar_subquery()


def active(connection: Connection) -> Generation | None:
    """The active one; None in a store just made."""
    row = connection.execute(select(generations).where(generations.c.state == "active")).first()
    return None if row is None else _generation(row)


def get(connection: Connection, id: str) -> Generation:
    """
    Raises:
        GenerationNotFoundError: there is none.
    """
    row = connection.execute(select(generations).where(generations.c.id == id)).first()
    if row is None:
        raise GenerationNotFoundError(f"there is no generation {id}")
    return _generation(row)


def of_model(connection: Connection, fingerprint: str) -> Generation | None:
    """The one of this model, if there is one."""
    own = select(generations).where(generations.c.model_fingerprint == fingerprint)
    row = connection.execute(own).first()
    return None if row is None else _generation(row)


def building(connection: Connection) -> Generation | None:
    """The one that is being built, if there is one."""
    row = connection.execute(select(generations).where(generations.c.state == "building")).first()
    return None if row is None else _generation(row)


def counts(connection: Connection) -> list[GenerationCount]:
    """All of them, oldest first."""
    return [
        GenerationCount(
            _generation(row),
            _count(connection, scene_generations, row.number),
            _count(connection, detections, row.number),
        )
        for row in connection.execute(select(generations).order_by(generations.c.number)).all()
    ]


def scenes_in(connection: Connection, number: int) -> int:
    """How many scenes a generation has."""
    return _count(connection, scene_generations, number)


def lacking(connection: Connection, number: int, limit: int, after: int = 0) -> dict[int, str]:
    """At most limit scenes that a generation lacks, of those with numbers above after.

    Returns:
        Their ids by their numbers, ascending.
    """
    had = select(scene_generations.c.scene).where(scene_generations.c.generation == number)
    missing = select(scenes.c.number, scenes.c.id).where(
        scenes.c.number > after, scenes.c.number.not_in(had)
    )
    found = connection.execute(missing.order_by(scenes.c.number).limit(limit))
    return {row.number: row.id for row in found}


def begin(connection: Connection, model: GalleryModel, state: GenerationState) -> Generation:
    """Insert a generation without any scene."""
    id, at = new_id("gen_"), microseconds(now())
    connection.execute(
        insert(generations).values(
            id=id,
            state=state,
            model_name=model.name,
            model_fingerprint=model.fingerprint,
            embedding_dim=model.embedding_dim,
            model_path=model.path,
            created_at=at,
            activated_at=at if state == "active" else None,
        )
    )
    return get(connection, id)


def name_model(connection: Connection, number: int, model: GalleryModel) -> None:
    """Note what the model of a generation is called now, and where it lies."""
    _set(connection, number, model_name=model.name, model_path=model.path)


def set_state(connection: Connection, number: int, state: GenerationState) -> None:
    """Set a state without any check; to swap the active one, use activate."""
    _set(connection, number, state=state)


def activate(connection: Connection, number: int) -> None:
    """Make this one active, and the active one "kept"."""
    was_active = generations.c.state == "active"
    connection.execute(update(generations).where(was_active).values(state="kept"))
    _set(connection, number, state="active", activated_at=microseconds(now()))


def remove_some(connection: Connection, number: int, limit: int) -> bool:
    """Delete a generation's people in at most limit scenes; and the generation, once it has none.

    Returns:
        Whether the generation is deleted.
    """
    own = select(scene_generations.c.scene).where(scene_generations.c.generation == number)
    some = list(connection.scalars(own.limit(limit)))
    for table in (detections, scene_generations):
        meant = (table.c.generation == number) & table.c.scene.in_(some)
        connection.execute(delete(table).where(meant))
    seen = select(detections.c.id).where(detections.c.scene == labels.c.scene)
    unseen = labels.c.scene.in_(some) & labels.c.detection.not_in(seen)
    connection.execute(delete(labels).where(unseen))
    if not some:
        connection.execute(delete(generations).where(generations.c.number == number))
    return not some


def _count(connection: Connection, table: Any, number: int) -> int:
    counted = select(func.count()).select_from(table).where(table.c.generation == number)
    return connection.scalar(counted) or 0


def _set(connection: Connection, number: int, **values: object) -> None:
    meant = generations.c.number == number
    connection.execute(update(generations).where(meant).values(**values))


def _generation(row: Any) -> Generation:
    return Generation(
        row.number,
        row.id,
        row.state,
        GalleryModel(row.model_name, row.model_fingerprint, row.embedding_dim, row.model_path),
        time_of(row.created_at),
        None if row.activated_at is None else time_of(row.activated_at),
    )
