"""What readers of annotations in JSON share: the file, its lists of records, boxes and names."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from models.errors import DatasetError

R = TypeVar("R")
WHOLE = re.compile(r"[+-]?\d{1,19}(\.0*)?")


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DatasetError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_bytes())  # of any Unicode, with or without a byte order mark
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


def whole(value: Any) -> int:
    """A whole number, also where a program wrote it as a float or as text.

    Raises:
        ValueError: it is none, or does not fit into 64 bits.
    """
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str) and WHOLE.fullmatch(value.strip()):
        number = int(float(value)) if "." in value else int(value)
    if number is None or not -(2**63) <= number < 2**63:
        raise ValueError(f"expected a whole number, got {_short(value)}")
    return number


def real(value: Any) -> float:
    """A number, also where a program wrote it as text.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"expected a number, got {_short(value)}")
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"expected a number, got {_short(value)}") from None


def flag(value: Any) -> bool:
    """True or false, also where a program wrote it as 1 or 0, or as text.

    Raises:
        ValueError: it is neither.
    """
    told = value.strip().lower() if isinstance(value, str) else value
    for meant, ways in (
        (True, (True, 1, "true", "1", "yes")),
        (False, (False, 0, "false", "0", "no")),
    ):
        if told in ways:
            return meant
    raise ValueError(f"expected true or false, got {_short(value)}")


def check_boxes(
    path: Path,
    kind: str,
    boxes: Sequence[tuple[float, float, float, float]],
    sizes: Sequence[tuple[int, int]],
    places: Sequence[int],
) -> None:
    """Refuse boxes that cannot be of their pictures.

    Args:
        kind: The key of the boxes' list.
        boxes: x1 y1 x2 y2 of each.
        sizes: Width and height of each one's picture.
        places: Of each in the list.

    Raises:
        DatasetError: A box lies wholly outside, or they are x1 y1 x2 y2 where x y w h is expected.
    """
    if not boxes:
        return
    x1, y1, x2, y2 = np.array(boxes, dtype=np.float64).T
    width, height = np.array(sizes, dtype=np.float64).T
    past = (x2 > width + 1) | (y2 > height + 1)
    as_corners = (x2 - x1 > x1) & (y2 - y1 > y1) & (x2 - x1 <= width + 1) & (y2 - y1 <= height + 1)
    if past.mean() >= 0.1 and as_corners.all():
        place = int(np.argmax(past))
        raise DatasetError(
            f"{path}: {kind}[{places[place]}]: expected x y w h, got what looks like x1 y1 x2 y2, "
            "as all boxes here do: it reaches past its picture of "
            f"{sizes[place][0]} × {sizes[place][1]}"
        )
    outside = (x2 <= 0) | (y2 <= 0) | (x1 >= width) | (y1 >= height)
    if outside.any():
        place = int(np.argmax(outside))
        raise DatasetError(
            f"{path}: {kind}[{places[place]}]: expected a box in its picture of "
            f"{sizes[place][0]} × {sizes[place][1]}, got x1 y1 x2 y2 of {list(boxes[place])}"
        )


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


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 60 else f"{told[:60]}…"
