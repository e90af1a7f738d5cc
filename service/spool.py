"""Files that a job works on, kept until it ends: on disk before the job may be acknowledged."""

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from indexer.errors import GalleryError, StorageFullError
from indexer.originals import sync_directory


class Spool:
    """A directory with one folder per job."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)

    def keep(self, job_id: str, files: Mapping[str, BinaryIO]) -> None:
        """Copy files, each from its start, into a new folder; on disk when this returns.

        Raises:
            StorageFullError, GalleryError: nothing was kept.
        """
        folder = self.folder(job_id)
        try:
            folder.mkdir(mode=0o700)
            for name, source in files.items():
                source.seek(0)
                with (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
                    target.flush()
                    os.fsync(target.fileno())
            sync_directory(folder)
            sync_directory(self._directory)
        except OSError as error:
            self.remove(job_id)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(f"no space is left for {folder}") from error
            raise GalleryError(f"cannot write {folder}: {error.strerror}") from error

    def folder(self, job_id: str) -> Path:
        """Where a job's files are, if it has any."""
        return self._directory / job_id

    def remove(self, job_id: str) -> None:
        """Delete a job's files, if it has any."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def sweep(self, wanted: set[str]) -> None:
        """Delete the files of all jobs but these: what a crash left."""
        for folder in self._directory.iterdir():
            if folder.name not in wanted:
                self.remove(folder.name)
