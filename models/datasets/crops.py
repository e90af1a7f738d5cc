"""Pictures of one person each, named as Market-1501 names them, in a directory or a ZIP."""

import hashlib
import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.scene import UNLABELED
from models.errors import DatasetError

NAME = re.compile(r"(-1|\d+)_c(\d+)")
PICTURES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Crop:
    """A picture of one person and little else.

    Attributes:
        source: the directory or ZIP that it is in.
        name: in there.
        person: the number in its name; UNLABELED for somebody whom nobody named (-1 there).
        camera: likewise.
        encoded: the picture's bytes where they are held; None: they are in a file.
    """

    source: Path
    name: str
    person: int
    camera: int
    encoded: bytes | None = None

    def read(self) -> bytes:
        """The encoded picture.

        Raises:
            DatasetError: naming it, if it cannot be read.
        """
        if self.encoded is not None:
            return self.encoded
        try:
            return (self.source / self.name).read_bytes()
        except OSError as error:
            raise DatasetError(f"{self.source / self.name}: {error.strerror}") from error

    def pixels(self) -> NDArray[np.uint8]:
        """The picture [H, W, 3].

        Raises:
            DatasetError: naming it, if it cannot be read.
        """
        return decoded(self.read(), f"{self.source}: {self.name}")


def decoded(encoded: bytes, name: str) -> NDArray[np.uint8]:
    """An encoded picture as pixels [H, W, 3].

    Raises:
        DatasetError: naming it, if it is none.
    """
    try:
        return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    except Exception as error:  # Pillow's readers raise many types, some undocumented
        raise DatasetError(f"{name}: a crop cannot be read: {error}") from error


def key_of(encoded: bytes) -> int:
    """The key of a crop, independent of its name: a 63-bit hash of its encoded picture."""
    digest = hashlib.blake2b(encoded, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def list_crops(source: Path) -> list[Crop]:
    """The crops of a directory or a ZIP, in the order of their names.

    Names like 0007_c1s6_028546_04.jpg are read, -1 in the place of 0007 for somebody unnamed;
    files with other names are left out. Of a ZIP the pictures are held in memory.

    Raises:
        DatasetError: nothing there, or no crop in it.
    """
    found: list[tuple[str, bytes | None]]
    try:
        if source.is_dir():
            names = sorted(str(p.relative_to(source)) for p in source.rglob("*") if p.is_file())
            found = [(name, None) for name in names]
        else:
            with zipfile.ZipFile(source) as archive:
                found = [(n, archive.read(n)) for n in sorted(archive.namelist()) if _is_crop(n)]
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{source}: expected a directory or a ZIP of crops: {error}") from error
    crops = []
    for name, encoded in found:
        match = NAME.match(Path(name).name)
        if match and _is_crop(name):
            person = UNLABELED if match[1] == "-1" else int(match[1])
            crops.append(Crop(source, name, person, int(match[2]), encoded))
    if not crops:
        raise DatasetError(f"{source}: no crops named like 0007_c1s6_028546_04.jpg")
    return crops


def _is_crop(name: str) -> bool:
    return name.lower().endswith(PICTURES) and NAME.match(Path(name).name) is not None
