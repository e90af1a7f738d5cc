import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.datasets.coco import read_coco
from models.datasets.scene import UNLABELED
from models.errors import DatasetError


@pytest.fixture
def content() -> dict:
    """Person 70 before two cameras, person 5 in one picture, a crowd, a dog, two unknown people."""
    image = {"width": 64, "height": 48}
    box = {"category_id": 1, "bbox": [4.5, 6, 20, 30]}
    return {
        "images": [
            image | {"id": 30, "file_name": "a.png", "camera": "c1"},
            image | {"id": 10, "file_name": "b.png", "camera": "c2", "exhaustive": False},
            image | {"id": 20, "file_name": "c.png", "camera": "c1"},
            image | {"id": 40, "file_name": "d.png", "camera": "c3"},
        ],
        "annotations": [
            box | {"id": 1, "image_id": 30, "person_id": 70},
            box | {"id": 2, "image_id": 20, "person_id": 5},
            box | {"id": 3, "image_id": 10, "person_id": 70, "iscrowd": 0},
            box | {"id": 4, "image_id": 30, "iscrowd": 1},
            box | {"id": 5, "image_id": 20, "person_id": 70, "bbox": [30, 6, 20, 30]},
            box | {"id": 6, "image_id": 10, "person_id": None},
            box | {"id": 7, "image_id": 10, "person_id": -1},
            box | {"id": 8, "image_id": 40, "person_id": 70, "category_id": 2},
        ],
        "categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "person"}],
        "licenses": [{"id": 1, "name": "CC0 1.0"}],
    }


def write(directory: Path, content: object, name: str = "annotations.json") -> Path:
    (directory / "images").mkdir()
    for picture in "abcd":
        Image.new("RGB", (64, 48), "red").save(directory / "images" / f"{picture}.png")
    (directory / name).write_text(json.dumps(content))
    return directory


def test_scenes_hold_their_boxes_as_corners_and_renumbered_people(tmp_path, content):
    dataset = read_coco(write(tmp_path, content))

    first, second, third, fourth = dataset.scenes
    assert dataset.source_ids == (5, 70)
    assert [scene.name for scene in dataset.scenes] == ["a.png", "b.png", "c.png", "d.png"]
    assert first.boxes.tolist() == [[4.5, 6, 24.5, 36]] * 2
    assert first.person_ids.tolist() == [1, UNLABELED]
    assert first.ignore.tolist() == [False, True]
    assert second.person_ids.tolist() == [1, UNLABELED, UNLABELED]
    assert not second.ignore.any()
    assert third.person_ids.tolist() == [0, 1]
    assert (second.camera, second.exhaustive, third.exhaustive) == ("c2", False, True)
    assert fourth.boxes.shape == (0, 4)
    assert third.read().shape == (48, 64, 3)
    assert (dataset.licence, dataset.protocol) == ("CC0 1.0", "scenes")


def test_without_queries_each_person_is_looked_for_from_each_camera(tmp_path, content):
    dataset = read_coco(write(tmp_path, content))

    assert [
        (query.person_id, query.scene, query.gallery.tolist()) for query in dataset.queries
    ] == [
        (1, 0, [1, 2, 3]),
        (1, 1, [0, 2, 3]),
    ]
    assert all(query.truth is None for query in dataset.queries)


def test_an_ignored_person_is_not_looked_for(tmp_path, content):
    for box in content["annotations"][1:]:
        box["iscrowd"] = 1

    assert read_coco(write(tmp_path, content)).queries == ()


def test_listed_queries_are_asked_as_they_are(tmp_path, content):
    content["queries"] = [{"image": 20, "box": 5, "person_id": 70, "exclude": [20, 40]}]

    (query,) = read_coco(write(tmp_path, content)).queries

    assert (query.scene, query.person_id, query.gallery.tolist()) == (2, 1, [0, 1])
    assert query.box.tolist() == [30, 6, 50, 36]


def test_an_empty_list_of_queries_is_one(tmp_path, content):
    content["queries"] = []

    assert read_coco(write(tmp_path, content)).queries == ()


def test_without_categories_everybody_is_a_person(tmp_path, content):
    del content["categories"]
    for box in content["annotations"]:
        del box["category_id"]

    assert [len(scene.boxes) for scene in read_coco(write(tmp_path, content)).scenes] == [
        2,
        3,
        2,
        1,
    ]


@pytest.mark.parametrize("keep", [("width",), ("height",)])
def test_half_a_size_is_refused(tmp_path, content, keep):
    image = content["images"][0]
    for side in {"width", "height"} - set(keep):
        del image[side]

    with pytest.raises(DatasetError, match=r"images\[0\] has no '(width|height)'"):
        read_coco(write(tmp_path, content))


def test_a_size_that_is_not_said_is_that_of_the_upright_picture(tmp_path, content):
    for side in ("width", "height"):
        del content["images"][0][side]
    write(tmp_path, content)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 40)).save(tmp_path / "images" / "a.png", exif=exif)

    scene = read_coco(tmp_path).scenes[0]

    assert (scene.width, scene.height) == (40, 90)
    assert scene.read().shape == (90, 40, 3)


@pytest.mark.parametrize("licences", [None, 3, [], [3, {}], {"name": "x"}])
def test_a_licence_that_is_not_said_is_not_made_up(tmp_path, content, licences):
    content["licenses"] = licences

    assert read_coco(write(tmp_path, content)).licence == "not stated"


def test_people_are_optional(tmp_path, content):
    content["annotations"] = []

    dataset = read_coco(write(tmp_path, content))

    assert (dataset.source_ids, dataset.queries) == ((), ())
    assert [scene.boxes.shape for scene in dataset.scenes] == [(0, 4)] * 4


def test_one_person_in_one_picture_is_a_dataset_without_queries(tmp_path, content):
    content["annotations"] = content["annotations"][:1]

    dataset = read_coco(write(tmp_path, content))

    assert (dataset.source_ids, dataset.queries) == ((70,), ())


@pytest.mark.parametrize("place", ["train.json", "annotations/train.json"])
def test_a_file_is_read_with_the_pictures_beside_it_or_beside_its_folder(tmp_path, content, place):
    write(tmp_path, content)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / "annotations.json").rename(tmp_path / place)

    dataset = read_coco(tmp_path / place)

    assert (dataset.name, len(dataset.scenes)) == ("train", 4)


def test_the_only_json_file_of_a_directory_is_read(tmp_path, content):
    assert read_coco(write(tmp_path, content, "people.json")).name == "people"


def test_one_of_several_json_files_has_to_be_chosen(tmp_path, content):
    write(tmp_path, content, "people.json")
    (tmp_path / "more.json").write_text("{}")

    with pytest.raises(DatasetError, match=r"one other \.json, got more\.json, people\.json"):
        read_coco(tmp_path)


def test_missing_files_are_named(tmp_path, content):
    with pytest.raises(DatasetError, match=r"absent\.json: no such file"):
        read_coco(tmp_path / "absent.json")
    with pytest.raises(DatasetError, match=r"expected annotations\.json or one other \.json"):
        read_coco(tmp_path)

    write(tmp_path, content)
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"1 of 4 pictures are missing, first .*b\.png"):
        read_coco(tmp_path)


def test_a_missing_folder_of_pictures_is_named(tmp_path, content):
    (tmp_path / "annotations.json").write_text(json.dumps(content))

    with pytest.raises(DatasetError, match=r"expected the pictures in .*images or .*images"):
        read_coco(tmp_path)


@pytest.mark.parametrize("text", ["{", "", "\xff", "[" * 100_000])
def test_text_that_is_not_json_is_refused(tmp_path, text):
    (tmp_path / "annotations.json").write_bytes(text.encode("latin-1"))

    with pytest.raises(DatasetError, match=r"annotations\.json: not readable as JSON"):
        read_coco(tmp_path)


@pytest.mark.parametrize("other", [[], 3, None, {}, {"images": []}, {"images": 3}])
def test_json_of_another_kind_is_refused(tmp_path, other):
    with pytest.raises(DatasetError, match=r"annotations\.json: expected (an object|a list)"):
        read_coco(write(tmp_path, other))


@pytest.mark.parametrize(
    ("kind", "number", "change", "message"),
    [
        ("annotations", 1, {"bbox": [1, 2, 0, 4]}, r"annotations\[1\]: expected finite"),
        ("annotations", 1, {"bbox": [1, 2, 3, float("nan")]}, r"annotations\[1\]: expected finite"),
        ("annotations", 1, {"bbox": [1, 2, 3]}, r"annotations\[1\]: not enough values"),
        ("annotations", 1, {"bbox": "left"}, r"annotations\[1\]: expected a number"),
        ("annotations", 1, {"bbox": None}, r"annotations\[1\]: .*not iterable"),
        ("annotations", 1, {"person_id": -2}, r"annotations\[1\]: expected a whole person_id"),
        ("annotations", 1, {"person_id": 1.5}, r"annotations\[1\]: expected a whole number"),
        ("annotations", 1, {"person_id": True}, r"annotations\[1\]: expected a whole number"),
        ("annotations", 1, {"image_id": 99}, "annotation 2 names image 99, not listed"),
        (
            "annotations",
            1,
            {"image_id": float("inf")},
            r"annotations\[1\]: expected a whole number",
        ),
        ("annotations", 1, {"category_id": None}, r"annotations\[1\] has no 'category_id'"),
        ("annotations", 1, {"id": 1}, "each of annotations to have an id of its own, got 1"),
        ("annotations", 1, {"id": None}, "each of annotations to have an id of its own, got None"),
        ("images", 2, {"id": 10}, "each of images to have an id of its own, got 10"),
        ("images", 2, {"width": 0}, r"c\.png: the annotations say 0 × 48"),
        ("images", 2, {"file_name": "../c.png"}, r"images\[2\]: expected a file inside images/"),
        ("images", 2, {"file_name": "/c.png"}, r"images\[2\]: expected a file inside images/"),
        ("categories", 1, {"name": "cat"}, "a category named 'person', got dog, cat"),
        ("queries", 0, {"box": 9}, r"queries\[0\] names annotation 9"),
        ("queries", 0, {"box": 8}, r"queries\[0\] names annotation 8"),
        ("queries", 0, {"box": 3}, r"queries\[0\] names image 30 and person 70"),
        ("queries", 0, {"person_id": 5}, r"queries\[0\] names image 30 and person 5"),
        ("queries", 0, {"image": 77}, r"queries\[0\] names image 77"),
        ("queries", 0, {"box": 4, "person_id": -1}, r"queries\[0\] looks for a person without"),
        ("queries", 0, {"exclude": [7]}, r"queries\[0\] excludes image 7"),
        ("queries", 0, {"exclude": None}, r"queries\[0\]: .*not iterable"),
    ],
)
def test_a_wrong_record_is_named(tmp_path, content, kind, number, change, message):
    content["queries"] = [{"image": 30, "box": 1, "person_id": 70, "exclude": [30]}]
    content[kind][number] |= change

    with pytest.raises(DatasetError, match=message):
        read_coco(write(tmp_path, content))


@pytest.mark.parametrize("kind", ["images", "annotations", "categories", "queries"])
@pytest.mark.parametrize("other", [3, "text", None, []])
def test_a_record_that_is_none_is_named(tmp_path, content, kind, other):
    content["queries"] = [{"image": 30, "box": 1, "person_id": 70, "exclude": [30]}]
    content[kind][0] = other

    with pytest.raises(DatasetError, match=rf"annotations\.json: {kind}\[0\]"):
        read_coco(write(tmp_path, content))


def test_galleries_from_one_scene_are_one_array(tmp_path, content):
    content["annotations"][2]["image_id"] = 40
    content["annotations"].append(
        {"id": 9, "image_id": 30, "bbox": [1, 1, 9, 9], "category_id": 1, "person_id": 5}
    )

    dataset = read_coco(write(tmp_path, content))

    own = [query for query in dataset.queries if query.scene == 0]
    assert [query.person_id for query in own] == [0, 1]
    assert np.shares_memory(own[0].gallery, own[1].gallery)
