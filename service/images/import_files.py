"""Files named by a caller, read from below one directory and from nowhere else."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.errors import ImageTooLargeError
from service.http.errors import RequestError


def read_inside(root: Path, name: str, *, max_bytes: int) -> bytes:
    """The content of a regular file below a directory.

    Links that end inside are followed. The path is resolved first, and then opened step by step
    without following links, so that a link put there in between is refused.

    Args:
        name: relative to root, with / between steps.

    Raises:
        RequestError: path_not_allowed for what is not, or may not be, inside; file_unreadable for
            what is not there, or is no regular file that may be read.
        ImageTooLargeError: it has more than max_bytes.
    """
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise RequestError(
            "path_not_allowed", "Expected a path below the import directory, without .. in it."
        )
    try:
        inside = Path(os.path.realpath(root))
        target = Path(os.path.realpath(inside / name))
        if target == inside or not target.is_relative_to(inside):
            raise RequestError("path_not_allowed", "The path leads out of the import directory.")
        with _opened(inside, target.relative_to(inside).parts) as (handle, size):
            if size > max_bytes:
                raise ImageTooLargeError(
                    f"{size} bytes; the limit is {max_bytes}.", limits={"max_bytes": max_bytes}
                )
            with os.fdopen(os.dup(handle), "rb") as file:
                return file.read(max_bytes + 1)
    except OSError as error:
        raise RequestError("file_unreadable", f"{error.strerror or 'Not readable'}.") from None


@contextmanager
def _opened(root: Path, steps: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """A regular file's handle and size."""
    handles = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for step in steps[:-1]:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            handles.append(os.open(step, flags, dir_fd=handles[-1]))
        # Looked at before it is opened: to open a device may do something already.
        _check_regular(os.stat(steps[-1], dir_fd=handles[-1], follow_symlinks=False))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        handles.append(os.open(steps[-1], flags, dir_fd=handles[-1]))
        found = os.fstat(handles[-1])
        _check_regular(found)
        yield handles[-1], found.st_size
    finally:
        for handle in handles:
            os.close(handle)


def _check_regular(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise RequestError("file_unreadable", "It is no regular file.")
