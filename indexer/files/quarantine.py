"""Files that no row names, and nobody removed: set aside when a gallery opens, not deleted.

An original without a scene is what adding left when the process died, or a scene whose row was lost
with a write-ahead log or in a database put back from a copy: it may be the only one there is.
"""

import errno
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from indexer.errors import GalleryError
from indexer.files.objects import Objects
from indexer.files.syncing import sync_directory

QUARANTINE = "quarantine"  # the folder's name, beside the originals

_NAME = re.compile(r"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetAside:
    """A file in quarantine.

    Attributes:
        sha256: of what was stored, hexadecimal; its name.
        stored_at: when it was written; in object storage, when it was set aside.
    """

    sha256: str
    nbytes: int
    stored_at: datetime


class FileQuarantine:
    """A directory of files named by the SHA-256 of what was stored; made when it is needed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def listed(self) -> list[SetAside]:
        """What is there, oldest first.

        Raises:
            GalleryError: the directory cannot be read.
        """
        found = []
        try:
            entries = [] if not self.directory.exists() else list(os.scandir(self.directory))
        except OSError as error:
            raise GalleryError(f"cannot read {self.directory}: {error.strerror}") from error
        for entry in entries:
            if _NAME.fullmatch(entry.name):
                with suppress(FileNotFoundError):  # taken back meanwhile
                    about = entry.stat()
                    at = datetime.fromtimestamp(about.st_mtime, UTC)
                    found.append(SetAside(entry.name, about.st_size, at))
        return sorted(found, key=lambda one: (one.stored_at, one.sha256))

    def take(self, sha256: str, source: Path) -> bool:
        """Move a file here; whether that was done: else it stays where it is, and a log says so."""
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            _move(source, self.directory / sha256)
            sync_directory(self.directory)
        except OSError as error:
            _log.warning("%s cannot be moved to %s: %s", source, self.directory, error.strerror)
            return False
        return True

    def give_back(self, sha256: str, target: Path) -> None:
        """Move a file from here, if it is here; OSError where that fails."""
        with suppress(FileNotFoundError):
            _move(self.directory / sha256, target)
            sync_directory(target.parent)

    def read(self, sha256: str) -> bytes:
        """
        Raises:
            GalleryError: it is not here.
        """
        try:
            return (self.directory / sha256).read_bytes()
        except FileNotFoundError:
            raise GalleryError(f"there is no {sha256} in quarantine") from None

    def remove(self, contents: Iterable[str]) -> None:
        """Delete those that are here."""
        removed = False
        for sha256 in contents:
            with suppress(FileNotFoundError):
                (self.directory / sha256).unlink()
                removed = True
        if removed:
            sync_directory(self.directory)


class ObjectQuarantine:
    """As FileQuarantine, in object storage; it remembers what it saw there last."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._seen: set[str] = set()

    def listed(self) -> list[SetAside]:
        """What is there, oldest first."""
        found = [
            SetAside(path.rpartition("/")[2], nbytes, at)
            for path, at, nbytes in self._objects.described(QUARANTINE)
            if _NAME.fullmatch(path.rpartition("/")[2])
        ]
        self._seen = {one.sha256 for one in found}
        return sorted(found, key=lambda one: (one.stored_at, one.sha256))

    def take(self, sha256: str, source: str) -> bool:
        """Move an object here."""
        self._objects.move(source, f"{QUARANTINE}/{sha256}")
        self._seen.add(sha256)
        return True

    def give_back(self, sha256: str, target: str) -> None:
        """Move an object from here, if it is here."""
        self._objects.move(f"{QUARANTINE}/{sha256}", target)

    def read(self, sha256: str) -> bytes:
        """
        Raises:
            GalleryError: it is not here.
        """
        content = self._objects.get(f"{QUARANTINE}/{sha256}")
        if content is None:
            raise GalleryError(f"there is no {sha256} in quarantine")
        return content

    def remove(self, contents: Collection[str]) -> None:
        """Delete those that were seen here."""
        here = self._seen.intersection(contents)
        self._objects.remove([f"{QUARANTINE}/{sha256}" for sha256 in here])
        self._seen -= here


def _move(source: Path, target: Path) -> None:
    """Rename a file, or copy it to another file system and delete it here."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        passing = target.with_suffix(".new")
        shutil.copy2(source, passing)
        with passing.open("rb") as file:
            os.fsync(file.fileno())
        passing.replace(target)
        sync_directory(target.parent)
        source.unlink()
    sync_directory(source.parent)
