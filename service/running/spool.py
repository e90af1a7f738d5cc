"""Files that a job works on: on disk before the job is acknowledged, deleted when it ends.

With object storage they are stored there, too, so that any service of the gallery can do the job.
"""

import errno
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from indexer.errors import GalleryError, StorageFullError
from indexer.files.objects import Objects
from indexer.files.syncing import sync_directory
from indexer.times import now

FOLDER = "spool"


class Spool:
    """A directory with one folder per job.

    Args of the constructor: url of object storage; None without one.
    """

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self._directory = directory
        self._objects = None if url is None else Objects(url)
        directory.mkdir(mode=0o700, exist_ok=True)

    def store(self, job_id: str, files: Mapping[str, BinaryIO]) -> None:
        """Copy files, each from its start, into a new folder; on disk when this returns.

        Raises:
            StorageFullError, GalleryError: nothing was stored.
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
        if self._objects is not None:
            try:
                for name in files:
                    self._objects.put(f"{FOLDER}/{job_id}/{name}", (folder / name).read_bytes())
            except GalleryError:
                self.remove(job_id)
                raise

    def fetch(self, job_id: str) -> Path:
        """The folder of a job's files, all of them in it.

        Raises:
            DatabaseUnavailableError: the object storage cannot be reached.
        """
        folder = self.folder(job_id)
        if self._objects is not None:
            for path in self._objects.names(f"{FOLDER}/{job_id}"):
                target = folder / path.rpartition("/")[2]
                content = None if target.exists() else self._objects.get(path)
                if content is not None:
                    folder.mkdir(mode=0o700, exist_ok=True)
                    passing = target.with_suffix(".new")
                    passing.write_bytes(content)
                    passing.replace(target)
        return folder

    def folder(self, job_id: str) -> Path:
        """Where a job's files are, if it has any."""
        return self._directory / job_id

    def remove(self, job_id: str) -> None:
        """Delete a job's files, if it has any."""
        shutil.rmtree(self.folder(job_id), ignore_errors=True)
        if self._objects is not None:
            with suppress(GalleryError):  # it is unreachable: a sweep deletes them
                self._objects.remove(list(self._objects.names(f"{FOLDER}/{job_id}")))

    def sweep(self, wanted: set[str], *, older_than_s: float = 0) -> None:
        """Delete the files of all jobs but the wanted ones: leftovers of a crash.

        Args:
            older_than_s: younger files stay: another service may be about to queue their jobs.
        """
        for folder in self._directory.iterdir():
            with suppress(FileNotFoundError):  # removed meanwhile
                age = time.time() - folder.stat().st_mtime
                if folder.name not in wanted and age >= older_than_s:
                    self.remove(folder.name)
        if self._objects is not None:
            left = [
                path
                for path, at, _ in self._objects.described(FOLDER)
                if path.split("/")[1] not in wanted and (now() - at).total_seconds() >= older_than_s
            ]
            self._objects.remove(left)
