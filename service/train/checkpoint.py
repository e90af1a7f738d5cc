"""Checkpoints: written whole or not at all, and enough to go on exactly."""

import os
from pathlib import Path
from typing import Any

import torch

from models.errors import ModelFileError
from models.nn.export import read_checkpoint


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
    content = read_checkpoint(path)
    if "network" not in content:
        raise ModelFileError(f"{path}: not a checkpoint of this project (no 'network' in it)")
    return content
