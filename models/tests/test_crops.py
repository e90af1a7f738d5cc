"""Crops named as Market-1501 names them: which are read, and what each is known by."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from models.datasets.crops import key_of, list_crops
from models.datasets.scene import UNLABELED
from models.errors import DatasetError


def jpeg(colour):
    stream = io.BytesIO()
    Image.new("RGB", (20, 48), colour).save(stream, "JPEG", quality=95)
    return stream.getvalue()


CROPS = {
    "0012_c2s1_000300_01.jpg": jpeg("red"),
    "0003_c1s1_000100_01.jpg": jpeg("blue"),
    "-1_c14s1_000100_02.jpg": jpeg("grey"),
    "street.jpg": jpeg("green"),
    "0003_c1s1_000100_01.txt": b"not a picture",
}


@pytest.fixture(params=["directory", "ZIP"])
def source(request, tmp_path):
    if request.param == "ZIP":
        with zipfile.ZipFile(tmp_path / "crops.zip", "w") as archive:
            for name, content in CROPS.items():
                archive.writestr(f"crops/{name}", content)
        return tmp_path / "crops.zip"
    (tmp_path / "crops").mkdir()
    for name, content in CROPS.items():
        (tmp_path / "crops" / name).write_bytes(content)
    return tmp_path / "crops"


def test_names_tell_person_and_camera_and_other_files_are_left_out(source):
    crops = list_crops(source)

    assert [(crop.person, crop.camera) for crop in crops] == [(UNLABELED, 14), (3, 1), (12, 2)]
    assert np.abs(crops[1].pixels().mean(axis=(0, 1)) - [0, 0, 255]).max() < 5


def test_a_crop_is_known_by_its_bytes_whatever_it_is_called(source):
    keys = [key_of(crop.read()) for crop in list_crops(source)]

    assert keys[1] == key_of(CROPS["0003_c1s1_000100_01.jpg"])
    assert len(set(keys)) == 3
    assert all(0 <= key < 2**63 for key in keys)


def test_what_has_no_crops_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")

    with pytest.raises(DatasetError, match="no crops named like 0007_c1s6_028546_04"):
        list_crops(tmp_path)
    with pytest.raises(DatasetError, match="expected a directory or a ZIP of crops"):
        list_crops(tmp_path / "notes.txt")


def test_a_crop_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "0001_c1s1_000001_01.jpg").write_bytes(b"broken")
    (crop,) = list_crops(tmp_path)

    with pytest.raises(DatasetError, match=r"0001_c1s1_000001_01\.jpg: a crop cannot be read"):
        crop.pixels()
