"""The files as they came, each under its SHA-256, in object storage."""

import hashlib
import re
from collections.abc import Callable, Collection, Set
from pathlib import Path

from indexer.errors import GalleryDamagedError
from indexer.files.objects import Objects
from indexer.files.originals import ORIGINALS
from indexer.files.quarantine import ObjectQuarantine

MARKS = "removed"  # the folder of the marks

_NAME = re.compile(r"[0-9a-f]{64}")


class ObjectOriginals:
    """As indexer.files.originals.Originals, in a folder that any number of processes use."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._held = False
        self.quarantine = ObjectQuarantine(objects)

    def put(self, sha256: str, content: bytes, on_step: Callable[[str], None]) -> None:
        """Store a file whole or not at all.

        Raises:
            DatabaseUnavailableError: it may be stored, or not.
        """
        self._objects.put(f"{ORIGINALS}/{sha256}", content)
        self.unmark([sha256])
        on_step("renamed")

    def read(self, sha256: str) -> bytes:
        """
        Raises:
            GalleryDamagedError: when the file is gone or is not what was stored.
        """
        content = self._objects.get(f"{ORIGINALS}/{sha256}")
        if content is None:
            raise GalleryDamagedError(f"the original {sha256} is gone from {self._objects.url}")
        if hashlib.sha256(content).hexdigest() != sha256:
            raise GalleryDamagedError(
                f"the original {sha256} in {self._objects.url} is not what was stored"
            )
        return content

    def has(self, sha256: str) -> bool:
        """Whether a file is there, whole or damaged."""
        return self._objects.has(f"{ORIGINALS}/{sha256}")

    def place(self, sha256: str, target: Path) -> None:
        """Copy a file.

        Raises:
            FileNotFoundError: it is gone.
        """
        content = self._objects.get(f"{ORIGINALS}/{sha256}")
        if content is None:
            raise FileNotFoundError(sha256)
        target.write_bytes(content)

    def mark(self, contents: Collection[str]) -> None:
        """Mark files as removed; stored when this returns."""
        for sha256 in contents:
            self._objects.put(f"{MARKS}/{sha256}", b"")

    def unmark(self, contents: Collection[str]) -> None:
        """Take marks away."""
        self._objects.remove([f"{MARKS}/{sha256}" for sha256 in contents])

    def remove(self, contents: Collection[str]) -> None:
        """Delete those that are there; between hold and release they are marked for a sweep."""
        if self._held:
            self.mark(contents)
            return
        self._objects.remove([f"{ORIGINALS}/{sha256}" for sha256 in contents])
        self.unmark(contents)

    def hold(self) -> None:
        """From here on, removed files stay where they are, until release. No change may go on."""
        self._held = True

    def release(self, *, erase: bool = True) -> None:
        """Files may go again; a sweep deletes what was to go meanwhile."""
        self._held = False

    def is_empty(self) -> bool:
        """Whether there is nothing."""
        return next(iter(self._objects.names(ORIGINALS)), None) is None

    def stored(self) -> set[str]:
        """The SHA-256 of every file that is there; a listing of them all."""
        return self._named(ORIGINALS)

    def sweep(self, wanted: Set[str], erased: Set[str], *, of: Set[str] | None = None) -> int:
        """As Originals.sweep.

        Args:
            of: those that were stored a while ago; by default what is listed now.
        """
        stored, marked = self.stored() if of is None else of, self._named(MARKS)
        unnamed = stored - wanted
        self.remove(unnamed & (marked | erased))
        self.unmark(marked - unnamed)
        aside = {one.sha256 for one in self.quarantine.listed()}
        for sha256 in aside & wanted:
            if not self.has(sha256):
                self.quarantine.give_back(sha256, f"{ORIGINALS}/{sha256}")
        self.quarantine.remove(aside & (wanted | marked | erased))
        taken = sorted(unnamed - marked - erased)
        for sha256 in taken:
            self.quarantine.take(sha256, f"{ORIGINALS}/{sha256}")
        return len(taken)

    def _named(self, folder: str) -> set[str]:
        names = (name.rpartition("/")[2] for name in self._objects.names(folder))
        return {name for name in names if _NAME.fullmatch(name)}
