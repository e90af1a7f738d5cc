"""Checkpoints: written whole or not at all, and enough to go on exactly."""

import os
from pathlib import Path
from typing import Any

import torch

from models.errors import ModelFileError


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write beside, sync, then rename: a crash leaves the previous checkpoint."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours; no code in it is run.

    Raises:
        ModelFileError: it is missing, damaged, or not a checkpoint.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"no checkpoint at {path}: {error.strerror}") from error
    except Exception as error:  # torch raises many types for damaged files
        raise ModelFileError(f"{path}: not a readable checkpoint: {error}") from error
    if not isinstance(content, dict) or "network" not in content:
        raise ModelFileError(f"{path}: not a checkpoint of this project (no 'network' in it)")
    return content
