"""The files as they came, each under its SHA-256, on disk before put returns."""

import errno
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from indexer.errors import GalleryDamagedError, GalleryError, StorageFullError

_NAME = re.compile(r"[0-9a-f]{64}")


class Originals:
    """A directory of files named by the SHA-256 of their content."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory

    def put(self, sha256: str, content: bytes, on_step: Callable[[str], None]) -> None:
        """Store a file whole or not at all.

        Raises:
            StorageFullError: there is no space; nothing was stored.
            GalleryError: it cannot be written; nothing was stored.
        """
        target = self._path(sha256)
        incoming = target.with_suffix(".new")
        try:
            with incoming.open("wb") as file:
                file.write(content)
                file.flush()
                on_step("written")
                os.fsync(file.fileno())
            on_step("synced")
            incoming.replace(target)
            on_step("renamed")
            sync_directory(self._directory)
        except OSError as error:
            incoming.unlink(missing_ok=True)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(f"no space is left for {target}") from error
            raise GalleryError(f"cannot write {target}: {error.strerror}") from error

    def read(self, sha256: str) -> bytes:
        """
        Raises:
            GalleryDamagedError: when the file is gone or is not what was stored.
        """
        try:
            content = self._path(sha256).read_bytes()
        except FileNotFoundError:
            raise GalleryDamagedError(f"the original {self._path(sha256)} is gone") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise GalleryDamagedError(f"the original {self._path(sha256)} is not what was stored")
        return content

    def remove(self, sha256: str) -> None:
        self._path(sha256).unlink(missing_ok=True)

    def stored(self) -> set[str]:
        """The SHA-256 of every file that is there whole."""
        return {entry.name for entry in os.scandir(self._directory) if _NAME.fullmatch(entry.name)}

    def sweep(self, wanted: set[str]) -> None:
        """Remove what a crash left: half files, and whole ones that nobody wants."""
        for path in self._directory.glob("*.new"):
            if _NAME.fullmatch(path.stem):
                path.unlink()
        for sha256 in self.stored() - wanted:
            self.remove(sha256)

    def _path(self, sha256: str) -> Path:
        return self._directory / sha256


def sync_directory(directory: Path) -> None:
    """Make what was created or renamed in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
