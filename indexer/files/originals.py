"""The files as they came, each under its SHA-256, on disk before put returns."""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from indexer.errors import GalleryDamagedError, GalleryError, StorageFullError

ORIGINALS = "originals"  # the folder's name, in a gallery and in a snapshot

# A link is not possible: another file system, too many links, not allowed or not known there.
COPY_INSTEAD = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP}

_NAME = re.compile(r"[0-9a-f]{64}")


class Originals:
    """A directory of files named by the SHA-256 of their content.

    A file is written once and never changed, so that a snapshot may hold a link to it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.directory = directory
        self._held: set[str] | None = None

    def put(self, sha256: str, content: bytes, on_step: Callable[[str], None]) -> None:
        """Store a file whole or not at all.

        Raises:
            StorageFullError: there is no space; nothing was stored.
            GalleryError: it cannot be written; nothing was stored.
        """
        if self._held is not None:
            self._held.discard(sha256)
        target = self._path(sha256)
        incoming = target.with_suffix(f".{secrets.token_hex(4)}.new")
        try:
            with incoming.open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed: sweep leaves it alone
                file.write(content)
                file.flush()
                on_step("written")
                os.fsync(file.fileno())
                on_step("synced")
                incoming.replace(target)
            on_step("renamed")
            sync_directory(self.directory)
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

    def has(self, sha256: str) -> bool:
        """Whether a file is there, whole or damaged."""
        return self._path(sha256).is_file()

    def is_empty(self) -> bool:
        """Whether no file is there whole."""
        return not self.stored()

    def place(self, sha256: str, target: Path) -> None:
        """Link a file, or copy it where no link can be made: it is never changed.

        Raises:
            FileNotFoundError: it is gone.
        """
        link_or_copy(self._path(sha256), target)

    def remove(self, sha256: str) -> None:
        """Delete a file, if it is there; between hold and release, at the latter."""
        if self._held is not None:
            self._held.add(sha256)
        else:
            self._path(sha256).unlink(missing_ok=True)

    def hold(self) -> None:
        """From here on, removed files stay where they are, until release. No change may go on."""
        self._held = set()

    def release(self, *, erase: bool = True) -> None:
        """Delete what was removed meanwhile and did not come back; or leave it to a sweep."""
        held, self._held = self._held or set(), None
        for sha256 in held if erase else ():
            self.remove(sha256)

    def stored(self) -> set[str]:
        """The SHA-256 of every file that is there whole."""
        return {entry.name for entry in os.scandir(self.directory) if _NAME.fullmatch(entry.name)}

    def sweep(self, wanted: set[str]) -> None:
        """Remove what a crash left: half files, and whole ones that nobody wants."""
        for path in self.directory.glob("*.new"):
            if _NAME.fullmatch(path.name.partition(".")[0]):
                with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody writes it any more
                    path.unlink()
        for sha256 in self.stored() - wanted:
            self.remove(sha256)

    def _path(self, sha256: str) -> Path:
        return self.directory / sha256


def link_or_copy(source: Path, target: Path) -> bool:
    """Place a file that is never changed; whether it is the same one."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in COPY_INSTEAD:
            raise
        shutil.copyfile(source, target)
        target.chmod(0o600)
        with target.open("rb") as file:
            os.fsync(file.fileno())
        return False
    return True


def sync_directory(directory: Path) -> None:
    """Make what was created or renamed in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
