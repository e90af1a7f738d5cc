"""The files as they came, each under its SHA-256, on disk before put returns.

Beside a file that is about to be removed lies a mark, <SHA-256>.removed: it is on disk before the
removal is committed, and goes after the file. So whoever opens the gallery after a crash tells what
was removed, and is deleted, from what no row names for another reason, and is set aside.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Collection, Set
from contextlib import suppress
from pathlib import Path

from indexer.errors import GalleryDamagedError, GalleryError, StorageFullError
from indexer.files.quarantine import QUARANTINE, FileQuarantine
from indexer.files.syncing import sync_directory

ORIGINALS = "originals"  # the folder's name, in a gallery and in a snapshot

# A link is not possible: another file system, too many links, not allowed or not known there.
COPY_INSTEAD = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP}

_NAME = re.compile(r"[0-9a-f]{64}")
_MARK = ".removed"


class Originals:
    """A directory of files named by the SHA-256 of their content.

    A file is written once and never changed, so that a snapshot may hold a link to it.

    Attributes:
        quarantine: where files go that no row names.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.directory = directory
        self.quarantine = FileQuarantine(directory.parent / QUARANTINE)
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
            self._mark(sha256).unlink(missing_ok=True)  # of a removal before
            on_step("renamed")
            sync_directory(self.directory)
        except OSError as error:
            incoming.unlink(missing_ok=True)
            if no_space(error):
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

    def mark(self, contents: Collection[str]) -> None:
        """Mark files as removed; on disk when this returns. To be done before a removal's commit.

        Raises:
            StorageFullError, GalleryError: nothing was marked.
        """
        try:
            for sha256 in contents:
                self._mark(sha256).touch(mode=0o600)
            sync_directory(self.directory)
        except OSError as error:
            self.unmark(contents)
            raise self._failure(error) from error

    def unmark(self, contents: Collection[str]) -> None:
        """Take marks away, of removals that did not come about."""
        for sha256 in contents:
            self._mark(sha256).unlink(missing_ok=True)

    def remove(self, contents: Collection[str]) -> None:
        """Delete those that are there; between hold and release they are marked, and go then.

        Raises:
            StorageFullError, GalleryError: some may be there still, and so are their marks.
        """
        if not contents:
            return
        if self._held is not None:
            self._held.update(contents)
            self.mark(contents)
            return
        try:
            for sha256 in contents:
                self._path(sha256).unlink(missing_ok=True)
            sync_directory(self.directory)  # a mark does not go before its file
        except OSError as error:
            raise self._failure(error) from error
        self.unmark(contents)

    def hold(self) -> None:
        """From here on, removed files stay where they are, until release. No change may go on."""
        self._held = set()

    def release(self, *, erase: bool = True) -> None:
        """Delete what was removed meanwhile and did not come back; or leave it to a sweep."""
        held, self._held = self._held or set(), None
        if erase:
            self.remove(held)

    def stored(self) -> set[str]:
        """The SHA-256 of every file that is there whole."""
        return {entry.name for entry in os.scandir(self.directory) if _NAME.fullmatch(entry.name)}

    def sweep(self, wanted: Set[str], erased: Set[str], *, of: Set[str] | None = None) -> int:
        """After a crash: delete half files and what was removed, set aside what nobody wants.

        What is wanted, and in quarantine, comes back from there.

        Args:
            wanted: the originals that scenes have.
            erased: others that are to go, marked or not.
            of: those that were stored a while ago; by default those stored now.

        Returns:
            How many were set aside.
        """
        for path in self.directory.glob("*.new"):
            if _NAME.fullmatch(path.name.partition(".")[0]):
                with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody writes it any more
                    path.unlink()
        stored, marked = self.stored() if of is None else of, self._marked()
        unnamed = stored - wanted
        self.remove(unnamed & (marked | erased))
        self.unmark(marked - unnamed)  # the removal was not committed, or its file is gone
        aside = {one.sha256 for one in self.quarantine.listed()}
        for sha256 in (aside & wanted) - stored:
            self.quarantine.give_back(sha256, self._path(sha256))
        self.quarantine.remove(aside & (wanted | marked | erased))
        taken = [
            self.quarantine.take(sha256, self._path(sha256))
            for sha256 in sorted(unnamed - marked - erased)
        ]
        return sum(taken)

    def _failure(self, error: OSError) -> GalleryError:
        if no_space(error):
            return StorageFullError(f"no space is left in {self.directory}")
        return GalleryError(f"cannot write {self.directory}: {error.strerror}")

    def _marked(self) -> set[str]:
        names = (path.stem for path in self.directory.glob(f"*{_MARK}"))
        return {name for name in names if _NAME.fullmatch(name)}

    def _mark(self, sha256: str) -> Path:
        return self.directory / f"{sha256}{_MARK}"

    def _path(self, sha256: str) -> Path:
        return self.directory / sha256


def no_space(error: OSError) -> bool:
    """Whether the disk, or what one may use of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


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
