"""Small files that would cost much: refused, or read without what makes them so."""

import io
import struct
import threading
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from models import image
from models.errors import (
    ImageError,
    ImageTooSmallError,
    TooComplexImageError,
    TruncatedImageError,
    UnsupportedImageError,
)
from models.image import ImageLimits, given_up, read_image, read_size

WIDTH, HEIGHT = 96, 64
CHEAP_S = 1.0  # of a core; most take a hundredth of it
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def scene(picture) -> Image.Image:
    return Image.fromarray(picture(5, HEIGHT, WIDTH))


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    checked = kind + content
    return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def with_chunks(scene: Image.Image, more: bytes, *, last: bool = False) -> bytes:
    """A PNG with more chunks behind its header, or before its end."""
    plain = encoded(scene, "PNG")
    place = len(plain) - 12 if last else 33
    return plain[:place] + more + plain[place:]


def with_segments(scene: Image.Image, more: bytes) -> bytes:
    plain = encoded(scene, "JPEG", quality=95)
    return plain[:2] + more + plain[2:]


def with_scans(count: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """A progressive JPEG whose last scan comes so many times more."""
    plain = encoded(Image.new("RGB", size), "JPEG", progressive=True, quality=10)
    last = plain[plain.rfind(b"\xff\xda") : -2]
    return plain[:-2] + last * count + b"\xff\xd9"


def with_frames(scene: Image.Image, count: int) -> bytes:
    """An animated WebP whose second frame comes so many times more."""
    plain = encoded(
        scene, "WEBP", save_all=True, append_images=[Image.new("RGB", scene.size)], lossless=True
    )
    place = plain.rfind(b"ANMF")
    body = plain[12:] + plain[place:] * count
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def tiff(pixels: np.ndarray, more: dict[int, tuple[int, int, bytes]] | None = None) -> bytes:
    """A grey TIFF of one strip; entries (type, count, value) by tag come in, or take the place."""
    height, width = pixels.shape
    entries = {
        256: (4, 1, struct.pack("<I", width)),
        257: (4, 1, struct.pack("<I", height)),
        258: (3, 1, struct.pack("<H", 8)),
        259: (3, 1, struct.pack("<H", 1)),
        262: (3, 1, struct.pack("<H", 1)),
        273: (4, 1, struct.pack("<I", 8)),
        278: (4, 1, struct.pack("<I", height)),
        279: (4, 1, struct.pack("<I", pixels.size)),
    } | (more or {})
    at = 8 + pixels.size
    directory = struct.pack("<H", len(entries))
    values = b""
    for tag, (kind, count, value) in sorted(entries.items()):
        if len(value) > 4:
            place = at + 2 + 12 * len(entries) + 4 + len(values)
            values, value = values + value, struct.pack("<I", place)
        directory += struct.pack("<HHI4s", tag, kind, count, value)
    return b"II*\0" + struct.pack("<I", at) + pixels.tobytes() + directory + bytes(4) + values


def costly(scene: Image.Image) -> dict[str, bytes]:
    """Files that are refused."""
    grey = np.asarray(scene.convert("L"))
    plain = encoded(scene, "JPEG")
    tables = plain[plain.find(b"\xff\xc4") :]
    tables = tables[: 2 + int.from_bytes(tables[2:4])]
    avif = encoded(scene, "AVIF")
    many = struct.pack("<20000I", *[8] * 20_000)
    extents = struct.pack(">BBBBBBH", 0, 0, 0, 0, 0, 0, 60_000)
    extents += struct.pack(">HHH", 1, 0, 60_000) * 60_000
    return {
        "JPEG, scans of a large picture": with_scans(60, (7000, 7000)),
        "JPEG, scans of a small one": with_scans(400),
        "JPEG, scans without end": with_scans(100_000),
        "JPEG, comments": with_segments(scene, segment(0xFE, b"") * 20_000),
        "JPEG, tables": plain[:2] + tables * 20_000 + plain[2:],
        "PNG, text": with_chunks(scene, chunk(b"tEXt", b"a\0b") * 300_000),
        "PNG, text at the end": with_chunks(scene, chunk(b"tEXt", b"a\0b") * 20_000, last=True),
        "PNG, own chunks": with_chunks(scene, chunk(b"prVt") * 20_000),
        "PNG, empty data": with_chunks(scene, chunk(b"IDAT") * 20_000),
        "WebP, chunks": (lambda webp: b"RIFF"
                         + struct.pack("<I", len(webp) - 8 + 8 * 20_000)
                         + webp[8:] + b"none\0\0\0\0" * 20_000)(encoded(scene, "WEBP")),
        "WebP, frames": with_frames(scene.resize((32, 32)), 20_000),
        "AVIF, boxes": avif + box(b"free") * 20_000,
        "AVIF, boxes in boxes": avif + box(b"moov", box(b"trak") * 20_000),
        "AVIF, frames in a table": avif
        + box(b"moov", box(b"stbl", box(b"stsz", struct.pack(">III", 0, 1, 2_600_000)))),
        "AVIF, places that take no bytes": avif + box(b"meta", bytes(4) + box(b"iloc", extents)),
        "TIFF, tiles": tiff(grey, {322: (4, 1, struct.pack("<I", 65520)),
                                   323: (4, 1, struct.pack("<I", 65520))}),
        "TIFF, strips": tiff(grey, {273: (4, 200_000, many * 10), 279: (4, 200_000, many * 10)}),
        "TIFF, entries": tiff(grey, dict.fromkeys(range(1000, 12000), (3, 1, b"ab"))),
        "BMP, run lengths": b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078)
        + struct.pack("<IiiHHIIiiII", 40, 5000, 5000, 1, 8, 1, 0, 0, 0, 256, 0)
        + bytes(1024) + b"\x01\x05" * 2_000_000,
    }  # fmt: skip


def test_files_that_cost_more_than_their_picture_are_refused_at_once(scene):
    for name, data in costly(scene).items():
        began = time.process_time()
        with pytest.raises(TooComplexImageError) as caught:
            read_image(data, ImageLimits(max_bytes=64 * 2**20))
        assert time.process_time() - began < CHEAP_S, name
        assert caught.value.code == "image_too_complex", name


def harmless(scene: Image.Image) -> dict[str, bytes]:
    """Files with much that no picture needs, and that used to cost time, or memory."""
    directory = b"".join(struct.pack("<HHII", tag, 7, 60_000, 8) for tag in range(1000, 6000))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 5000) + directory + bytes(4)
    squeezed = zlib.compress(bytes(2 * 10**6), 9)
    return {
        "JPEG, EXIF again and again": with_segments(
            scene, segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 300
        ),
        "JPEG, EXIF that names one value 5,000 times": with_segments(scene, segment(0xE1, exif)),
        "JPEG, profiles": with_segments(
            scene, segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(60_000)) * 300
        ),
        "JPEG, a long way between segments": with_segments(scene, b"\xff" * 5_000_000),
        "JPEG, garbage between segments": with_segments(
            scene, segment(0xFE, b"") + bytes(5_000_000)
        ),
        "PNG, text that grows": with_chunks(scene, chunk(b"zTXt", b"a\0\0" + squeezed) * 100),
        "PNG, a profile that grows": with_chunks(scene, chunk(b"iCCP", b"a\0\0" + squeezed)),
        "PNG, EXIF of 5 MB": with_chunks(scene, chunk(b"eXIf", bytes(5_000_000))),
        "WebP, frames": with_frames(scene, 300),
    }


def test_what_a_picture_does_not_need_costs_nothing_and_changes_nothing(scene):
    pixels = np.asarray(scene).astype(int)

    for name, data in harmless(scene).items():
        began = time.process_time()
        read = read_image(data, ImageLimits(max_bytes=64 * 2**20))
        assert time.process_time() - began < CHEAP_S, name
        assert np.abs(read.pixels - pixels).mean() < 4, name
        assert read.format == name[:4].rstrip(",").upper(), name


def test_a_phone_s_several_pictures_in_one_file_are_a_jpeg_of_the_first(scene):
    data = encoded(scene, "MPO", save_all=True, append_images=[Image.new("RGB", (40, 40))])

    read = read_image(data)

    assert read.format == "JPEG"
    assert np.abs(read.pixels.astype(int) - np.asarray(scene)).mean() < 8


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK"])
def test_bmp_and_tiff_of_every_colour_are_read(scene, kind, mode):
    if (kind, mode) == ("BMP", "CMYK"):
        pytest.skip("there are no such BMP")
    picture = scene.convert(mode)

    read = read_image(encoded(picture, kind))

    assert read.format == kind
    wanted = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(read.pixels - wanted).mean() < 1
    assert read_size(encoded(picture, kind)) == scene.size


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
)
def test_a_tiff_is_read_however_it_is_compressed(scene, compression):
    read = read_image(encoded(scene, "TIFF", compression=compression))

    assert np.abs(read.pixels.astype(int) - np.asarray(scene)).mean() < 4


def test_a_tiff_comes_out_upright(scene):
    turned = encoded(scene.rotate(90, expand=True), "TIFF", tiffinfo={274: 6})

    read = read_image(turned)

    assert read.orientation == 6
    assert np.array_equal(read.pixels, np.asarray(scene))
    assert read_size(turned) == scene.size


def test_the_first_page_of_a_tiff_is_read_and_no_other_one_is_looked_for(scene):
    grey = np.asarray(scene.convert("L"))
    data = bytearray(tiff(grey))
    data[-4:] = data[4:8]  # the directory after this one is this one

    read = read_image(bytes(data))

    assert np.array_equal(read.pixels[..., 0], grey)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda grey: tiff(grey, {259: (3, 1, struct.pack("<H", 50000))}), "got 50000"),
        (lambda grey: tiff(grey, {254: (4, 1, struct.pack("<I", 1))}), "raw file"),
        (lambda grey: tiff(grey, {50706: (1, 4, b"\1\4\0\0")}), "raw file"),
        (lambda grey: b"II*\0\x10\0\0\0CR\2\0" + bytes(100), "raw file"),
    ],
)
def test_a_tiff_that_is_no_plain_picture_is_refused_by_name(scene, data, told):
    with pytest.raises(UnsupportedImageError, match=told):
        read_image(data(np.asarray(scene.convert("L"))))


@pytest.mark.parametrize("frame", [0xC3, 0xC9, 0xCA])
def test_lossless_and_arithmetic_jpegs_are_refused_by_name(scene, frame):
    data = encoded(scene, "JPEG").replace(b"\xff\xc0", bytes([0xFF, frame]), 1)

    with pytest.raises(UnsupportedImageError, match="lossless, hierarchical or arithmetic"):
        read_image(data)


def test_a_progressive_jpeg_that_lacks_scans_is_refused_before_it_is_decoded():
    plain = encoded(Image.new("RGB", (6000, 6000)), "JPEG", progressive=True)

    began = time.process_time()
    with pytest.raises(TruncatedImageError, match="ends too early"):
        read_image(plain[: plain.rfind(b"\xff\xda")])

    assert time.process_time() - began < 0.1


@pytest.mark.parametrize(("width", "height"), [(4000, 40), (40, 4000), (16_384, 32), (1300, 100)])
def test_a_strip_is_no_scene(scene, width, height):
    with pytest.raises(ImageTooSmallError, match="of the longer one") as caught:
        read_image(encoded(scene.resize((width, height)), "JPEG"))

    assert caught.value.limits["least_side"] > min(width, height)
    assert read_image(encoded(scene.resize((1200, 100)), "JPEG")).width == 1200


def test_decoding_ends_when_its_time_is_up(scene):
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8))
    limits = ImageLimits(max_decode_s=1e-6)

    for kind in ("JPEG", "PNG", "BMP"):
        with pytest.raises(TooComplexImageError, match="within 1e-06 s"):
            read_image(encoded(large, kind), limits)


def test_a_decoder_that_does_not_end_is_given_up_and_counted(scene, monkeypatch):
    ends = threading.Event()
    monkeypatch.setattr(image, "_decode", lambda *_: ends.wait(30))

    began = time.monotonic()
    with pytest.raises(TooComplexImageError, match=r"within 0\.05 s"):
        read_image(encoded(scene, "WEBP"), ImageLimits(max_decode_s=0.05))

    assert time.monotonic() - began < 5
    assert given_up() == 1
    ends.set()
    deadline = time.monotonic() + 5
    while given_up() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert given_up() == 0


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("empty", [0, 2, 4, 8])
def test_the_empty_upper_bits_of_a_sensor_s_picture_are_passed_over(scene, kind, empty):
    grey = np.asarray(scene.convert("L"))
    levels = grey.astype(np.uint16) << (8 - empty)

    pixels = read_image(encoded(Image.fromarray(levels), kind)).pixels

    assert np.abs(pixels[..., 0] - grey.astype(int)).max() <= 1
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("coldest", [7_000, 27_315, 60_000])
def test_temperatures_are_spread_over_all_levels(scene, kind, coldest):
    grey = np.asarray(scene.convert("L")).astype(int)
    levels = (coldest + 4 * grey).astype(np.uint16)
    levels[0, 0] = 65_535  # a pixel that is broken

    pixels = read_image(encoded(Image.fromarray(levels), kind)).pixels

    wanted = (grey - grey.min()) * 255 / np.ptp(grey)
    assert np.abs(pixels[..., 0] - wanted).mean() < 6


def test_a_16_bit_picture_of_one_level_is_read():
    for level in (0, 2000, 65_535):
        picture = Image.fromarray(np.full((64, 64), level, np.uint16))
        assert (read_image(encoded(picture, "PNG")).pixels == level >> 8).all()


def test_floating_point_pictures_are_read(scene):
    grey = np.asarray(scene.convert("L")).astype(np.float32) / 255
    grey[0, 0] = np.nan

    pixels = read_image(encoded(Image.fromarray(grey), "TIFF")).pixels

    assert np.ptp(pixels) == 255


def test_pictures_of_more_pixels_than_pillow_allows_are_read_where_the_limits_do():
    wide = encoded(Image.new("L", (19_000, 9_500)), "PNG")
    limits = ImageLimits(max_pixels=200_000_000, max_side=20_000)

    assert read_size(wide) == (19_000, 9_500)
    assert read_image(wide, limits).width == 19_000
    with pytest.raises(ImageError, match=r"180\.5 MP"):
        read_image(wide)


def test_a_webp_whose_chunk_says_it_has_gigabytes_takes_no_memory_for_them(scene):
    webp = bytearray(encoded(scene, "WEBP"))
    webp[16:20] = struct.pack("<I", 0xFFFFFF60)
    tracemalloc.start()
    try:
        with pytest.raises(TruncatedImageError, match="a chunk is not complete"):
            read_image(bytes(webp))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_webp_that_leaves_out_the_padding_of_its_last_chunk_is_read(scene):
    webp = encoded(scene.resize((40, 40)), "WEBP", quality=50)
    size = int.from_bytes(webp[16:20], "little")
    odd = webp[:-1] if size % 2 else webp
    odd = odd[:4] + struct.pack("<I", len(webp) - 8) + odd[8:]

    assert read_image(odd).width == 40
