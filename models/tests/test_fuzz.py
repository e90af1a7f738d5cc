"""Pictures that chance made: they are read, or refused as pictures."""

import importlib.util
import io
import random
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import ImageError
from models.image import ImageLimits, given_up, read_image

LIMITS = ImageLimits(max_bytes=2**20, max_pixels=10**6, max_side=2000, min_side=8)
SLOWEST_S = 5.0
WORDS = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\0",
    b"\x80\0",
    b"\xff\xd9",
)


def seeds():
    """Small pictures of every kind that is read, plain and not so plain."""
    colours = np.random.default_rng(1).integers(0, 256, (40, 48, 3), np.uint8)
    image = Image.fromarray(colours)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        (image, "JPEG", {"exif": exif}),
        (image, "JPEG", {"progressive": True}),
        (image.convert("CMYK"), "JPEG", {}),
        (image, "PNG", {}),
        (image.convert("P"), "PNG", {"transparency": 3}),
        (image.convert("I;16"), "PNG", {}),
        (image, "WEBP", {}),
        (image, "WEBP", {"lossless": True, "save_all": True, "append_images": [image]}),
        (image, "AVIF", {"exif": exif}),
        (image, "BMP", {}),
        (image.convert("P"), "BMP", {}),
        (image, "TIFF", {"tiffinfo": {0x0112: 6}}),
        (image, "TIFF", {"compression": "tiff_lzw"}),
        (image, "TIFF", {"compression": "jpeg"}),
        (image.convert("I;16"), "TIFF", {"compression": "tiff_adobe_deflate"}),
        (image, "MPO", {"save_all": True, "append_images": [image]}),
    ]
    for picture, kind, options in kinds:
        file = io.BytesIO()
        picture.save(file, kind, **options)
        yield file.getvalue()
    if importlib.util.find_spec("pi_heif") is not None:
        yield (Path(__file__).parent / "turned.heic").read_bytes()


def mutated(content, others, chance):
    """The same file with some of it changed, left out, doubled, or taken from another one."""
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        # Mostly near the start: there are the headers, and the rest is pixels.
        start = int(len(content) * chance.random() ** chance.choice([1, 3, 6]))
        length = min(chance.choice([1, 2, 4, 8, 64, 512]), len(content) - start)
        end, how = start + length, chance.randrange(6)
        if how == 0 and length:
            content[start] ^= 1 << chance.randrange(8)
        elif how == 1:
            content[start:end] = chance.randbytes(length)
        elif how == 2:
            del content[start:end]
        elif how == 3:
            content[end:end] = content[start:end]
        elif how == 4:
            word = chance.choice(WORDS)
            content[start : start + len(word)] = word
        else:
            other = chance.choice(others)
            content[start:end] = other[start:end]
    return bytes(content)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [5, pytest.param(600, marks=pytest.mark.soak)])
def test_a_picture_that_chance_made_is_read_or_refused_and_soon(seconds, seed):
    chance, kinds = random.Random(seed), list(seeds())
    for content in kinds:
        assert read_image(content, LIMITS).pixels.shape[2] == 3
    read = refused = 0
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        content = mutated(chance.choice(kinds), kinds, chance)
        began = time.process_time()
        try:
            pixels = read_image(content, LIMITS).pixels
        except ImageError as error:
            assert str(error)
            refused += 1
        else:
            assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
            read += 1
        assert time.process_time() - began < SLOWEST_S
    assert given_up() == 0
    print(f"{read + refused} files in {seconds} s: {read} read, {refused} refused")  # noqa: T201
    assert read > 10
    assert refused > 10
