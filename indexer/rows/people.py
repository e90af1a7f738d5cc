"""People in the database: detections of scenes, each with its embedding and a checksum.

A detection has a row in each generation that sees it; that number is its id in a vector index.
Functions take a connection of Store.read, or of Store.write where they change something. Where they
take a generation, it is meant by its number; None is the active one.
"""

import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, delete, func, insert, select

from indexer.database.statements import CHUNK, chunks
from indexer.database.tables import (
    detections,
    labels,
    scene_generations,
    scenes,
    suppressed,
    vectors,
)
from indexer.errors import DetectionGoneError, DetectionNotFoundError, GalleryDamagedError
from indexer.ids import new_id
from indexer.records import StoredDetection
from indexer.rows import change_log, generations
from indexer.same_people import overlapping, paired
from models.detections import Detections


@dataclass(frozen=True)
class StoredPeople:
    """Stored detections with their embeddings.

    Attributes:
        rows: [N] int64, the ids in a vector index.
        scenes: [N] int64, the numbers of their scenes.
        ids: N ids of detections.
        detections: boxes, scores, embeddings.
    """

    rows: NDArray[np.int64]
    scenes: NDArray[np.int64]
    ids: tuple[str, ...]
    detections: Detections

    def select(self, wanted: NDArray[np.bool_]) -> "StoredPeople":
        """Some of them, by a mask [N]."""
        ids = tuple(id for id, is_wanted in zip(self.ids, wanted, strict=True) if is_wanted)
        some = self.detections.select(wanted)
        return StoredPeople(self.rows[wanted], self.scenes[wanted], ids, some)


# Reading


def get(connection: Connection, id: str, generation: int | None = None) -> StoredDetection:
    """
    Raises:
        DetectionNotFoundError: there is none.
        DetectionGoneError: only another generation has it.
    """
    wanted = _DETECTIONS.where(detections.c.id == id, _of(generation))
    row = connection.execute(wanted).first()
    if row is None:
        raise _missing(connection, id)
    return _detection(row)


def embedding(
    connection: Connection, id: str, generation: int | None = None
) -> NDArray[np.float32]:
    """The unit embedding [D] of a detection.

    Raises:
        DetectionNotFoundError, DetectionGoneError: as get does.
        GalleryDamagedError: it is not what was written.
    """
    row = connection.execute(_PEOPLE.where(detections.c.id == id, _of(generation))).first()
    if row is None:
        raise _missing(connection, id)
    found: NDArray[np.float32] = _people([row]).detections.embeddings[0]
    return found


def with_ids(connection: Connection, ids: Collection[str]) -> list[StoredDetection]:
    """Detections of the active generation by id; unknown ids are left out."""
    found: list[StoredDetection] = []
    for chunk in chunks(ids):
        wanted = _DETECTIONS.where(detections.c.id.in_(chunk), _of(None))
        found += map(_detection, connection.execute(wanted.order_by(detections.c.row)))
    return found


def with_label(connection: Connection, label: str) -> list[StoredDetection]:
    """Detections of the active generation that have this label."""
    wanted = _DETECTIONS.where(labels.c.label == label, _of(None)).order_by(detections.c.row)
    return [_detection(row) for row in connection.execute(wanted)]


def by_scene(
    connection: Connection, numbers: Collection[int], generation: int | None = None
) -> dict[int, list[StoredDetection]]:
    """The detections of each of some scenes, by the scenes' numbers."""
    found: dict[int, list[StoredDetection]] = {number: [] for number in numbers}
    for chunk in chunks(numbers):
        seen = _DETECTIONS.where(detections.c.scene.in_(chunk), _of(generation))
        for row in connection.execute(seen.order_by(detections.c.row)):
            found[row.scene].append(_detection(row))
    return found


def count(connection: Connection, generation: int | None = None) -> int:
    """How many detections a generation has."""
    counted = select(func.count()).select_from(detections).where(_of(generation))
    return connection.scalar(counted) or 0


def rows_of(connection: Connection, generation: int) -> NDArray[np.int64]:
    """The rows of a generation's detections, ascending."""
    wanted = select(detections.c.row).where(_of(generation)).order_by(detections.c.row)
    return np.fromiter(connection.scalars(wanted), np.int64)


def at_rows(connection: Connection, rows: Collection[int]) -> Iterator[StoredPeople]:
    """Detections by row; unknown rows are left out. Rising rows come back rising.

    Raises:
        GalleryDamagedError: one is not what was written.
    """
    for chunk in chunks(rows):
        wanted = _PEOPLE.where(detections.c.row.in_(chunk)).order_by(detections.c.row)
        found = connection.execute(wanted).all()
        if found:
            yield _people(found)


def everybody(connection: Connection, generation: int | None = None) -> Iterator[StoredPeople]:
    """Every detection of a generation, by rising row, some thousand at a time.

    Raises:
        GalleryDamagedError: one is not what was written.
    """
    ordered = _PEOPLE.where(_of(generation)).order_by(detections.c.row)
    ordered = ordered.execution_options(yield_per=CHUNK)
    with connection.execute(ordered) as result:  # closed even when the caller stops reading
        for found in result.partitions():
            yield _people(found)


def in_scenes(
    connection: Connection, numbers: Sequence[int], generation: int | None = None
) -> StoredPeople | None:
    """The people in at most CHUNK scenes, by rising row; None when there is nobody.

    Raises:
        GalleryDamagedError: one is not what was written.
    """
    wanted = _PEOPLE.where(detections.c.scene.in_(numbers), _of(generation))
    found = connection.execute(wanted.order_by(detections.c.row)).all()
    return _people(found) if found else None


# Changing


def add(connection: Connection, scene: int, generation: int, found: Detections) -> StoredPeople:
    """Insert the people of a scene, by its number, in one generation.

    People at boxes of detections that were removed from the scene are left out. Whoever the active
    generation has in nearly the same box gets the same id.

    Returns:
        Who was stored.
    """
    connection.execute(insert(scene_generations).values(generation=generation, scene=scene))
    box = (suppressed.c.x1, suppressed.c.y1, suppressed.c.x2, suppressed.c.y2)
    removed = connection.execute(select(*box).where(suppressed.c.scene == scene)).all()
    if removed:
        unwanted = overlapping(found.boxes, np.array([tuple(one) for one in removed]))
        found = found.select(~unwanted)
    if not len(found):
        none = np.zeros(0, np.int64)
        return StoredPeople(none, none, (), found)
    ids = _ids_for(connection, scene, found)
    blobs = [one.astype("<f4").tobytes() for one in found.embeddings]
    values = []
    for id, (x1, y1, x2, y2), score, blob in zip(
        ids, found.boxes.tolist(), found.scores.tolist(), blobs, strict=True
    ):
        checksum = _checksum(id, scene, (x1, y1, x2, y2, score), blob)
        values.append(
            {"id": id, "generation": generation, "scene": scene, "score": score}
            | {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "checksum": checksum}
        )
    connection.execute(insert(detections), values)
    inserted = select(detections.c.row).where(detections.c.scene == scene, _of(generation))
    rows = np.fromiter(connection.scalars(inserted.order_by(detections.c.row)), np.int64)
    connection.execute(
        insert(vectors),
        [{"row": row, "embedding": blob} for row, blob in zip(rows.tolist(), blobs, strict=True)],
    )
    return StoredPeople(rows, np.full(len(rows), scene, np.int64), tuple(ids), found)


def add_to_scene(
    connection: Connection, scene_id: str, generation: int, found: Detections
) -> StoredPeople | None:
    """Insert who is in a stored scene as one more generation sees it.

    Returns:
        Who was stored; None when there is no such scene, or the generation has it already.
    """
    scene = connection.scalar(select(scenes.c.number).where(scenes.c.id == scene_id))
    had = select(scene_generations.c.scene).where(
        scene_generations.c.scene == scene, scene_generations.c.generation == generation
    )
    if scene is None or connection.scalar(had) is not None:
        return None
    return add(connection, scene, generation, found)


def remove(connection: Connection, id: str, **details: object) -> NDArray[np.int64]:
    """Delete one detection from all generations, and keep later ones from finding it again.

    Args:
        details: for the audit trail.

    Returns:
        Its rows, ascending, with those of boxes that only other generations have and that are the
        same person by their overlap.

    Raises:
        DetectionNotFoundError: there is none.
    """
    box = (detections.c.x1, detections.c.y1, detections.c.x2, detections.c.y2)
    own = connection.execute(
        select(detections.c.scene, detections.c.row, *box).where(detections.c.id == id)
    ).all()
    if not own:
        raise DetectionNotFoundError(f"there is no detection {id}")
    scene = own[0].scene
    boxes = np.array([one[2:] for one in own], np.float64)
    connection.execute(
        insert(suppressed),
        [
            {"scene": scene, "x1": x1, "y1": y1, "x2": x2, "y2": y2}
            for x1, y1, x2, y2 in sorted({tuple(each) for each in boxes.tolist()})
        ],
    )
    having = select(detections.c.generation).where(detections.c.id == id)
    elsewhere = connection.execute(
        select(detections.c.row, *box).where(
            detections.c.scene == scene, detections.c.generation.not_in(having)
        )
    ).all()
    others = np.array([one[1:] for one in elsewhere], np.float64).reshape(-1, 4)
    same = overlapping(others, boxes)
    rows = [one.row for one in own]
    rows += [one.row for one, is_same in zip(elsewhere, same, strict=True) if is_same]
    gone = select(detections.c.id).where(detections.c.row.in_(rows))
    connection.execute(delete(labels).where(labels.c.detection.in_(gone)))
    connection.execute(delete(detections).where(detections.c.row.in_(rows)))
    change_log.record(connection, "detection_removed", id, scene=scene, **details)
    return np.array(sorted(rows), np.int64)


# Within

_DETECTIONS = (
    select(detections, scenes.c.id.label("scene_id"), labels.c.label)
    .join_from(detections, scenes)
    .join(labels, labels.c.detection == detections.c.id, isouter=True)
)
_PEOPLE = select(
    detections.c.row,
    detections.c.scene,
    detections.c.id,
    detections.c.x1,
    detections.c.y1,
    detections.c.x2,
    detections.c.y2,
    detections.c.score,
    detections.c.checksum,
    vectors.c.embedding,
).join_from(detections, vectors, isouter=True)


def _of(generation: int | None) -> ColumnElement[bool]:
    return detections.c.generation == (generations.ACTIVE if generation is None else generation)


def _missing(connection: Connection, id: str) -> DetectionNotFoundError:
    """Why a generation has no detection of this id."""
    elsewhere = select(scenes.c.id).join_from(detections, scenes).where(detections.c.id == id)
    scene_id = connection.scalar(elsewhere.limit(1))
    if scene_id is None:
        return DetectionNotFoundError(f"there is no detection {id}")
    return DetectionGoneError(
        f"{id} was seen by another model in the image {scene_id}; the one that "
        "answers does not see it"
    )


def _ids_for(connection: Connection, scene: int, found: Detections) -> list[str]:
    """Ids for people of a scene: the active generation's where boxes match, else new ones."""
    active = _DETECTIONS.where(detections.c.scene == scene, _of(None))
    known = connection.execute(active.order_by(detections.c.row)).all()
    boxes = np.array([(one.x1, one.y1, one.x2, one.y2) for one in known]).reshape(-1, 4)
    pairs = paired(boxes, found.boxes)
    return [known[pairs[new]].id if new in pairs else new_id("det_") for new in range(len(found))]


def _detection(row: Any) -> StoredDetection:
    box = (row.x1, row.y1, row.x2, row.y2)
    return StoredDetection(row.id, row.scene_id, box, row.score, row.label)


def _people(found: Sequence[Any]) -> StoredPeople:
    rows, numbers, ids, *columns, checksums, blobs = zip(*found, strict=True)
    for id, number, values, checksum, blob in zip(
        ids, numbers, zip(*columns, strict=True), checksums, blobs, strict=True
    ):
        if not _is_as_written(id, number, values, checksum, blob):
            raise GalleryDamagedError(f"the detection {id} is not as it was written")
    boxes = np.ascontiguousarray(np.array(columns[:4], np.float32).T)
    embeddings = np.frombuffer(b"".join(blobs), "<f4").reshape(len(rows), -1).astype(np.float32)
    people = Detections(boxes, np.array(columns[4], np.float32), embeddings)
    return StoredPeople(np.array(rows, np.int64), np.array(numbers, np.int64), ids, people)


def _is_as_written(
    id: str, scene: int, values: Sequence[float], checksum: int, embedding: bytes | None
) -> bool:
    try:
        return embedding is not None and _checksum(id, scene, values, embedding) == checksum
    except (AttributeError, TypeError, struct.error):  # damage may change the type of a value
        return False


def _checksum(id: str, scene: int, values: Sequence[float], embedding: bytes) -> int:
    return zlib.crc32(embedding, zlib.crc32(id.encode() + struct.pack("<q5d", scene, *values)))
