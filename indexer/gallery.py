"""A gallery: add scenes, remove them, search the people in them.

What survives a crash. Adding a scene goes in steps, and the process may die between any two:

    1  written     the original, as a file in originals, under a passing name
    2  synced      that file is on disk
    3  renamed     … under its SHA-256
    4  placed      that directory is on disk
    5  inserted    scene, tags, detections, embeddings, a change number and the answer to a request
                   with a key, in one open transaction
    6  committed   … on disk: from here on the scene is stored
    7  indexed     its people are in the index in memory; add returns

A death before 6 leaves at most a file that no row names, which the next open deletes. Removing a
scene:

    1  deleted     in one open transaction, with a change number
    2  committed   from here on the scene is gone
    3  unindexed   no search that starts now finds it; after the next open neither
    4  erased      its original is deleted; if this is not reached, the next open does it

Letting another generation answer (another model's people, see indexer/reindex.py):

    1  loaded      its index, beside the one that answers; nothing is changed yet
    2  checked     with changes held off: it has every scene, and the index has all its people
    3  swapping    the states of both generations, in one open transaction
    4  swapped     … on disk: after the next open it answers
    5  answering   searches that start now take it; those that run end on the one before

Snapshots, restores and erasures have steps of their own: indexer/snapshots.py, indexer/erasures.py.

On a full disk adding fails and removing goes on, in a reserve that the gallery keeps for that.

The index is a cache: opening a gallery fills it from the database.

In a database that is shared (PostgreSQL) any number of processes may have the gallery open. One
changes it at a time; each takes over into its index what the others have changed before it answers
a search, by the numbers of the changes. Originals then lie where all of them can read them.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer import audit, erasures, generations
from indexer.answering import Answering
from indexer.audit import AuditEntry, acting_as
from indexer.changes import Changes
from indexer.crowd import everybody, labelled
from indexer.cursor import read_cursor, write_cursor
from indexer.engines import MilvusServer, check_engine
from indexer.erasures import Erasure, Pending
from indexer.errors import (
    CalibrationNotFoundError,
    DatabaseUnavailableError,
    DetectionGoneError,
    DetectionNotFoundError,
    ErasureChangedError,
    GalleryDamagedError,
    GalleryError,
    GalleryMismatchError,
    GenerationActiveError,
    GenerationBuildingError,
    GenerationGoneError,
    GenerationNotFoundError,
    GenerationSwappedError,
    LabelNotFoundError,
    SceneNotFoundError,
    StorageFullError,
)
from indexer.job_store import JobStore
from indexer.live_index import PeopleIndex
from indexer.locks import DirectoryLock
from indexer.object_originals import ObjectOriginals
from indexer.objects import Objects
from indexer.opening import check_originals, model_in, settle_model, sweep, usable
from indexer.originals import Originals, sync_directory
from indexer.overview import Overview, overview
from indexer.ranking import GroupBy, lowest_needed, ranked
from indexer.records import (
    EVERY_SCENE,
    AddResult,
    Compaction,
    Crowd,
    GalleryHit,
    GalleryModel,
    GalleryStats,
    Generation,
    GenerationCount,
    IndexState,
    NewScene,
    SceneFilter,
    ScenePage,
    StoredCalibration,
    StoredDetection,
    StoredScene,
)
from indexer.reply_store import Reply, ReplyStore, keep_reply
from indexer.reserve import Reserve
from indexer.retention import expired, is_expired
from indexer.snapshots import (
    ORIGINALS,
    SNAPSHOTS,
    Manifest,
    finish_restore,
    has_gallery,
    new_snapshot_id,
    sweep_snapshots,
    write_snapshot,
)
from indexer.store import DATABASE, Snapshot, Store
from indexer.tables import FORMAT
from models.detections import Detections
from models.evaluation.calibration import calibrate

if TYPE_CHECKING:
    pass

KEPT_CALIBRATIONS = 100
ERASED_AT_ONCE = 100  # scenes or detections in one transaction of an erasure
EXPIRED_AT_ONCE = 500
FORGOTTEN_AT_ONCE = 200  # scenes of a generation that is deleted
NO_PEOPLE: Mapping[str, Detections] = {}
# The index in memory is filled anew, and the database written anew, when so much of it is unused.
UNUSED_SHARE = 0.2
UNUSED_SLOTS = 1_000
UNUSED_BYTES = 2**20
T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """A generation, and the index of its people: what describes a query and ranks must be one."""

    generation: Generation
    live: PeopleIndex


class Gallery:
    """Stored scenes and the people in them, in one directory. Use open_ or reopen, and close it.

    Any thread may call anything. Searches and reads run side by side; changes go one after the
    other. Once add or remove has returned, every search that starts later sees it.

    Attributes:
        model: whose embeddings answer.
        snapshots: the directory of its snapshots.
        jobs, replies: kept in the same database, and in the same transaction where that matters.
    """

    def __init__(
        self,
        directory: Path,
        model: GalleryModel | None,
        engine: str,
        on_step: Callable[[str], None],
        snapshots: Path | None,
        *,
        any_model: bool = False,
        database: str | None = None,
        originals: str | None = None,
        milvus: MilvusServer | None = None,
    ) -> None:
        check_engine(engine, milvus)
        self.snapshots = snapshots or directory / SNAPSHOTS
        self._directory = directory
        self._engine = engine
        self._keeping = threading.Lock()  # one of snapshot, erasure, compaction at a time
        self._calibration: StoredCalibration | None = None
        with ExitStack() as opened:
            with usable(directory):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                if database is None:
                    opened.callback(DirectoryLock(directory).release)
                    finish_restore(directory)
                sweep_snapshots(self.snapshots)
            reserve = Reserve(directory / "reserve", kept=database is None)
            with usable(directory):
                self._originals = open_originals(directory, originals)
            self._store = Store(database or directory / DATABASE)
            opened.callback(self._store.close)
            self.jobs = JobStore(self._store)
            self.replies = ReplyStore(self._store)
            with self._store.changing():
                settle_model(directory, self._store, self._originals, model, any_model=any_model)
                sync_directory(directory)
                if originals is None:  # else sweep_originals does so: a listing takes its time
                    sweep(directory, self._store, self._originals)
                check_originals(directory, self._store, self._originals)
            self._answering = Answering(directory, engine, self._store, milvus)
            opened.callback(self._answering.close)
            self._changes = Changes(
                directory, self._store, self._originals, reserve, self._answering, on_step
            )
            self._changes.refill()
            self.finish_erasures()
            self._opened = opened.pop_all()

    @classmethod
    def open_(
        cls,
        directory: Path,
        *,
        model_name: str,
        model_fingerprint: str,
        embedding_dim: int,
        model_path: Path | None = None,
        engine: str = "faiss-flat",
        on_step: Callable[[str], None] = lambda step: None,
        snapshots: Path | None = None,
        any_model: bool = False,
        database: str | None = None,
        originals: str | None = None,
        milvus: MilvusServer | None = None,
    ) -> Self:
        """Open the gallery in a directory, or make one there.

        Args:
            model_name, model_fingerprint, embedding_dim: whose embeddings come in; [D] each.
            model_path: where that model lies, remembered for reopen's caller.
            engine: a name in indexer.engines.ENGINES, or in OUTSIDE with milvus.
            on_step: called with the name of each step above; tests end the process in it.
            snapshots: where its snapshots lie; by default in the directory, as "snapshots".
            any_model: open it also when it answers with another model; see the attribute model.
            database: the URL of a PostgreSQL database of its own; by default a file in the
                directory. Several processes may then have the gallery open, with directories of
                which "originals" is the same.
            originals: the URL of object storage, s3://bucket/prefix, for the originals; by default
                they are files in the directory.
            milvus: the server that keeps the vectors, for an engine in OUTSIDE.

        Raises:
            GalleryLockedError: when it is open already, here or in another process.
            GalleryMismatchError: when it holds another model's embeddings, or has a newer format.
            GalleryDamagedError: when what is on disk is not what was written.
            DatabaseUnavailableError: when the database server cannot be reached.
            GalleryError: when the directory cannot be used.
        """
        path = None if model_path is None else str(model_path.absolute())
        model = GalleryModel(model_name, model_fingerprint, embedding_dim, path)
        return cls(
            directory,
            model,
            engine,
            on_step,
            snapshots,
            any_model=any_model,
            database=database,
            originals=originals,
            milvus=milvus,
        )

    @classmethod
    def reopen(
        cls,
        directory: Path,
        *,
        engine: str = "faiss-flat",
        snapshots: Path | None = None,
        database: str | None = None,
        originals: str | None = None,
        milvus: MilvusServer | None = None,
    ) -> Self:
        """Open a gallery that is there, whatever its model; raises as open_ does.

        Raises:
            GalleryError: when there is none.
        """
        there = has_gallery(directory) if database is None else model_in(database)
        if not there:
            raise GalleryError(f"there is no gallery in {directory}")
        return cls(
            directory,
            None,
            engine,
            lambda step: None,
            snapshots,
            database=database,
            originals=originals,
            milvus=milvus,
        )

    def close(self) -> None:
        """Release the directory. Waits for a change in progress; searches must have ended."""
        with self._answering.writing:
            self._changes.closed = True
            self._opened.close()  # a second time that does nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def model(self) -> GalleryModel:
        return self._answering.generation.model

    def view(self) -> View:
        """The generation that answers now. One search uses one view for all that it does."""
        self._answering.refresh()
        live = self._answering.live
        return View(live.generation, live)

    @property
    def shared(self) -> bool:
        """Whether other processes may have it open, too."""
        return self._store.shared

    @property
    def exact(self) -> bool:
        """Whether searches compare with everybody."""
        return self._engine != "milvus-hnsw"

    def changing(self) -> AbstractContextManager[None]:
        """A time in which nobody else changes it; the thread that is in one may."""
        return self._changes.changing()

    # Changing

    def add(
        self,
        scene: NewScene,
        detections: Detections,
        *,
        view: View | None = None,
        further: Mapping[str, Detections] = NO_PEOPLE,
        reply: Callable[[StoredScene], Reply] | None = None,
    ) -> AddResult:
        """Store a scene and its people; on disk, and found by searches, when this returns.

        Args:
            detections: as the model of the view sees them; by default of the one that answers.
            further: as the models of other generations do, by the generations' ids; those that
                are gone are left out.
            reply: makes the answer to who asked of the scene as it is stored now; it is kept in the
                same transaction. Not called when the bytes are there already.

        Returns:
            created=False and the stored scene, when the same bytes are there already.

        Raises:
            ExternalIdConflictError: when another scene has its external id.
            GalleryMismatchError: when the embeddings have another length than the gallery's.
            GenerationSwappedError: when a generation answers now whose people were not given.
            StorageFullError: when there is no space.
            DatabaseUnavailableError: it may be stored, or not; adding it again does no harm.
            After any other of them, nothing was stored.
        """
        placed = self._store.shared and self.find(scene.sha256) is None
        if placed:  # it takes long, and others wait for who changes
            self._originals.put(scene.sha256, scene.content, self._changes.on_step)
        with self._changes.changing(), self._unless_stored(scene.sha256, placed=placed):
            seen_by = view.generation if view else self._answering.generation
            people = self._by_number({seen_by.id: detections, **further})
            stored = self.find(scene.sha256)
            if stored is not None:
                return AddResult(stored, created=False)
            self._changes.reserve.fill()
            with self._unless_stored(scene.sha256, placed=True):
                if not (placed and self._originals.has(scene.sha256)):
                    self._originals.put(scene.sha256, scene.content, self._changes.on_step)
                self._changes.on_step("placed")
                with self._store.write() as change:
                    id, _, added = change.add(scene, people)
                    number_of_change = change.last_change()
                    if reply is not None:
                        stored = change.scene(id=id)
                        assert stored is not None
                        keep_reply(change.connection, reply(stored))
                    self._changes.on_step("inserted")
                self._changes.on_step("committed")
            people_added = added[self._answering.generation.number]
            self._answering.follow(
                number_of_change, lambda: self._live.add(people_added, number_of_change)
            )
            self._changes.on_step("indexed")
            return AddResult(self.get(id), created=True)

    def patch(self, scene_id: str, changes: Mapping[str, object]) -> StoredScene:
        """Replace some of external_id, camera_id, captured_at (None clears), tags, attributes.

        Raises:
            SceneNotFoundError, ExternalIdConflictError, StorageFullError: then nothing was changed.
            ValueError: when a key is none of these, or a value has the wrong type.
        """
        with self._changes.changing():
            with self._store.write() as change:
                if not change.patch(scene_id, changes):
                    raise _no_scene(scene_id)
                number_of_change = change.last_change()
            self._answering.follow(number_of_change)
            return self.get(scene_id)

    def remove(self, scene_id: str) -> None:
        """Remove a scene: its row, its people and its original.

        Raises:
            SceneNotFoundError: when there is none.
        """
        with self._changes.changing():
            sha256, rows, number_of_change = self._changes.deleting(lambda: self._delete(scene_id))
            self._changes.on_step("committed")
            self._answering.follow(
                number_of_change, lambda: self._live.remove(rows, number_of_change)
            )
            self._changes.on_step("unindexed")
            self._changes.erase_original(sha256)
            self._changes.on_step("erased")
            self._changes.refill()

    def remove_detection(self, detection_id: str) -> None:
        """Remove one person from a scene, which stays; no other model brings them back.

        Raises:
            DetectionNotFoundError: when there is none.
            DetectionGoneError: when only another generation has it.
        """
        with self._changes.changing():
            self.detection(detection_id)
            rows, number_of_change = self._changes.deleting(
                lambda: self._delete_detection(detection_id)
            )
            self._answering.follow(
                number_of_change, lambda: self._live.remove(rows, number_of_change)
            )
            self._changes.refill()

    def label(self, detection_id: str, label: str) -> StoredDetection:
        """Say who a detection is, instead of what was said before. No ranking heeds it.

        Raises:
            DetectionNotFoundError: when there is none.
            StorageFullError: then nothing was changed.
        """
        with self._changes.changing():
            with self._store.write() as change:
                if not change.set_label(detection_id, label):
                    raise _no_detection(detection_id)
                number_of_change = change.last_change()
            self._answering.follow(number_of_change)
            return self.detection(detection_id)

    def remove_label(self, detection_id: str) -> None:
        """Say no more who a detection is.

        Raises:
            DetectionNotFoundError, LabelNotFoundError: when there is none.
        """
        with self._changes.changing():
            self.detection(detection_id)
            self._answering.follow(self._changes.deleting(lambda: self._delete_label(detection_id)))
            self._changes.refill()

    def rebuild(self) -> None:
        """Fill a new index from the database, checking every row; searches and changes go on.

        Raises:
            GalleryDamagedError: when a row is not what was written; the old index stays.
        """
        with self._store.read() as snapshot:
            snapshot.check_scenes()
        self._answering.rebuild()

    # Generations

    def generation(self, id: str) -> Generation:
        """
        Raises:
            GenerationNotFoundError: there is none.
        """
        with self._store.read() as snapshot:
            return generations.get(snapshot.connection, id)

    def building(self) -> Generation | None:
        """The generation that new scenes go into, too."""
        with self._store.read() as snapshot:
            return generations.building(snapshot.connection)

    def generations(self) -> list[GenerationCount]:
        """All of them, oldest first."""
        with self._store.read() as snapshot:
            return generations.counts(snapshot.connection)

    def begin_generation(self, model: GalleryModel) -> Generation:
        """Begin to build the generation of a model, or go on with it: new scenes go there, too.

        Raises:
            GenerationActiveError: it is the one that answers.
            GenerationBuildingError: another one is being built.
        """
        with self._changes.changing(), self._store.write() as change:
            connection = change.connection
            found = generations.of_model(connection, model.fingerprint)
            if found is not None and found.state == "active":
                raise GenerationActiveError(f"the gallery answers with {model.name} already")
            other = generations.building(connection)
            if other is not None and (found is None or other.number != found.number):
                raise GenerationBuildingError(f"{other.model.name} is being indexed already")
            if found is None:
                found = generations.begin(connection, model, "building")
                audit.record(connection, "generation_begun", found.id, {"model": model.name})
            else:
                path = model.path or found.model.path
                generations.name_model(connection, found.number, replace(model, path=path))
                generations.set_state(connection, found.number, "building")
            return generations.get(connection, found.id)

    def keep_generation(self, id: str) -> None:
        """End building: what the generation has stays, new scenes do not come to it."""

        def keep() -> None:
            with self._store.write() as change:
                found = generations.get(change.connection, id)
                if found.state == "building":
                    generations.set_state(change.connection, found.number, "kept")

        with self._changes.changing():
            self._changes.deleting(keep)

    def scenes_in(self, id: str) -> tuple[int, int]:
        """How many scenes a generation has, and how many there are.

        Raises:
            GenerationNotFoundError: there is none.
        """
        with self._store.read() as snapshot:
            number = generations.get(snapshot.connection, id).number
            had = generations.scenes_in(snapshot.connection, number)
            return had, snapshot.count(EVERY_SCENE)

    def lacking(self, id: str, *, limit: int, after: int = 0) -> dict[int, str]:
        """At most limit scenes that a generation lacks, of those with numbers above after.

        Returns:
            Their ids by their numbers, ascending.

        Raises:
            GenerationNotFoundError: there is none.
        """
        with self._store.read() as snapshot:
            number = generations.get(snapshot.connection, id).number
            return generations.lacking(snapshot.connection, number, limit, after)

    def add_people(self, id: str, scene_id: str, detections: Detections) -> bool:
        """Store who is in a stored scene as the model of a generation that lacks it sees them.

        Whoever the generation that answers has in nearly the same box keeps their id.

        Returns:
            Whether it was stored; not when the scene is gone, or was stored meanwhile.

        Raises:
            GenerationNotFoundError: there is no such generation.
            GenerationActiveError: it answers; it has all scenes.
            GalleryMismatchError: when the embeddings have another length than the generation's.
            StorageFullError: when there is no space. Then nothing was stored.
        """
        with self._changes.changing():
            self._changes.reserve.fill()
            with self._store.write() as change:
                generation = generations.get(change.connection, id)
                if generation.state == "active":
                    raise GenerationActiveError(f"the generation {id} answers already")
                _check_length(detections, generation)
                added = change.add_people(scene_id, generation.number, detections)
                self._changes.on_step("people inserted")
            self._changes.on_step("people committed")
            return added is not None

    def activate(self, id: str) -> bool:
        """Let a generation answer from now on. The one before is kept, for a way back.

        Its index is filled aside, so that both are in memory for a while; searches and changes go
        on. Activating the one that answers does nothing.

        Returns:
            False when it lacks scenes, and nothing was changed.

        Raises:
            GenerationNotFoundError: there is none.
            GalleryDamagedError: its index and the database disagree; nothing was changed.
            StorageFullError: nothing was changed.
        """
        generation = self.generation(id)
        if generation.state == "active":
            return True
        fresh = self._answering.load(generation)
        self._changes.on_step("loaded")
        with self._changes.changing():
            with self._store.read() as snapshot:
                if generations.get(snapshot.connection, id).state == "active":
                    return True
                if generations.lacking(snapshot.connection, generation.number, 1):
                    return False
            with self._store.read() as snapshot:
                stored = snapshot.rows_of(generation.number)
            self._answering.catch_up(fresh, stored)
            if len(stored) != len(fresh):
                raise GalleryDamagedError(
                    f"{id} has {len(stored)} people, and {len(fresh)} in its index"
                )
            self._changes.on_step("checked")
            before = self._answering.generation
            with self._answering.following():
                with self._store.write() as change:
                    generations.activate(change.connection, generation.number)
                    change.note_change("generation_activated", id, before=before.id)
                    number_of_change = change.last_change()
                    generation = generations.get(change.connection, id)
                    self._changes.on_step("swapping")
                self._changes.on_step("swapped")
                fresh.generation, fresh.change = generation, number_of_change
                self._answering.live = fresh
            self._changes.on_step("answering")
        return True

    def delete_generation(self, id: str) -> None:
        """Delete a generation with its people; searches and changes go on.

        Raises:
            GenerationNotFoundError: there is none.
            GenerationActiveError: it is the one that answers.
        """
        generation = self.generation(id)
        self.note("generation_deleted", id)
        if generation.state != "active":
            self._answering.drop(generation)
        gone = False
        while not gone:

            def forget_some() -> bool:
                with self._store.write() as change:
                    try:
                        found = generations.get(change.connection, id)
                    except GenerationNotFoundError:  # another call has done the rest
                        return True
                    if found.state == "active":
                        raise GenerationActiveError(f"the generation {id} answers; it stays")
                    generations.set_state(change.connection, found.number, "kept")
                    return generations.remove_some(
                        change.connection, found.number, FORGOTTEN_AT_ONCE
                    )

            with self._changes.changing():
                gone = self._changes.deleting(forget_some)

    # Keeping

    def snapshot(
        self,
        *,
        id: str | None = None,
        into: Path | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Manifest:
        """Copy the gallery, as of one change, into a new one of its snapshots; all goes on.

        Args:
            id: its name, of new_snapshot_id.
            into: another directory than that of its snapshots.
            on_progress: is told how many of how many bytes are done, and may raise to give up.

        Raises:
            SnapshotBusyError, StorageFullError, GalleryError: nothing of it is left.
        """
        id = id or new_snapshot_id()
        with self._keeping, ExitStack() as stack:
            self.note("snapshot_begun", id)
            with self._changes.changing():
                self._originals.keep_back()
                stack.callback(self._changes.let_go)
                stack.enter_context(self._store.keeping())
                source = stack.enter_context(self._store.frozen())
                self._changes.on_step("frozen")
            manifest = write_snapshot(
                into or self.snapshots,
                id,
                source,
                self._originals.place,
                on_step=self._changes.on_step,
                on_progress=on_progress,
            )
        self.note("snapshot_made", id, images=manifest.scenes, last_change=manifest.last_change)
        return manifest

    def erase(
        self,
        *,
        scene_ids: Collection[str] = (),
        detection_ids: Collection[str] = (),
        agreed: Callable[[], bool] = lambda: True,
    ) -> Erasure:
        """Begin an erasure: when this returns, it will be done, whatever happens meanwhile.

        Args:
            scene_ids: erased whole, with everybody in them; ids of nothing are passed over.
            detection_ids: without scene_ids, people to erase from their scenes, whose pictures stay
                and still show them.
            agreed: is asked while nothing can change, whether this is what is meant to go.

        Raises:
            ErasureChangedError: it is not agreed; nothing is erased.
            ValueError: when both are given, or neither.
        """
        if bool(scene_ids) == bool(detection_ids):
            raise ValueError("expected scenes, or detections")

        def accept() -> Erasure:
            with self._store.write() as change:
                return erasures.accept(
                    change.connection, scene_ids=scene_ids, detection_ids=detection_ids
                )

        with self._changes.changing():
            if not agreed():
                raise ErasureChangedError("what would be erased is not what the preview showed")
            erasure = self._changes.deleting(accept)
        self._changes.on_step("accepted")
        return erasure

    def finish_erasure(
        self, id: str, *, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> Erasure:
        """Do what an erasure says, or what is left of it; nothing of it can be found afterwards.

        In the database file, its log, the originals, other files of the gallery's directory, the
        index in memory. Snapshots are left as they are.

        Raises:
            ErasureNotFoundError: there is none.
            StorageFullError: there is no space to write the database anew. What was to go is
                deleted, and finish_erasures, or the next opening, tries the rest again.
            GalleryError: a read does not end; the same.
        """
        with self._keeping:
            with self._store.read() as snapshot:
                erasure = erasures.get(snapshot.connection, id)
                pending = erasures.pending(snapshot.connection, id)
            if pending is None:
                return erasure
            ids = [*pending.scenes, *pending.detections]
            with acting_as(erasure.by):
                for start in range(0, len(ids), ERASED_AT_ONCE):
                    with self._changes.changing():
                        self._erase_some(id, ids[start : start + ERASED_AT_ONCE])
                    on_progress(start, len(ids))
                with self._changes.changing():
                    self._forget(pending)
                    self._changes.on_step("compacted")
                    with self._store.write() as change:
                        if erasures.pending(change.connection, id) is not None:
                            erasures.complete(change.connection, id)
                    self._store.empty_log()
            self._changes.refill()
            self._changes.on_step("completed")
            on_progress(len(ids), len(ids))
        return self.erasure(id)

    def finish_erasures(self) -> None:
        """Go on with what a death left undone; what has no space waits for the next call."""
        with self._store.read() as snapshot:
            unfinished = erasures.unfinished(snapshot.connection)
        for id in unfinished:
            try:
                self.finish_erasure(id)
            except StorageFullError as error:
                _log.warning("the erasure %s is not finished: %s", id, error)

    def compact(self) -> Compaction:
        """Free what removals left: empty places of the index, unused space of the database file.

        The index is filled anew beside the one in use, so that its memory is needed twice for a
        moment. Searches and changes go on; only while the database is written anew, changes wait.

        Raises:
            StorageFullError: there is no space to write the database anew.
        """
        with self._keeping:
            before = self.index_state()
            if not self._live.outside:  # Milvus does so by itself
                self.rebuild()
            self._changes.on_step("refilled")
            wasteful = self._is_wasteful(before)
            if wasteful:
                self._store.vacuum()
            self._changes.on_step("vacuumed")
            after = self.index_state()
            compaction = Compaction(
                gone=before.gone - after.gone,
                index_bytes=before.index_bytes - after.index_bytes,
                database_bytes=before.database_bytes - after.database_bytes,
            )
            self.note("index_compacted", "index", gone=compaction.gone, vacuumed=wasteful)
        return compaction

    @property
    def wants_compaction(self) -> bool:
        """Whether so much is unused that compacting is worth it."""
        state = self.index_state()
        slots = state.rows + state.gone
        return (
            state.gone > UNUSED_SLOTS and state.gone > UNUSED_SHARE * slots
        ) or self._is_wasteful(state)

    def sweep_originals(self) -> None:
        """Delete originals in object storage that a process which died left without a scene.

        It lists them all, which takes its time. Files are swept when the gallery is opened.
        """
        if isinstance(self._originals, ObjectOriginals):
            stored = self._originals.stored()
            with self._changes.changing():
                with self._store.read() as snapshot:
                    wanted = snapshot.contents()
                if not self._store.kept():
                    self._originals.sweep(wanted, of=stored)

    def expire(
        self, days: Mapping[str, int], at: datetime, *, stop: Callable[[], bool] = lambda: False
    ) -> int:
        """Remove the scenes that are older than their camera allows.

        Args:
            days: how long scenes are kept, by camera; "*" is every other one, and none.
            at: the time now. A scene's age counts from captured_at or else created_at.
            stop: asked before each one whether to end here.

        Returns:
            How many were removed.
        """
        removed = 0
        with acting_as("(retention)"):
            while True:
                with self._store.read() as snapshot:
                    found = expired(snapshot.connection, days, at, EXPIRED_AT_ONCE)
                for id in found:
                    if stop():
                        return removed
                    with self._changes.changing():
                        # Its camera or time may have been changed meanwhile.
                        with self._store.read() as snapshot:
                            still = is_expired(snapshot.connection, days, at, id)
                        if still:
                            self.remove(id)
                            removed += 1
                if len(found) < EXPIRED_AT_ONCE:
                    return removed

    def note(self, action: str, subject: str | None, **details: object) -> None:
        """Enter something into the audit trail that changes nothing else."""

        self._changes.note(action, subject, **details)

    def trail(
        self,
        *,
        limit: int,
        before: int | None = None,
        action: str | None = None,
        subject: str | None = None,
    ) -> list[AuditEntry]:
        """At most limit entries of the audit trail with numbers below before, newest first."""
        with self._store.read() as snapshot:
            return audit.entries(
                snapshot.connection, limit=limit, before=before, action=action, subject=subject
            )

    def trim_trail(self, before: datetime) -> int:
        """Delete the entries of the audit trail that are older; returns how many."""
        with self._store.write() as change:
            return audit.trim(change.connection, before)

    # Reading

    def find(self, sha256: str) -> StoredScene | None:
        """The scene whose original has this SHA-256 (hex), if it is stored."""
        with self._store.read() as snapshot:
            return snapshot.scene(sha256=sha256)

    def get(self, scene_id: str, *, view: View | None = None) -> StoredScene:
        """A scene and its people, as the generation of the view sees them, or the one that answers.

        Raises:
            SceneNotFoundError: when there is none.
        """
        with self._store.read() as snapshot:
            scene = snapshot.scene(id=scene_id, generation=_number(view))
        if scene is None:
            raise _no_scene(scene_id)
        return scene

    def detection(self, detection_id: str, *, view: View | None = None) -> StoredDetection:
        """One person, as the generation of the view sees them, or the one that answers.

        Raises:
            DetectionNotFoundError: when there is none.
            DetectionGoneError: when only another generation has it.
        """
        with self._store.read() as snapshot:
            detection = snapshot.detection(detection_id, _number(view))
            scene_id = None if detection else snapshot.scene_of(detection_id)
        if scene_id is not None:
            raise DetectionGoneError(
                f"{detection_id} was seen by another model in the image {scene_id}; the one that "
                "answers does not see it"
            )
        if detection is None:
            raise _no_detection(detection_id)
        return detection

    def scenes(
        self,
        filter: SceneFilter = EVERY_SCENE,
        *,
        limit: int = 50,
        cursor: str | None = None,
        newest_first: bool = False,
    ) -> ScenePage:
        """Scenes in the order of their ids, which is that of their coming, or from the newest back.

        Args:
            cursor: a page's next_cursor, to go on behind it. Scenes that come and go in between
                disturb
                nothing: none is given twice, and none that stayed is left out.

        Raises:
            InvalidCursorError: when the cursor is not one of ours.
        """
        after = None if cursor is None else read_cursor(cursor)
        with self._store.read() as snapshot:
            found = snapshot.page(filter, limit + 1, after, newest_first=newest_first)
        page = tuple(found[:limit])
        return ScenePage(page, write_cursor(page[-1].id) if len(found) > limit else None)

    def count(self, filter: SceneFilter = EVERY_SCENE) -> int:
        """How many scenes there are."""
        with self._store.read() as snapshot:
            return snapshot.count(filter)

    def content(self, scene_id: str) -> bytes:
        """The original file of a scene.

        Raises:
            SceneNotFoundError: when there is none.
            GalleryDamagedError: when the file is gone or has changed.
        """
        scene = self.get(scene_id)
        try:
            return self._originals.read(scene.sha256)
        except GalleryDamagedError:
            self.get(scene_id)  # a scene removed meanwhile is not damage
            raise

    def embedding(self, detection_id: str, *, view: View | None = None) -> NDArray[np.float32]:
        """The embedding [D] of a detection, of unit length.

        Raises:
            DetectionNotFoundError, DetectionGoneError: as detection does.
        """
        with self._store.read() as snapshot:
            embedding = snapshot.embedding(detection_id, _number(view))
        if embedding is None:
            self.detection(detection_id, view=view)
            raise _no_detection(detection_id)
        return embedding

    def labelled(self, *, view: View | None = None, generation: Generation | None = None) -> Crowd:
        """Everybody who has a label; scenes without anybody who has are left out.

        Args:
            generation: as it has them, also when it does not answer; else as the view does.
        """
        generation = generation or (view or self.view()).generation
        with self._store.read() as snapshot:
            return labelled(snapshot, generation)

    def everybody(
        self,
        *,
        scene_ids: Collection[str] | None = None,
        most: int | None = None,
        view: View | None = None,
    ) -> Crowd:
        """Everybody, of all scenes or of some; scenes in which nobody was found are there as well.

        Args:
            scene_ids: scenes that are gone are left out.
            most: how many people to read at most; each takes 4 × D bytes of memory.

        Raises:
            CrowdTooLargeError: when there are more people.
        """
        view = view or self.view()
        with self._store.read() as snapshot:
            return everybody(snapshot, view.generation, scene_ids=scene_ids, most=most)

    def calibrate(self, targets: Sequence[float] | None = None) -> StoredCalibration:
        """Measure on the labels what scores are worth; from now on it is the calibration in use.

        Args:
            targets: false-match rates to have thresholds for, see models.evaluation.calibration.

        Raises:
            CalibrationError: when the labels cannot support them.
            StorageFullError: then nothing was changed.
        """
        view = self.view()
        crowd = self.labelled(view=view)
        nobody = Detections.empty(view.generation.model.embedding_dim)
        places = np.repeat(np.arange(len(crowd.scenes)), [len(own) for own in crowd.ids])
        made = calibrate(
            np.concatenate([nobody.embeddings, *(own.embeddings for own in crowd.people)]),
            np.concatenate([nobody.scores, *(own.scores for own in crowd.people)]),
            [str(label) for own in crowd.labels for label in own],
            places,
            targets=targets,
        )
        with self._changes.changing(), self._store.write() as change:
            id = change.add_calibration(
                view.generation.model.fingerprint, crowd.labels_sha256, made, KEPT_CALIBRATIONS
            )
        return self.calibration(id)

    def calibrations(self) -> list[StoredCalibration]:
        """Those made with the gallery's model, newest first: the first is the one in use."""
        with self._store.read() as snapshot:
            return snapshot.calibrations(self.model.fingerprint, KEPT_CALIBRATIONS)

    def calibration(self, id: str) -> StoredCalibration:
        """The one with this id, of whatever model.

        Raises:
            CalibrationNotFoundError: when there is none.
        """
        with self._store.read() as snapshot:
            found = snapshot.calibration(id)
        if found is None:
            raise CalibrationNotFoundError(f"there is no calibration {id}")
        return found

    def calibration_in_use(self, *, view: View | None = None) -> StoredCalibration | None:
        """The newest one made with the model that answers; None when there is none."""
        model = (view or self.view()).generation.model
        with self._store.read() as snapshot:
            newest = snapshot.newest_calibration(model.fingerprint)
            if newest is None:
                return None
            known = self._calibration  # reading one takes longer than a search
            if known is None or known.id != newest:
                known = self._calibration = snapshot.calibration(newest)
            return known

    def stats(self) -> GalleryStats:
        """How much there is, and how far the index has come."""
        live = self.view().live
        with self._store.read() as snapshot:
            last_change = snapshot.last_change()
            scenes = snapshot.count(EVERY_SCENE)
            detections, originals_bytes = snapshot.totals()
        generation = live.generation
        return GalleryStats(
            scenes=scenes,
            detections=detections,
            originals_bytes=originals_bytes,
            database_bytes=self._store.nbytes,
            index_bytes=live.nbytes,
            last_change=last_change,
            index_change=live.change,
            engine=self._engine,
            generation=generation.id,
            model_name=generation.model.name,
            model_fingerprint=generation.model.fingerprint,
            format=FORMAT,
        )

    def overview(self) -> Overview:
        """Its cameras, tags and labels, in numbers."""
        with self._store.read() as snapshot:
            return overview(snapshot.connection)

    def index_state(self) -> IndexState:
        """How much the index and the database hold, and how much of it is unused."""
        live = self._live
        with self._store.read() as snapshot:
            entries = audit.entries(snapshot.connection, limit=1, subject="index")
        database_bytes, free_bytes = self._store.space()
        return IndexState(
            rows=len(live),
            gone=live.gone,
            index_bytes=live.nbytes,
            database_bytes=database_bytes,
            database_free_bytes=free_bytes,
            compacted_at=entries[0].at if entries else None,
        )

    def erasure(self, id: str) -> Erasure:
        """The receipt of an erasure.

        Raises:
            ErasureNotFoundError: there is none.
        """
        with self._store.read() as snapshot:
            return erasures.get(snapshot.connection, id)

    def erasures(self, *, limit: int, before: str | None = None) -> list[Erasure]:
        """At most limit receipts with ids behind before, newest first."""
        with self._store.read() as snapshot:
            return erasures.page(snapshot.connection, limit, before)

    def detections_labelled(self, label: str) -> list[StoredDetection]:
        """Stored detections with this label."""
        with self._store.read() as snapshot:
            return snapshot.detections_labelled(label)

    def detections_of(self, ids: Collection[str]) -> list[StoredDetection]:
        """Stored detections by id; those that are gone are left out."""
        with self._store.read() as snapshot:
            return snapshot.detections(ids)

    def search(
        self,
        query: NDArray[np.float32],
        *,
        k: int,
        filter: SceneFilter = EVERY_SCENE,
        min_score: float | None = None,
        min_detection_score: float | None = None,
        group_by: GroupBy = "detection",
        exclude_scene_ids: Collection[str] = (),
        view: View | None = None,
    ) -> list[GalleryHit]:
        """The k people most like a query, or the k scenes with the most like person each.

        Exact: the answer is that of comparing with every stored person in double precision,
            rounding to 6 decimals, and ordering by score and then by detection id. Only people that
            pass every condition are counted towards k.

        Args:
            query: [D], unit length.
            min_score: the lowest score (class-weighted similarity) to give.
            min_detection_score: the lowest detection score to give; compared as float32.
            group_by: "image" gives the best detection of each scene.
            view: the one whose model described the query; by default the one that answers.

        Returns:
            Nearest first; fewer than k when there are no more.

        Raises:
            GenerationGoneError: when the view's generation was deleted.
            ValueError: when the query is not [D] of unit length, or k is below 1.
        """
        used = self.view()
        if view is not None and view.generation.number != used.generation.number:
            used = view
        dim = used.generation.model.embedding_dim
        if query.shape != (dim,) or abs(np.linalg.norm(query) - 1) > 1e-3:
            raise ValueError(f"expected a query [{dim}] of unit length")
        if k < 1:
            raise ValueError(f"expected k of at least 1, got {k}")
        live = used.live
        wanted = k + 16
        gone = np.zeros(0, np.int64)
        with self._store.read() as snapshot:
            _check_there(snapshot, used)
            left_out = snapshot.numbers_of({*exclude_scene_ids, *filter.scene_not_in})
            rest = replace(filter, scene_not_in=())
            meant = live.meant(snapshot, rest)
            while True:
                nearest = live.search(
                    query.astype(np.float32),
                    wanted,
                    scenes=meant,
                    not_scenes=left_out,
                    min_score=min_detection_score,
                    not_rows=gone,
                )
                lowest = lowest_needed(nearest, k, group_by, min_score, len(query))
                if not nearest.all_found and nearest.similarities[-1] >= lowest:
                    wanted *= 4
                    continue
                rows = nearest.rows[nearest.similarities >= lowest]
                people = list(snapshot.people(rows.tolist()))
                missing = np.setdiff1d(rows, [row for found in people for row in found.rows])
                if not len(missing):
                    return ranked(snapshot, people, query, k, group_by, min_score)
                gone = np.concatenate([gone, missing])  # added after this snapshot, or just removed

    # Within

    def _delete(self, scene_id: str) -> tuple[str, NDArray[np.int64], int]:
        """Delete from the database only: the original's SHA-256, the rows, the change's number."""
        with self._store.write() as change:
            removed = change.remove(scene_id)
            if removed is None:
                raise _no_scene(scene_id)
            self._changes.on_step("deleted")
            return *removed, change.last_change()

    def _delete_detection(self, detection_id: str) -> tuple[NDArray[np.int64], int]:
        with self._store.write() as change:
            rows = change.remove_detection(detection_id)
            if rows is None:
                raise _no_detection(detection_id)
            return rows, change.last_change()

    @property
    def _live(self) -> PeopleIndex:
        return self._answering.live

    def _by_number(self, people: Mapping[str, Detections]) -> dict[int, Detections]:
        """People by the numbers of their generations; those of generations that are gone not.

        Raises:
            GalleryMismatchError: embeddings of another length.
            GenerationSwappedError: the one that answers is not among them.
        """
        found: dict[int, Detections] = {}
        with self._store.read() as snapshot:
            for id, detections in people.items():
                try:
                    generation = generations.get(snapshot.connection, id)
                except GenerationNotFoundError:
                    continue
                _check_length(detections, generation)
                found[generation.number] = detections
        if self._answering.generation.number not in found:
            raise GenerationSwappedError("the model was changed meanwhile")
        return found

    def _delete_label(self, detection_id: str) -> int:
        with self._store.write() as change:
            if not change.remove_label(detection_id):
                raise LabelNotFoundError(f"the detection {detection_id} has no label")
            return change.last_change()

    def _erase_some(self, erasure: str, ids: Collection[str]) -> None:
        """Remove scenes or detections with one transaction; what is gone is passed over."""
        rows: list[NDArray[np.int64]] = []
        contents: list[str] = []

        def delete() -> int:
            rows.clear()
            contents.clear()
            with self._store.write() as change:
                for id in ids:
                    if id.startswith("img_"):
                        removed = change.remove(id, erasure=erasure)
                        if removed is not None:
                            contents.append(removed[0])
                            rows.append(removed[1])
                    else:
                        of_detection = change.remove_detection(id, erasure=erasure)
                        if of_detection is not None:
                            rows.append(of_detection)
                self._changes.on_step("erasing")
                return change.last_change()

        number_of_change = self._changes.deleting(delete)
        self._changes.on_step("erasure committed")
        gone = np.concatenate([*rows, np.zeros(0, np.int64)])
        self._answering.follow(number_of_change, lambda: self._live.remove(gone, number_of_change))
        self._changes.on_step("erasure unindexed")
        for sha256 in contents:
            self._changes.erase_original(sha256)
        self._changes.on_step("originals erased")

    def _forget(self, pending: Pending) -> None:
        """After the rows are deleted: every other place where an erasure's bytes may be."""
        with self._store.read() as snapshot:
            stored = snapshot.contents()
        left = [one for one in pending.contents if one[0] not in stored]  # not added since
        for sha256, _ in left:
            self._changes.erase_original(sha256)
        erasures.remove_copies(self._directory, left, but=self._directory / ORIGINALS)
        with self._store.write() as change:
            erasures.remove_mentions(change.connection, pending)
        self._changes.reserve.give_up()
        self._store.vacuum()

    def _is_wasteful(self, state: IndexState) -> bool:
        """Whether the database is smaller when it is written anew."""
        return state.database_free_bytes > max(UNUSED_BYTES, UNUSED_SHARE * state.database_bytes)

    @contextmanager
    def _unless_stored(self, sha256: str, *, placed: bool) -> Iterator[None]:
        """After a failure: no file without a row, unless the database is too ill to tell."""
        try:
            yield
        except DatabaseUnavailableError:
            raise  # it may still be committed: who opens the gallery next can tell
        except BaseException:
            with suppress(GalleryError):
                if placed and self.find(sha256) is None:
                    self._changes.erase_original(sha256)
                elif placed:
                    self._answering.distrust()  # committed, yet the commit was said to fail
            raise


def remembered_model(directory: Path, database: str | None = None) -> GalleryModel | None:
    """Whose embeddings a gallery holds, without loading it; None when there is no gallery.

    Raises:
        GalleryLockedError: when it is open, and not in a database that is shared.
    """
    if database is not None:
        return model_in(database)
    if not has_gallery(directory):
        return None
    lock = DirectoryLock(directory)
    try:
        finish_restore(directory)
        return model_in(directory / DATABASE)
    finally:
        lock.release()


def open_originals(directory: Path, url: str | None) -> Originals | ObjectOriginals:
    """A gallery's originals: files in its directory, or in object storage.

    Raises:
        GalleryError: the URL cannot be used.
    """
    return Originals(directory / ORIGINALS) if url is None else ObjectOriginals(Objects(url))


def _number(view: View | None) -> int | None:
    return None if view is None else view.generation.number


def _check_length(detections: Detections, generation: Generation) -> None:
    dim = generation.model.embedding_dim
    if detections.embeddings.shape[1] != dim:
        raise GalleryMismatchError(
            f"expected embeddings of {dim} numbers, got {detections.embeddings.shape[1]}"
        )


def _check_there(snapshot: Snapshot, view: View) -> None:
    try:
        generations.get(snapshot.connection, view.generation.id)
    except GenerationNotFoundError:
        raise GenerationGoneError("the model was changed, and its generation deleted") from None


def _no_scene(id: str) -> SceneNotFoundError:
    return SceneNotFoundError(f"there is no scene {id}")


def _no_detection(id: str) -> DetectionNotFoundError:
    return DetectionNotFoundError(f"there is no detection {id}")
