"""Replacing a gallery that nobody has open by one of its snapshots.

    1  checked     every file of the snapshot against its manifest; nothing was touched yet
    2  gathered    the restored gallery, in restore.new within the gallery's directory
    3  decided     that is renamed to restore.ready: from here on it replaces the gallery
    4  swapped     its files are moved to their places, and what was there is deleted

A death before 3 leaves the gallery as it was. After it, whoever opens the gallery next finishes 4.
"""

import os
import shutil
from pathlib import Path

from indexer.database.opening import open_store
from indexer.database.store import DATABASE
from indexer.errors import SnapshotDamagedError
from indexer.files.originals import ORIGINALS, link_or_copy
from indexer.files.syncing import sync_directory
from indexer.gallery.manifest import Manifest, Progress, Step, check_snapshot, sha256_of, translated
from indexer.locks import DirectoryLock
from indexer.rows import audit, erasures

RESTORING, RESTORED = "restore.new", "restore.ready"


def restore_snapshot(
    snapshot: Path,
    gallery: Path,
    *,
    on_step: Step = lambda step: None,
    on_progress: Progress = lambda done, total: None,
) -> Manifest:
    """Replace what a gallery's directory holds by a snapshot; what was there is deleted.

    Images and detections that were erased from the gallery since the snapshot was made are erased
    again: their erasures are carried over, and finished when the gallery is opened.

    Raises:
        SnapshotNotFoundError, SnapshotDamagedError, GalleryMismatchError: as check_snapshot does.
        GalleryLockedError: the gallery is open.
        StorageFullError, GalleryError: it cannot be written. After any of these, the gallery is
            what it was.
    """
    manifest = check_snapshot(snapshot, on_progress)
    on_step("checked")
    with translated(gallery):
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
                    if not linked and sha256_of(incoming / name) != sha256:
                        raise SnapshotDamagedError(f"{snapshot / name} changed while it was read")
                _carry_erasures_over(gallery, incoming, manifest.id)
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
    """Finish a restore that was decided; delete one that was not. The caller holds the lock."""
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
        for suffix in ("-wal", "-shm"):  # they belong to the replaced database alone
            (gallery / f"{DATABASE}{suffix}").unlink(missing_ok=True)
        sync_directory(gallery)
        (ready / DATABASE).replace(gallery / DATABASE)
        sync_directory(gallery)
    on_step("database in place")
    shutil.rmtree(ready)


def has_gallery(directory: Path) -> bool:
    """Whether a gallery is there, or will be once a restore is finished."""
    return (directory / DATABASE).is_file() or (directory / RESTORED).is_dir()


def _carry_erasures_over(gallery: Path, incoming: Path, id: str) -> None:
    """Carry erasures over from the replaced gallery."""
    known = erasures.read_all(gallery / DATABASE)
    store = open_store(incoming / DATABASE)
    try:
        with store.write() as connection:
            again = erasures.erase_again(connection, known)
            audit.record(connection, "gallery_restored", id, {"erased_again": again})
    finally:
        store.close()


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600)
    _sync(target)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
