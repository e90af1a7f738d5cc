"""Photographs that show nobody."""

import io
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from models.datasets.scene import picture_size
from models.errors import DatasetError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
NUMBER = re.compile(r"[-_ ]?\d+$")


@dataclass(frozen=True)
class Photo:
    """A photograph that shows nobody.

    Attributes:
        content: the encoded picture.
        name: its file, for messages.
        place: what it shows; photographs of one place belong together.
    """

    content: bytes
    name: str
    place: str

    def picture(self) -> Image.Image:
        """In RGB.

        Raises:
            DatasetError: naming the file, if it cannot be read.
        """
        try:
            return Image.open(io.BytesIO(self.content)).convert("RGB")
        except Exception as error:  # Pillow's readers raise many types, some undocumented
            raise DatasetError(f"{self.name}: a photograph cannot be read: {error}") from error


def read_photos(directory: Path) -> list[Photo]:
    """All photographs of a directory, by name; other files are left out.

    Names that differ only in the number at their end are of one place: street_1.jpg, street_2.jpg.

    Raises:
        DatasetError: nothing there, no photograph in it, or one that is no picture.
    """
    if not directory.is_dir():
        raise DatasetError(f"{directory}: expected a directory of photographs")
    files = sorted(path for path in directory.iterdir() if path.suffix.lower() in ENDINGS)
    if not files:
        raise DatasetError(f"{directory}: no photographs ({', '.join(ENDINGS)}) in it")
    for path in files:
        picture_size(path)
    return [
        Photo(path.read_bytes(), str(path), f"{directory}/{NUMBER.sub('', path.stem)}")
        for path in files
    ]
