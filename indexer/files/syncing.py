"""Files and directories that survive a power cut."""

import os
import secrets
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make what was created, renamed or deleted in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, whoever else writes it at the same time.

    It is on disk when this returns.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    new = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
