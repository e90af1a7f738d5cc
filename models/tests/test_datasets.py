import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.datasets.scene import UNLABELED, Query, Scene, SceneDataset
from models.datasets.scenes_json import read_scenes_json
from models.errors import DatasetError

REAL = Path(os.environ.get("PERSON_SEARCH_REAL", Path(__file__).parents[3] / "shared" / "real"))


def scene(**changes) -> Scene:
    fields = {
        "name": "a",
        "path": Path("a.jpg"),
        "width": 64,
        "height": 48,
        "boxes": np.array([[1, 2, 30, 40]], np.float32),
        "person_ids": np.array([0]),
        "ignore": np.array([False]),
        "camera": "c1",
    }
    return Scene(**fields | changes)


@pytest.fixture
def content() -> dict:
    """Three pictures; person 70 in all of them, person 5 in the last, somebody unknown."""
    image = {"width": 64, "height": 48, "camera": "c1", "exhaustive": True}
    box = {"x": 4.5, "y": 6, "w": 20, "h": 30}
    return {
        "format": "ps-real-eval/1",
        "images": [
            image | {"file": "a.png"},
            image | {"file": "b.png", "camera": "c2", "exhaustive": False},
            image | {"file": "c.png"},
        ],
        "boxes": [
            box | {"image": 0, "person_id": 70},
            box | {"image": 2, "person_id": 5},
            box | {"image": 1, "person_id": 70},
            box | {"image": 0, "person_id": -1, "ignore": True},
            box | {"image": 2, "person_id": 70, "x": 30},
        ],
        "queries": [{"image": 0, "box": 0, "person_id": 70, "exclude": [0, 1], "kind": "later"}],
    }


def write(directory: Path, content: object) -> Path:
    (directory / "images").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (64, 48), "red").save(directory / "images" / name)
    (directory / "annotations.json").write_text(json.dumps(content))
    return directory


def test_scenes_hold_their_boxes_as_corners_and_renumbered_people(tmp_path, content):
    dataset = read_scenes_json(write(tmp_path, content))

    first, second, third = dataset.scenes
    assert dataset.source_ids == (5, 70)
    assert dataset.person_ids.tolist() == [0, 1]
    assert first.boxes.tolist() == [[4.5, 6, 24.5, 36]] * 2
    assert first.person_ids.tolist() == [1, UNLABELED]
    assert first.ignore.tolist() == [False, True]
    assert (second.camera, second.exhaustive, third.exhaustive) == ("c2", False, True)
    assert third.person_ids.tolist() == [0, 1]
    assert third.read().shape == (48, 64, 3)


def test_a_query_searches_the_images_that_it_does_not_exclude(tmp_path, content):
    (query,) = read_scenes_json(write(tmp_path, content)).queries

    assert (query.scene, query.person_id, query.gallery.tolist()) == (0, 1, [2])
    assert query.box.tolist() == [4.5, 6, 24.5, 36]


def test_a_scene_without_people_is_a_scene(tmp_path, content):
    content |= {"boxes": [], "queries": []}

    dataset = read_scenes_json(write(tmp_path, content))

    assert [found.boxes.shape for found in dataset.scenes] == [(0, 4)] * 3
    assert len(dataset.person_ids) == 0


def test_a_missing_annotation_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"annotations\.json: no such file"):
        read_scenes_json(tmp_path)


def test_a_missing_picture_is_named(tmp_path, content):
    write(tmp_path, content)
    (tmp_path / "images" / "b.png").unlink()

    with pytest.raises(DatasetError, match=r"1 of 3 pictures are missing, first .*b\.png"):
        read_scenes_json(tmp_path)


def test_text_that_is_not_json_is_refused(tmp_path):
    (tmp_path / "annotations.json").write_text("{")

    with pytest.raises(DatasetError, match="not readable as JSON"):
        read_scenes_json(tmp_path)


@pytest.mark.parametrize(
    ("kind", "number", "change", "message"),
    [
        ("boxes", 1, {"w": 0}, r"boxes\[1\]: expected finite"),
        ("boxes", 1, {"h": float("nan")}, r"boxes\[1\]: expected finite"),
        ("boxes", 1, {"x": "left"}, r"boxes\[1\]: expected a number"),
        ("boxes", 1, {"person_id": -2}, r"boxes\[1\]: expected a person_id"),
        ("boxes", 1, {"image": 3}, r"boxes\[1\] names image 3, out of range"),
        ("images", 2, {"width": 0}, r"c\.png: expected a width and height"),
        ("images", 2, {"file": "../c.png"}, r"images\[2\]: expected a file inside images/"),
        ("queries", 0, {"box": 9}, r"queries\[0\] names box 9"),
        ("queries", 0, {"box": 2}, r"queries\[0\] names image 0 .* its box has image 1"),
        ("queries", 0, {"box": 3, "person_id": -1}, r"queries\[0\] looks for a person without"),
        ("queries", 0, {"exclude": [7]}, r"queries\[0\] excludes image 7"),
    ],
)
def test_a_wrong_record_is_named(tmp_path, content, kind, number, change, message):
    content[kind][number] |= change

    with pytest.raises(DatasetError, match=message):
        read_scenes_json(write(tmp_path, content))


@pytest.mark.parametrize(
    ("kind", "field"), [("images", "file"), ("boxes", "w"), ("queries", "exclude")]
)
def test_a_record_without_a_field_is_named(tmp_path, content, kind, field):
    del content[kind][0][field]

    with pytest.raises(DatasetError, match=rf"{kind}\[0\] has no '{field}'"):
        read_scenes_json(write(tmp_path, content))


@pytest.mark.parametrize("other", [{"format": "coco"}, {}, [], 3])
def test_another_format_is_refused(tmp_path, other):
    with pytest.raises(DatasetError, match="expected format"):
        read_scenes_json(write(tmp_path, other))


@pytest.mark.parametrize(
    "changes",
    [
        {"boxes": np.array([[1, 2, 1, 40]], np.float32)},
        {"boxes": np.array([[1, 2, np.inf, 40]], np.float32)},
        {"boxes": np.array([[1, 2, 30, 40]], np.float64)},
        {"person_ids": np.array([0, 1])},
        {"person_ids": np.array([-2])},
        {"ignore": np.array([0])},
    ],
)
def test_a_scene_refuses_fields_that_do_not_fit(changes):
    with pytest.raises(DatasetError, match=r"a\.jpg"):
        scene(**changes)


def test_a_dataset_refuses_a_query_that_points_at_nothing():
    query = Query(0, np.array([1, 2, 30, 40], np.float32), 0, np.array([1]))

    with pytest.raises(DatasetError, match="query 0 names scene 1 of 1"):
        SceneDataset("d", (scene(),), (query,), "", (7,))


def test_a_dataset_refuses_a_person_that_it_does_not_list():
    with pytest.raises(DatasetError, match="expected person ids below 0, got 0"):
        SceneDataset("d", (scene(),), (), "", ())


def test_a_picture_of_another_size_is_refused(tmp_path):
    Image.new("RGB", (65, 48)).save(tmp_path / "a.jpg")

    with pytest.raises(DatasetError, match="64 × 48"):
        scene(path=tmp_path / "a.jpg").read()


def test_the_first_scenes_keep_the_queries_that_can_be_answered():
    box = np.array([1, 2, 30, 40], np.float32)
    queries = (Query(0, box, 0, np.array([1, 2])), Query(0, box, 0, np.array([2])))
    dataset = SceneDataset("d", (scene(), scene(), scene()), queries, "", (7,))

    first = dataset.first(2)

    assert len(first.scenes) == 2
    assert [query.gallery.tolist() for query in first.queries] == [[1]]


def query(**changes) -> Query:
    fields = {
        "scene": 0,
        "box": np.array([1, 2, 30, 40], np.float32),
        "person_id": 0,
        "gallery": np.array([1, 2, 1]),
        "truth": np.array([[0, 0], [2, 0]]),
    }
    return Query(**fields | changes)


def test_a_gallery_may_name_a_scene_twice():
    dataset = SceneDataset("d", (scene(), scene(), scene()), (query(),), "", (7,))

    assert dataset.queries[0].gallery.tolist() == [1, 2, 1]
    assert dataset.protocol == "scenes"


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (np.array([[0, 0]], np.int32), r"expected int64 truth of shape \(P, 2\)"),
        (np.array([0, 0]), r"expected int64 truth of shape \(P, 2\)"),
        (np.array([[0, 0, 0]]), r"expected int64 truth of shape \(P, 2\)"),
        (np.array([[3, 0]]), "within a gallery of 3 scenes, got places 3 to 3"),
        (np.array([[-1, 0]]), "within a gallery of 3 scenes, got places -1 to -1"),
        (np.array([[0, -1]]), "boxes from -1"),
        (np.array([[1, 0], [1, 0]]), "the same box at the same place of the gallery"),
    ],
)
def test_a_query_refuses_truth_that_its_gallery_has_not(truth, message):
    with pytest.raises(DatasetError, match=message):
        query(truth=truth)


def test_a_dataset_refuses_truth_that_its_scene_has_not():
    asked = query(truth=np.array([[1, 1]]))

    with pytest.raises(DatasetError, match="query 0 names box 1 of 1 boxes in a"):
        SceneDataset("d", (scene(), scene(), scene()), (asked,), "", (7,))


def test_the_first_scenes_keep_the_truth_that_is_in_them():
    queries = (query(gallery=np.array([2, 1, 1])), query(truth=np.array([[1, 0]])))
    dataset = SceneDataset(
        "d", (scene(), scene(), scene()), queries, "", (7,), protocol="published"
    )

    first = dataset.first(2)

    (kept,) = first.queries
    assert kept.gallery.tolist() == [1, 1]
    assert kept.truth.tolist() == [[1, 0]]
    assert first.protocol == "published"


def test_an_ignored_box_makes_no_query_answerable():
    hidden = scene(ignore=np.array([True]))
    asked = query(gallery=np.array([1]), truth=None)
    dataset = SceneDataset("d", (scene(), hidden, scene()), (asked,), "", (7,))

    assert dataset.first(2).queries == ()


def test_a_picture_that_is_none_or_is_gone_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")

    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(DatasetError, match=name):
            scene(path=tmp_path / name).read()


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real scenes at {REAL} (PERSON_SEARCH_REAL)")
def test_the_real_scenes_are_read_whole():
    dataset = read_scenes_json(REAL / "public")

    people = sum(int((~scene.ignore).sum()) for scene in dataset.scenes)
    assert (len(dataset.scenes), people) == (426, 1265)
    assert (len(dataset.person_ids), len(dataset.queries)) == (103, 115)
    assert len(dataset.first(426).queries) == 115
