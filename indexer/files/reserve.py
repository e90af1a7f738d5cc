"""Reserved space, so that a full disk can be emptied: to delete, a database first writes."""

import errno
import os
from pathlib import Path

from indexer.errors import StorageFullError

# SQLite folds its log into the database once the log has 1,000 pages of 4 KiB. With so much space
# that succeeds, and the log is then used again from its start.
BYTES = 6 * 2**20


class Reserve:
    """A file of BYTES that is given up when there is nothing else left.

    With needed=False it does nothing: the database is on another disk.
    """

    def __init__(self, path: Path, *, needed: bool = True) -> None:
        self._path = path
        self._needed = needed

    def fill(self) -> None:
        """Reserve the space, unless it is reserved already.

        Raises:
            StorageFullError: there is not so much; then none is held.
        """
        if not self._needed:
            return
        if self._path.exists() and self._path.stat().st_size == BYTES:
            return
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(file, 0, BYTES)
        except OSError as error:
            self._path.unlink()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(
                    f"less than {BYTES} bytes are left for {self._path}"
                ) from error
            raise
        finally:
            os.close(file)

    def give_up(self) -> None:
        self._path.unlink(missing_ok=True)
