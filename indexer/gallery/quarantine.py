"""What is in quarantine: originals that no scene names, set aside when the gallery was opened.

Adding them makes scenes of them again (indexer/ingest/quarantine.py); then, or when the same bytes
are erased, they go from here.
"""

from collections.abc import Collection

from indexer.files.quarantine import SetAside
from indexer.gallery.trail import Trail
from indexer.gallery.writer import Writer


class Quarantine:
    """As gallery.quarantine.

    Attributes:
        files, nbytes: how much was there at the last look.
    """

    def __init__(self, writer: Writer, trail: Trail) -> None:
        self._files = writer.originals.quarantine
        self._writer = writer
        self._trail = trail
        self.files = self.nbytes = 0

    def look(self) -> list[SetAside]:
        """What is there now, oldest first."""
        found = self._files.listed()
        self.files, self.nbytes = len(found), sum(one.nbytes for one in found)
        return found

    def read(self, sha256: str) -> bytes:
        """The content of a file there; it may be damaged.

        Raises:
            GalleryError: it is not there.
        """
        return self._files.read(sha256)

    def forget(self, sha256: str) -> None:
        """Delete a file there, if it is there: a scene has the same bytes now."""
        if self.files:
            self._files.remove([sha256])
            self.look()

    def remove(self, contents: Collection[str]) -> None:
        """Delete files there, for good.

        Raises:
            GalleryError: one of them is not there; nothing was deleted.
        """
        with self._writer.changing():
            here = {one.sha256 for one in self.look()}
            for sha256 in contents:
                if sha256 not in here:
                    self._files.read(sha256)  # says so
            self._trail.note("quarantine_deleted", None, files=len(contents))
            self._files.remove(contents)
            self.look()
