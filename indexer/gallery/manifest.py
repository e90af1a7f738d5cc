"""What a snapshot holds, and whether it still does.

manifest.json names each file with its size and SHA-256, and the gallery that it was made of.
"""

import errno
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from indexer.database.store import DATABASE
from indexer.database.tables import FORMAT
from indexer.errors import (
    GalleryError,
    GalleryMismatchError,
    SnapshotDamagedError,
    SnapshotNotFoundError,
    StorageFullError,
)
from indexer.files.originals import ORIGINALS
from indexer.times import microseconds, time_of

MANIFEST = "manifest.json"
MANIFEST_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")

Step = Callable[[str], None]
Progress = Callable[[int, int], None]


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


def check_snapshot(snapshot: Path, on_progress: Progress = lambda done, total: None) -> Manifest:
    """Read every file and compare it with the manifest.

    Raises:
        SnapshotNotFoundError: there is none.
        SnapshotDamagedError: what is there is not what was written; the first difference is named.
        GalleryMismatchError: a newer version of this code wrote it.
    """
    if not snapshot.is_dir():
        raise SnapshotNotFoundError(f"there is no snapshot {snapshot}")
    manifest = read_manifest(snapshot)
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
        if path.stat().st_size != size or sha256_of(path) != sha256:
            raise SnapshotDamagedError(f"{path} is not what was written")
        done += size
        on_progress(done, manifest.nbytes)
    with reading(snapshot / DATABASE) as connection:
        wanted = {sha256 for (sha256,) in connection.execute("SELECT sha256 FROM scenes")}
    listed = {Path(name).name for name in manifest.files if name != DATABASE}
    if wanted != listed | set(manifest.damaged):
        raise SnapshotDamagedError(f"the originals in {snapshot} are not those of its database")
    return manifest


def write_manifest(directory: Path, manifest: Manifest) -> None:
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


def read_manifest(directory: Path) -> Manifest:
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


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection]:
    """A database that nobody changes, read without leaving a trace beside it."""
    name = f"file:{quote(str(database.absolute()))}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(name, uri=True)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        raise SnapshotDamagedError(f"{database} cannot be read: {error}") from error


@contextmanager
def translated(directory: Path) -> Iterator[None]:
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
