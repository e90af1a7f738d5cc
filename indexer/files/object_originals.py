"""The files as they came, each under its SHA-256, in object storage."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from indexer.errors import GalleryDamagedError
from indexer.files.objects import Objects
from indexer.files.originals import ORIGINALS

_NAME = re.compile(r"[0-9a-f]{64}")


class ObjectOriginals:
    """As indexer.files.originals.Originals, in a folder that any number of processes use."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._held = False

    def put(self, sha256: str, content: bytes, on_step: Callable[[str], None]) -> None:
        """Store a file whole or not at all.

        Raises:
            DatabaseUnavailableError: it may be stored, or not.
        """
        self._objects.put(f"{ORIGINALS}/{sha256}", content)
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

    def remove(self, sha256: str) -> None:
        """Delete a file, if it is there; between hold and release, a later sweep does so."""
        if not self._held:
            self._objects.remove([f"{ORIGINALS}/{sha256}"])

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
        names = (name.rpartition("/")[2] for name in self._objects.names(ORIGINALS))
        return {name for name in names if _NAME.fullmatch(name)}

    def sweep(self, wanted: set[str], *, of: set[str] | None = None) -> None:
        """Remove what a crash left: files that nobody wants.

        Args:
            of: those that were stored a while ago; by default what is listed now.
        """
        gone = (self.stored() if of is None else of) - wanted
        self._objects.remove([f"{ORIGINALS}/{sha256}" for sha256 in gone])
