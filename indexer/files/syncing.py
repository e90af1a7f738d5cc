"""Directories on disk."""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make what was created, renamed or deleted in a directory survive a power cut."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
