"""Copies of a gallery, made while it is used, and the way back.

A snapshot is a directory:

    snap_…/gallery.sqlite3      the database, as of one committed change
    snap_…/originals/<sha256>   the originals of exactly the scenes in that database; hard links,
                                or copies where the snapshot lies on another file system
    snap_…/manifest.json        size and SHA-256 of each file, and whose gallery it is

How the two fit together while scenes come and go: with changes held off for a moment, a read
transaction is begun and the deletion of originals is put off. From then on the transaction shows
one state, every original of that state stays where it is, and changes go on. Originals of scenes
that were deleted meanwhile go when the snapshot is done; if the process dies first, the next
opening of the gallery deletes them.

    1  copied      the database, under the snapshot's passing name snap_….new
    2  placed      the originals, each read and compared with its name
    3  described   the manifest; all is on disk
    4  named       snap_….new is renamed: from here on the snapshot is there, and whole

What a death before 4 leaves goes when the gallery is opened next.

Restoring, into a gallery that nobody has open:

    1  checked     every file of the snapshot against its manifest; nothing was touched yet
    2  gathered    the restored gallery, in restore.new within the gallery's directory
    3  decided     that is renamed to restore.ready: from here on the restored gallery is meant
    4  swapped     its files are moved to their places, and what was there is deleted

A death before 3 leaves the gallery as it was. After it, whoever opens the gallery next finishes 4.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from indexer.database import audit, erasures
from indexer.database.seam import Frozen
from indexer.database.store import DATABASE, Store
from indexer.database.tables import FORMAT
from indexer.errors import (
    GalleryError,
    GalleryMismatchError,
    SnapshotBusyError,
    SnapshotDamagedError,
    SnapshotNotFoundError,
    StorageFullError,
)
from indexer.files.originals import link_or_copy, sync_directory
from indexer.ids import new_id
from indexer.locks import DirectoryLock
from indexer.times import microseconds, now, time_of

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
ORIGINALS = "originals"
SNAPSHOTS = "snapshots"
RESTORING, RESTORED = "restore.new", "restore.ready"
_NAME = re.compile(r"snap_[0-9A-HJKMNP-TV-Z]{26}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Step = Callable[[str], None]
Progress = Callable[[int, int], None]
Place = Callable[[str, Path], None]


@dataclass(frozen=True)
class Manifest:
    """What a snapshot holds.

    Attributes:
        created_at: microseconds since 1970, UTC; the time of the state that it shows, nearly.
        database_format: of indexer.database.tables.FORMAT.
        last_change: the number of the newest change in it.
        files: path below the snapshot to (bytes, SHA-256).
        damaged: SHA-256 of the originals that were gone or damaged in the gallery already.
    """

    id: str
    created_at: int
    database_format: int
    model_name: str
    model_fingerprint: str
    embedding_dim: int
    scenes: int
    detections: int
    last_change: int
    files: Mapping[str, tuple[int, str]]
    damaged: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Of all its files, also of those that are links and take no space of their own."""
        return sum(size for size, _ in self.files.values())


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk; manifest is None where that cannot be read, and problem says why."""

    id: str
    path: Path
    manifest: Manifest | None
    problem: str | None


def new_snapshot_id() -> str:
    """The name of a snapshot to come."""
    return new_id("snap_")


def write_snapshot(
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
        on_progress: is told how many of how many bytes are done, and may raise to give up.

    Raises:
        SnapshotBusyError: another process makes one in the same directory.
        StorageFullError, GalleryError: it cannot be written; nothing of it is left.
    """
    with _writing(directory), _translated(directory):
        incoming = directory / f"{id}.new"
        try:
            (incoming / ORIGINALS).mkdir(mode=0o700, parents=True)
            database = incoming / DATABASE
            with closing(source):
                source.copy_to(database)
            on_step("copied")
            manifest = _gather(id, incoming, place, on_progress)
            on_step("placed")
            _write_manifest(incoming, manifest)
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


def list_snapshots(directory: Path) -> list[Snapshot]:
    """Those in a directory, oldest first; files are not read beyond the manifests."""
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
    with _reading(snapshot / DATABASE) as connection:
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


def check_snapshot(snapshot: Path, on_progress: Progress = lambda done, total: None) -> Manifest:
    """Read every file and compare it with the manifest.

    Raises:
        SnapshotNotFoundError: there is none.
        SnapshotDamagedError: what is there is not what was written; the first difference is named.
        GalleryMismatchError: a newer version of this code wrote it.
    """
    if not snapshot.is_dir():
        raise SnapshotNotFoundError(f"there is no snapshot {snapshot}")
    manifest = _read_manifest(snapshot)
    if manifest.database_format > FORMAT:
        raise GalleryMismatchError(
            f"{snapshot} has format {manifest.database_format}, and this version reads up to "
            f"{FORMAT}: restore it with a newer one"
        )
    done = 0
    for name, (size, sha256) in manifest.files.items():
        path = snapshot / name
        if not path.is_file():
            raise SnapshotDamagedError(f"{path} is gone")
        if path.stat().st_size != size or _sha256(path) != sha256:
            raise SnapshotDamagedError(f"{path} is not what was written")
        done += size
        on_progress(done, manifest.nbytes)
    with _reading(snapshot / DATABASE) as connection:
        wanted = {sha256 for (sha256,) in connection.execute("SELECT sha256 FROM scenes")}
    listed = {Path(name).name for name in manifest.files if name != DATABASE}
    if wanted != listed | set(manifest.damaged):
        raise SnapshotDamagedError(f"the originals in {snapshot} are not those of its database")
    return manifest


def restore_snapshot(
    snapshot: Path,
    gallery: Path,
    *,
    on_step: Step = lambda step: None,
    on_progress: Progress = lambda done, total: None,
) -> Manifest:
    """Put a snapshot in the place of what a gallery's directory holds; that is deleted.

    Images and detections that were erased from the gallery since the snapshot was made are erased
    again: their erasures are handed on, and finished when the gallery is opened.

    Raises:
        SnapshotNotFoundError, SnapshotDamagedError, GalleryMismatchError: as check_snapshot does.
        GalleryLockedError: the gallery is open.
        StorageFullError, GalleryError: it cannot be written. After any of these, the gallery is
            what it was.
    """
    manifest = check_snapshot(snapshot, on_progress)
    on_step("checked")
    with _translated(gallery):
        gallery.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(gallery)
        try:
            finish_restore(gallery)
            incoming = gallery / RESTORING
            try:
                (incoming / ORIGINALS).mkdir(mode=0o700, parents=True)
                for name, (_, sha256) in manifest.files.items():
                    linked = name != DATABASE and link_or_copy(snapshot / name, incoming / name)
                    if name == DATABASE:
                        _copy(snapshot / name, incoming / name)
                    if not linked and _sha256(incoming / name) != sha256:
                        raise SnapshotDamagedError(f"{snapshot / name} changed while it was read")
                _hand_on(gallery, incoming, manifest.id)
                _sync(incoming / DATABASE)
                sync_directory(incoming / ORIGINALS)
                sync_directory(incoming)
            except BaseException:
                shutil.rmtree(incoming, ignore_errors=True)
                raise
            on_step("gathered")
            incoming.rename(gallery / RESTORED)
            sync_directory(gallery)
            on_step("decided")
            finish_restore(gallery, on_step=on_step)
            on_step("swapped")
        finally:
            lock.release()
    return manifest


def finish_restore(gallery: Path, *, on_step: Step = lambda step: None) -> None:
    """Finish a restore that was decided, and delete one that was not; the caller has the lock."""
    shutil.rmtree(gallery / RESTORING, ignore_errors=True)
    ready = gallery / RESTORED
    if not ready.is_dir():
        return
    if (ready / ORIGINALS).is_dir():
        if (gallery / ORIGINALS).is_dir():
            (gallery / ORIGINALS).rename(ready / "old")
        on_step("originals away")
        (ready / ORIGINALS).rename(gallery / ORIGINALS)
        sync_directory(gallery)
    on_step("originals in place")
    if (ready / DATABASE).is_file():
        for suffix in ("-wal", "-shm"):  # of the database that goes; never for the one that comes
            (gallery / f"{DATABASE}{suffix}").unlink(missing_ok=True)
        sync_directory(gallery)
        (ready / DATABASE).replace(gallery / DATABASE)
        sync_directory(gallery)
    on_step("database in place")
    shutil.rmtree(ready)


def has_gallery(directory: Path) -> bool:
    """Whether a gallery is there, or will be once a restore is finished."""
    return (directory / DATABASE).is_file() or (directory / RESTORED).is_dir()


# Within


def _gather(id: str, incoming: Path, place: Place, on_progress: Progress) -> Manifest:
    """Place the originals that the copied database names, and describe the whole."""
    database = incoming / DATABASE
    with _reading(database) as connection:
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
    files = {DATABASE: (database.stat().st_size, _sha256(database))}
    damaged = []
    done, total = files[DATABASE][0], files[DATABASE][0] + sum(size for _, size in contents)
    on_progress(done, total)
    for sha256, size in sorted(contents):
        target = incoming / ORIGINALS / sha256
        with suppress(FileNotFoundError):
            place(sha256, target)
        if target.is_file() and _sha256(target) == sha256:
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


def _hand_on(gallery: Path, incoming: Path, id: str) -> None:
    """Enter what was erased from the gallery that goes into the one that comes."""
    known = erasures.read_all(gallery / DATABASE)
    store = Store(incoming / DATABASE)
    try:
        with store.write() as change:
            again = erasures.erase_again(change.connection, known)
            audit.record(change.connection, "gallery_restored", id, {"erased_again": again})
    finally:
        store.close()


@contextmanager
def _reading(database: Path) -> Iterator[sqlite3.Connection]:
    """A database that nobody changes, read without leaving a trace beside it."""
    name = f"file:{quote(str(database.absolute()))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(name, uri=True)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise SnapshotDamagedError(f"{database} cannot be read: {error}") from error


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


@contextmanager
def _translated(directory: Path) -> Iterator[None]:
    """Failures of the disk as ours."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(f"no space is left in {directory}") from error
        raise GalleryError(f"cannot use {directory}: {error.strerror}") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_FULL":
            raise StorageFullError(f"no space is left in {directory}") from error
        raise GalleryError(f"cannot copy the database into {directory}: {error}") from error


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600)
    _sync(target)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(directory: Path, manifest: Manifest) -> None:
    content = asdict(manifest)
    content["created_at"] = time_of(manifest.created_at).isoformat()
    content["files"] = [
        {"path": name, "bytes": size, "sha256": sha256}
        for name, (size, sha256) in manifest.files.items()
    ]
    document = {"manifest": content, "manifest_format": MANIFEST_FORMAT}
    document["sha256"] = _document_sha256(document)
    with (directory / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _read_manifest(directory: Path) -> Manifest:
    """
    Raises:
        SnapshotDamagedError: it is not there, or not what was written.
        GalleryMismatchError: a newer version of this code wrote it.
    """
    path = directory / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["manifest_format"] > MANIFEST_FORMAT:
            raise GalleryMismatchError(f"{path} was written by a newer version")
        written = document.pop("sha256")
        if _document_sha256(document) != written:
            raise SnapshotDamagedError(f"{path} is not what was written")
        content = document["manifest"]
        content["created_at"] = microseconds(datetime.fromisoformat(content["created_at"]))
        content["files"] = {
            file["path"]: (int(file["bytes"]), str(file["sha256"])) for file in content["files"]
        }
        content["damaged"] = tuple(content["damaged"])
        manifest = Manifest(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SnapshotDamagedError(f"{path} cannot be read: {error}") from error
    for name, (_, sha256) in manifest.files.items():
        placed = name in (DATABASE, f"{ORIGINALS}/{sha256}") and _SHA256.fullmatch(sha256)
        if not placed:
            raise SnapshotDamagedError(f"{path} names a file that has no place: {name}")
    if DATABASE not in manifest.files:
        raise SnapshotDamagedError(f"{path} names no database")
    return manifest


def _document_sha256(document: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _snapshot(path: Path) -> Snapshot:
    try:
        return Snapshot(path.name, path, _read_manifest(path), None)
    except GalleryError as error:
        return Snapshot(path.name, path, None, str(error))
