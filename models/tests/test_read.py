import json
from pathlib import Path

import pytest
from PIL import Image

from models.datasets.read import read_dataset
from models.errors import DatasetError

IMAGE = {"width": 64, "height": 48}
OURS = {
    "format": "ps-real-eval/1",
    "images": [IMAGE | {"file": "a.png", "camera": "c1", "exhaustive": True}],
    "boxes": [{"image": 0, "x": 1, "y": 2, "w": 3, "h": 4, "person_id": 7}],
    "queries": [],
}
COCO = {
    "images": [IMAGE | {"id": 1, "file_name": "a.png"}],
    "annotations": [{"id": 1, "image_id": 1, "bbox": [1, 2, 3, 4], "person_id": 7}],
}


def write(directory: Path, content: object, name: str = "annotations.json") -> Path:
    (directory / "images").mkdir()
    Image.new("RGB", (64, 48)).save(directory / "images" / "a.png")
    (directory / name).write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize("content", [OURS, COCO])
@pytest.mark.parametrize("split", ["train", "test"])
def test_json_of_either_kind_is_recognised_and_read_whole(tmp_path, content, split):
    dataset = read_dataset(write(tmp_path, content), split=split)

    (scene,) = dataset.scenes
    assert scene.boxes.tolist() == [[1, 2, 4, 6]]
    assert dataset.source_ids == (7,)


def test_a_coco_file_is_recognised(tmp_path):
    write(tmp_path, COCO, "people.json")

    assert len(read_dataset(tmp_path / "people.json").scenes) == 1
    assert len(read_dataset(tmp_path).scenes) == 1


@pytest.mark.parametrize(
    ("layout", "split", "name", "scenes", "queries"),
    [
        ("cuhk", "test", "CUHK-SYSU test", 30, 12),
        ("cuhk", "train", "CUHK-SYSU train", 6, 0),
        ("prw", "test", "PRW test", 30, 17),
        ("prw", "train", "PRW train", 6, 0),
    ],
)
def test_the_original_layouts_are_recognised(originals, layout, split, name, scenes, queries):
    pytest.importorskip("scipy")
    dataset = read_dataset(originals / layout, split=split)

    assert (dataset.name, len(dataset.scenes), len(dataset.queries)) == (name, scenes, queries)


def test_the_gallery_size_and_the_search_across_cameras_are_passed_on(originals):
    pytest.importorskip("scipy")
    small = read_dataset(originals / "cuhk", gallery_size=50).queries[0]
    larger = read_dataset(originals / "cuhk", gallery_size=500).queries[0]
    across = read_dataset(originals / "prw", cross_camera=True)

    assert len(small.gallery) == 8
    assert len(larger.gallery) == 16
    cameras = {across.scenes[index].camera for index in across.queries[0].gallery}
    assert across.scenes[across.queries[0].scene].camera not in cameras


def test_what_a_layout_cannot_be_asked_is_refused(tmp_path, originals):
    ours = write(tmp_path, OURS)

    with pytest.raises(DatasetError, match="has no galleries of chosen size, got 500"):
        read_dataset(ours, gallery_size=500)
    with pytest.raises(DatasetError, match="PRW has no galleries of chosen size, got 500"):
        read_dataset(originals / "prw", gallery_size=500)
    with pytest.raises(DatasetError, match="CUHK-SYSU has no search across cameras"):
        read_dataset(originals / "cuhk", cross_camera=True)
    with pytest.raises(DatasetError, match="expected split train or test, got 'val'"):
        read_dataset(ours, split="val")


def test_a_directory_of_no_layout_is_told_what_each_lacks(tmp_path):
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path)

    first, *layouts = str(caught.value).splitlines()
    assert first == f"{tmp_path}: none of the dataset layouts that are read:"
    ours, coco, cuhk, prw = layouts
    assert ours.strip() == "scenes and queries in JSON: no annotations.json"
    assert coco.strip() == "COCO-style: no annotations.json, nor a single other .json"
    assert "no annotation/Images.mat" in cuhk
    assert "https://github.com/ShuangLI59/person_search" in cuhk
    assert "no frame_test.mat" in prw
    assert "https://github.com/liangzheng06/PRW-baseline" in prw


def test_the_file_that_a_layout_lacks_is_named(tmp_path, originals):
    copy = tmp_path / "cuhk"
    copy.mkdir()
    for part in ("Image", "annotation"):
        (copy / part).symlink_to(originals / "cuhk" / part)
    (copy / "annotation").unlink()

    with pytest.raises(DatasetError, match=r"CUHK-SYSU: no annotation/Images\.mat, no .*pool\.mat"):
        read_dataset(copy)


def test_json_of_no_kind_is_told_so(tmp_path):
    with pytest.raises(DatasetError, match=r"no format 'ps-real-eval/1' in annotations\.json") as e:
        read_dataset(write(tmp_path, {"images": []}))

    assert "COCO-style: no list 'annotations' in annotations.json" in str(e.value)


@pytest.mark.parametrize("content", [[], 3, "text", None])
def test_json_that_is_no_object_is_told_so(tmp_path, content):
    with pytest.raises(DatasetError, match="COCO-style: no list 'images'"):
        read_dataset(write(tmp_path, content))


def test_a_path_that_there_is_not_is_named(tmp_path):
    with pytest.raises(DatasetError, match="absent: no such file or directory"):
        read_dataset(tmp_path / "absent")


def test_a_file_that_is_no_dataset_is_told_so(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK")

    with pytest.raises(DatasetError, match=r"COCO-style: no \.json file"):
        read_dataset(tmp_path / "a.zip")


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "annotations.json").write_text("{")

    with pytest.raises(DatasetError, match=r"annotations\.json: not readable as JSON"):
        read_dataset(tmp_path)
