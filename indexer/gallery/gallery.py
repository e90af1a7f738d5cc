"""A gallery: add scenes, remove them, search the people in them.

What survives a crash. Changes go in steps, and the process may die between any two: scenes.py has
those of adding and removing, generations.py those of letting another generation answer;
snapshots.py and erasures.py have their own.

The index is a cache: opening a gallery fills it from the database.

In a database that is shared (PostgreSQL) any number of processes may have the gallery open. One
changes it at a time; each takes over into its index what the others have changed before it answers
a search, by the numbers of the changes. Originals then lie where all of them can read them.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from indexer.cursor import read_cursor, write_cursor
from indexer.database import audit, erasures, generations
from indexer.database.audit import AuditEntry
from indexer.database.crowd import everybody, labelled
from indexer.database.erasures import Erasure
from indexer.database.jobs import JobStore
from indexer.database.overview import Overview, overview
from indexer.database.replies import Reply, ReplyStore
from indexer.database.store import DATABASE, Store
from indexer.database.tables import FORMAT
from indexer.errors import GalleryDamagedError, GalleryError, StorageFullError
from indexer.files.object_originals import ObjectOriginals
from indexer.files.objects import Objects
from indexer.files.originals import Originals, sync_directory
from indexer.files.reserve import Reserve
from indexer.gallery import compaction
from indexer.gallery import erasures as erasing
from indexer.gallery import generations as generation_changes
from indexer.gallery import scenes as scene_changes
from indexer.gallery.calibrations import Calibrations
from indexer.gallery.opening import check_originals, model_in, settle_model, sweep, usable
from indexer.gallery.reading import read_detection, read_embedding, read_scene
from indexer.gallery.snapshots import (
    ORIGINALS,
    SNAPSHOTS,
    Manifest,
    finish_restore,
    has_gallery,
    new_snapshot_id,
    sweep_snapshots,
    write_snapshot,
)
from indexer.gallery.writer import Changes
from indexer.index.engines import MilvusServer, check_engine
from indexer.index.follower import Answering
from indexer.index.live import PeopleIndex
from indexer.locks import DirectoryLock
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
from indexer.search.ranking import GroupBy
from indexer.search.search import search
from models.detections import Detections

NO_PEOPLE: Mapping[str, Detections] = {}

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
        self._engine = engine
        self._keeping = threading.Lock()  # one of snapshot, erasure, compaction at a time
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
            self._calibrations = Calibrations(self._changes)
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
            engine: a name in indexer.index.engines.ENGINES, or in OUTSIDE with milvus.
            on_step: called with the name of each step of a change; tests end the process in it.
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

    def __exit__(self, *_: object) -> None:
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
        return scene_changes.add(
            self._changes,
            scene,
            detections,
            seen_by=view.generation if view else None,
            further=further,
            reply=reply,
        )

    def patch(self, scene_id: str, changes: Mapping[str, object]) -> StoredScene:
        """Replace some of external_id, camera_id, captured_at (None clears), tags, attributes.

        Raises:
            SceneNotFoundError, ExternalIdConflictError, StorageFullError: then nothing was changed.
            ValueError: when a key is none of these, or a value has the wrong type.
        """
        return scene_changes.patch(self._changes, scene_id, changes)

    def remove(self, scene_id: str) -> None:
        """Remove a scene: its row, its people and its original.

        Raises:
            SceneNotFoundError: when there is none.
        """
        scene_changes.remove(self._changes, scene_id)

    def remove_detection(self, detection_id: str) -> None:
        """Remove one person from a scene, which stays; no other model brings them back.

        Raises:
            DetectionNotFoundError: when there is none.
            DetectionGoneError: when only another generation has it.
        """
        scene_changes.remove_detection(self._changes, detection_id)

    def label(self, detection_id: str, label: str) -> StoredDetection:
        """Say who a detection is, instead of what was said before. No ranking heeds it.

        Raises:
            DetectionNotFoundError: when there is none.
            StorageFullError: then nothing was changed.
        """
        return scene_changes.label(self._changes, detection_id, label)

    def remove_label(self, detection_id: str) -> None:
        """Say no more who a detection is.

        Raises:
            DetectionNotFoundError, LabelNotFoundError: when there is none.
        """
        scene_changes.remove_label(self._changes, detection_id)

    def rebuild(self) -> None:
        """Fill a new index from the database, checking every row; searches and changes go on.

        Raises:
            GalleryDamagedError: when a row is not what was written; the old index stays.
        """
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
        return generation_changes.begin(self._changes, model)

    def keep_generation(self, id: str) -> None:
        """End building: what the generation has stays, new scenes do not come to it."""
        generation_changes.keep(self._changes, id)

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
        return generation_changes.add_people(self._changes, id, scene_id, detections)

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
        return generation_changes.activate(self._changes, id)

    def delete_generation(self, id: str) -> None:
        """Delete a generation with its people; searches and changes go on.

        Raises:
            GenerationNotFoundError: there is none.
            GenerationActiveError: it is the one that answers.
        """
        generation_changes.delete(self._changes, id)

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
        return erasing.begin(self._changes, scene_ids, detection_ids, agreed)

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
            erasing.finish(self._changes, id, on_progress)
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
            return compaction.compact(self._changes)

    @property
    def wants_compaction(self) -> bool:
        """Whether so much is unused that compacting is worth it."""
        return compaction.is_wanted(self.index_state())

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
        return scene_changes.expire(self._changes, days, at, stop)

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
        return read_scene(self._store, scene_id, _number(view))

    def detection(self, detection_id: str, *, view: View | None = None) -> StoredDetection:
        """One person, as the generation of the view sees them, or the one that answers.

        Raises:
            DetectionNotFoundError: when there is none.
            DetectionGoneError: when only another generation has it.
        """
        return read_detection(self._store, detection_id, _number(view))

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
                disturb nothing: none is given twice, and none that stayed is left out.

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
        return read_embedding(self._store, detection_id, _number(view))

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
        return self._calibrations.make(self.view().generation, targets)

    def calibrations(self) -> list[StoredCalibration]:
        """Those made with the gallery's model, newest first: the first is the one in use."""
        return self._calibrations.of(self.model)

    def calibration(self, id: str) -> StoredCalibration:
        """The one with this id, of whatever model.

        Raises:
            CalibrationNotFoundError: when there is none.
        """
        return self._calibrations.get(id)

    def calibration_in_use(self, *, view: View | None = None) -> StoredCalibration | None:
        """The newest one made with the model that answers; None when there is none."""
        return self._calibrations.newest((view or self.view()).generation.model)

    def stats(self) -> GalleryStats:
        """How much there is, and how far the index has come."""
        self._answering.refresh()
        with self._store.read() as snapshot:
            last_change = snapshot.last_change()
            scenes = snapshot.count(EVERY_SCENE)
            detections, originals_bytes = snapshot.totals()
        live = self._live
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
        return compaction.index_state(self._changes)

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
        return search(
            self._store,
            used.live,
            used.generation,
            query,
            k=k,
            filter=filter,
            min_score=min_score,
            min_detection_score=min_detection_score,
            group_by=group_by,
            exclude_scene_ids=exclude_scene_ids,
        )

    @property
    def _live(self) -> PeopleIndex:
        return self._answering.live


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
