"""The one door for pictures: bounded decoding, the EXIF turn, RGB."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from models.errors import (
    CorruptImageError,
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    TooManyPixelsError,
    TruncatedImageError,
    UnsupportedImageError,
)

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF")
EXIF_ORIENTATION = 0x0112

# Pillow warns about large pictures and broken EXIF; both are handled here. For the whole process,
# because a filter that is set around a call leaks into other threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may be at most; checked before anything is decoded."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    min_side: int = 32


@dataclass(frozen=True)
class DecodedImage:
    """An upright picture.

    Attributes:
        pixels: [H, W, 3] uint8 RGB, turned as its EXIF orientation asks.
        format: "JPEG", "PNG", "WEBP" or "AVIF".
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
    """Decode one picture, or the first frame of several.

    Args:
        source: the file's bytes, or its path.

    Raises:
        ImageError: one of its kinds, naming what came and what is accepted.
        OSError: the path cannot be read.
    """
    data = source if isinstance(source, bytes) else _read_bounded(source, limits.max_bytes)
    if len(data) > limits.max_bytes:
        raise ImageTooLargeError(
            f"{len(data)} bytes; the limit is {limits.max_bytes}.",
            limits={"max_bytes": limits.max_bytes},
        )
    if not data:
        raise CorruptImageError("The file is empty (0 bytes).")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return _decode(image, limits)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise TooManyPixelsError(
            f"The picture has far more than {limits.max_pixels} pixels.",
            limits={"max_pixels": limits.max_pixels},
        ) from None
    except Exception as error:  # Pillow's readers raise many types, some undocumented
        raise _unreadable(data, error) from error


def encode_jpeg(pixels: NDArray[np.uint8], quality: int = 90) -> bytes:
    """JPEG bytes of pixels [H, W, 3], without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _read_bounded(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        return file.read(max_bytes + 1)


def _decode(image: Image.Image, limits: ImageLimits) -> DecodedImage:
    width, height = image.size
    if width * height > limits.max_pixels or max(width, height) > limits.max_side:
        raise TooManyPixelsError(
            f"{width}×{height} = {width * height / 1e6:.1f} MP; the limit is "
            f"{limits.max_pixels / 1e6:.1f} MP and {limits.max_side} px a side.",
            limits={"max_pixels": limits.max_pixels, "max_side": limits.max_side},
        )
    if min(width, height) < limits.min_side:
        raise ImageTooSmallError(
            f"{width}×{height}; the shorter side needs at least {limits.min_side} px.",
            limits={"min_side": limits.min_side},
        )
    image.load()
    orientation = _orientation(image)
    upright = _as_rgb(ImageOps.exif_transpose(image) if orientation != 1 else image)
    return DecodedImage(np.asarray(upright), str(image.format), orientation)


def _unreadable(data: bytes, error: Exception) -> ImageError:
    """What is wrong with a file that Pillow does not read."""
    known = _format(data)
    if known is None:
        return UnsupportedImageError(
            f"Not a picture that is read here: expected {', '.join(FORMATS)}, got {_kind(data)}."
        )
    reason = "its header is not complete" if isinstance(error, UnidentifiedImageError) else error
    if "truncated" in str(error).lower() or _lacks_end(data, known):
        return TruncatedImageError(f"The {known} ends too early: {reason}.")
    return CorruptImageError(f"The {known} cannot be decoded: {reason}.")


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:  # broken EXIF does not make a picture unusable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _as_rgb(image: Image.Image) -> Image.Image:
    """RGB; what is transparent shows white, 16-bit grey keeps its upper byte."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image, np.int64) >> 8
        return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(ground, layered).convert("RGB")
    return image.convert("RGB")


def _format(data: bytes) -> str | None:
    """The format among those that are read whose signature a file begins with."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return "AVIF" if data[4:12] in (b"ftypavif", b"ftypavis") else None


def _lacks_end(data: bytes, picture_format: str) -> bool:
    """Whether a file has not the end, or not the length, that its format says it has."""
    if picture_format == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    if picture_format == "PNG":
        return b"IEND" not in data[-64:]
    return picture_format == "WEBP" and len(data) < 8 + int.from_bytes(data[4:8], "little")


def _kind(data: bytes) -> str:
    """What the first bytes say about a file of another format."""
    signatures = {
        b"%PDF": "a PDF", b"GIF8": "a GIF", b"BM": "a BMP", b"II*\0": "a TIFF", b"MM\0*": "a TIFF",
        b"8BPS": "a PSD", b"<svg": "an SVG", b"<?xml": "XML", b"%!PS": "PostScript",
        b"PK\x03\x04": "a ZIP archive", b"\x1f\x8b": "a gzip file",
    }  # fmt: skip
    for signature, name in signatures.items():
        if data.startswith(signature):
            return name
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        return "a HEIC"
    return "something else"
