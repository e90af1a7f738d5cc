"""Picture files before they are decoded: what they are, and only what their picture needs of them.

A file can be small and endless: a scan that is repeated 3,000 times, 300,000 comments, a directory
that points at one value 60,000 times. What decoders would spend on that is not bounded by the size
of the picture. So the parts of a file are counted here, by its structure alone and at the speed of
a search in bytes, and what no picture needs (comments, colour profiles, thumbnails, the other
pictures and frames) does not reach a decoder at all.
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from models.errors import (
    CorruptImageError,
    TooComplexImageError,
    TruncatedImageError,
    UnsupportedImageError,
)

SIGNATURE_BYTES = 512
MAX_PARTS = 10_000  # segments, chunks, boxes, entries; a panorama's tiles are some hundreds
MAX_SCANS = 256  # of a JPEG; encoders write about 10
MAX_SCANNED_PIXELS = 2 * 10**9  # pixels × scans: some seconds, whatever the scans hold
MAX_STRIPS = 2**17  # and tiles of a TIFF: one a row and colour, and there are no longer sides
MAX_TILE_PIXELS = 2**22
MAX_METADATA_BYTES = 2**16  # of what may hold the orientation
MAX_RUN_LENGTH_BYTES = 2**21  # Pillow unpacks such BMP in Python

BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})  # their sizes
BMP_RUN_LENGTH = (1, 2)
TIFF_COMPRESSIONS = {1: "none", 2: "CCITT", 3: "CCITT", 4: "CCITT", 5: "LZW", 7: "JPEG",
                     8: "Deflate", 32773: "PackBits", 32946: "Deflate"}  # fmt: skip
# Width to ReferenceBlackWhite: what says how pixels are stored. Orientation is read elsewhere.
TIFF_TAGS = frozenset({256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320,
                       322, 323, 324, 325, 338, 339, 347, 530, 532})  # fmt: skip
TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
              16: 8, 17: 8, 18: 8}  # fmt: skip
STRIPS, STRIP_BYTES, TILE_WIDTH, TILE_LENGTH, TILES, TILE_BYTES = 273, 279, 322, 323, 324, 325
SUBFILE_TYPE, WIDTH, LENGTH, COMPRESSION, DNG_VERSION = 254, 256, 257, 259, 50706

# In a scan, 0xFF is followed by 0 where it is data, and by 0xD0 to 0xD7 where decoding restarts.
JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
PIECE = 2**20
SOI, EOI, SOS, APP0, APP1, APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
PROGRESSIVE = 0xC2
HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
ORIENTED = (b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0")

HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
BOXES_OF_BOXES = frozenset({b"meta", b"iprp", b"ipco", b"iinf", b"moov", b"trak", b"mdia", b"minf",
                            b"stbl", b"edts", b"dinf", b"grpl"})  # fmt: skip
TABLES = {b"stsz": 8, b"stz2": 8, b"stts": 4, b"stsc": 4, b"stco": 4, b"co64": 4, b"stss": 4,
          b"ctts": 4}  # fmt: skip
DERIVED = (b"grid", b"iovl", b"iden")


def kind_of_file(path: Path) -> str | None:
    """As kind_of, of a file; None also for what is no regular file.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return kind_of(file.read(SIGNATURE_BYTES))


def kind_of(data: bytes) -> str | None:
    """The format of a file, by its signature; only formats that are read count.

    Returns:
        "JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP" or "TIFF"; None for anything else.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in BMP_HEADERS:
        return "BMP"
    if data[4:8] == b"ftyp":
        size = min(int.from_bytes(data[:4]), 256)
        brands = {data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))}
        if brands & AVIF_BRANDS:
            return "AVIF"
        if brands & HEIF_BRANDS:
            return "HEIF"
    return None


def stripped(data: bytes, kind: str) -> bytes:
    """A file with the same picture, and little else.

    Args:
        kind: as kind_of says.

    Raises:
        TooComplexImageError: it has more parts, or more scans, than any picture needs.
        TruncatedImageError: what would only be noticed after most of the work.
        UnsupportedImageError: a variant of the format that is not read.
        CorruptImageError: its structure contradicts itself.
    """
    return STRIPPERS[kind](data)


# --- JPEG


class _Segment(NamedTuple):
    marker: int
    start: int
    stop: int


def _jpeg_segments(data: bytes, start: int, stop: int) -> Iterator[_Segment]:
    """The segments of a JPEG, as libjpeg finds them; what is between them is passed over."""
    place = start
    for _ in range(MAX_PARTS):
        at = _next_marker(data, place, stop)
        if at is None:
            return
        marker, place = data[at + 1], at + 2
        if marker not in (SOI, EOI):
            length = int.from_bytes(data[place : place + 2])
            if length < 2 or place + length > stop:
                return
            place += length
        yield _Segment(marker, at, place)
        if marker == EOI:
            return
    raise TooComplexImageError(f"The JPEG has more than {MAX_PARTS} segments.")


def _next_marker(data: bytes, place: int, stop: int) -> int | None:
    """Where the next marker is. No other thread runs during a search, so it is done in pieces."""
    while place < stop - 1:
        found = JPEG_MARKER.search(data, place, min(place + PIECE, stop))
        if found is not None:
            return found.start()
        place += PIECE - 1
    return None


def _scan_work(data: bytes, segments: Iterable[_Segment]) -> int:
    """Pixels × scans of a JPEG."""
    pixels = scans = 0
    for segment in segments:
        if segment.marker in FRAMES:
            pixels = max(pixels, _frame_pixels(data, segment))
        elif segment.marker == SOS:
            scans += 1
            if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
                raise TooComplexImageError(
                    f"The JPEG of {pixels / 1e6:.1f} MP has {scans} scans or more; expected at "
                    f"most {MAX_SCANS}, and {MAX_SCANNED_PIXELS // 10**6} MP in all scans together."
                )
    return pixels * scans


def _frame_pixels(data: bytes, segment: _Segment) -> int:
    if segment.marker not in HUFFMAN_FRAMES:
        raise UnsupportedImageError(
            "Not a JPEG that is read here: expected a baseline or progressive one with Huffman "
            f"codes, got a lossless, hierarchical or arithmetic one (SOF{segment.marker - 0xC0})."
        )
    height = int.from_bytes(data[segment.start + 5 : segment.start + 7])
    return height * int.from_bytes(data[segment.start + 7 : segment.start + 9])


def _jpeg(data: bytes) -> bytes:
    """Without comments, profiles, thumbnails and further pictures; what tells the orientation
    stays, and how colours are coded."""
    segments = list(_jpeg_segments(data, 2, len(data)))
    _scan_work(data, segments)
    kept, seen = [data[:2]], set[bytes | int]()
    for segment in segments:
        if segment.marker == SOS:
            break
        what = _application(data, segment)
        if what is None or (what not in seen and what != APP1):
            kept.append(data[segment.start : segment.stop])
            seen.add(what or 0)
    else:
        raise TruncatedImageError("The JPEG ends too early: its header is not complete.")
    ended = segments[-1].marker == EOI
    if not ended and any(each.marker == PROGRESSIVE for each in segments):
        raise TruncatedImageError("The JPEG ends too early: not all of its scans are there.")
    kept.append(data[segment.start : segments[-1].stop if ended else len(data)])
    return b"".join(kept)


def _application(data: bytes, segment: _Segment) -> bytes | int | None:
    """What a segment brings besides the picture: of these, one of a kind is enough. None: it is
    part of the picture."""
    if segment.marker == APP1:
        content = data[segment.start + 4 : segment.start + 40]
        return next((sign for sign in ORIENTED if content.startswith(sign)), APP1)
    if segment.marker in (APP0, APP14):
        return segment.marker
    return None if segment.marker < APP0 else APP1


# --- PNG and WebP


def _png(data: bytes) -> bytes:
    """Without text, profiles, times and further frames; text that tells the orientation stays."""
    kept, place = [data[:8]], 8
    for _ in range(MAX_PARTS):
        if len(data) < place + 12:
            break
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        stop = place + 12 + size
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND") or (
            size <= MAX_METADATA_BYTES and _tells_orientation(kind, data[place + 8 : place + 48])
        ):
            kept.append(data[place:stop])
        place = stop
        if kind == b"IEND":
            break
    else:
        raise TooComplexImageError(f"The PNG has more than {MAX_PARTS} chunks.")
    return b"".join(kept)


def _tells_orientation(kind: bytes, content: bytes) -> bool:
    if kind == b"iTXt":
        return content.startswith(b"XML:com.adobe.xmp\0")
    if kind in (b"tEXt", b"zTXt"):
        return content.startswith(b"Raw profile type exif\0")
    return kind == b"eXIf"


def _webp(data: bytes) -> bytes:
    """Of an animation, the first frame."""
    size = int.from_bytes(data[4:8], "little")
    if 8 + size > len(data) + 1:  # the last byte may be padding, which some leave out
        raise TruncatedImageError(
            f"The WEBP ends too early: {8 + size} bytes are announced, {len(data)} came."
        )
    kept: dict[bytes, bytes] = {}
    place = 12
    for _ in range(MAX_PARTS):
        if place + 8 > 8 + size:
            break
        kind, length = struct.unpack("<4sI", data[place : place + 8])
        stop = place + 8 + length + length % 2
        if stop > len(data) + 1:  # as above
            raise TruncatedImageError("The WEBP ends too early: a chunk is not complete.")
        wanted = kind in (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
        wanted |= kind in (b"EXIF", b"XMP ") and length <= MAX_METADATA_BYTES
        if wanted:
            kept.setdefault(kind, data[place:stop].ljust(stop - place, b"\0")[: size + 8])
        place = stop
    else:
        raise TooComplexImageError(f"The WEBP has more than {MAX_PARTS} chunks.")
    body = b"WEBP" + b"".join(kept.values())
    return b"RIFF" + struct.pack("<I", len(body)) + body


# --- BMP and TIFF


def _bmp(data: bytes) -> bytes:
    packed = data[14] >= 40 and int.from_bytes(data[30:34], "little") in BMP_RUN_LENGTH
    if packed and len(data) > MAX_RUN_LENGTH_BYTES:
        raise TooComplexImageError(
            f"The BMP has {len(data)} bytes in run lengths; expected at most "
            f"{MAX_RUN_LENGTH_BYTES}. Save it without compression, or as PNG."
        )
    return data


class _Entry(NamedTuple):
    type: int
    number: int
    raw: bytes  # as it stands in the directory
    value: bytes


def _tiff(data: bytes) -> bytes:
    """With a directory of its own, of what pixels need; no further ones, and nothing they name."""
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    if data[8:10] == b"CR":
        raise _raw_file()
    word, counted, entry = ("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")
    try:
        (at,) = struct.unpack_from(order + word, data, 8 if big else 4)
        if at < (16 if big else 8):
            raise CorruptImageError("The TIFF's directory lies in its header.")
        (count,) = struct.unpack_from(order + counted, data, at)
        if count > MAX_PARTS:
            raise TooComplexImageError(f"The TIFF has a directory of {count} entries.")
        step = struct.calcsize(order + entry)
        start = at + struct.calcsize(order + counted)
        listed = [struct.unpack_from(order + entry, data, start + i * step) for i in range(count)]
    except (struct.error, OverflowError):
        raise TruncatedImageError(
            "The TIFF ends too early: its directory is not complete."
        ) from None
    entries: dict[int, _Entry] = {}
    for tag, kind, number, raw in listed:
        if tag not in TIFF_TAGS and tag not in (SUBFILE_TYPE, DNG_VERSION):
            continue
        size = number * TIFF_SIZES.get(kind, 1)
        value = raw[:size]
        if size > len(raw):
            (place,) = struct.unpack(order + word, raw)
            value = data[place : place + size]
        if len(value) < size:
            raise TruncatedImageError(
                f"The TIFF ends too early: the value of tag {tag} is missing."
            )
        if number > MAX_STRIPS and tag != 320:
            raise TooComplexImageError(
                f"The TIFF has {number} values of tag {tag}; expected at most {MAX_STRIPS}."
            )
        entries.setdefault(tag, _Entry(kind, number, raw, value))
    if DNG_VERSION in entries or _first(order, entries, SUBFILE_TYPE, 0) & 1:
        raise _raw_file()
    _check_tiff(data, order, entries)
    kept = sorted((tag, entry) for tag, entry in entries.items() if tag in TIFF_TAGS)
    directory = struct.pack(order + counted, len(kept))
    for tag, one in kept:
        directory += struct.pack(order + "HH" + word, tag, one.type, one.number) + one.raw
    directory += struct.pack(order + word, 0)
    padded = data + bytes(-len(data) % 8)
    header = data[:8] if big else data[:4]
    rest = len(header) + struct.calcsize(order + word)
    return header + struct.pack(order + word, len(padded)) + padded[rest:] + directory


def _check_tiff(data: bytes, order: str, entries: dict[int, _Entry]) -> None:
    """Raises unless the work of decoding is bounded by the picture's size."""
    compression = _first(order, entries, COMPRESSION, 1)
    if compression not in TIFF_COMPRESSIONS:
        names = ", ".join(dict.fromkeys(TIFF_COMPRESSIONS.values()))
        raise UnsupportedImageError(
            f"Not a TIFF that is read here: expected a compression of {names}, got {compression}."
        )
    width, length = (_first(order, entries, tag, 0) for tag in (WIDTH, LENGTH))
    tile = _first(order, entries, TILE_WIDTH, 0) * _first(order, entries, TILE_LENGTH, 0)
    if tile > max(MAX_TILE_PIXELS, 2 * width * length):
        raise TooComplexImageError(
            f"The TIFF of {width}×{length} has tiles of {tile / 1e6:.1f} MP."
        )
    if compression != 7:
        return
    work = 0
    for where, sizes in ((STRIPS, STRIP_BYTES), (TILES, TILE_BYTES)):
        for start, size in zip(
            _numbers(order, entries.get(where)), _numbers(order, entries.get(sizes)), strict=False
        ):
            work += _scan_work(data, _jpeg_segments(data, start, min(start + size, len(data))))
            if work > MAX_SCANNED_PIXELS:
                raise TooComplexImageError("The JPEG data of the TIFF has too many scans.")


def _numbers(order: str, entry: _Entry | None) -> tuple[int, ...]:
    """An entry's values, of whole numbers without a sign."""
    letter = None if entry is None else {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}.get(entry.type)
    if entry is None or letter is None:
        return ()
    return struct.unpack(f"{order}{entry.number}{letter}", entry.value)


def _first(order: str, entries: dict[int, _Entry], tag: int, default: int) -> int:
    values = _numbers(order, entries.get(tag))
    return values[0] if values else default


def _raw_file() -> UnsupportedImageError:
    return UnsupportedImageError(
        "Not a picture that is read here: a camera's raw file, whose pictures are previews. "
        "Develop it, and save it as JPEG."
    )


# --- AVIF and HEIF


class _Box(NamedTuple):
    kind: bytes
    start: int  # of its content
    stop: int


def _boxes(data: bytes, start: int, stop: int, name: str) -> Iterator[_Box]:
    """Boxes of a file of this format, those inside others after these."""
    waiting, seen = [(start, stop)], 0
    while waiting:
        place, end = waiting.pop()
        while place + 8 <= end:
            seen += 1
            if seen > MAX_PARTS:
                raise TooComplexImageError(f"The {name} has more than {MAX_PARTS} boxes.")
            size, kind = struct.unpack(">I4s", data[place : place + 8])
            content = place + 8
            if size == 1:
                size, content = int.from_bytes(data[content : content + 8]), content + 8
            after = end if size == 0 else place + size
            if after < content or after > end:
                if kind != b"mdat":
                    raise TruncatedImageError(f"The {name} ends too early: a box is not complete.")
                after = end
            yield _Box(kind, content, after)
            if kind in BOXES_OF_BOXES:
                before = {b"meta": 4, b"iinf": 6 if data[content : content + 1] == b"\0" else 8}
                waiting.append((content + before.get(kind, 0), after))
            place = after


def _media(name: str, data: bytes) -> bytes:
    """As it is, for places in it are counted from its start; its Exif is renamed out of sight.

    How the picture is turned is said by properties of it, which decoders follow, not by its Exif.
    """
    types: dict[int, bytes] = {}
    derived_from: dict[int, list[int]] = {}
    hidden = bytearray(data)
    for box in _boxes(data, 0, len(data), name):
        content = data[box.start : box.stop]
        if box.kind in TABLES:
            at = TABLES[box.kind]
            if int.from_bytes(content[at : at + 4]) > MAX_PARTS:
                raise TooComplexImageError(
                    f"The {name} has a table of more than {MAX_PARTS} frames."
                )
        elif box.kind == b"iloc":
            _check_places(content, name)
        elif box.kind == b"infe" and len(content) >= 12:
            wide = content[0] >= 3
            at = 10 if wide else 8
            types[int.from_bytes(content[4 : 8 if wide else 6])] = content[at : at + 4]
            if content[at : at + 4] == b"Exif":
                hidden[box.start + at : box.start + at + 4] = b"skip"
        elif box.kind == b"iref":
            derived_from = _references(content, name)
    for item, kind in types.items():
        nested = [types.get(other) for other in derived_from.get(item, ())]
        if kind in DERIVED and any(other in DERIVED for other in nested):
            raise UnsupportedImageError(
                "Not a picture that is read here: it is put together from pictures that are put "
                "together themselves."
            )
        if kind == b"iovl":
            raise UnsupportedImageError("Not a picture that is read here: an overlay of others.")
    return bytes(hidden)


def _check_places(content: bytes, name: str) -> None:
    """Raises unless the extents of an iloc box, which may take no bytes each, are few."""
    try:
        version, sizes, more = content[0], content[4], content[5]
        step = (sizes >> 4) + (sizes & 15) + (more & 15 if version else 0)
        wide = version == 2
        place = 10 if wide else 8
        number = int.from_bytes(content[6:place])
        extents = 0
        for _ in range(min(number, MAX_PARTS + 1)):
            place += (4 if wide else 2) + (2 if version else 0) + 2 + (more >> 4)
            few = int.from_bytes(content[place : place + 2])
            extents += few
            place += 2 + few * step
            if max(number, extents) > MAX_PARTS:
                raise TooComplexImageError(
                    f"The {name} has pictures in more than {MAX_PARTS} places."
                )
    except IndexError:
        raise CorruptImageError(f"The {name} has no complete list of places (iloc).") from None


def _references(content: bytes, name: str) -> dict[int, list[int]]:
    """Of an iref box: the items that others are made of."""
    found: dict[int, list[int]] = {}
    wide = 4 if content[:1] > b"\0" else 2
    for box in _boxes(content, 4, len(content), name):
        if box.kind != b"dimg":
            continue
        inside = content[box.start : box.stop]
        ids = [int.from_bytes(inside[at : at + wide]) for at in range(wide + 2, len(inside), wide)]
        found.setdefault(int.from_bytes(inside[:wide]), []).extend(ids)
    return found


STRIPPERS: dict[str, Callable[[bytes], bytes]] = {
    "JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "AVIF": partial(_media, "AVIF"),
    "HEIF": partial(_media, "HEIF"), "BMP": _bmp,
    "TIFF": _tiff,
}  # fmt: skip
