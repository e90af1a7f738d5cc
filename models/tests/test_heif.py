"""HEIC, as phones write it; needs the extra heif."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.containers import kind_of
from models.errors import ImageError, UnsupportedImageError
from models.image import read_image, read_size

# 96×64 pixels, stored turned by 90°, with that said in EXIF and in the property that decoders obey.
TURNED = (Path(__file__).parent / "turned.heic").read_bytes()


def test_a_heic_comes_out_upright(picture):
    read = read_image(TURNED)

    assert read.format == "HEIF"
    assert np.abs(read.pixels.astype(int) - picture(5, 64, 96)).mean() < 4
    assert read_size(TURNED) == (96, 64)


def test_a_damaged_heic_is_read_or_refused():
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(TURNED)
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(256)
        try:
            outcomes.add(read_image(bytes(damaged)).pixels.shape[2])
        except ImageError as error:
            outcomes.add(type(error))

    assert 3 in outcomes
    assert len(outcomes) > 1


def test_pictures_made_of_pictures_made_of_pictures_are_refused():
    nested = TURNED.replace(b"hvc1", b"iovl", 1)

    assert kind_of(nested) == "HEIF"
    with pytest.raises(UnsupportedImageError, match="overlay"):
        read_image(nested)


def test_who_lacks_the_extra_is_told_its_name(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pi_heif", None)
    monkeypatch.setitem(__import__("sys").modules, "pi_heif.as_plugin", None)

    with pytest.raises(UnsupportedImageError, match=r"nae-search\[heif\]"):
        read_image(TURNED)


def test_an_avif_under_the_brand_of_heif_is_an_avif():
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "AVIF")
    content = file.getvalue()
    size = int.from_bytes(content[:4])
    renamed = content[:8] + b"mif1" + content[12:]
    assert b"avif" in renamed[16:size]

    assert read_image(renamed).format == "AVIF"
