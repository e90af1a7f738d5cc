"""Moving a gallery: out of one database, into another, with its originals and all ids.

What is moved is a snapshot (snapshots.py), as a directory or in one tar file. It is the same for
every kind of database, so a gallery moves from SQLite to PostgreSQL, back, and between machines.
"""

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.database.opening import open_store
from indexer.database.store import DATABASE, Store
from indexer.database.transfer import copy_all
from indexer.errors import GalleryError, SnapshotDamagedError
from indexer.gallery.gallery import Gallery
from indexer.gallery.manifest import Manifest, check_snapshot
from indexer.gallery.opening import open_originals
from indexer.locks import DirectoryLock
from indexer.rows import audit

Progress = Callable[[int, int], None]


def export_gallery(
    gallery: Gallery, target: Path, *, on_progress: Progress = lambda done, total: None
) -> Manifest:
    """Write a gallery, as of one change, into a new directory, or into a new file named .tar.

    Raises:
        GalleryError: target is there already, or it cannot be written; nothing of it is left.
    """
    if target.exists():
        raise GalleryError(f"{target} is there already")
    with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".export-") as folder:
        manifest = gallery.snapshots.make(into=Path(folder), on_progress=on_progress)
        made = Path(folder) / manifest.id
        if target.suffix == ".tar":
            packed = Path(folder) / target.name
            with tarfile.open(packed, "w") as tar:
                tar.add(made, manifest.id)
            made = packed
        made.rename(target)
    return manifest


def import_gallery(
    source: Path,
    directory: Path,
    *,
    database: str | None = None,
    originals: str | None = None,
    on_progress: Progress = lambda done, total: None,
) -> Manifest:
    """Put an export, or a snapshot, where there is no gallery yet.

    Its originals come first and its rows last, in one transaction: until then there is no gallery,
    and the same call may be made again.

    Args:
        directory, database, originals: as Gallery.open_ has them.

    Raises:
        SnapshotNotFoundError, SnapshotDamagedError, GalleryMismatchError: as check_snapshot does.
        GalleryNotEmptyError: there is a gallery already.
        GalleryLockedError, StorageFullError, DatabaseUnavailableError, GalleryError
    """
    with _unpacked(source) as snapshot:
        manifest = check_snapshot(snapshot)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory) if database is None else None
        store = open_store(database or directory / DATABASE)
        try:
            stored = open_originals(directory, originals)
            done = 0
            for name, (size, sha256) in manifest.files.items():
                if name != DATABASE:
                    content = (snapshot / name).read_bytes()
                    stored.put(sha256, content, lambda step: None)
                done += size
                on_progress(done, manifest.nbytes)
            with _opened(snapshot / DATABASE) as theirs, store.changing():
                copy_all(theirs, store)
            with store.write() as connection:
                audit.record(connection, "gallery_imported", manifest.id, {})
        finally:
            store.close()
            if lock is not None:
                lock.release()
    return manifest


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    """The snapshot unpacked from a tar file, or the directory itself."""
    if not source.is_file():
        yield source
        return
    with tempfile.TemporaryDirectory(dir=source.absolute().parent, prefix=".import-") as folder:
        try:
            with tarfile.open(source) as tar:
                tar.extractall(folder, filter="data")
        except (tarfile.TarError, EOFError) as error:
            raise SnapshotDamagedError(f"{source} cannot be read: {error}") from error
        found = [path for path in Path(folder).iterdir() if path.is_dir()]
        if len(found) != 1:
            raise SnapshotDamagedError(f"{source} holds no snapshot")
        yield found[0]


@contextmanager
def _opened(database: Path) -> Iterator[Store]:
    """A copy of a snapshot's database, in the newest format; the snapshot stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / DATABASE
        shutil.copyfile(database, copy)
        store = open_store(copy)
        try:
            yield store
        finally:
            store.close()
