"""Erasures that were accepted and are not completed, in files beside the database.

An erasure is promised once it is accepted. Should the database then lose its newest commits (its
write-ahead log is gone, say), it knows nothing of the promise, and a start would take the originals
for the only ones there are. So each is written here, too, before its commit, until it is completed.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from indexer.errors import GalleryDamagedError, StorageFullError
from indexer.files.originals import no_space
from indexer.files.syncing import sync_directory, write_whole
from indexer.rows import audit, erasures
from indexer.rows.audit import acting_as

ACCEPTED = "erasures"

_log = logging.getLogger(__name__)


class Accepted:
    """The files of a gallery's directory; none with needed=False: the database is a server's."""

    def __init__(self, directory: Path, *, needed: bool) -> None:
        self._directory = directory / ACCEPTED
        self._needed = needed

    def write(self, connection: Connection, id: str) -> None:
        """Write an erasure down; on disk when this returns.

        Raises:
            StorageFullError: there is no space; nothing was written.
        """
        if not self._needed:
            return
        text = json.dumps(erasures.row(connection, id))
        path = self._path(id)
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            write_whole(path, text.encode())
            sync_directory(self._directory.parent)
        except OSError as error:
            if no_space(error):
                raise StorageFullError(f"no space is left for {path}") from error
            raise

    def forget(self, id: str) -> None:
        """Delete an erasure's file, if there is one."""
        if self._path(id).exists():
            self._path(id).unlink()
            sync_directory(self._directory)

    def restore(self, connection: Connection) -> None:
        """Accept again what the database does not know of, and forget what it has completed.

        Raises:
            GalleryDamagedError: a file cannot be read.
        """
        for passing in self._directory.glob("*.new"):
            passing.unlink()
        for path in sorted(self._directory.glob("*.json")):
            row = _read(path)
            known = erasures.accept_again(connection, row)
            if known is None:
                _log.warning(
                    "the database does not know of the erasure %s that was accepted, and has lost "
                    "other changes, too: it is erased all the same",
                    row["id"],
                )
                with acting_as(row["key"]):
                    audit.record(connection, "erasure_accepted", row["id"], {"again": True})
            elif known.completed_at is not None:
                self.forget(known.id)

    def _path(self, id: str) -> Path:
        return self._directory / f"{id}.json"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        row = json.loads(path.read_bytes())
        if not isinstance(row, dict) or set(row) != set(erasures.COLUMNS):
            raise ValueError("it holds no erasure")
    except ValueError as error:
        raise GalleryDamagedError(f"{path} is damaged: {error}") from error
    return row
