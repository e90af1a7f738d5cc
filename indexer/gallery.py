"""A gallery: add scenes, remove them, search the people in them.

What survives a crash. Adding a scene goes in steps, and the process may die between any two:

    1  written     the original, as a file in originals, under a passing name
    2  synced      that file is on disk
    3  renamed     … under its SHA-256
    4  placed      that directory is on disk
    5  inserted    scene, tags, detections, embeddings and a change number, in one open transaction
    6  committed   … on disk: from here on the scene is stored
    7  indexed     its people are in the index in memory; add returns

A death before 6 leaves at most a file that no row names, which the next open deletes. Removing a
scene:

    1  deleted     in one open transaction, with a change number
    2  committed   from here on the scene is gone
    3  unindexed   no search that starts now finds it; after the next open neither
    4  erased      its original is deleted; if this is not reached, the next open does it

Snapshots, restores and erasures have steps of their own: indexer/snapshots.py, indexer/erasures.py.

On a full disk adding fails and removing goes on, in a reserve that the gallery keeps for that.

The index is a cache: opening a gallery fills it from the database.
"""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer import audit, erasures
from indexer.audit import AuditEntry, acting_as
from indexer.crowd import everybody, labelled
from indexer.cursor import read_cursor, write_cursor
from indexer.erasures import Erasure, Pending
from indexer.errors import (
    CalibrationNotFoundError,
    DetectionNotFoundError,
    ErasureChangedError,
    GalleryDamagedError,
    GalleryError,
    GalleryMismatchError,
    LabelNotFoundError,
    SceneNotFoundError,
    StorageFullError,
)
from indexer.job_store import JobStore
from indexer.live_index import LiveIndex
from indexer.locks import DirectoryLock
from indexer.originals import Originals, sync_directory
from indexer.ranking import GroupBy, lowest_needed, ranked
from indexer.records import (
    AddResult,
    Compaction,
    Crowd,
    GalleryHit,
    GalleryModel,
    GalleryStats,
    IndexState,
    NewScene,
    SceneFilter,
    ScenePage,
    StoredCalibration,
    StoredDetection,
    StoredScene,
)
from indexer.reply_store import ReplyStore
from indexer.reserve import Reserve
from indexer.retention import expired, is_expired
from indexer.snapshots import (
    SNAPSHOTS,
    Manifest,
    finish_restore,
    has_gallery,
    new_snapshot_id,
    sweep_snapshots,
    write_snapshot,
)
from indexer.store import DATABASE, People, Store
from indexer.tables import FORMAT
from models.detections import Detections
from models.evaluation.calibration import calibrate

EVERY_SCENE = SceneFilter()
KEPT_CALIBRATIONS = 100
ERASED_AT_ONCE = 100  # scenes or detections in one transaction of an erasure
EXPIRED_AT_ONCE = 500
# The index in memory is filled anew, and the database written anew, when so much of it is unused.
UNUSED_SHARE = 0.2
UNUSED_SLOTS = 1_000
UNUSED_BYTES = 2**20
T = TypeVar("T")

_log = logging.getLogger(__name__)


class Gallery:
    """Stored scenes and the people in them, in one directory. Use open_ or reopen, and close it.

    Any thread may call anything. Searches and reads run side by side; changes go one after the
    other. Once add or remove has returned, every search that starts later sees it.

    Attributes:
        model: whose embeddings these are.
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
    ) -> None:
        self._directory = directory
        self.snapshots = snapshots or directory / SNAPSHOTS
        self._engine = engine
        self._on_step = on_step
        self._writing = threading.RLock()
        self._keeping = threading.Lock()  # one of snapshot, erasure, compaction at a time
        self._closed = False
        self._calibration: StoredCalibration | None = None
        with _usable(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = DirectoryLock(directory)
        try:
            with _usable(directory):
                finish_restore(directory)
                sweep_snapshots(self.snapshots)
            self._reserve = Reserve(directory / "reserve")
            with _usable(directory):
                self._originals = Originals(directory / "originals")
            self._store = Store(directory / DATABASE)
        except BaseException:
            self._lock.release()
            raise
        self.jobs = JobStore(self._store)
        self.replies = ReplyStore(self._store)
        try:
            self.model = self._settle_model(model)
            sync_directory(directory)
            self._sweep()
            self._live = self._load()
            self._stale = False
            self._refill()
            self.finish_erasures()
        except BaseException:
            self.close()
            raise

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
    ) -> Self:
        """Open the gallery in a directory, or make one there.

        Args:
            model_name, model_fingerprint, embedding_dim: whose embeddings come in; [D] each.
            model_path: where that model lies, remembered for reopen's caller.
            engine: a name in indexer.engines.ENGINES.
            on_step: called with the name of each step above; tests end the process in it.
            snapshots: where its snapshots lie; by default in the directory, as "snapshots".

        Raises:
            GalleryLockedError: when it is open already, here or in another process.
            GalleryMismatchError: when it holds another model's embeddings, or has a newer format.
            GalleryDamagedError: when what is on disk is not what was written.
            GalleryError: when the directory cannot be used.
        """
        path = None if model_path is None else str(model_path.absolute())
        model = GalleryModel(model_name, model_fingerprint, embedding_dim, path)
        return cls(directory, model, engine, on_step, snapshots)

    @classmethod
    def reopen(
        cls, directory: Path, *, engine: str = "faiss-flat", snapshots: Path | None = None
    ) -> Self:
        """Open a gallery that is there, whatever its model; raises as open_ does.

        Raises:
            GalleryError: when there is none.
        """
        if not has_gallery(directory):
            raise GalleryError(f"there is no gallery in {directory}")
        return cls(directory, None, engine, lambda step: None, snapshots)

    def close(self) -> None:
        """Release the directory. Waits for a change in progress; searches must have ended."""
        with self._writing:
            if not self._closed:
                self._closed = True
                self._store.close()
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Changing

    def add(self, scene: NewScene, detections: Detections) -> AddResult:
        """Store a scene and its people; on disk, and found by searches, when this returns.

        Returns:
            created=False and the stored scene, when the same bytes are there already.

        Raises:
            ExternalIdConflictError: when another scene has its external id.
            GalleryMismatchError: when the embeddings have another length than the gallery's.
            StorageFullError: when there is no space.
            After any of them, nothing was stored.
        """
        if detections.embeddings.shape[1] != self.model.embedding_dim:
            raise GalleryMismatchError(
                f"expected embeddings of {self.model.embedding_dim} numbers, "
                f"got {detections.embeddings.shape[1]}"
            )
        with self._changing():
            stored = self.find(scene.sha256)
            if stored is not None:
                return AddResult(stored, created=False)
            self._reserve.fill()
            try:
                self._originals.put(scene.sha256, scene.content, self._on_step)
                self._on_step("placed")
                with self._store.write() as change:
                    id, number, rows = change.add(scene, detections)
                    number_of_change = change.last_change()
                    self._on_step("inserted")
                self._on_step("committed")
            except BaseException:
                self._drop_if_unwanted(scene.sha256)
                raise
            numbers = np.full(len(rows), number, np.int64)
            with self._following():
                self._live.add(People(rows, numbers, (), detections), number_of_change)
            self._on_step("indexed")
            return AddResult(self.get(id), created=True)

    def patch(self, scene_id: str, changes: Mapping[str, object]) -> StoredScene:
        """Replace some of external_id, camera_id, captured_at (None clears), tags, attributes.

        Raises:
            SceneNotFoundError, ExternalIdConflictError, StorageFullError: then nothing was changed.
            ValueError: when a key is none of these, or a value has the wrong type.
        """
        with self._changing():
            with self._store.write() as change:
                if not change.patch(scene_id, changes):
                    raise _no_scene(scene_id)
                number_of_change = change.last_change()
            self._live.change = number_of_change
            return self.get(scene_id)

    def remove(self, scene_id: str) -> None:
        """Remove a scene: its row, its people and its original.

        Raises:
            SceneNotFoundError: when there is none.
        """
        with self._changing():
            sha256, rows, number_of_change = self._deleting(lambda: self._delete(scene_id))
            self._on_step("committed")
            with self._following():
                self._live.remove(rows, number_of_change)
            self._on_step("unindexed")
            self._originals.remove(sha256)
            self._on_step("erased")
            self._refill()

    def remove_detection(self, detection_id: str) -> None:
        """Remove one person from a scene, which stays.

        Raises:
            DetectionNotFoundError: when there is none.
        """
        with self._changing():
            row, number_of_change = self._deleting(lambda: self._delete_detection(detection_id))
            with self._following():
                self._live.remove(np.array([row], np.int64), number_of_change)
            self._refill()

    def label(self, detection_id: str, label: str) -> StoredDetection:
        """Say who a detection is, instead of what was said before. No ranking heeds it.

        Raises:
            DetectionNotFoundError: when there is none.
            StorageFullError: then nothing was changed.
        """
        with self._changing():
            with self._store.write() as change:
                if not change.set_label(detection_id, label):
                    raise _no_detection(detection_id)
                number_of_change = change.last_change()
            self._live.change = number_of_change
            return self.detection(detection_id)

    def remove_label(self, detection_id: str) -> None:
        """Say no more who a detection is.

        Raises:
            DetectionNotFoundError, LabelNotFoundError: when there is none.
        """
        with self._changing():
            self.detection(detection_id)
            self._live.change = self._deleting(lambda: self._delete_label(detection_id))
            self._refill()

    def rebuild(self) -> None:
        """Fill a new index from the database, checking every row; searches and changes go on.

        Raises:
            GalleryDamagedError: when a row is not what was written; the old index stays.
        """
        fresh = self._load()
        with self._writing:
            self._refresh()  # what came and went meanwhile is read from the old index
            self._catch_up(fresh)
            self._live = fresh

    # Keeping

    def snapshot(
        self,
        *,
        id: str | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Manifest:
        """Copy the gallery, as of one change, into a new one of its snapshots; all goes on.

        Args:
            id: its name, of new_snapshot_id.
            on_progress: is told how many of how many bytes are done, and may raise to give up.

        Raises:
            SnapshotBusyError, StorageFullError, GalleryError: nothing of it is left.
        """
        id = id or new_snapshot_id()
        with self._keeping, ExitStack() as stack:
            self.note("snapshot_begun", id)
            with self._changing():
                self._originals.keep_back()
                stack.callback(self._let_go)
                source = stack.enter_context(self._store.frozen())
                self._on_step("frozen")
            manifest = write_snapshot(
                self.snapshots,
                id,
                source,
                self._originals.directory,
                on_step=self._on_step,
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

        with self._changing():
            if not agreed():
                raise ErasureChangedError("what would be erased is not what the preview showed")
            erasure = self._deleting(accept)
        self._on_step("accepted")
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
                    with self._changing():
                        self._erase_some(id, ids[start : start + ERASED_AT_ONCE])
                    on_progress(start, len(ids))
                with self._changing():
                    self._forget(pending)
                    self._on_step("compacted")
                    with self._store.write() as change:
                        erasures.complete(change.connection, id)
                    self._store.empty_log()
            self._refill()
            self._on_step("completed")
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
            self.rebuild()
            self._on_step("refilled")
            wasteful = self._is_wasteful(before)
            if wasteful:
                self._store.vacuum()
            self._on_step("vacuumed")
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
                    with self._changing():
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

        def enter() -> None:
            with self._store.write() as change:
                audit.record(change.connection, action, subject, details)

        self._deleting(enter)

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

    def get(self, scene_id: str) -> StoredScene:
        """
        Raises:
            SceneNotFoundError: when there is none.
        """
        with self._store.read() as snapshot:
            scene = snapshot.scene(id=scene_id)
        if scene is None:
            raise _no_scene(scene_id)
        return scene

    def detection(self, detection_id: str) -> StoredDetection:
        """
        Raises:
            DetectionNotFoundError: when there is none.
        """
        with self._store.read() as snapshot:
            detection = snapshot.detection(detection_id)
        if detection is None:
            raise _no_detection(detection_id)
        return detection

    def scenes(
        self, filter: SceneFilter = EVERY_SCENE, *, limit: int = 50, cursor: str | None = None
    ) -> ScenePage:
        """Scenes in the order of their ids, which is that of their coming.

        Args:
            cursor: a page's next_cursor, to go on behind it. Scenes that come and go in between
                disturb
                nothing: none is given twice, and none that stayed is left out.

        Raises:
            InvalidCursorError: when the cursor is not one of ours.
        """
        after = None if cursor is None else read_cursor(cursor)
        with self._store.read() as snapshot:
            found = snapshot.page(filter, limit + 1, after)
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

    def embedding(self, detection_id: str) -> NDArray[np.float32]:
        """The embedding [D] of a detection, of unit length.

        Raises:
            DetectionNotFoundError: when there is none.
        """
        with self._store.read() as snapshot:
            embedding = snapshot.embedding(detection_id)
        if embedding is None:
            raise _no_detection(detection_id)
        return embedding

    def labelled(self) -> Crowd:
        """Everybody who has a label; scenes without anybody who has are left out."""
        with self._store.read() as snapshot:
            return labelled(snapshot, self.model.embedding_dim)

    def everybody(
        self, *, scene_ids: Collection[str] | None = None, most: int | None = None
    ) -> Crowd:
        """Everybody, of all scenes or of some; scenes in which nobody was found are there as well.

        Args:
            scene_ids: scenes that are gone are left out.
            most: how many people to read at most; each takes 4 × D bytes of memory.

        Raises:
            CrowdTooLargeError: when there are more people.
        """
        with self._store.read() as snapshot:
            dim = self.model.embedding_dim
            return everybody(snapshot, dim, scene_ids=scene_ids, most=most)

    def calibrate(self, targets: Sequence[float] | None = None) -> StoredCalibration:
        """Measure on the labels what scores are worth; from now on it is the calibration in use.

        Args:
            targets: false-match rates to have thresholds for, see models.evaluation.calibration.

        Raises:
            CalibrationError: when the labels cannot support them.
            StorageFullError: then nothing was changed.
        """
        crowd = self.labelled()
        nobody = Detections.empty(self.model.embedding_dim)
        places = np.repeat(np.arange(len(crowd.scenes)), [len(own) for own in crowd.ids])
        made = calibrate(
            np.concatenate([nobody.embeddings, *(own.embeddings for own in crowd.people)]),
            np.concatenate([nobody.scores, *(own.scores for own in crowd.people)]),
            [str(label) for own in crowd.labels for label in own],
            places,
            targets=targets,
        )
        with self._changing(), self._store.write() as change:
            id = change.add_calibration(
                self.model.fingerprint, crowd.labels_sha256, made, KEPT_CALIBRATIONS
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

    def calibration_in_use(self) -> StoredCalibration | None:
        """The newest one made with the gallery's model; None when there is none."""
        with self._store.read() as snapshot:
            newest = snapshot.newest_calibration(self.model.fingerprint)
            if newest is None:
                return None
            known = self._calibration  # reading one takes longer than a search
            if known is None or known.id != newest:
                known = self._calibration = snapshot.calibration(newest)
            return known

    def stats(self) -> GalleryStats:
        """How much there is, and how far the index has come."""
        with self._store.read() as snapshot:
            last_change = snapshot.last_change()
            scenes = snapshot.count(EVERY_SCENE)
            detections, originals_bytes = snapshot.totals()
        return GalleryStats(
            scenes=scenes,
            detections=detections,
            originals_bytes=originals_bytes,
            database_bytes=self._store.nbytes,
            index_bytes=self._live.nbytes,
            last_change=last_change,
            index_change=self._live.change,
            engine=self._engine,
            model_name=self.model.name,
            model_fingerprint=self.model.fingerprint,
            format=FORMAT,
        )

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

        Returns:
            Nearest first; fewer than k when there are no more.

        Raises:
            ValueError: when the query is not [D] of unit length, or k is below 1.
        """
        if query.shape != (self.model.embedding_dim,) or abs(np.linalg.norm(query) - 1) > 1e-3:
            raise ValueError(f"expected a query [{self.model.embedding_dim}] of unit length")
        if k < 1:
            raise ValueError(f"expected k of at least 1, got {k}")
        self._refresh()
        live = self._live
        wanted = k + 16
        gone = np.zeros(0, np.int64)
        with self._store.read() as snapshot:
            left_out = snapshot.numbers_of({*exclude_scene_ids, *filter.scene_not_in})
            rest = replace(filter, scene_not_in=())
            meant = None if rest == EVERY_SCENE else snapshot.numbers(rest)
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

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time, on an index that is not behind."""
        with self._writing:
            if self._closed:
                raise GalleryError(f"the gallery {self._directory} is closed")
            self._refresh()
            yield

    def _delete(self, scene_id: str) -> tuple[str, NDArray[np.int64], int]:
        """Delete from the database only: the original's SHA-256, the rows, the change's number."""
        with self._store.write() as change:
            removed = change.remove(scene_id)
            if removed is None:
                raise _no_scene(scene_id)
            self._on_step("deleted")
            return *removed, change.last_change()

    def _delete_detection(self, detection_id: str) -> tuple[int, int]:
        with self._store.write() as change:
            row = change.remove_detection(detection_id)
            if row is None:
                raise _no_detection(detection_id)
            return row, change.last_change()

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
                        row = change.remove_detection(id, erasure=erasure)
                        if row is not None:
                            rows.append(np.array([row], np.int64))
                self._on_step("erasing")
                return change.last_change()

        number_of_change = self._deleting(delete)
        self._on_step("erasure committed")
        with self._following():
            self._live.remove(np.concatenate([*rows, np.zeros(0, np.int64)]), number_of_change)
        self._on_step("erasure unindexed")
        for sha256 in contents:
            self._originals.remove(sha256)
        self._on_step("originals erased")

    def _forget(self, pending: Pending) -> None:
        """After the rows are deleted: every other place where an erasure's bytes may be."""
        with self._store.read() as snapshot:
            stored = snapshot.contents()
        left = [one for one in pending.contents if one[0] not in stored]  # not added since
        for sha256, _ in left:
            self._originals.remove(sha256)
        erasures.remove_copies(self._directory, left, but=self._originals.directory)
        with self._store.write() as change:
            erasures.remove_mentions(change.connection, pending)
        self._reserve.give_up()
        self._store.vacuum()

    def _is_wasteful(self, state: IndexState) -> bool:
        """Whether the database is smaller when it is written anew."""
        return state.database_free_bytes > max(UNUSED_BYTES, UNUSED_SHARE * state.database_bytes)

    def _let_go(self) -> None:
        with self._writing:
            self._originals.let_go()

    def _catch_up(self, fresh: LiveIndex) -> None:
        """Give a new index what came, and take from it what went, since it was filled."""
        live_rows, fresh_rows = self._live.rows(), fresh.rows()
        fresh.remove(np.setdiff1d(fresh_rows, live_rows), self._live.change)
        with self._store.read() as snapshot:
            for people in snapshot.people(np.setdiff1d(live_rows, fresh_rows).tolist()):
                fresh.add(people, self._live.change)

    def _deleting(self, delete: Callable[[], T]) -> T:
        """Delete, with the reserve's space when the disk is full."""
        try:
            return delete()
        except StorageFullError:
            self._reserve.give_up()
            return delete()

    def _refill(self) -> None:
        with suppress(StorageFullError):  # then the next add says so
            self._reserve.fill()

    @contextmanager
    def _following(self) -> Iterator[None]:
        """Update the index after a commit; if that fails, the next call fills a new one."""
        try:
            yield
        except BaseException:
            self._stale = True
            raise

    def _refresh(self) -> None:
        if self._stale:
            with self._writing:
                if self._stale:
                    self._live = self._load()
                    self._stale = False

    def _load(self) -> LiveIndex:
        live = LiveIndex(self._engine, self.model.embedding_dim)
        with self._store.read() as snapshot:
            change = snapshot.last_change()
            for people in snapshot.all_people():
                live.add(people, change)
            live.change = change
        return live

    def _settle_model(self, model: GalleryModel | None) -> GalleryModel:
        with self._store.read() as snapshot:
            stored = snapshot.model()
        if stored is None:
            if model is None:
                raise GalleryDamagedError(
                    f"{self._directory} does not say whose embeddings it holds"
                )
            if self._originals.stored():
                # An empty database beside originals is a lost one. Going on would sweep them away.
                raise GalleryDamagedError(
                    f"{self._directory} holds originals, but {DATABASE} is empty: restore it, "
                    "or start in an empty directory"
                )
        elif model is None:
            return stored
        elif (stored.fingerprint, stored.embedding_dim) != (model.fingerprint, model.embedding_dim):
            raise GalleryMismatchError(
                f"the gallery {self._directory} holds embeddings of {stored.name} "
                f"({stored.fingerprint[:12]}), not of {model.name} ({model.fingerprint[:12]})"
            )
        if model != stored:
            if stored is not None and model.path is None:
                model = replace(model, path=stored.path)
            with self._store.write() as change:
                change.set_model(model)
        return model

    def _sweep(self) -> None:
        with self._store.read() as snapshot:
            wanted = snapshot.contents()
        self._originals.sweep(wanted)
        lost = wanted - self._originals.stored()
        if lost:
            _log.warning(
                "%d originals are gone from %s, %s first", len(lost), self._directory, min(lost)
            )

    def _drop_if_unwanted(self, sha256: str) -> None:
        """After a failed add: no file without a row, unless the disk is too ill to tell."""
        try:
            wanted = self.find(sha256) is not None
        except GalleryError:
            return
        if wanted:
            self._stale = True  # committed, and yet the commit was reported as failed
        else:
            self._originals.remove(sha256)


def remembered_model(directory: Path) -> GalleryModel | None:
    """Whose embeddings a gallery holds, without loading it; None when there is no gallery.

    Raises:
        GalleryLockedError: when it is open.
    """
    if not has_gallery(directory):
        return None
    lock = DirectoryLock(directory)
    try:
        finish_restore(directory)
        store = Store(directory / DATABASE)
        try:
            with store.read() as snapshot:
                return snapshot.model()
        finally:
            store.close()
    finally:
        lock.release()


@contextmanager
def _usable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GalleryError(f"cannot use {directory} as a gallery: {error.strerror}") from error


def _no_scene(id: str) -> SceneNotFoundError:
    return SceneNotFoundError(f"there is no scene {id}")


def _no_detection(id: str) -> DetectionNotFoundError:
    return DetectionNotFoundError(f"there is no detection {id}")
