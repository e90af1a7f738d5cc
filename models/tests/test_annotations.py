"""Annotations as programs write them: read as meant, or refused with their place, alike."""

import codecs
import json
from pathlib import Path

import pytest
from PIL import Image

from models.datasets.coco import read_coco
from models.datasets.scenes_json import read_scenes_json
from models.errors import DatasetError

SIZE = (640, 480)
READERS = {"coco": read_coco, "scenes": read_scenes_json}


def annotations(kind: str, *boxes, person=3, ignore=False, image=None) -> dict:
    """Three pictures; boxes x y w h in the first, and one of the same person in each other one."""
    boxes = boxes or ([10, 20, 100, 200],)
    about = {"width": SIZE[0], "height": SIZE[1], "camera": "c", "exhaustive": True}
    about |= image or {}
    shown = [(0, box) for box in boxes] + [(1, [5, 5, 40, 90]), (2, [5, 5, 40, 90])]
    if kind == "coco":
        return {
            "images": [about | {"id": i, "file_name": f"{i}.png"} for i in range(3)],
            "annotations": [
                {"id": n, "image_id": i, "bbox": box, "person_id": person, "iscrowd": ignore}
                for n, (i, box) in enumerate(shown)
            ],
        }
    return {
        "format": "ps-real-eval/1",
        "images": [about | {"file": f"{i}.png"} for i in range(3)],
        "boxes": [
            {"image": i, "person_id": person, "ignore": ignore}
            | dict(zip("xywh", box, strict=True))
            for i, box in shown
        ],
        "queries": [],
    }


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "images").mkdir()
    for number in range(3):
        Image.new("RGB", SIZE).save(tmp_path / "images" / f"{number}.png")
    return tmp_path


@pytest.fixture(params=["coco", "scenes"])
def kind(request) -> str:
    return request.param


def read(folder: Path, kind: str, content: object, encoding: str = "utf-8", mark: bytes = b""):
    text = json.dumps(content).encode(encoding)
    (folder / "annotations.json").write_bytes(mark + text)
    return READERS[kind](folder)


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", codecs.BOM_UTF8), ("utf-16-le", codecs.BOM_UTF16_LE), ("utf-16-be", b"")],
)
def test_a_byte_order_mark_is_passed_over(folder, kind, encoding, mark):
    found = read(folder, kind, annotations(kind), encoding, mark)

    assert len(found.scenes) == 3


@pytest.mark.parametrize("person", [3, 3.0, "3", "3.0", " 3 "])
@pytest.mark.parametrize("ignore", [1, True, "true", "1", "True"])
def test_ids_and_flags_are_read_as_meant(folder, kind, person, ignore):
    found = read(folder, kind, annotations(kind, person=person, ignore=ignore))

    assert found.source_ids == (3,)
    assert found.scenes[0].ignore.all()


@pytest.mark.parametrize("ignore", [0, False, "false", "0"])
def test_text_that_says_false_is_false(folder, kind, ignore):
    found = read(folder, kind, annotations(kind, ignore=ignore, image={"exhaustive": "false"}))

    assert not found.scenes[0].ignore.any()
    assert not found.scenes[0].exhaustive


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"person": "Ann"}, r"\[0\]: expected a whole number, got 'Ann'"),
        ({"person": 3.5}, r"\[0\]: expected a whole number, got 3\.5"),
        ({"person": True}, r"\[0\]: expected a whole number, got True"),
        ({"person": 10**30}, r"\[0\]: expected a whole number, got 1000"),
        ({"person": [3]}, r"\[0\]: expected a whole number, got \[3\]"),
        ({"ignore": "maybe"}, r"\[0\]: expected true or false, got 'maybe'"),
        ({"ignore": 2}, r"\[0\]: expected true or false, got 2"),
        ({"image": {"width": "wide"}}, r"images\[0\]: expected a whole number, got 'wide'"),
        ({"image": {"width": 700}}, r"the annotations say 700 × 480 pixels"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(folder, kind, changes, told):
    with pytest.raises(DatasetError, match=told):
        read(folder, kind, annotations(kind, **changes))


@pytest.mark.parametrize("outside", [[700, 10, 20, 20], [10, 480, 20, 20], [-50, 10, 50, 20]])
def test_a_box_wholly_outside_its_picture_is_refused_at_once(folder, kind, outside):
    with pytest.raises(DatasetError, match=r"\[1\]: expected a box in its picture of 640 × 480"):
        read(folder, kind, annotations(kind, [10, 20, 100, 200], outside))


def test_a_box_that_reaches_past_the_edge_is_read(folder, kind):
    found = read(folder, kind, annotations(kind, [600, -5, 100, 200]))

    assert found.scenes[0].boxes[0].tolist() == [600, -5, 700, 195]


def test_corners_in_place_of_sizes_are_refused_with_the_place_of_one(folder, kind):
    corners = [[10, 20, 110, 220], [300, 200, 400, 460], [500, 100, 600, 400]]

    with pytest.raises(DatasetError, match=r"\[1\]: expected x y w h, got what looks like x1 y1"):
        read(folder, kind, annotations(kind, *corners))


def test_boxes_as_text_are_numbers(folder, kind):
    found = read(folder, kind, annotations(kind, ["10", "20.5", 100, "200"]))

    assert found.scenes[0].boxes[0].tolist() == [10, 20.5, 110, 220.5]
