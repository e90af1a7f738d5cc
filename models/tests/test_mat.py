"""The reader of long lists agrees with SciPy, and refuses what is not as it expects."""

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from models.datasets.mat import Structures, structures
from models.errors import DatasetError

ENTRY = [("imname", "O"), ("idlocate", "O"), ("ishard", "O")]


def entries(rng: np.random.Generator, count: int) -> np.ndarray:
    """Names of many lengths; boxes of several types, about half of them empty."""
    array = np.zeros((1, count), dtype=ENTRY)
    for place in range(count):
        box = rng.integers(0, 250, (1, 4)).astype(rng.choice(["u1", "u2", "i4", "f4", "f8"]))
        name = f"s{rng.integers(10 ** rng.integers(1, 14))}.jpg"
        shown = rng.random() < 0.5
        array[0, place] = (name, box if shown else np.zeros((1, 0)), np.array([[1]], np.uint8))
    return array


def lists(rng: np.random.Generator, count: int = 5) -> np.ndarray:
    array = np.zeros((1, count), dtype=[("Query", "O"), ("Gallery", "O")])
    for place in range(count):
        array[0, place] = (entries(rng, 1), entries(rng, int(rng.integers(1, 40))))
    return array


def read(path: Path, fields: tuple[str, ...] = ("Query", "Gallery")) -> list:
    return list(structures(path, "TestG50", fields, "its authors"))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_lists_read_in_blocks_are_those_that_scipy_reads(tmp_path, compressed, seed):
    path = tmp_path / "TestG50.mat"
    other = {"before": np.eye(3), "text": "TestG50"}
    content = other | {"TestG50": lists(np.random.default_rng(seed)), "behind": np.eye(2)}
    savemat(path, content, do_compression=compressed)

    found = read(path)

    expected = loadmat(path)["TestG50"][0]
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for field in ("Query", "Gallery"):
            rows = theirs[field][0]
            assert len(ours[field]) == len(rows)
            assert ours[field].fields == ("imname", "idlocate", "ishard")
            assert ours[field].texts("imname").tolist() == [
                row["imname"][0].encode() for row in rows
            ]
            empty = ours[field].empty("idlocate")
            assert empty.tolist() == [row["idlocate"].size == 0 for row in rows]
            for place in np.flatnonzero(~empty):
                numbers = ours[field].numbers("idlocate", int(place))
                assert numbers.tolist() == rows[place]["idlocate"][0].tolist()


def test_texts_of_some_rows_are_those_of_all(tmp_path):
    path = tmp_path / "TestG50.mat"
    savemat(path, {"TestG50": lists(np.random.default_rng(1))})
    gallery = max((row["Gallery"] for row in read(path)), key=len)

    some = gallery.texts("imname", np.array([3, 1]))

    assert some.tolist() == gallery.texts("imname")[[3, 1]].tolist()
    assert gallery.texts("imname", np.array([], np.int64)).tolist() == []


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "TestG50.mat"
    savemat(path, {"TestG50": content})
    return path


def test_a_variable_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "TestG50.mat"
    savemat(path, {"other": np.eye(3)})

    with pytest.raises(DatasetError, match="looking for variable TestG50: the file ends too early"):
        read(path)


def test_a_variable_without_the_fields_is_refused(tmp_path):
    path = written(tmp_path, lists(np.random.default_rng(0)))

    with pytest.raises(DatasetError, match="fields Query, Answer, got Query, Gallery"):
        read(path, ("Query", "Answer"))


@pytest.mark.parametrize("content", [np.eye(3), "text", np.zeros((1, 2), dtype=object)])
def test_a_variable_that_is_no_structure_is_refused(tmp_path, content):
    with pytest.raises(DatasetError, match="expected TestG50 with fields Query, Gallery, got none"):
        read(written(tmp_path, content))


def test_a_field_that_there_is_not_is_named(tmp_path):
    gallery = read(written(tmp_path, lists(np.random.default_rng(0))))[0]["Gallery"]

    with pytest.raises(DatasetError, match=r"TestG50\(1\)\.Gallery: expected a field 'name', got"):
        gallery.texts("name")


@pytest.mark.parametrize("value", [np.eye(3), np.zeros((0, 0)), np.zeros((1, 1), dtype=object)])
def test_what_is_no_text_is_not_read_as_one(tmp_path, value):
    content = lists(np.random.default_rng(0))
    content[0, 2]["Gallery"]["imname"][0, 0] = value
    gallery = read(written(tmp_path, content))[2]["Gallery"]

    with pytest.raises(DatasetError, match=r"TestG50\(3\)\.Gallery: expected text"):
        gallery.texts("imname")


def test_a_text_that_no_file_is_named_is_refused(tmp_path):
    content = lists(np.random.default_rng(0))
    content[0, 2]["Gallery"]["imname"][0, 0] = "s" * 2000
    gallery = read(written(tmp_path, content))[2]["Gallery"]

    with pytest.raises(DatasetError, match="at most 1024 characters in field 'imname', got 2000"):
        gallery.texts("imname")


def test_an_old_and_a_new_format_are_refused(tmp_path):
    path = tmp_path / "TestG50.mat"
    savemat(path, {"TestG50": np.eye(3)}, format="4")

    with pytest.raises(DatasetError, match=r"expected a little-endian \.mat file of version 5"):
        read(path)

    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(DatasetError, match=r"expected a little-endian \.mat file of version 5"):
        read(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_anywhere_is_our_error_or_changes_only_values(tmp_path, compressed):
    path = tmp_path / "TestG50.mat"
    savemat(path, {"TestG50": lists(np.random.default_rng(0))}, do_compression=compressed)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0

    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(128, len(whole), 3):
            content[place] = rng.integers(256)
        path.write_bytes(content if rng.random() < 0.5 else content[: rng.integers(len(whole))])
        try:
            for row in read(path):
                row["Gallery"].texts("imname")
                for place in np.flatnonzero(~row["Gallery"].empty("idlocate")):
                    row["Gallery"].numbers("idlocate", int(place))
        except DatasetError as error:
            assert str(path) in str(error)
            refused += 1

    assert refused > 75


def test_an_unset_field_is_empty():
    """A matrix of no bytes at all, which the format allows and SciPy never writes."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    content = (
        element(6, struct.pack("<II", 2, 0))  # an array of structures,
        + element(5, struct.pack("<ii", 1, 1))  # 1 × 1,
        + element(1, b"")  # without a name,
        + struct.pack("<HHI", 5, 4, 16)  # with field names of 16 bytes each
        + element(1, b"idlocate".ljust(16, b"\0"))
        + struct.pack("<II", 14, 0)
    )

    found = Structures(content, "here")

    assert (len(found), found.fields, found.empty("idlocate").tolist()) == (
        1,
        ("idlocate",),
        [True],
    )
    with pytest.raises(DatasetError, match="here: expected text or numbers in field 'idlocate'"):
        found.numbers("idlocate", 0)
