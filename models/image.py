"""The one door for pictures: bounded decoding, the EXIF turn, RGB."""

import io
import math
import re
import struct
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.containers import kind_of, stripped
from models.errors import (
    CorruptImageError,
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    TooComplexImageError,
    TooManyPixelsError,
    TruncatedImageError,
    UnsupportedImageError,
)

FORMATS = ("JPEG", "PNG", "WebP", "AVIF", "HEIC", "BMP", "TIFF")
# Their libraries take a file whole; the other formats are fed to a decoder block by block.
DECODED_AT_ONCE = frozenset({"WEBP", "AVIF", "HEIF", "TIFF"})
# So many such pictures are decoded at the same time, those that were given up among them.
DECODERS = 8
LOOK_S = 0.1  # how often to look whether decoding takes too long
STORED_DECODE_S = 60.0  # at least, for what was decoded before
CLOCK_PER_CORE = 4  # a machine that has other work may take so much longer than its cores do
EXIF_ORIENTATION = 0x0112
HEAD_BYTES = 2**17
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")
SAMPLE = 1000  # rows and columns, about, that levels are told from

TURNS: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}
T = TypeVar("T")

# Pillow warns about large pictures and broken EXIF; both are handled here. For the whole process,
# because a filter that is set around a call leaks into other threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
Image.MAX_IMAGE_PIXELS = None  # ImageLimits has a limit of its own, which may be higher

_decoders = threading.BoundedSemaphore(DECODERS)
_given_up: set[threading.Thread] = set()


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may be at most; checked before anything is decoded, but for the time.

    Attributes:
        max_ratio: of the longer side to the shorter one. In thinner strips, a detector that scales
            them to its size sees people in noise.
        max_decode_s: seconds of one core that decoding may take.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    min_side: int = 32
    max_ratio: float = 12.0
    max_decode_s: float = 5.0

    def admitting(self, width: int, height: int, nbytes: int) -> Self:
        """The same, but a picture of this size that was taken before, under others, is read."""
        return replace(
            self,
            max_bytes=max(self.max_bytes, nbytes),
            max_pixels=max(self.max_pixels, width * height),
            max_side=max(self.max_side, width, height),
            min_side=min(self.min_side, width, height),
            max_ratio=math.inf,
            max_decode_s=max(self.max_decode_s, STORED_DECODE_S),
        )


@dataclass(frozen=True)
class DecodedImage:
    """An upright picture.

    Attributes:
        pixels: [H, W, 3] uint8 RGB, turned as its EXIF orientation asks.
        format: "JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP" or "TIFF".
        orientation: the EXIF orientation that was applied, 1 to 8; 1 is upright.
    """

    pixels: NDArray[np.uint8]
    format: str
    orientation: int

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])


def read_image(source: bytes | Path, limits: ImageLimits = ImageLimits()) -> DecodedImage:
    """Decode one picture, or the first of several.

    Args:
        source: the file's bytes, or its path.

    Raises:
        ImageError: one of its kinds, naming what came and what is accepted.
        OSError: the path cannot be read.
    """
    data = _content(source, limits.max_bytes)
    kind = _kind_of(data)
    try:
        if kind in DECODED_AT_ONCE:
            return _in_time(lambda: _decode(data, kind, limits), limits.max_decode_s)
        return _decode(data, kind, limits)
    except ImageError:
        raise
    except Exception as error:  # Pillow's readers raise many types, some undocumented
        raise _unreadable(data, kind, error) from error


def read_size(source: bytes | Path) -> tuple[int, int]:
    """Width and height of an upright picture, in pixels; its pixels are not decoded.

    Raises:
        ImageError, OSError: as read_image does.
    """
    if not isinstance(source, bytes):
        with source.open("rb") as file, suppress(ImageError):
            return read_size(file.read(HEAD_BYTES))  # mostly enough, and much less to read
        source = source.read_bytes()
    data, kind = source, _kind_of(source)
    try:
        with _opened(data, kind, ImageLimits()) as image:
            width, height = image.size
            lies = _orientation(image, data if kind == "TIFF" else b"") > 4
    except ImageError:
        raise
    except Exception as error:
        raise _unreadable(data, kind, error) from error
    return (height, width) if lies else (width, height)


def encode_jpeg(pixels: NDArray[np.uint8], quality: int = 90) -> bytes:
    """JPEG bytes of pixels [H, W, 3], without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def given_up() -> int:
    """How many pictures are still being decoded that nobody waits for any more."""
    _given_up.difference_update([thread for thread in _given_up if not thread.is_alive()])
    return len(_given_up)


def _content(source: bytes | Path, max_bytes: int) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        with source.open("rb") as file:
            data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageTooLargeError(
            f"{len(data)} bytes; the limit is {max_bytes}.", limits={"max_bytes": max_bytes}
        )
    return data


def _kind_of(data: bytes) -> str:
    if not data:
        raise CorruptImageError("The file is empty (0 bytes).")
    kind = kind_of(data)
    if kind is None:
        raise UnsupportedImageError(
            f"Not a picture that is read here: expected {', '.join(FORMATS)}, got {_what(data)}."
        )
    return kind


def _opened(data: bytes, kind: str, limits: ImageLimits) -> Image.Image:
    """A picture whose header is read; its pixels are decoded when they are loaded."""
    data = stripped(data, kind)
    if kind != "HEIF":
        return Image.open(_Clocked(data, limits.max_decode_s), formats=[kind])
    try:
        from pi_heif.as_plugin import HeifImageFile
    except ImportError:
        raise UnsupportedImageError(
            "Not a picture that is read here: a HEIC, which takes the extra 'heif': "
            "pip install 'nae-search[heif]'."
        ) from None
    image: Image.Image = HeifImageFile(io.BytesIO(data))
    return image


def _decode(data: bytes, kind: str, limits: ImageLimits) -> DecodedImage:
    with _opened(data, kind, limits) as image:
        _check_size(*image.size, limits)
        image.load()
        _check_size(*image.size, limits)  # a HEIC's may change
        orientation = _orientation(image, data if kind == "TIFF" else b"")
        upright = TURNS[orientation](_as_rgb(image))
    return DecodedImage(np.ascontiguousarray(upright), kind, orientation)


def _check_size(width: int, height: int, limits: ImageLimits) -> None:
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise TooManyPixelsError(
            f"{width}×{height} = {width * height / 1e6:.1f} MP; the limit is "
            f"{limits.max_pixels / 1e6:.1f} MP and {limits.max_side} px a side.",
            limits={"max_pixels": limits.max_pixels, "max_side": limits.max_side},
        )
    least = max(limits.min_side, math.ceil(max(width, height) / limits.max_ratio))
    if min(width, height) < least:
        raise ImageTooSmallError(
            f"{width}×{height}; the shorter side needs at least {limits.min_side} px, and "
            f"1/{limits.max_ratio:g} of the longer one: {least} px.",
            limits={"min_side": limits.min_side, "least_side": least},
        )


class _Clocked(io.BytesIO):
    """A file that refuses to be read on once the thread that reads it has had its time."""

    def __init__(self, data: bytes, seconds: float) -> None:
        super().__init__(data)
        self._seconds = seconds
        self._ends = time.thread_time() + seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() > self._ends:
            raise _too_slow(self._seconds)
        return super().read(size)


def _in_time(work: Callable[[], T], seconds: float) -> T:
    """What work returns, or raises. It is done by a thread of its own, so that it can be given up.

    Raises:
        TooComplexImageError: it took longer than this many seconds of a core, or the clock said
            that it must have. The thread goes on to its end, and keeps its place until then.
    """
    results: list[T] = []
    errors: list[Exception] = []
    clocks: list[int] = []

    def run() -> None:
        clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
        try:
            results.append(work())
        except Exception as error:
            errors.append(error)
        finally:
            _decoders.release()

    _decoders.acquire()
    thread = threading.Thread(target=run, name="decoding", daemon=True)
    thread.start()
    ends = time.monotonic() + CLOCK_PER_CORE * seconds
    while True:
        thread.join(LOOK_S)
        if not thread.is_alive():
            break
        if time.monotonic() > ends or _cpu_seconds(clocks) > seconds:
            _given_up.add(thread)
            raise _too_slow(seconds)
    if errors:
        raise errors[0]
    return results[0]


def _cpu_seconds(clocks: list[int]) -> float:
    """Seconds of a core that a thread took, by its clock; 0 before it began and after it ended."""
    try:
        return time.clock_gettime(clocks[0])
    except (IndexError, OSError):
        return 0.0


def _too_slow(seconds: float) -> TooComplexImageError:
    return TooComplexImageError(f"It was not decoded within {seconds:g} s.")


def _unreadable(data: bytes, kind: str, error: Exception) -> ImageError:
    """What is wrong with a file that Pillow does not read."""
    reason = "its header is not complete" if isinstance(error, UnidentifiedImageError) else error
    if "truncated" in str(error).lower() or _lacks_end(data, kind):
        return TruncatedImageError(f"The {kind} ends too early: {reason}.")
    return CorruptImageError(f"The {kind} cannot be decoded: {reason}.")


def _orientation(image: Image.Image, tiff: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 also where it is broken, which harms no pixels.

    Args:
        tiff: the file itself where it is a TIFF, which is what EXIF is.
    """
    about = image.info
    exif = tiff or about.get("exif") or _raw_profile(about.get("Raw profile type exif", ""))
    found = _exif_orientation(exif)
    if found is None:
        xmp = about.get("xmp") or about.get("XML:com.adobe.xmp") or b""
        told = XMP_ORIENTATION.search(xmp.encode() if isinstance(xmp, str) else xmp)
        found = int(told[1]) if told else 1
    return found if 1 <= found <= 8 else 1


def _exif_orientation(exif: bytes) -> int | None:
    """What the first directory of EXIF says; None where it says nothing."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for place in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, place)
            if tag == EXIF_ORIENTATION:
                letter = {1: "B", 3: "H", 4: "I"}.get(kind)
                return None if letter is None else _first(order + letter, exif, place + 8)
    except struct.error:
        pass
    return None


def _first(letter: str, data: bytes, place: int) -> int:
    value: int = struct.unpack_from(letter, data, place)[0]
    return value


def _raw_profile(text: str) -> bytes:
    """EXIF as ImageMagick writes it into the text of a PNG."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] of a loaded picture; what is transparent shows white."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        grey = _eight_bits(np.asarray(image))
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "LAB":
        raise UnsupportedImageError("Not a picture that is read here: its colours are L*a*b*.")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        image = Image.alpha_composite(ground, layered)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _eight_bits(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey [H, W] of more than 8 bits, as 8: those that count.

    Sensors of 10 to 14 bits, thermal cameras above all, leave the upper bits of 16 empty; these are
    passed over. Where what is left takes up less than a quarter of its range, as temperatures do,
    it is spread over all of it, but for the darkest and the brightest thousandth.

    Raises:
        UnsupportedImageError: no value of it is finite.
    """
    rows, columns = (max(1, side // SAMPLE) for side in grey.shape)
    sample = grey[::rows, ::columns].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size and not np.isfinite(grey).any():
        raise UnsupportedImageError(
            "Not a picture that is read here: none of its values is a number."
        )
    low, high = np.quantile(sample, [0.001, 0.999]) if sample.size else (0.0, 0.0)
    most = 2.0 ** max(8, int(max(high, 0)).bit_length()) - 1
    whole = grey.dtype == np.uint16 or (low >= 0 and high > 1)
    if high == low or (whole and high - low >= most / 4):
        low, high = 0.0, (most if high > low else 2.0**16 - 1)
    if grey.dtype == np.uint16:
        levels = np.arange(2**16, dtype=np.float64)
        return np.asarray(_spread(levels, low, high)[grey])
    return _spread(np.nan_to_num(grey.astype(np.float64)), low, high)


def _spread(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    shares = (values - low) / (high - low)
    return np.floor(shares.clip(0, 1) * 255.999).astype(np.uint8)


def _lacks_end(data: bytes, kind: str) -> bool:
    """Whether a file has not the end, or not the length, that its format says it has."""
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    if kind == "PNG":
        return b"IEND" not in data[-64:]
    return kind == "BMP" and len(data) < int.from_bytes(data[2:6], "little")


def _what(data: bytes) -> str:
    """What the first bytes say about a file of another format."""
    signatures = {
        b"%PDF": "a PDF", b"GIF8": "a GIF", b"8BPS": "a PSD", b"<svg": "an SVG", b"<?xml": "XML",
        b"%!PS": "PostScript", b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip file",
        b"\0\0\0\x0cjP  ": "a JPEG 2000", b"\xffO\xffQ": "a JPEG 2000",
        b"\xff\n": "a JPEG XL", b"\0\0\0\x0cJXL ": "a JPEG XL", b"\x1aE\xdf\xa3": "a film",
    }  # fmt: skip
    for signature, name in signatures.items():
        if data.startswith(signature):
            return name
    return "a film" if data[4:8] == b"ftyp" else "something else"
