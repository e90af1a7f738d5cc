"""Snapshots: copies of a gallery, made while it is used. (restoring.py is the way back.)

A snapshot is a directory:

    snap_…/gallery.sqlite3      the database, as of one committed change
    snap_…/originals/<sha256>   the originals of exactly the scenes in that database; hard links,
                                or copies where the snapshot lies on another file system
    snap_…/manifest.json        size and SHA-256 of each file, and whose gallery it is

Database and originals fit together although scenes come and go: while changes wait for a moment, a
read transaction is begun and originals are held, so that none is deleted. From then on the
transaction shows one state, all originals of that state stay where they are, and changes go on.
Originals of scenes that were removed meanwhile are deleted when the snapshot is done or, if the
process dies first, when the gallery is opened next.

    1  copied      the database, under the snapshot's temporary name snap_….new
    2  placed      the originals, each read and compared with its name
    3  described   the manifest; all is on disk
    4  named       snap_….new is renamed: from here on the snapshot is there, and whole

What a death before 4 leaves is deleted when the gallery is opened next.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from indexer.database.store import DATABASE, Frozen
from indexer.errors import (
    GalleryError,
    SnapshotBusyError,
    SnapshotDamagedError,
    SnapshotNotFoundError,
)
from indexer.files.originals import ORIGINALS
from indexer.files.syncing import sync_directory
from indexer.gallery.manifest import (
    Manifest,
    Progress,
    Step,
    read_manifest,
    reading,
    sha256_of,
    translated,
    write_manifest,
)
from indexer.gallery.trail import Trail
from indexer.gallery.writer import Writer
from indexer.ids import new_id
from indexer.rows import erasures
from indexer.times import microseconds, now

SNAPSHOTS = "snapshots"
_NAME = re.compile(r"snap_[0-9A-HJKMNP-TV-Z]{26}")

Place = Callable[[str, Path], None]


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk; manifest is None where that cannot be read, and problem says why."""

    id: str
    path: Path
    manifest: Manifest | None
    problem: str | None


class Snapshots:
    """The snapshots that a gallery makes, as gallery.snapshots.

    Once made they need no gallery: the functions below list, find and remove them by directory.

    Attributes:
        directory: where they lie.
    """

    def __init__(self, directory: Path, writer: Writer, trail: Trail) -> None:
        self.directory = directory
        self._writer = writer
        self._trail = trail

    def make(
        self,
        *,
        id: str | None = None,
        into: Path | None = None,
        on_progress: Progress = lambda done, total: None,
    ) -> Manifest:
        """Copy the gallery, as of one change; searches and changes go on.

        Args:
            id: its name, of new_snapshot_id.
            into: another directory than that of the gallery's snapshots.
            on_progress: is told how many of how many bytes are done, and may raise to give up.

        Raises:
            SnapshotBusyError, StorageFullError, GalleryError: nothing of it is left.
        """
        id = id or new_snapshot_id()
        writer = self._writer
        with writer.exclusive, ExitStack() as stack:
            self._trail.note("snapshot_begun", id)
            with writer.changing():
                writer.originals.hold()
                stack.callback(writer.release_originals)
                stack.enter_context(writer.store.holding_originals())
                source = stack.enter_context(writer.store.frozen())
                writer.on_step("frozen")
            manifest = _write(
                into or self.directory,
                id,
                source,
                writer.originals.place,
                on_step=writer.on_step,
                on_progress=on_progress,
            )
        self._trail.note(
            "snapshot_made", id, images=manifest.scenes, last_change=manifest.last_change
        )
        return manifest


def new_snapshot_id() -> str:
    """A name for a new snapshot."""
    return new_id("snap_")


def list_snapshots(directory: Path) -> list[Snapshot]:
    """The snapshots in a directory, oldest first; of their files, only the manifests are read."""
    if not directory.is_dir():
        return []
    names = sorted(entry.name for entry in os.scandir(directory) if _NAME.fullmatch(entry.name))
    return [_snapshot(directory / name) for name in names]


def find_snapshot(directory: Path, id: str) -> Snapshot:
    """
    Raises:
        SnapshotNotFoundError: there is none of this name.
    """
    if not _NAME.fullmatch(id) or not (directory / id).is_dir():
        raise SnapshotNotFoundError(f"there is no snapshot {id}")
    return _snapshot(directory / id)


def remove_snapshot(directory: Path, id: str) -> None:
    """Delete one; it is gone from lists at once.

    Raises:
        SnapshotNotFoundError: there is none of this name.
        SnapshotBusyError: one is being made, or another deleted.
    """
    path = find_snapshot(directory, id).path
    leaving = path.with_name(f"{id}.gone")
    with _writing(directory):
        path.rename(leaving)
        sync_directory(directory)
        shutil.rmtree(leaving)


def sweep_snapshots(directory: Path) -> None:
    """Delete what a death left of one half made or half deleted."""
    left = [path for path in directory.glob("snap_*.*") if path.suffix in (".new", ".gone")]
    with suppress(SnapshotBusyError):  # then they are not left, but another process's
        if left:
            with _writing(directory):
                for path in left:
                    shutil.rmtree(path, ignore_errors=True)


def stored_ids(snapshot: Path) -> Iterator[str]:
    """The ids of all scenes and detections in a snapshot.

    Raises:
        SnapshotDamagedError: its database cannot be read.
    """
    with reading(snapshot / DATABASE) as connection:
        for table in ("scenes", "detections"):
            for (id,) in connection.execute(f"SELECT id FROM {table}"):
                yield id


def holding(directory: Path, ids_sha256: Set[str]) -> list[str]:
    """The ids of snapshots that hold a scene or a detection with one of these hashes of ids.

    One that cannot be read is among them: it may hold what nobody can see.
    """
    found = []
    for snapshot in list_snapshots(directory) if ids_sha256 else []:
        try:
            if any(erasures.hash_id(id) in ids_sha256 for id in stored_ids(snapshot.path)):
                found.append(snapshot.id)
        except SnapshotDamagedError:
            found.append(snapshot.id)
    return found


def _write(
    directory: Path,
    id: str,
    source: Frozen,
    place: Place,
    *,
    on_step: Step,
    on_progress: Progress,
) -> Manifest:
    """Write a snapshot of the state that source shows, and close source once that is copied.

    Args:
        directory: where snapshots lie; made when it is not there.
        source: no original of its scenes may go before this returns.
        place: puts an original, by its SHA-256, at a path; FileNotFoundError when it is gone.

    Raises:
        SnapshotBusyError: another process makes one in the same directory.
        StorageFullError, GalleryError: it cannot be written; nothing of it is left.
    """
    with _writing(directory), translated(directory):
        incoming = directory / f"{id}.new"
        try:
            (incoming / ORIGINALS).mkdir(mode=0o700, parents=True)
            database = incoming / DATABASE
            with closing(source):
                source.copy_to(database)
            on_step("copied")
            manifest = _gather(id, incoming, place, on_progress)
            on_step("placed")
            write_manifest(incoming, manifest)
            sync_directory(incoming / ORIGINALS)
            sync_directory(incoming)
            on_step("described")
            incoming.rename(directory / id)
            sync_directory(directory)
            on_step("named")
        except BaseException:
            shutil.rmtree(incoming, ignore_errors=True)
            raise
    return manifest


def _gather(id: str, incoming: Path, place: Place, on_progress: Progress) -> Manifest:
    """Place the originals that the copied database names, and describe the whole."""
    database = incoming / DATABASE
    with reading(database) as connection:
        name, fingerprint, dim = connection.execute(
            "SELECT model_name, model_fingerprint, embedding_dim FROM generations"
            " WHERE state = 'active'"
        ).fetchone()
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        (last_change,) = connection.execute("SELECT max(number) FROM changes").fetchone()
        (detections,) = connection.execute(
            "SELECT count(*) FROM detections JOIN generations ON generation = generations.number"
            " WHERE state = 'active'"
        ).fetchone()
        contents = connection.execute("SELECT sha256, content_bytes FROM scenes").fetchall()
    files = {DATABASE: (database.stat().st_size, sha256_of(database))}
    damaged = []
    done, total = files[DATABASE][0], files[DATABASE][0] + sum(size for _, size in contents)
    on_progress(done, total)
    for sha256, size in sorted(contents):
        target = incoming / ORIGINALS / sha256
        with suppress(FileNotFoundError):
            place(sha256, target)
        if target.is_file() and sha256_of(target) == sha256:
            files[f"{ORIGINALS}/{sha256}"] = (size, sha256)
        else:
            target.unlink(missing_ok=True)
            damaged.append(sha256)
        done += size
        on_progress(done, total)
    return Manifest(
        id=id,
        created_at=microseconds(now()),
        database_format=int(version),
        model_name=name,
        model_fingerprint=fingerprint,
        embedding_dim=dim,
        scenes=len(contents),
        detections=detections,
        last_change=last_change or 0,
        files=files,
        damaged=tuple(damaged),
    )


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """One process at a time makes a snapshot in a directory."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise GalleryError(f"cannot use {directory}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SnapshotBusyError(
            f"another snapshot is being made, or deleted, in {directory}"
        ) from None
    else:
        yield
    finally:
        os.close(file)


def _snapshot(path: Path) -> Snapshot:
    try:
        return Snapshot(path.name, path, read_manifest(path), None)
    except GalleryError as error:
        return Snapshot(path.name, path, None, str(error))
