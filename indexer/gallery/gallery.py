"""A gallery: add scenes, remove them, search the people in them.

What survives a crash. Changes go in steps, and the process may die between any two. Adding a scene:

    1  written     the original, as a file in originals, under a passing name
    2  synced      that file is on disk
    3  renamed     … under its SHA-256
    4  placed      that directory is on disk
    5  inserted    scene, tags, detections, embeddings, a change number and the answer to a request
                   with a key, in one open transaction
    6  committed   … on disk: from here on the scene is stored
    7  indexed     its people are in the index in memory; add returns

A death before 6 leaves at most a file that no row names. The next open moves it into quarantine: it
cannot be told from the file of a scene that the database has lost, with its log say, and that may
be the only one. Removing a scene:

    1  marked      in one open transaction; a mark beside the original, on disk, says that it goes
    2  deleted     … with a change number
    3  committed   from here on the scene is gone
    4  unindexed   no search that starts now finds it; after the next open neither
    5  erased      its original is deleted, and then the mark; if this is not reached, the next open
                   does it

On a full disk adding fails and removing goes on, in space that the gallery reserves for that.
generations.py, snapshots.py, restoring.py and erasures.py have steps of their own. The index is a
cache: opening a gallery fills it from the database.

In a database that is shared (PostgreSQL) any number of processes may have the gallery open. One
changes it at a time; before it answers a search, each brings its index up to what the others have
changed, by the numbers of the changes. All of them read the originals in the same place.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from indexer.database.opening import open_store
from indexer.database.store import DATABASE
from indexer.database.tables import FORMAT
from indexer.errors import (
    DatabaseUnavailableError,
    GalleryError,
    GenerationGoneError,
    GenerationNotFoundError,
)
from indexer.files.reserve import Reserve
from indexer.files.syncing import sync_directory
from indexer.gallery.accepted import Accepted
from indexer.gallery.calibrations import Calibrations
from indexer.gallery.erasures import Erasures
from indexer.gallery.generations import Generations
from indexer.gallery.opening import (
    check_originals,
    model_in,
    open_originals,
    settle_model,
    sweep,
    usable,
)
from indexer.gallery.people import People
from indexer.gallery.quarantine import Quarantine
from indexer.gallery.restoring import finish_restore, has_gallery
from indexer.gallery.scenes import Scenes
from indexer.gallery.snapshots import SNAPSHOTS, Snapshots, sweep_snapshots
from indexer.gallery.trail import Trail
from indexer.gallery.upkeep import Upkeep
from indexer.gallery.writer import Writer
from indexer.index.engines import MilvusServer, check_engine
from indexer.index.follower import ActiveIndex
from indexer.index.live import View, number_of
from indexer.index.ranking import GroupBy, lowest_needed, ranked
from indexer.locks import DirectoryLock
from indexer.records import (
    EVERY_SCENE,
    AddResult,
    GalleryHit,
    GalleryModel,
    GalleryStats,
    NewScene,
    SceneFilter,
    StoredScene,
)
from indexer.rows import change_log, generations, people, scenes
from indexer.rows.jobs import JobStore
from indexer.rows.replies import Reply, ReplyStore, store_reply
from models.detections import Detections

NO_PEOPLE: Mapping[str, Detections] = {}


class Gallery:
    """Stored scenes and the people in them, in one directory. Use open_ or reopen, and close it.

    Any thread may call anything. Searches and reads run side by side; changes go one after the
    other. Once add or remove has returned, every search that starts later sees it.

    Attributes:
        scenes, people, generations, calibrations, erasures, quarantine, snapshots, trail, upkeep:
            rooms of the gallery, each with what concerns these.
        index: of the active generation.
        jobs, replies: stored in the same database, and in the same transaction where that matters.
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
        snapshots = snapshots or directory / SNAPSHOTS
        self._engine = engine
        with ExitStack() as opened:
            with usable(directory):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                if database is None:
                    opened.callback(DirectoryLock(directory).release)
                    finish_restore(directory)
                sweep_snapshots(snapshots)
            reserve = Reserve(directory / "reserve", needed=database is None)
            with usable(directory):
                stored = open_originals(directory, originals)
            self._store = store = open_store(database or directory / DATABASE)
            opened.callback(store.close)
            with store.changing():
                settle_model(directory, store, stored, model, any_model=any_model)
                sync_directory(directory)
                accepted = Accepted(directory, needed=not store.shared)
                with store.write() as connection:
                    accepted.restore(connection)
                if originals is None:  # else upkeep.sweep_originals does so: a listing takes time
                    sweep(directory, store, stored)
                check_originals(directory, store, stored)
            self.index = ActiveIndex(directory, engine, store, milvus)
            opened.callback(self.index.close)
            self._writer = Writer(directory, store, stored, reserve, self.index, on_step)
            self.jobs = JobStore(store)
            self.replies = ReplyStore(store)
            self.trail = Trail(self._writer)
            self.scenes = Scenes(self._writer)
            self.people = People(self._writer)
            self.generations = Generations(self._writer, self.trail)
            self.calibrations = Calibrations(self._writer)
            self.erasures = Erasures(self._writer, accepted)
            self.quarantine = Quarantine(self._writer, self.trail)
            self.snapshots = Snapshots(snapshots, self._writer, self.trail)
            self.upkeep = Upkeep(self._writer, self.trail, self.quarantine, self.remove)
            self._writer.refill()
            self.erasures.finish_all()
            self.quarantine.look()
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
                directory. Several processes may then have the gallery open; all need the same
                folder "originals" in their directories, or the same originals URL.
            originals: the URL of object storage, s3://bucket/prefix, for the originals; by default
                they are files in the directory.
            milvus: the server that holds the vectors, for an engine in OUTSIDE.

        Raises:
            GalleryLockedError: it is open already, here or in another process.
            GalleryMismatchError: it holds another model's embeddings, or has a newer format.
            GalleryDamagedError: what is on disk is not what was written.
            DatabaseUnavailableError: the database server cannot be reached.
            GalleryError: the directory cannot be used.
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
        """Open a gallery that exists, whatever its model; raises as open_ does.

        Raises:
            GalleryError: there is none.
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
        with self.index.writing:
            self._writer.closed = True
            self._opened.close()  # a second time that does nothing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def model(self) -> GalleryModel:
        """The model of the active generation, whose embeddings answer."""
        return self.index.generation.model

    @property
    def shared(self) -> bool:
        """Whether other processes may have it open, too."""
        return self._store.shared

    @property
    def exact(self) -> bool:
        """Whether searches compare with everybody."""
        return self._engine != "milvus-hnsw"

    def view(self) -> View:
        """The active generation and its index. One search uses one view for all that it does."""
        live = self.index.refresh()
        return View(live.generation, live)

    def changing(self) -> AbstractContextManager[None]:
        """While this is open, nobody else changes the gallery; the same thread may."""
        return self._writer.changing()

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
            detections: as the model of the view sees them; by default the active one.
            further: as the models of other generations see them, by the generations' ids; ids of
                generations that are gone are left out.
            reply: makes the answer to whoever asked, of the scene as it is stored now; the answer
                is stored in the same transaction. Not called when the bytes are there already.

        Returns:
            created=False and the stored scene, when the same bytes are there already.

        Raises:
            ExternalIdConflictError: another scene has its external id.
            GalleryMismatchError: the embeddings have another length than the gallery's.
            GenerationSwappedError: the active generation is now one whose people were not given.
            StorageFullError: there is no space.
            DatabaseUnavailableError: it may be stored, or not; adding it again does no harm.
            After any other of them, nothing was stored.
        """
        store, writer, index = self._store, self._writer, self.index
        placed = store.shared and self.scenes.find(scene.sha256) is None
        if placed:  # takes long, and would keep others from changing the gallery
            writer.originals.put(scene.sha256, scene.content, writer.on_step)
        with writer.changing(), self._unless_stored(scene.sha256, placed=placed):
            seen_by = index.generation if view is None else view.generation
            seen = self.generations.by_number({seen_by.id: detections, **further})
            stored = self.scenes.find(scene.sha256)
            if stored is not None:
                return AddResult(stored, created=False)
            writer.reserve.fill()
            with self._unless_stored(scene.sha256, placed=True):
                if not (placed and writer.originals.has(scene.sha256)):
                    writer.originals.put(scene.sha256, scene.content, writer.on_step)
                writer.on_step("placed")
                with store.write() as connection:
                    id, added = scenes.add(connection, scene, seen)
                    number = change_log.last(connection)
                    stored = scenes.get(connection, id)
                    if reply is not None:
                        store_reply(connection, reply(stored))
                    writer.on_step("inserted")
                writer.on_step("committed")
            self.quarantine.forget(scene.sha256)
            own = added[index.generation.number]
            index.follow(number, lambda: index.live.add(own, number))
            writer.on_step("indexed")
            return AddResult(stored, created=True)

    def remove(self, scene_id: str) -> None:
        """Remove a scene: its row, its people and its original.

        Raises:
            SceneNotFoundError: there is none.
        """
        writer = self._writer

        def delete() -> tuple[str, NDArray[np.int64], int]:
            sha256 = None
            try:
                with self._store.write() as connection:
                    sha256, rows = scenes.remove(connection, scene_id)
                    writer.originals.mark([sha256])
                    writer.on_step("marked")
                    number = change_log.last(connection)
                    writer.on_step("deleted")
            except DatabaseUnavailableError:
                raise  # it may still be committed: a mark that is not needed does no harm
            except BaseException:
                if sha256 is not None:
                    writer.originals.unmark([sha256])
                raise
            return sha256, rows, number

        with writer.changing():
            sha256, rows, number = writer.deleting(delete)
            writer.on_step("committed")
            writer.unindex(rows, number)
            writer.on_step("unindexed")
            writer.erase_originals([sha256])
            writer.on_step("erased")
            writer.refill()

    def get(self, scene_id: str, *, view: View | None = None) -> StoredScene:
        """A scene and its people, as the generation of the view sees them, or the active one.

        Raises:
            SceneNotFoundError: there is none.
        """
        with self._store.read() as connection:
            return scenes.get(connection, scene_id, number_of(view))

    def stats(self) -> GalleryStats:
        """How much there is, and how far the index has come."""
        self.index.refresh()
        with self._store.read() as connection:
            last_change = change_log.last(connection)
            counted = scenes.count(connection, EVERY_SCENE)
            detections = people.count(connection)
            originals_bytes = scenes.originals_bytes(connection)
        live = self.index.live
        generation = live.generation
        return GalleryStats(
            scenes=counted,
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
        pass every condition count towards k.

        Args:
            query: [D], unit length.
            min_score: the lowest score (class-weighted similarity) to give.
            min_detection_score: the lowest detection score to give; compared as float32.
            group_by: "image" gives the best detection of each scene.
            view: the one whose model described the query; by default the active one.

        Returns:
            Nearest first; fewer than k when there are no more.

        Raises:
            GenerationGoneError: the view's generation was deleted.
            ValueError: the query is not [D] of unit length, or k is below 1.
        """
        used = self.view()
        if view is not None and view.generation.number != used.generation.number:
            used = view
        dim = used.generation.model.embedding_dim
        if query.shape != (dim,) or abs(np.linalg.norm(query) - 1) > 1e-3:
            raise ValueError(f"expected a query [{dim}] of unit length")
        if k < 1:
            raise ValueError(f"expected k of at least 1, got {k}")
        wanted = k + 16
        gone = np.zeros(0, np.int64)
        with self._store.read() as connection:
            try:
                generations.get(connection, used.generation.id)
            except GenerationNotFoundError:
                raise GenerationGoneError(
                    "the model was changed, and its generation deleted"
                ) from None
            left_out = scenes.numbers_of(connection, {*exclude_scene_ids, *filter.scene_not_in})
            meant = used.live.meant(connection, replace(filter, scene_not_in=()))
            while True:
                nearest = used.live.search(
                    query.astype(np.float32),
                    wanted,
                    scenes=meant,
                    not_scenes=left_out,
                    min_score=min_detection_score,
                    not_rows=gone,
                )
                lowest = lowest_needed(nearest, k, group_by, min_score, len(query))
                if not nearest.all_found and nearest.similarities[-1] >= lowest:
                    wanted *= 4  # until nothing can be missing
                    continue
                rows = nearest.rows[nearest.similarities >= lowest]
                found = list(people.at_rows(connection, rows.tolist()))
                missing = np.setdiff1d(rows, [row for some in found for row in some.rows])
                if not len(missing):
                    return ranked(connection, found, query, k, group_by, min_score)
                gone = np.concatenate(
                    [gone, missing]
                )  # added after the read began, or just removed

    @contextmanager
    def _unless_stored(self, sha256: str, *, placed: bool) -> Iterator[None]:
        """After a failure: no file without a row, unless the database is too ill to tell."""
        try:
            yield
        except DatabaseUnavailableError:
            raise  # it may still be committed: who opens the gallery next can tell
        except BaseException:
            with suppress(GalleryError):
                if placed and self.scenes.find(sha256) is None:
                    self._writer.erase_originals([sha256])
                elif placed:
                    self.index.distrust()  # committed, yet the commit was said to fail
            raise
