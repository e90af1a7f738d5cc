"""How much space is left where the gallery is."""

import shutil
from pathlib import Path

from indexer.errors import StorageFullError

FLOOR_SHARE = 0.05  # of the whole disk: what must stay free at most


class Disk:
    """The disk of the data directory.

    Args of the constructor: floor_bytes must stay free, or 5 % of the disk where that is less.
    """

    def __init__(self, directory: Path, *, floor_bytes: int) -> None:
        self._directory = directory
        self._floor_bytes = floor_bytes

    def free(self) -> tuple[int, int]:
        """Bytes that are free, and how many of them must stay free for writes to go on."""
        usage = shutil.disk_usage(self._directory)
        return usage.free, min(self._floor_bytes, int(usage.total * FLOOR_SHARE))

    def check(self) -> None:
        """Refuse writes on a full disk.

        Raises:
            StorageFullError: less is free than must stay free.
        """
        free, floor = self.free()
        if free < floor:
            raise StorageFullError(
                f"{free // 2**20} MiB are free on the disk; writes need {floor // 2**20} MiB."
            )
