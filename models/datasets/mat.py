"""MATLAB's files (version 5): whole ones through SciPy, long lists an element at a time.

SciPy makes an array of every field of every structure: more than 1 kB of memory for each entry of
CUHK-SYSU's gallery lists, which have up to 2,900 × 4,000. `structures` keeps one query's list as
bytes, and `Structures` reads whole columns out of it.

Reference:
    MathWorks, MAT-File Format, "Level 5 MAT-Files".
"""

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.packages import how_to_install

HEADER_BYTES = 128
SIGNATURE = b"\x00\x01IM"  # version 1.0, little-endian
MATRIX, COMPRESSED = 14, 15
STRUCTURE = 2  # the class of a matrix that is an array of structures
NUMBERS = {
    1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8",
    13: "<u8",
}  # fmt: skip
CHARACTER_BYTES = {1: 1, 2: 1, 4: 2, 16: 1, 17: 2}
# Where an element of a structure has what, in words of 4 bytes: behind the tag (2) and the flags
# (4) stand the tag of the dimensions and two of them, an empty name (2), and the data.
DIMENSIONS, NAME, DATA = 6, 10, 12
CHUNK_BYTES = 2**20
LONGEST_TEXT = 1024


def load_mat(path: Path, names: tuple[str, ...], source: str) -> Any:
    """The first of some variables that a file has, as SciPy reads it.

    Args:
        source: Where the dataset can be had, for the message about a missing file.

    Raises:
        DatasetError: The file is missing, damaged, or has none of the variables; or SciPy is not
            installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        raise DatasetError(
            f"{path}: reading .mat files needs SciPy: {how_to_install('scipy')}"
        ) from None
    if not path.is_file():
        raise missing_file(path, source)
    try:
        content = loadmat(path)
    except Exception as error:  # SciPy's reader raises many types, most undocumented
        raise DatasetError(f"{path}: not readable as a .mat file: {error}") from error
    for name in names:
        if name in content:
            return content[name]
    found = sorted(name for name in content if not name.startswith("__"))
    raise DatasetError(f"{path}: expected variable {' or '.join(names)}, got {', '.join(found)}")


def text_of(array: Any) -> str:
    """The text in an array that SciPy read; of an array without one, what it looks like."""
    return str(array.item()) if getattr(array, "size", None) == 1 else str(array)


def missing_file(path: Path, source: str) -> DatasetError:
    """The error about a file that a dataset's layout has, and this copy has not."""
    return DatasetError(f"{path}: no such file; the dataset can be had from {source}")


class Structures:
    """An array of structures, as the bytes of its file.

    Attributes:
        fields: Names of the fields, in the file's order.

    Raises:
        DatasetError: The bytes are no such array.
    """

    def __init__(self, content: bytes, what: str) -> None:
        """Find where each field of each structure begins.

        Args:
            content: The array's element, without its tag.
            what: Names the array in messages.
        """
        self._what = what
        self._content = content
        elements = _Elements(io.BytesIO(content).read, what)
        head = elements.head()
        self.fields = head.fields
        if not self.fields:
            raise DatasetError(f"{what}: expected an array of structures")
        self._words = np.frombuffer(content[: len(content) // 4 * 4], "<u4")
        sizes = memoryview(content)[: len(content) // 4 * 4].cast("I")  # indexed faster than arrays
        starts, at = [], elements.at // 4
        try:
            for _ in range(head.length * len(self.fields)):
                starts.append(at)
                at += 2 + sizes[at + 1] // 4
        except IndexError:
            raise DatasetError(f"{what}: the file ends too early") from None
        if 4 * at != len(content):
            raise DatasetError(f"{what}: expected {4 * at} bytes, got {len(content)}")
        self._starts = np.array(starts, dtype=np.int64).reshape(head.length, len(self.fields))

    def __len__(self) -> int:
        return len(self._starts)

    def empty(self, field: str) -> NDArray[np.bool_]:
        """Which structures [N] have an array without elements in a field."""
        starts = self._column(field)
        empty: NDArray[np.bool_] = self._words[starts + 1] == 0
        there = starts[~empty]
        self._require_flat(there, field)
        sides = self._words[there[:, None] + np.array([DIMENSIONS + 2, DIMENSIONS + 3])]
        empty[~empty] = (sides == 0).any(axis=1)
        return empty

    def texts(self, field: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.bytes_]:
        """A field's texts, of ASCII characters: of the structures in those rows, or of all [N]."""
        starts = self._column(field)
        types, begins, sizes = self._data(starts if rows is None else starts[rows], field)
        widths = np.zeros(2**16, dtype=np.int64)
        widths[list(CHARACTER_BYTES)] = list(CHARACTER_BYTES.values())
        width = widths[types]
        if not width.all():
            raise DatasetError(f"{self._what}: expected text in field {field!r}")
        lengths = sizes // width
        longest = max(1, int(lengths.max(initial=0)))
        if longest > LONGEST_TEXT:
            raise DatasetError(
                f"{self._what}: expected texts of at most {LONGEST_TEXT} characters in field "
                f"{field!r}, got {longest}"
            )
        columns = np.arange(longest)
        within = columns < lengths[:, None]
        places = np.where(within, begins[:, None] + columns * width[:, None], 0)
        characters = np.frombuffer(self._content, np.uint8)[places]
        return np.ascontiguousarray(np.where(within, characters, 0)).view(f"S{longest}")[:, 0]

    def numbers(self, field: str, index: int) -> NDArray[np.float64]:
        """The numbers in one structure's field, flat."""
        types, begins, sizes = self._data(self._column(field)[[index]], field)
        if int(types[0]) not in NUMBERS:
            raise DatasetError(f"{self._what}({index + 1}): expected numbers in field {field!r}")
        data = self._content[int(begins[0]) : int(begins[0] + sizes[0])]
        kind = np.dtype(NUMBERS[int(types[0])])
        return np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind).astype(
            np.float64
        )

    def _column(self, field: str) -> NDArray[np.int64]:
        """Where a field of the structures begins [N], in words."""
        if field not in self.fields:
            raise DatasetError(
                f"{self._what}: expected a field {field!r}, got {', '.join(self.fields)}"
            )
        return np.asarray(self._starts[:, self.fields.index(field)])

    def _require_flat(self, starts: NDArray[np.int64], field: str) -> None:
        """Raise DatasetError unless matrices of two dimensions and without a name begin there."""
        words = self._words
        if (
            (words[starts] != MATRIX).any()
            or (words[starts + 1] % 8 != 0).any()
            or (words[starts + 1] < 4 * DATA).any()
            or (words[starts + DIMENSIONS + 1] != 8).any()
            or (words[starts + NAME + 1] != 0).any()
        ):
            raise DatasetError(f"{self._what}: expected text or numbers in field {field!r}")

    def _data(
        self, starts: NDArray[np.int64], field: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Type, first byte and number of bytes of the data of fields that begin there, each [N]."""
        self._require_flat(starts, field)
        ends = 4 * (starts + 2) + self._words[starts + 1]
        tags = self._words[starts + DATA].astype(np.int64)
        small = tags >> 16  # up to 4 bytes stand in the tag itself, and their number above the type
        sizes = np.where(small > 0, small, self._words[starts + DATA + 1])
        begins = 4 * (starts + DATA) + np.where(small > 0, 4, 8)
        if (begins + sizes > ends).any():
            raise DatasetError(f"{self._what}: data of field {field!r} reach past their end")
        return tags & 0xFFFF, begins, sizes


def structures(
    path: Path, name: str, fields: tuple[str, ...], source: str
) -> Iterator[dict[str, Structures]]:
    """The elements of a variable that is an array of structures of arrays of structures.

    Args:
        fields: What each element has to have.
        source: Where the dataset can be had, for the message about a missing file.

    Raises:
        DatasetError: The file is missing, damaged, or has no such variable.
    """
    if not path.is_file():
        raise missing_file(path, source)
    size_bytes = path.stat().st_size
    with path.open("rb") as file:

        def read(size: int) -> bytes:
            """As file.read, which makes room for all that is asked for, whatever the file has."""
            return file.read(max(0, min(size, size_bytes - file.tell())))

        if read(HEADER_BYTES)[-4:] != SIGNATURE:
            raise DatasetError(f"{path}: expected a little-endian .mat file of version 5")
        while True:
            elements = _Elements(read, f"{path}: looking for variable {name}")
            kind, size = elements.tag()
            end = file.tell() + size
            if kind == COMPRESSED:
                elements = _Elements(_Inflated(file, size).read, str(path))
                kind, _ = elements.tag()
            if kind == MATRIX:
                head = elements.head()
                if head.name == name:
                    break
            file.seek(end)
        if not set(fields) <= set(head.fields):
            raise DatasetError(
                f"{path}: expected {name} with fields {', '.join(fields)}, "
                f"got {', '.join(head.fields) or 'none'}"
            )
        for number in range(head.length):
            yield {
                field: Structures(elements.matrix(), f"{path}: {name}({number + 1}).{field}")
                for field in head.fields
            }


class _Head(NamedTuple):
    """What stands before the elements of a matrix; only structures have fields."""

    length: int
    name: str
    fields: tuple[str, ...]


class _Elements:
    """Tags and data of a file, one after the other.

    Attributes:
        at: How many bytes were read.
    """

    def __init__(self, read: Callable[[int], bytes], what: str) -> None:
        self._read = read
        self._what = what
        self.at = 0

    def tag(self) -> tuple[int, int]:
        """Type and size in bytes of the element that comes."""
        kind, size = struct.unpack("<II", self._take(8))
        return kind, size

    def data(self) -> bytes:
        """The element that comes, and the padding behind it."""
        kind, size = self.tag()
        if kind >> 16:  # up to 4 bytes stand in the tag itself, and their number above the type
            return size.to_bytes(4, "little")[: kind >> 16]
        data = self._take(size)
        self._take(-size % 8)
        return data

    def matrix(self) -> bytes:
        """The matrix that comes."""
        kind, size = self.tag()
        if kind != MATRIX:
            raise DatasetError(f"{self._what}: expected a matrix, got an element of type {kind}")
        return self._take(size)

    def head(self) -> _Head:
        """What stands before the elements of the matrix whose tag was read."""
        flags, dimensions, name = self.data(), self.data(), self.data()
        names: list[bytes] = []
        try:
            if flags[:1] == bytes([STRUCTURE]):
                width = int.from_bytes(self.data(), "little")
                names = np.frombuffer(self.data(), f"S{width}").tolist()
            length = math.prod(np.frombuffer(dimensions, "<u4").tolist())
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{self._what}: not readable as a .mat file: {error}") from error
        fields = tuple(field.decode("latin-1") for field in names)
        return _Head(length, name.decode("latin-1"), fields)

    def _take(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise DatasetError(f"{self._what}: the file ends too early")
        self.at += size
        return data


class _Inflated:
    """The compressed part of a file that begins here, as if it was not compressed."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size
        self._inflater = zlib.decompressobj()
        self._ready = bytearray()

    def read(self, size: int) -> bytes:
        """The next bytes; fewer where the file ends."""
        while len(self._ready) < size and self._left > 0:
            chunk = self._file.read(min(CHUNK_BYTES, self._left))
            self._left = self._left - len(chunk) if chunk else 0
            try:
                self._ready += self._inflater.decompress(chunk)
            except zlib.error as error:
                raise DatasetError(f"{self._file.name}: damaged: {error}") from error
        data = bytes(self._ready[:size])
        del self._ready[:size]
        return data
