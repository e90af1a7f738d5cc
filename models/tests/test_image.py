import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.errors import (
    CorruptImageError,
    ImageError,
    ImageTooLargeError,
    ImageTooSmallError,
    TooManyPixelsError,
    TruncatedImageError,
    UnsupportedImageError,
)
from models.image import ImageLimits, encode_jpeg, read_image

ORIENTATION = 0x0112
# Turns that an upright picture went through before it was stored with each EXIF orientation.
STORED = {
    1: lambda image: image,
    2: ImageOps.mirror,
    3: lambda image: image.rotate(180),
    4: ImageOps.flip,
    5: lambda image: ImageOps.mirror(image).rotate(90, expand=True),
    6: lambda image: image.rotate(90, expand=True),
    7: lambda image: ImageOps.mirror(image).rotate(-90, expand=True),
    8: lambda image: image.rotate(-90, expand=True),
}


@pytest.fixture(scope="module")
def upright(picture) -> Image.Image:
    return Image.fromarray(picture(5, 64, 96))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def empty_png(width: int, height: int) -> bytes:
    """A PNG that says it is large and holds almost nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(64))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_out_upright_whatever_their_exif_says(upright, kind, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"WEBP": {"lossless": True}, "PNG": {}}.get(kind, {"quality": 95})

    image = read_image(encoded(STORED[orientation](upright), kind, exif=exif, **options))

    assert (image.width, image.height) == upright.size
    apart = np.abs(image.pixels.astype(int) - np.asarray(upright).astype(int))
    assert apart.mean() < 4
    assert image.format == kind
    # Pillow turns AVIF while it decodes, and then says that it is upright.
    assert image.orientation == (orientation if kind != "AVIF" else image.orientation)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_impossible_orientation_counts_as_upright(upright, value):
    exif = Image.Exif()
    exif[ORIENTATION] = value

    image = read_image(encoded(upright, "PNG", exif=exif))

    assert image.orientation == 1
    assert np.array_equal(image.pixels, np.asarray(upright))


def test_damaged_exif_does_not_make_a_picture_unusable(upright):
    data = encoded(upright, "JPEG", exif=b"Exif\0\0MM\0*\0\0\xff\xff garbage")

    assert read_image(data).orientation == 1


def variants(upright: Image.Image) -> dict[str, bytes]:
    grey16 = np.asarray(upright.convert("L")).astype(np.uint16) << 8
    layered = upright.copy()
    layered.putalpha(Image.new("L", upright.size, 255))
    return {
        "grey": encoded(upright.convert("L"), "PNG"),
        "grey with alpha": encoded(layered.convert("LA"), "PNG"),
        "grey, 16 bits": encoded(Image.fromarray(grey16), "PNG"),
        "grey JPEG": encoded(upright.convert("L"), "JPEG"),
        "black and white": encoded(upright.convert("1"), "PNG"),
        "palette": encoded(upright.convert("P"), "PNG"),
        "palette with alpha": encoded(upright.convert("P"), "PNG", transparency=b"\xff" * 256),
        "RGBA": encoded(layered, "PNG"),
        "RGBA WebP": encoded(layered, "WEBP"),
        "CMYK": encoded(upright.convert("CMYK"), "JPEG", quality=95),
        "progressive": encoded(upright, "JPEG", progressive=True, quality=95),
    }


def test_every_kind_of_colour_becomes_rgb(upright):
    grey = np.asarray(upright.convert("L").convert("RGB")).astype(int)
    colour = np.asarray(upright).astype(int)

    for name, data in variants(upright).items():
        pixels = read_image(data).pixels
        assert pixels.shape == (64, 96, 3), name
        assert pixels.dtype == np.uint8, name
        if name != "black and white":
            expected = grey if "grey" in name else colour
            assert np.abs(pixels - expected).mean() < 20, name


def test_transparent_places_show_white(upright):
    layered = upright.copy()
    layered.putalpha(0)

    assert (read_image(encoded(layered, "PNG")).pixels == 255).all()


def test_the_first_frame_of_an_animation_is_read(upright):
    other = ImageOps.invert(upright)
    data = encoded(upright, "WEBP", save_all=True, append_images=[other], lossless=True)

    assert np.array_equal(read_image(data).pixels, np.asarray(upright))


def test_a_path_reads_as_its_bytes_do(upright, tmp_path):
    path = tmp_path / "scene.png"
    path.write_bytes(encoded(upright, "PNG"))

    assert np.array_equal(read_image(path).pixels, np.asarray(upright))
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_file_cut_anywhere_is_said_to_be_truncated(upright, kind):
    data = encoded(upright, kind)

    for length in range(16, len(data) - 16, max(1, len(data) // 150)):
        with pytest.raises(TruncatedImageError, match="ends too early"):
            read_image(data[:length])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_damaged_files_are_read_or_refused_but_nothing_else_happens(upright, kind):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(upright, kind, exif=exif)
    outcomes = set()

    for place in np.linspace(0, len(data) - 1, 60).astype(int):
        cut, flipped = data[:place], bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        for damaged in (cut, bytes(flipped)):
            try:
                outcomes.add(read_image(damaged).pixels.shape)
            except ImageError as error:
                outcomes.add(type(error))

    assert len(outcomes) > 1


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"%PDF-1.7 and so on", "a PDF"),
        (b"GIF89a" + bytes(60), "a GIF"),
        (b"8BPS" + bytes(60), "a PSD"),
        (b"\0\0\0\x18ftypisom" + bytes(60), "a film"),
        (b"PK\x03\x04" + bytes(60), "a ZIP archive"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG"),
        (b"hello", "something else"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(data, told):
    with pytest.raises(UnsupportedImageError, match=told) as caught:
        read_image(data)

    assert "JPEG, PNG, WebP, AVIF, HEIC, BMP, TIFF" in str(caught.value)


def test_nothing_is_a_corrupt_picture():
    with pytest.raises(CorruptImageError, match="0 bytes"):
        read_image(b"")


def test_a_huge_picture_is_refused_before_it_is_decoded():
    data = empty_png(13_000, 13_000)

    started = time.perf_counter()
    with pytest.raises(TooManyPixelsError):
        read_image(data)
    with pytest.raises(TooManyPixelsError):
        read_image(empty_png(60_000, 60_000))

    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    ("limits", "error", "told"),
    [
        (ImageLimits(max_bytes=100), ImageTooLargeError, {"max_bytes": 100}),
        (ImageLimits(max_pixels=6143), TooManyPixelsError, {"max_pixels": 6143}),
        (ImageLimits(max_side=95), TooManyPixelsError, {"max_side": 95}),
        (ImageLimits(min_side=65), ImageTooSmallError, {"min_side": 65}),
    ],
)
def test_a_limit_that_is_passed_is_told(upright, tmp_path, limits, error, told):
    path = tmp_path / "scene.jpg"
    path.write_bytes(encoded(upright, "JPEG"))

    for source in (path, path.read_bytes()):
        with pytest.raises(error) as caught:
            read_image(source, limits)
        assert told.items() <= caught.value.limits.items()


def test_limits_themselves_are_allowed(upright):
    limits = ImageLimits(max_pixels=64 * 96, max_side=96, min_side=64)

    assert read_image(encoded(upright, "PNG"), limits).width == 96


def test_written_jpeg_reads_back_without_metadata(upright):
    data = encode_jpeg(np.asarray(upright), quality=95)

    assert np.abs(read_image(data).pixels.astype(int) - np.asarray(upright)).mean() < 4
    assert b"Exif" not in data
