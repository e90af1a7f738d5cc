"""What readers of annotations in JSON share: the file, its lists of records, boxes and names."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from models.errors import DatasetError

R = TypeVar("R")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DatasetError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable as JSON: {error}") from error


def read_records(
    path: Path, content: dict[str, Any], kind: str, read: Callable[[Any], R]
) -> list[R]:
    """Each record of a list in a file's content.

    Args:
        kind: The list's key.
        read: Of one record; what it raises is told with the file and the record's place.

    Raises:
        DatasetError: There is no such list, or a record is not as expected.
    """
    if not isinstance(content.get(kind), list):
        raise DatasetError(f"{path}: expected a list {kind!r}")
    records = []
    for place, record in enumerate(content[kind]):
        try:
            records.append(read(record))
        except KeyError as error:
            raise DatasetError(f"{path}: {kind}[{place}] has no {error}") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"{path}: {kind}[{place}]: {error}") from error
    return records


def corners(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    """x1 y1 x2 y2 of a box; ValueError where it is not finite or has no area."""
    if not (np.isfinite([x, y, width, height]).all() and width > 0 and height > 0):
        raise ValueError(
            f"expected finite x, y, w, h with an area, got {x}, {y}, {width}, {height}"
        )
    return x, y, x + width, y + height


def file_in_images(name: Any) -> str:
    """A picture's file name; ValueError where it points out of images/."""
    file = str(name)
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise ValueError(f"expected a file inside images/, got {file!r}")
    return file
