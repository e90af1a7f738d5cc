"""The truth: scenes, detections, embeddings and changes, in one database.

A Snapshot reads one committed state; a Change is one transaction, all or nothing, on disk when it
ends. Writing is one at a time: who comes second waits.
"""

import json
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

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

from indexer.database import audit, generations
from indexer.database.columns import TimeOfDay
from indexer.database.migrate import migrate
from indexer.database.seam import Database, Frozen
from indexer.database.sqlite import SqliteFile
from indexer.database.tables import (
    calibrations,
    changes,
    detections,
    labels,
    scene_generations,
    scene_tags,
    scenes,
    suppressed,
    vectors,
)
from indexer.database.transfer import copy_rows
from indexer.errors import (
    ExternalIdConflictError,
    GalleryDamagedError,
    GalleryError,
    GalleryNotEmptyError,
)
from indexer.ids import new_id
from indexer.records import (
    NewScene,
    SceneFilter,
    StoredCalibration,
    StoredDetection,
    StoredScene,
)
from indexer.same_people import overlapping, paired
from indexer.times import microseconds, since_midnight, time_of
from models.detections import Detections
from models.evaluation.calibration import Calibration

DATABASE = "gallery.sqlite3"
REMOVALS = ("scene_removed", "detection_removed")  # kinds of changes that take people away
CHUNK = 5_000  # values in one IN (…), rows in one fetch; SQLite allows 32,766 values
T = TypeVar("T")


@dataclass(frozen=True)
class People:
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

    def select(self, wanted: NDArray[np.bool_]) -> "People":
        """Some of them, by a mask [N]."""
        ids = tuple(id for id, is_wanted in zip(self.ids, wanted, strict=True) if is_wanted)
        return People(self.rows[wanted], self.scenes[wanted], ids, self.detections.select(wanted))


class Store:
    """The database of one gallery.

    Args of the constructor: the path of a file of SQLite, or the URL of a PostgreSQL database.

    Raises:
        GalleryMismatchError: when a newer version of this code wrote it.
        GalleryDamagedError: when it is no SQLite database, or a broken one.
    """

    def __init__(self, where: Path | str) -> None:
        self._database = open_database(where)
        self._writer, self._reader = self._database.writer, self._database.reader
        try:
            migrate(self._database)
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        """For messages."""
        return self._database.name

    @property
    def shared(self) -> bool:
        """Whether other processes may change it meanwhile."""
        return self._database.shared

    @contextmanager
    def read(self) -> Iterator["Snapshot"]:
        """What is committed now; later changes are not seen."""
        with self._database.reading() as connection:
            snapshot = Snapshot(connection)
            snapshot.last_change()  # what is seen is fixed at the first statement, not at BEGIN
            yield snapshot

    @contextmanager
    def write(self) -> Iterator["Change"]:
        """One transaction: committed and synced to disk at the end, undone by an exception.

        Raises:
            StorageFullError: nothing was changed.
        """
        with self._database.writing() as connection:
            yield Change(connection)

    def changing(self) -> AbstractContextManager[None]:
        """A time in which no other process is in one; the same thread may nest it."""
        return self._database.changing()

    def indexing(self) -> AbstractContextManager[None]:
        """A time in which no other process brings up an index that all of them use."""
        return self._database.indexing()

    def claim(self, name: str) -> bool:
        """Have a name for this process alone; False when another process has it."""
        return self._database.claim(name)

    def unclaim(self, name: str) -> None:
        """Have a name no more, if this process has it."""
        self._database.unclaim(name)

    def keeping(self) -> AbstractContextManager[None]:
        """A time in which kept tells all processes that what is removed stays where it is."""
        return self._database.keeping()

    def kept(self) -> bool:
        """Whether another process is in such a time."""
        return self._database.kept()

    def frozen(self) -> AbstractContextManager[Frozen]:
        """What is committed now, for as long as a copy takes."""
        return self._database.frozen()

    def take_all_of(self, other: "Store") -> None:
        """Copy everything that another store holds, with its ids and numbers; all or nothing.

        Raises:
            GalleryNotEmptyError: something is here already; nothing was changed.
        """
        with other.read() as theirs, self.write() as change:
            if generations.counts(change.connection):
                raise GalleryNotEmptyError(f"there is a gallery in {self.name} already")
            counters = other._database.counters(theirs.connection)
            copy_rows(theirs.connection, change.connection)
            self._database.set_counters(change.connection, counters)

    def vacuum(self) -> None:
        """Write the database anew, without what was deleted, and empty the log.

        SQLite needs twice the space of the database for a while, and as much for a temporary file;
        changes wait, reading goes on. PostgreSQL writes one table after the other, and holds
        reading off, too.

        Raises:
            StorageFullError: there is no space; nothing was changed.
        """
        self._database.vacuum()

    def empty_log(self) -> None:
        """Fold SQLite's write-ahead log into the database, and cut it to nothing.

        Waits for reads that began before it; changes wait for it. PostgreSQL's log is its own.

        Raises:
            GalleryError: a read went on for longer than a minute.
        """
        self._database.empty_log()

    def space(self) -> tuple[int, int]:
        """Bytes of the database, its log left out, and how many of them nothing needs."""
        return self._database.space()

    @property
    def nbytes(self) -> int:
        """Bytes of the database and its write-ahead log."""
        return self._database.nbytes

    def close(self) -> None:
        self._database.close()


def open_database(where: Path | str) -> Database:
    """A database by the path of its file, or by a URL: postgresql://user@host/name.

    Raises:
        GalleryError: the URL is of something else, or what it needs is not installed.
    """
    if isinstance(where, Path):
        return SqliteFile(where)
    if where.partition(":")[0] not in ("postgresql", "postgres"):
        raise GalleryError("expected a database URL like postgresql://user@host/name")
    try:
        import psycopg  # noqa: F401  # only who has a PostgreSQL needs to have it
    except ImportError:
        raise GalleryError("PostgreSQL needs psycopg: pip install 'nae-search[scale]'") from None
    from indexer.database.postgres import Postgres

    return Postgres(where)


class Snapshot:
    """One committed state of a store."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """For the tables that have a module of their own."""
        return self._connection

    def last_change(self) -> int:
        """The number of the newest change; 0 before the first."""
        return self._connection.scalar(select(func.max(changes.c.number))) or 0

    def scene(
        self, *, id: str | None = None, sha256: str | None = None, generation: int | None = None
    ) -> StoredScene | None:
        """The scene with this id, or with this content, and who is in it.

        Args:
            generation: the number of the one whose people are meant; here and below, None is the
                one that answers.
        """
        wanted = scenes.c.id == id if id is not None else scenes.c.sha256 == sha256
        found = self._scenes(
            select(scenes).where(wanted), with_detections=True, generation=generation
        )
        return next(iter(found.values()), None)

    def scenes_numbered(self, numbers: Collection[int]) -> dict[int, StoredScene]:
        """Scenes by number, without their detections; those that are gone are left out."""
        found: dict[int, StoredScene] = {}
        for chunk in _chunks(numbers):
            statement = select(scenes).where(scenes.c.number.in_(chunk))
            found |= self._scenes(statement, with_detections=False)
        return found

    def page(
        self, filter: SceneFilter, limit: int, after: str | None, *, newest_first: bool = False
    ) -> list[StoredScene]:
        """At most limit scenes with ids behind after, in the order of their ids, or against it."""
        id = scenes.c.id
        statement = select(scenes).where(_condition(filter)).limit(limit)
        statement = statement.order_by(id.desc() if newest_first else id)
        if after is not None:
            statement = statement.where(id < after if newest_first else id > after)
        return list(self._scenes(statement, with_detections=True).values())

    def count(self, filter: SceneFilter) -> int:
        statement = select(func.count()).select_from(scenes).where(_condition(filter))
        return self._connection.scalar(statement) or 0

    def numbers(self, filter: SceneFilter) -> NDArray[np.int64]:
        """The numbers of the scenes that a filter means."""
        found = self._connection.scalars(select(scenes.c.number).where(_condition(filter)))
        return np.fromiter(found, np.int64)

    def years_captured(self, start: datetime, end: datetime) -> tuple[int, int] | None:
        """The first and the last year, of UTC, in which scenes were captured in start ≤ t < end.

        None when there are none.
        """
        at = scenes.c.captured_at
        statement = select(func.min(at), func.max(at)).where(
            at >= microseconds(start), at < microseconds(end)
        )
        first, last = self._connection.execute(statement).one()
        return None if first is None else (time_of(first).year, time_of(last).year)

    def numbers_of(self, ids: Collection[str]) -> NDArray[np.int64]:
        """The numbers of these scenes; those that are gone are left out."""
        found: list[int] = []
        for chunk in _chunks(ids):
            found += self._connection.scalars(select(scenes.c.number).where(scenes.c.id.in_(chunk)))
        return np.array(found, np.int64)

    def totals(self) -> tuple[int, int]:
        """How many detections the generation that answers has, and the bytes of all originals."""
        counted = select(func.count()).select_from(detections).where(_of(None))
        count = self._connection.scalar(counted)
        size = self._connection.scalar(select(func.sum(scenes.c.content_bytes)))
        return count or 0, int(size or 0)

    def check_scenes(self) -> None:
        """Read every scene.

        Raises:
            GalleryDamagedError: when one is not what was written.
        """
        numbers = self._connection.scalars(select(scenes.c.number)).all()
        for chunk in _chunks(numbers):
            self.scenes_numbered(chunk)

    def contents(self) -> set[str]:
        """The sha256 of every scene."""
        return set(self._connection.scalars(select(scenes.c.sha256)))

    def detection(self, id: str, generation: int | None = None) -> StoredDetection | None:
        statement = _DETECTIONS.where(detections.c.id == id, _of(generation))
        row = self._connection.execute(statement).first()
        return None if row is None else _stored_detection(row)

    def scene_of(self, detection_id: str) -> str | None:
        """The id of the scene of a detection, whatever generation has it."""
        statement = select(scenes.c.id).join_from(detections, scenes)
        return self._connection.scalar(statement.where(detections.c.id == detection_id).limit(1))

    def detections(self, ids: Collection[str]) -> list[StoredDetection]:
        """Detections by id; those that are gone are left out."""
        found: list[StoredDetection] = []
        for chunk in _chunks(ids):
            asked = _DETECTIONS.where(detections.c.id.in_(chunk), _of(None))
            found += [
                _stored_detection(row)
                for row in self._connection.execute(asked.order_by(detections.c.row))
            ]
        return found

    def embedding(self, id: str, generation: int | None = None) -> NDArray[np.float32] | None:
        """The unit embedding [D] of a detection; None when there is no such detection.

        Raises:
            GalleryDamagedError: when it is not what was written.
        """
        asked = _PEOPLE.where(detections.c.id == id, _of(generation))
        row = self._connection.execute(asked).first()
        if row is None:
            return None
        embedding: NDArray[np.float32] = _people([row]).detections.embeddings[0]
        return embedding

    def rows_of(self, generation: int) -> NDArray[np.int64]:
        """The rows of a generation's detections, ascending."""
        asked = select(detections.c.row).where(_of(generation)).order_by(detections.c.row)
        return np.fromiter(self._connection.scalars(asked), np.int64)

    def people(self, rows: Collection[int]) -> Iterator[People]:
        """Detections by row; those that are gone are left out. When rows rise, so do they.

        Raises:
            GalleryDamagedError: when one is not what was written.
        """
        for chunk in _chunks(rows):
            asked = _PEOPLE.where(detections.c.row.in_(chunk)).order_by(detections.c.row)
            found = self._connection.execute(asked).all()
            if found:
                yield _people(found)

    def all_people(self, generation: int | None = None) -> Iterator[People]:
        """Every detection of a generation, by rising row, some thousand at a time.

        Raises:
            GalleryDamagedError: when one is not what was written.
        """
        ordered = _PEOPLE.where(_of(generation)).order_by(detections.c.row)
        ordered = ordered.execution_options(yield_per=CHUNK)
        with self._connection.execute(ordered) as result:  # ended also where nobody reads on
            for found in result.partitions():
                yield _people(found)

    def people_in(
        self, scene_ids: Collection[str], generation: int | None = None
    ) -> Iterator[People]:
        """A generation's people in these scenes, by rising row; of scenes that are gone, nobody.

        Raises:
            GalleryDamagedError: when one is not what was written.
        """
        for chunk in _chunks(self.numbers_of(scene_ids).tolist()):
            found = self.people_of(chunk, generation)
            if found is not None:
                yield found

    def people_of(self, numbers: Sequence[int], generation: int | None = None) -> People | None:
        """A generation's people in at most CHUNK scenes, by rising row; None when there is nobody.

        Raises:
            GalleryDamagedError: when one is not what was written.
        """
        wanted = _PEOPLE.where(detections.c.scene.in_(numbers), _of(generation))
        found = self._connection.execute(wanted.order_by(detections.c.row)).all()
        return _people(found) if found else None

    def changed_scenes(self, after: int, *, fewer: bool) -> Iterator[list[int]]:
        """The numbers of the scenes that changes with higher numbers are of, ascending, at most
        CHUNK at a time.

        Args:
            fewer: those from which people were removed, or else all others.
        """
        later = and_(changes.c.number > after, changes.c.scene.is_not(None))
        removing = select(changes.c.scene).where(later, changes.c.kind.in_(REMOVALS))
        which = changes.c.scene.in_(removing) if fewer else changes.c.scene.not_in(removing)
        asked = select(changes.c.scene).where(later, which).distinct().order_by(changes.c.scene)
        yield from _chunks([int(number or 0) for number in self._connection.scalars(asked)])

    def labels(
        self, rows: Collection[int] | None = None, *, generation: int | None = None
    ) -> dict[int, str]:
        """Labels by the rows of their detections, rising; of some, or of all of a generation."""
        every = (
            select(detections.c.row, labels.c.label)
            .join_from(labels, detections, labels.c.detection == detections.c.id)
            .order_by(detections.c.row)
        )
        if rows is None:
            own = self._connection.execute(every.where(_of(generation)))
            return {row.row: row.label for row in own}
        found: dict[int, str] = {}
        for chunk in _chunks(rows):
            some = self._connection.execute(every.where(detections.c.row.in_(chunk)))
            found |= {row.row: row.label for row in some}
        return found

    def detections_labelled(self, label: str) -> list[StoredDetection]:
        """Detections that people say are this one."""
        asked = _DETECTIONS.where(labels.c.label == label, _of(None)).order_by(detections.c.row)
        return [_stored_detection(row) for row in self._connection.execute(asked)]

    def calibrations(self, fingerprint: str, limit: int) -> list[StoredCalibration]:
        """Those made with a model, newest first."""
        newest = (
            select(calibrations)
            .where(calibrations.c.model_fingerprint == fingerprint)
            .order_by(calibrations.c.id.desc())
            .limit(limit)
        )
        return [_stored_calibration(row) for row in self._connection.execute(newest)]

    def newest_calibration(self, fingerprint: str) -> str | None:
        """The id of the newest one made with a model."""
        own = calibrations.c.model_fingerprint == fingerprint
        newest: str | None = self._connection.scalar(select(func.max(calibrations.c.id)).where(own))
        return newest

    def calibration(self, id: str) -> StoredCalibration | None:
        statement = select(calibrations).where(calibrations.c.id == id)
        row = self._connection.execute(statement).first()
        return None if row is None else _stored_calibration(row)

    def _scenes(
        self, statement: Any, *, with_detections: bool, generation: int | None = None
    ) -> dict[int, StoredScene]:
        found = {row.number: row for row in self._connection.execute(statement)}
        tags: dict[int, list[str]] = {number: [] for number in found}
        people: dict[int, list[StoredDetection]] = {number: [] for number in found}
        for chunk in _chunks(found):
            tagged = select(scene_tags).where(scene_tags.c.scene.in_(chunk))
            for row in self._connection.execute(tagged.order_by(scene_tags.c.position)):
                tags[row.scene].append(row.tag)
            if with_detections:
                seen = _DETECTIONS.where(detections.c.scene.in_(chunk), _of(generation))
                for row in self._connection.execute(seen.order_by(detections.c.row)):
                    people[row.scene].append(_stored_detection(row))
        try:
            return {
                number: _stored_scene(row, tags[number], people[number])
                for number, row in found.items()
            }
        except (TypeError, ValueError, OverflowError) as error:  # a time or attributes unreadable
            raise GalleryDamagedError(f"a scene is not as it was written: {error}") from error


class Change(Snapshot):
    """One transaction that writes."""

    def add(
        self, scene: NewScene, people: Mapping[int, Detections]
    ) -> tuple[str, int, dict[int, People]]:
        """Insert a scene and who is in it.

        Args:
            people: by the number of the generation that sees them.

        Returns:
            Its id, its number, and who was stored in each generation.

        Raises:
            ExternalIdConflictError: when another scene has this external id.
        """
        self._check_external_id(scene.external_id, number=None)
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
            "created_at": _microseconds(datetime.now(UTC)),
            "attributes": json.dumps(dict(scene.attributes)),
        }
        values["checksum"] = scene_checksum(values, list(dict.fromkeys(scene.tags)))
        inserted = self._connection.execute(insert(scenes).values(values))
        (number,) = inserted.inserted_primary_key or (0,)
        self._set_tags(number, scene.tags)
        active = generations.active(self._connection)
        # The one that answers goes first: the others take their ids from it.
        order = sorted(people, key=lambda each: (active is None or each != active.number, each))
        stored = {each: self._add_people(number, each, people[each]) for each in order}
        self._record(
            "scene_added", id, number, detections=len(stored[order[0]].rows) if order else 0
        )
        return id, number, stored

    def add_people(self, scene_id: str, generation: int, people: Detections) -> People | None:
        """Store who is in a scene as one more generation sees it.

        Returns:
            Who was stored; None when there is no such scene, or the generation has it already.
        """
        number = self._connection.scalar(select(scenes.c.number).where(scenes.c.id == scene_id))
        had = select(scene_generations.c.scene).where(
            scene_generations.c.scene == number, scene_generations.c.generation == generation
        )
        if number is None or self._connection.scalar(had) is not None:
            return None
        return self._add_people(number, generation, people)

    def patch(self, id: str, changed: Mapping[str, object]) -> bool:
        """Set some of external_id, camera_id, captured_at, tags, attributes.

        Returns:
            False when there is no such scene.

        Raises:
            ExternalIdConflictError: when another scene has this external id.
            ValueError: when a key is none of these.
        """
        number = self._connection.scalar(select(scenes.c.number).where(scenes.c.id == id))
        if number is None:
            return False
        values: dict[str, object] = {}
        for key, value in changed.items():
            if key == "tags" and isinstance(value, (tuple, list)):
                self._connection.execute(delete(scene_tags).where(scene_tags.c.scene == number))
                self._set_tags(number, value)
            elif key == "attributes" and isinstance(value, Mapping):
                values[key] = json.dumps(dict(value))
            elif key == "captured_at" and (value is None or isinstance(value, datetime)):
                values[key] = _microseconds(value)
            elif key in ("external_id", "camera_id") and (value is None or isinstance(value, str)):
                values[key] = value
            else:
                raise ValueError(
                    f"expected metadata of a scene, got {key} of {type(value).__name__}"
                )
        if "external_id" in values:
            self._check_external_id(changed["external_id"], number=number)
        if values:
            self._connection.execute(update(scenes).where(scenes.c.number == number).values(values))
        self._sum_up(number)
        self._record("scene_changed", id, number, fields=sorted(changed))
        return True

    def remove(self, id: str, **details: object) -> tuple[str, NDArray[np.int64]] | None:
        """Delete a scene and who is in it.

        Args:
            details: for the audit trail.

        Returns:
            The sha256 of its content and the rows of its detections; None when there is no such
            scene.
        """
        row = self._connection.execute(
            select(scenes.c.number, scenes.c.sha256).where(scenes.c.id == id)
        ).first()
        if row is None:
            return None
        rows = self._rows(row.number)
        self._connection.execute(delete(scenes).where(scenes.c.number == row.number))
        self._record("scene_removed", id, row.number, **details)
        return row.sha256, rows

    def remove_detection(self, id: str, **details: object) -> NDArray[np.int64] | None:
        """Delete one detection from all generations, and keep its box away from later ones.

        Args:
            details: for the audit trail.

        Returns:
            Its rows, with those of boxes that only another generation has and that are the same
            person by their overlap; None when there is no such detection.
        """
        box = (detections.c.x1, detections.c.y1, detections.c.x2, detections.c.y2)
        own = self._connection.execute(
            select(detections.c.scene, detections.c.row, *box).where(detections.c.id == id)
        ).all()
        if not own:
            return None
        scene = own[0].scene
        boxes = np.array([one[2:] for one in own], np.float64)
        self._connection.execute(
            insert(suppressed),
            [
                {"scene": scene, "x1": x1, "y1": y1, "x2": x2, "y2": y2}
                for x1, y1, x2, y2 in sorted({tuple(each) for each in boxes.tolist()})
            ],
        )
        having = select(detections.c.generation).where(detections.c.id == id)
        elsewhere = self._connection.execute(
            select(detections.c.row, *box).where(
                detections.c.scene == scene, detections.c.generation.not_in(having)
            )
        ).all()
        others = np.array([one[1:] for one in elsewhere], np.float64).reshape(-1, 4)
        same = overlapping(others, boxes)
        rows = [one.row for one in own]
        rows += [one.row for one, is_same in zip(elsewhere, same, strict=True) if is_same]
        gone = select(detections.c.id).where(detections.c.row.in_(rows))
        self._connection.execute(delete(labels).where(labels.c.detection.in_(gone)))
        self._connection.execute(delete(detections).where(detections.c.row.in_(rows)))
        self._record("detection_removed", id, scene, **details)
        return np.array(sorted(rows), np.int64)

    def note_change(self, kind: str, subject: str, **details: object) -> None:
        """Number a change that other tables have; the audit trail gets it, too."""
        self._record(kind, subject, None, **details)

    def set_label(self, id: str, label: str) -> bool:
        """Say who a detection is; False when there is no such detection."""
        scene = self._connection.scalar(select(detections.c.scene).where(detections.c.id == id))
        if scene is None:
            return False
        self._connection.execute(delete(labels).where(labels.c.detection == id))
        self._connection.execute(
            insert(labels).values(
                detection=id, scene=scene, label=label, at=_microseconds(datetime.now(UTC))
            )
        )
        self._record("detection_labelled", id, None)
        return True

    def remove_label(self, id: str) -> bool:
        """Say no more who a detection is; False when nobody did."""
        removed = self._connection.execute(delete(labels).where(labels.c.detection == id)).rowcount
        if removed:
            self._record("label_removed", id, None)
        return bool(removed)

    def add_calibration(
        self, fingerprint: str, labels_sha256: str, content: Calibration, keep: int
    ) -> str:
        """Insert a calibration, and delete all but the newest `keep` of its model; its id."""
        id = new_id("cal_")
        self._connection.execute(
            insert(calibrations).values(
                id=id,
                model_fingerprint=fingerprint,
                labels_sha256=labels_sha256,
                created_at=_microseconds(datetime.now(UTC)),
                content=json.dumps(content.as_json()),
            )
        )
        own = calibrations.c.model_fingerprint == fingerprint
        newest = select(calibrations.c.id).where(own).order_by(calibrations.c.id.desc()).limit(keep)
        self._connection.execute(
            delete(calibrations).where(own, calibrations.c.id.not_in(newest.scalar_subquery()))
        )
        return id

    def _check_external_id(self, external_id: object, *, number: int | None) -> None:
        if external_id is None:
            return
        statement = select(scenes.c.id).where(scenes.c.external_id == external_id)
        if number is not None:
            statement = statement.where(scenes.c.number != number)
        other = self._connection.scalar(statement)
        if other is not None:
            raise ExternalIdConflictError(f"the external id {external_id!r} belongs to {other}")

    def _set_tags(self, number: int, tags: Sequence[str]) -> None:
        unique = list(dict.fromkeys(tags))
        if unique:
            self._connection.execute(
                insert(scene_tags),
                [{"scene": number, "position": at, "tag": tag} for at, tag in enumerate(unique)],
            )

    def _sum_up(self, number: int) -> None:
        """Write the checksum of a scene as it is now."""
        own = scenes.c.number == number
        row = self._connection.execute(select(scenes).where(own)).one()
        tagged = select(scene_tags.c.tag).where(scene_tags.c.scene == number)
        tags = list(self._connection.scalars(tagged.order_by(scene_tags.c.position)))
        checksum = scene_checksum(row._asdict(), tags)
        self._connection.execute(update(scenes).where(own).values(checksum=checksum))

    def _add_people(self, number: int, generation: int, people: Detections) -> People:
        """Insert a scene's people of one generation, without those that were deleted before."""
        self._connection.execute(
            insert(scene_generations).values(generation=generation, scene=number)
        )
        box = (suppressed.c.x1, suppressed.c.y1, suppressed.c.x2, suppressed.c.y2)
        away = self._connection.execute(select(*box).where(suppressed.c.scene == number)).all()
        if away:
            unwanted = overlapping(people.boxes, np.array([tuple(one) for one in away]))
            people = people.select(~unwanted)
        if not len(people):
            none = np.zeros(0, np.int64)
            return People(none, none, (), people)
        ids = self._ids_for(number, people)
        blobs = [embedding.astype("<f4").tobytes() for embedding in people.embeddings]
        values = []
        for id, (x1, y1, x2, y2), score, blob in zip(
            ids, people.boxes.tolist(), people.scores.tolist(), blobs, strict=True
        ):
            checksum = _checksum(id, number, (x1, y1, x2, y2, score), blob)
            values.append(
                {"id": id, "generation": generation, "scene": number, "score": score}
                | {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "checksum": checksum}
            )
        self._connection.execute(insert(detections), values)
        rows = self._rows(number, generation)
        self._connection.execute(
            insert(vectors),
            [
                {"row": row, "embedding": blob}
                for row, blob in zip(rows.tolist(), blobs, strict=True)
            ],
        )
        return People(rows, np.full(len(rows), number, np.int64), tuple(ids), people)

    def _ids_for(self, number: int, people: Detections) -> list[str]:
        """Ids for people of a scene: of who answers now, where it is the same one by its box."""
        asked = _DETECTIONS.where(detections.c.scene == number, _of(None))
        known = self._connection.execute(asked.order_by(detections.c.row)).all()
        boxes = np.array([(one.x1, one.y1, one.x2, one.y2) for one in known]).reshape(-1, 4)
        pairs = paired(boxes, people.boxes)
        return [
            known[pairs[new]].id if new in pairs else new_id("det_") for new in range(len(people))
        ]

    def _rows(self, number: int, generation: int | None = None) -> NDArray[np.int64]:
        """The rows of a scene's detections, in the order they were inserted; of all generations
        when none is given."""
        statement = select(detections.c.row).where(detections.c.scene == number)
        if generation is not None:
            statement = statement.where(_of(generation))
        found = self._connection.scalars(statement.order_by(detections.c.row))
        return np.fromiter(found, np.int64)

    def _record(self, kind: str, subject: str, scene: int | None, **details: object) -> None:
        """Number a change, and enter it into the audit trail."""
        at = _microseconds(datetime.now(UTC))
        values = {"kind": kind, "subject": subject, "at": at, "scene": scene}
        self._connection.execute(insert(changes).values(values))
        audit.record(self._connection, kind, subject, details)


def _of(generation: int | None) -> ColumnElement[bool]:
    """Detections of the generation with this number, or of the one that answers."""
    return detections.c.generation == (generations.ACTIVE if generation is None else generation)


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


def _people(found: Sequence[Any]) -> People:
    rows, numbers, ids, *columns, checksums, blobs = zip(*found, strict=True)
    for id, number, values, checksum, blob in zip(
        ids, numbers, zip(*columns, strict=True), checksums, blobs, strict=True
    ):
        if not _is_as_written(id, number, values, checksum, blob):
            raise GalleryDamagedError(f"the detection {id} is not as it was written")
    boxes = np.array(columns[:4], np.float32).T
    embeddings = np.frombuffer(b"".join(blobs), "<f4").reshape(len(rows), -1).astype(np.float32)
    people = Detections(np.ascontiguousarray(boxes), np.array(columns[4], np.float32), embeddings)
    return People(np.array(rows, np.int64), np.array(numbers, np.int64), ids, people)


def _is_as_written(
    id: str, scene: int, values: Sequence[float], checksum: int, embedding: bytes | None
) -> bool:
    try:
        return embedding is not None and _checksum(id, scene, values, embedding) == checksum
    except (AttributeError, TypeError, struct.error):  # damage may change the type of a value
        return False


def scene_checksum(values: Mapping[str, Any], tags: Sequence[str]) -> int:
    """Of a scene's columns by name, and its tags in order."""
    told = [*(values[name] for name in _SUMMED), *tags]
    return zlib.crc32(json.dumps(told).encode())


_SUMMED = (
    *("id", "sha256", "content_bytes", "width", "height", "format", "orientation"),
    *("external_id", "camera_id", "captured_at", "created_at", "attributes"),
)


def _checksum(id: str, scene: int, values: Sequence[float], embedding: bytes) -> int:
    return zlib.crc32(embedding, zlib.crc32(id.encode() + struct.pack("<q5d", scene, *values)))


def _stored_detection(row: Any) -> StoredDetection:
    box = (row.x1, row.y1, row.x2, row.y2)
    return StoredDetection(row.id, row.scene_id, box, row.score, row.label)


def _stored_calibration(row: Any) -> StoredCalibration:
    return StoredCalibration(
        id=row.id,
        model_fingerprint=row.model_fingerprint,
        labels_sha256=row.labels_sha256,
        created_at=time_of(row.created_at),
        content=Calibration.from_json(json.loads(row.content)),
    )


def _stored_scene(row: Any, tags: Sequence[str], people: Sequence[StoredDetection]) -> StoredScene:
    if scene_checksum(row._asdict(), tags) != row.checksum:
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
        detections=tuple(people),
    )


def _condition(filter: SceneFilter) -> ColumnElement[bool]:
    """What a filter asks, as SQL on the scenes table."""
    column = scenes.c
    asked: list[ColumnElement[bool]] = [true()]
    if filter.camera_in is not None:
        asked.append(column.camera_id.in_(filter.camera_in))
    if filter.camera_not_in:
        asked.append(or_(column.camera_id.is_(None), column.camera_id.not_in(filter.camera_not_in)))
    if filter.captured_from is not None:
        asked.append(column.captured_at >= _microseconds(filter.captured_from))
    if filter.captured_to is not None:
        asked.append(column.captured_at < _microseconds(filter.captured_to))
    if filter.time_of_day is not None:
        start, end = (
            since_midnight(one) for one in (filter.time_of_day.start, filter.time_of_day.end)
        )
        shown = TimeOfDay(column.captured_at, literal(filter.time_of_day.zone))
        asked.append(
            and_(shown >= start, shown < end) if start <= end else or_(shown >= start, shown < end)
        )
    asked += [column.number.in_(_with_tags([tag])) for tag in filter.tags_all]
    if filter.tags_any:
        asked.append(column.number.in_(_with_tags(filter.tags_any)))
    if filter.tags_none:
        asked.append(column.number.not_in(_with_tags(filter.tags_none)))
    if filter.scene_not_in:
        asked.append(column.id.not_in(filter.scene_not_in))
    if filter.external_id is not None:
        asked.append(column.external_id == filter.external_id)
    return and_(*asked)


def _with_tags(tags: Sequence[str]) -> Any:
    return select(scene_tags.c.scene).where(scene_tags.c.tag.in_(tags))


def _microseconds(time: datetime | None) -> int | None:
    return None if time is None else microseconds(time)


def _chunks(values: Collection[T]) -> Iterator[list[T]]:
    listed = list(values)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]
