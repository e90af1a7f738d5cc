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
    # Pillow warns about large pictures and about broken EXIF; both are handled below.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _decode(image, limits)
        except UnidentifiedImageError:
            raise UnsupportedImageError(
                f"Not a picture that is read here: expected {', '.join(FORMATS)}, "
                f"got {_kind(data)}."
            ) from None
        except Image.DecompressionBombError:
            raise TooManyPixelsError(
                f"The picture has far more than {limits.max_pixels} pixels.",
                limits={"max_pixels": limits.max_pixels},
            ) from None


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
    picture_format = str(image.format)
    try:
        image.load()
        orientation = _orientation(image)
        upright = _as_rgb(ImageOps.exif_transpose(image) if orientation != 1 else image)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise many types, some undocumented
        if "truncated" in str(error).lower():
            raise TruncatedImageError(f"The {picture_format} ends too early: {error}.") from error
        raise CorruptImageError(f"The {picture_format} cannot be decoded: {error}.") from error
    return DecodedImage(np.asarray(upright), picture_format, orientation)


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


def _kind(data: bytes) -> str:
    """What the first bytes say about a file."""
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
