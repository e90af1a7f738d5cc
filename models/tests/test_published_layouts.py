"""CUHK-SYSU and PRW as their authors distribute them, held against what the published code reads.

The datasets in `conformance/eval/` are tiny and made up; layout and types are the original ones.
"""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from models.datasets.cuhk_sysu import GALLERY_SIZES, WHOLE_POOL, cuhk_sysu_queries, read_cuhk_sysu
from models.datasets.prw import prw_queries, read_prw
from models.datasets.scene import UNLABELED, SceneDataset
from models.errors import DatasetError

EVAL = Path(__file__).parent / "conformance" / "eval"
EXPECTED = json.loads((EVAL / "expected.json").read_text())
NAE4PS = {name: EXPECTED["nae4ps"][name]["annotations"] for name in ("cuhk", "prw")}
SEQNET = {name: EXPECTED["seqnet"][name]["annotations"] for name in ("cuhk", "prw")}
TRAIN_LABELS = {
    name: EXPECTED["nae4ps"][name]["train_labels_after_mapping"] for name in ("cuhk", "prw")
}
META = json.loads((EVAL / "meta.json").read_text())
NOBODY_NAMED = 5555
PEOPLE = Path("annotation", "test", "train_test")


@pytest.fixture
def cuhk(originals, tmp_path) -> Path:
    """A copy to break."""
    return shutil.copytree(originals / "cuhk", tmp_path / "cuhk")


@pytest.fixture
def prw(originals, tmp_path) -> Path:
    """A copy to break."""
    return shutil.copytree(originals / "prw", tmp_path / "prw")


def source_labels(dataset: SceneDataset, nobody: int, shift: int = 0) -> dict[str, list[int]]:
    """Everybody's id in the dataset's own numbers, by scene."""
    return {
        scene.name: [
            nobody if person == UNLABELED else dataset.source_ids[person] + shift
            for person in scene.person_ids
        ]
        for scene in dataset.scenes
    }


def boxes(dataset: SceneDataset) -> dict[str, list]:
    return {scene.name: scene.boxes.tolist() for scene in dataset.scenes}


def asked(dataset: SceneDataset) -> list[tuple[str, list[int]]]:
    return [(dataset.scenes[query.scene].name, query.box.tolist()) for query in dataset.queries]


def read(directory: Path, name: str, split: str) -> SceneDataset:
    return {"cuhk": read_cuhk_sysu, "prw": read_prw}[name](directory / name, split=split)


@pytest.mark.parametrize("name", ["cuhk", "prw"])
@pytest.mark.parametrize("split", ["test", "train"])
def test_boxes_and_people_are_those_of_the_published_code(originals, name, split):
    nobody = {"cuhk": -1, "prw": -2}[name]
    expected = {scene: record for scene, (record,) in NAE4PS[name][split].items()}

    dataset = read(originals, name, split)

    assert boxes(dataset) == {scene: record["boxes"] for scene, record in expected.items()}
    assert source_labels(dataset, nobody) == {
        scene: record["pids"] for scene, record in expected.items()
    }
    assert not any(scene.ignore.any() for scene in dataset.scenes)
    assert dataset.protocol == "published"


@pytest.mark.parametrize("name", ["cuhk", "prw"])
@pytest.mark.parametrize(("split", "their_split"), [("test", "gallery"), ("train", "train")])
def test_boxes_people_and_order_are_those_of_the_second_published_code(
    originals, name, split, their_split
):
    shift = {"cuhk": 1, "prw": 0}[name]
    expected = SEQNET[name][their_split]

    dataset = read(originals, name, split)

    assert [scene.name for scene in dataset.scenes] == list(expected)
    assert boxes(dataset) == {scene: record["boxes"] for scene, record in expected.items()}
    assert source_labels(dataset, NOBODY_NAMED, shift) == {
        scene: record["pids"] for scene, record in expected.items()
    }


@pytest.mark.parametrize("name", ["cuhk", "prw"])
def test_test_scenes_have_the_published_order_and_their_sizes(originals, name):
    dataset = read(originals, name, "test")

    assert [scene.name for scene in dataset.scenes] == NAE4PS[name]["test_order"]
    for scene in dataset.scenes:
        assert scene.read().shape == (scene.height, scene.width, 3)


@pytest.mark.parametrize("name", ["cuhk", "prw"])
def test_training_people_have_the_published_labels(originals, name):
    assert source_labels(read(originals, name, "train"), NOBODY_NAMED, 1) == TRAIN_LABELS[name]


@pytest.mark.parametrize("name", ["cuhk", "prw"])
def test_training_people_are_numbered_without_gaps(originals, name):
    dataset = read(originals, name, "train")

    assert dataset.person_ids.tolist() == list(range(len(dataset.source_ids)))
    assert dataset.queries == ()


@pytest.mark.parametrize("name", ["cuhk", "prw"])
def test_queries_are_those_of_the_published_code(originals, name):
    dataset = read(originals, name, "test")

    assert asked(dataset) == [(probe["im_name"], probe["box"]) for probe in NAE4PS[name]["probe"]]
    assert asked(dataset) == [(probe["im_name"], probe["box"]) for probe in SEQNET[name]["query"]]


def test_prw_knows_whom_a_query_looks_for_and_which_camera_took_a_frame(originals):
    dataset = read(originals, "prw", "test")

    people = [dataset.source_ids[query.person_id] for query in dataset.queries]
    assert people == [probe["pid"] for probe in NAE4PS["prw"]["probe"]]
    assert {scene.name: int(scene.camera) for scene in dataset.scenes} == {
        scene: record["cam"] for scene, (record,) in NAE4PS["prw"]["test"].items()
    }


def listed(directory: Path, size: int) -> Iterator[tuple[list[str], dict[int, list[int]]]]:
    """The slow, obvious reading of a gallery list: names, and the boxes at some places."""
    lists = loadmat(directory / PEOPLE / f"TestG{size}.mat")[f"TestG{size}"]
    for row in lists[0]:
        names, places = [], {}
        for place, entry in enumerate(row["Gallery"][0]):
            names.append(str(entry["imname"][0]))
            if entry["idlocate"].size:
                x, y, w, h = entry["idlocate"][0].astype(int).tolist()
                places[place] = [x, y, x + w, y + h]
        yield names, places


@pytest.mark.parametrize("size", GALLERY_SIZES)
def test_galleries_and_truth_are_those_that_the_lists_say(originals, size):
    dataset = read_cuhk_sysu(originals / "cuhk", gallery_size=size)

    expected = list(listed(originals / "cuhk", size))
    assert len(dataset.queries) == len(expected) == META["cuhk"]["n_id"]
    for query, (names, places) in zip(dataset.queries, expected, strict=True):
        scenes = [dataset.scenes[index] for index in query.gallery]
        assert [scene.name for scene in scenes] == names
        found = {place: scenes[place].boxes[box].tolist() for place, box in query.truth.tolist()}
        assert found == places
        assert len(places) > 0


def test_a_scene_that_a_list_repeats_is_in_the_gallery_twice(originals):
    queries = read_cuhk_sysu(originals / "cuhk", gallery_size=100).queries

    repeated = [
        number
        for number, query in enumerate(queries)
        if len(np.unique(query.gallery)) < len(query.gallery)
    ]
    assert repeated == [META["cuhk"]["dup_target"] - 1, META["cuhk"]["dup_distractor"] - 1]
    target = queries[repeated[0]]
    shown_in = target.gallery[target.truth[:, 0]]
    assert len(np.unique(shown_in)) < len(shown_in)


def test_the_whole_pool_is_the_gallery_of_50_and_all_others_but_the_querys_own(originals):
    dataset = read_cuhk_sysu(originals / "cuhk", gallery_size=50)

    whole = cuhk_sysu_queries(originals / "cuhk", dataset.scenes, WHOLE_POOL)

    for query, small in zip(whole, dataset.queries, strict=True):
        count = len(small.gallery)
        assert query.gallery[:count].tolist() == small.gallery.tolist()
        assert query.truth.tolist() == small.truth.tolist()
        everything = [*query.gallery.tolist(), query.scene]
        assert sorted(everything) == list(range(len(dataset.scenes)))
        assert np.all(np.diff(query.gallery[count:]) > 0)


@pytest.mark.parametrize("size", [0, 49, -2, 5000])
def test_a_gallery_size_that_has_no_list_is_refused(originals, size):
    with pytest.raises(DatasetError, match=rf"expected a gallery size of 50, .*got {size}"):
        read_cuhk_sysu(originals / "cuhk", gallery_size=size)


@pytest.mark.parametrize("cross_camera", [False, True])
def test_prw_searches_all_other_frames_for_the_first_box_of_a_person(originals, cross_camera):
    dataset = read_prw(originals / "prw", cross_camera=cross_camera)

    for query in dataset.queries:
        own = dataset.scenes[query.scene]
        gallery = [
            index
            for index, scene in enumerate(dataset.scenes)
            if index != query.scene and not (cross_camera and scene.camera == own.camera)
        ]
        truth = [
            [place, dataset.scenes[index].person_ids.tolist().index(query.person_id)]
            for place, index in enumerate(gallery)
            if query.person_id in dataset.scenes[index].person_ids
        ]
        assert query.gallery.tolist() == gallery
        assert query.truth.tolist() == truth
        assert len(truth) > 0


def test_a_person_twice_in_a_frame_is_to_be_found_once(prw):
    (prw / "query_info.txt").write_text("536 217.0159 51.3226 37.3056 73.5353 c5s2_017263\n")

    dataset = read_prw(prw)

    (query,) = dataset.queries
    twice = [scene.name for scene in dataset.scenes].index(META["prw"]["twice"] + ".jpg")
    people = dataset.scenes[twice].person_ids.tolist()
    found = [box for place, box in query.truth.tolist() if query.gallery[place] == twice]
    assert people.count(query.person_id) == 2
    assert found == [people.index(query.person_id)]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r\n\r\n"])
def test_queries_are_the_same_whatever_ends_a_line(prw, ending):
    expected = asked(read_prw(prw))
    path = prw / "query_info.txt"
    path.write_bytes(path.read_bytes().replace(b"\r\n", ending))

    assert asked(read_prw(prw)) == expected


def test_boxes_left_of_the_picture_are_cut_as_published_in_annotations_and_in_queries(prw):
    frame = "c1s1_016171"
    labels = np.array([[796, -20.5, 3.9, 50.9, 40.2]])
    savemat(prw / "annotations" / f"{frame}.jpg.mat", {"box_new": labels}, appendmat=False)
    (prw / "query_info.txt").write_text(f"796 -20.5 3.9 50.9 40.2 {frame}\n")

    dataset = read_prw(prw)

    assert boxes(dataset)[f"{frame}.jpg"] == [[0, 3, 50, 44]]
    assert dataset.queries[0].box.tolist() == [0, 3, 30, 44]


@pytest.mark.parametrize("flat", [[7, 10.2, 5, 0.5, 30], [7, 10, 5, 20, -3]])
def test_a_prw_box_that_cutting_leaves_without_area_is_left_out(prw, flat):
    savemat(
        prw / "annotations" / "c6s3_017612.jpg.mat",
        {"box_new": np.array([flat, [-2, 1, 2, 30, 40]])},
        appendmat=False,
    )

    dataset = read_prw(prw)

    assert boxes(dataset)["c6s3_017612.jpg"] == [[1, 2, 31, 42]]


@pytest.mark.parametrize("labels", [np.zeros((0, 5)), np.zeros((0, 0)), np.zeros((1, 0))])
def test_a_prw_frame_may_show_nobody(prw, labels):
    savemat(prw / "annotations" / "c6s3_017612.jpg.mat", {"anno_file": labels}, appendmat=False)

    assert boxes(read_prw(prw))["c6s3_017612.jpg"] == []


def change(directory: Path, file: str, variable: str, edit) -> None:
    """Edit a variable of a .mat file in place."""
    path = directory / file
    content = loadmat(path)[variable]
    edit(content)
    savemat(path, {variable: content}, appendmat=False)


def set_box(content, box) -> None:
    content[0, 0]["box"]["idlocate"][0, 0] = np.array([box])


def test_boxes_without_an_area_are_left_out_and_pictures_may_show_nobody(cuhk):
    def edit(content):
        names = [str(record["imname"][0]) for record in content[0]]
        records = content[0, names.index("s186.jpg")]["box"]
        records["idlocate"][0, 0] = np.array([[87, 231, 9, 0]], np.uint8)

    change(cuhk, "annotation/Images.mat", "Img", edit)

    assert boxes(read_cuhk_sysu(cuhk))["s186.jpg"] == []


def test_a_picture_without_any_box_record_shows_nobody(cuhk):
    def edit(content):
        names = [str(record["imname"][0]) for record in content[0]]
        content[0, names.index("s186.jpg")]["box"] = np.zeros((0, 0))

    change(cuhk, "annotation/Images.mat", "Img", edit)

    assert boxes(read_cuhk_sysu(cuhk))["s186.jpg"] == []


def test_a_listed_box_that_the_picture_does_not_have_is_found_but_not_counted(cuhk):
    def edit(content):
        gallery = content[0, 0]["Gallery"]
        gallery["idlocate"][0, 0] = np.array([[300, 1, 200, 99]], np.uint16)

    for size in GALLERY_SIZES:
        change(cuhk, f"{PEOPLE}/TestG{size}.mat", f"TestG{size}", edit)

    dataset = read_cuhk_sysu(cuhk)

    query = dataset.queries[0]
    scene, box = dataset.scenes[query.gallery[query.truth[0, 0]]], query.truth[0, 1]
    assert scene.boxes[box].tolist() == [300, 1, 500, 100]
    assert scene.ignore.tolist() == [False] * box + [True]
    assert scene.person_ids[box] == 0


def test_one_person_is_enough(cuhk):
    for size in GALLERY_SIZES:
        path = cuhk / PEOPLE / f"TestG{size}.mat"
        savemat(path, {f"TestG{size}": loadmat(path)[f"TestG{size}"][:, :1]})
    path = cuhk / PEOPLE / "Train.mat"
    savemat(path, {"Train": loadmat(path)["Train"][:1]})

    test, train = read_cuhk_sysu(cuhk), read_cuhk_sysu(cuhk, split="train")

    assert (len(test.queries), test.source_ids, train.source_ids) == (1, (0,), (0,))
    assert test.person_ids.tolist() == train.person_ids.tolist() == [0]


def test_of_two_people_at_one_box_the_later_listed_has_it_and_both_are_to_be_found(cuhk):
    def edit(content):
        content[0, 1]["Query"] = content[0, 0]["Query"]

    for size in GALLERY_SIZES:
        change(cuhk, f"{PEOPLE}/TestG{size}.mat", f"TestG{size}", edit)

    dataset = read_cuhk_sysu(cuhk)

    first, second = dataset.queries[:2]
    assert first.scene == second.scene
    assert first.box.tolist() == second.box.tolist()
    assert (first.person_id, second.person_id) == (0, 1)
    assert dataset.scenes[first.scene].person_ids[0] == 1


@pytest.mark.parametrize(
    ("name", "split", "file"),
    [
        ("cuhk", "test", "annotation/Images.mat"),
        ("cuhk", "test", "annotation/pool.mat"),
        ("cuhk", "test", f"{PEOPLE}/TestG50.mat"),
        ("cuhk", "test", f"{PEOPLE}/TestG100.mat"),
        ("cuhk", "train", f"{PEOPLE}/Train.mat"),
        ("prw", "test", "frame_test.mat"),
        ("prw", "train", "frame_train.mat"),
        ("prw", "test", "query_info.txt"),
        ("prw", "test", "annotations/c6s3_017612.jpg.mat"),
    ],
)
def test_a_missing_file_is_named_and_where_the_dataset_can_be_had(cuhk, prw, name, split, file):
    root = cuhk.parent
    (root / name / file).unlink()

    with pytest.raises(DatasetError, match=rf"{file}: no such file.* from .*github\.com"):
        read(root, name, split)


@pytest.mark.parametrize(
    ("name", "split", "file"),
    [
        ("cuhk", "test", "annotation/Images.mat"),
        ("cuhk", "test", "annotation/pool.mat"),
        ("cuhk", "test", f"{PEOPLE}/TestG50.mat"),
        ("cuhk", "train", f"{PEOPLE}/Train.mat"),
        ("prw", "test", "frame_test.mat"),
        ("prw", "test", "annotations/c6s3_017612.jpg.mat"),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "text"])
def test_a_damaged_mat_file_is_named(cuhk, prw, name, split, file, damage):
    path = cuhk.parent / name / file
    content = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, len(content), dtype=np.uint8).tobytes()
    path.write_bytes(
        {
            "cut": content[: len(content) * 2 // 3],
            "noise": content[:136] + noise[136:],
            "empty": b"",
            "text": b"<html>not found</html>" * 20,
        }[damage]
    )

    with pytest.raises(DatasetError, match=str(file)):
        read(cuhk.parent, name, split)


@pytest.mark.parametrize(
    ("name", "picture"), [("cuhk", "Image/SSM/s186.jpg"), ("prw", "frames/c6s3_017612.jpg")]
)
def test_a_missing_picture_is_named(cuhk, prw, name, picture):
    (cuhk.parent / name / picture).unlink()

    with pytest.raises(DatasetError, match=f"1 of 30 pictures are missing, first .*{picture}"):
        read(cuhk.parent, name, "test")


@pytest.mark.parametrize(
    ("name", "picture"), [("cuhk", "Image/SSM/s186.jpg"), ("prw", "frames/c6s3_017612.jpg")]
)
@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0\0\x10JFIF\0"])
def test_a_file_that_is_no_picture_is_named(cuhk, prw, name, picture, content):
    (cuhk.parent / name / picture).write_bytes(content)

    with pytest.raises(DatasetError, match=f"{picture}: not readable as a picture"):
        read(cuhk.parent, name, "test")


def test_a_picture_that_ends_too_early_is_named_when_it_is_read(cuhk):
    path = cuhk / "Image" / "SSM" / "s186.jpg"
    path.write_bytes(path.read_bytes()[:-200])

    (scene,) = [scene for scene in read_cuhk_sysu(cuhk).scenes if scene.name == path.name]

    with pytest.raises(DatasetError, match=r"s186\.jpg: The JPEG ends too early"):
        scene.read()


def test_the_size_of_a_picture_is_that_of_the_upright_one(cuhk):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 40)).save(cuhk / "Image" / "SSM" / "s186.jpg", exif=exif)

    (scene,) = [scene for scene in read_cuhk_sysu(cuhk).scenes if scene.name == "s186.jpg"]

    assert (scene.width, scene.height) == (40, 90)
    assert scene.read().shape == (90, 40, 3)


@pytest.mark.parametrize(
    ("file", "variable", "edit", "message"),
    [
        (
            "annotation/Images.mat",
            "Img",
            lambda img: set_box(img, [np.nan, 1, 2, 3]),
            r"Images\.mat: Img\(1\), s17\.jpg: expected x, y, w, h, got \[nan",
        ),
        (
            "annotation/Images.mat",
            "Img",
            lambda img: set_box(img, [1, 2, 3]),
            r"Images\.mat: Img\(1\), s17\.jpg: expected x, y, w, h, got \[1, 2, 3\]",
        ),
        (
            "annotation/Images.mat",
            "Img",
            lambda img: img.__setitem__((0, 1), img[0, 0]),
            r"Images\.mat: Img\(2\), s17\.jpg: the picture is listed twice",
        ),
        (
            "annotation/pool.mat",
            "pool",
            lambda pool: pool.__setitem__((2, 0), "s9999.jpg"),
            r"pool\.mat: pool\(3\), 's9999\.jpg', is not in Images\.mat",
        ),
        (
            "annotation/pool.mat",
            "pool",
            lambda pool: pool.__setitem__((2, 0), pool[0, 0]),
            r"pool\.mat: a picture is listed twice",
        ),
        (
            f"{PEOPLE}/TestG50.mat",
            "TestG50",
            lambda lists: lists[0, 3]["Query"]["imname"].__setitem__((0, 0), "s9999.jpg"),
            r"TestG50\.mat: query 4: 's9999\.jpg' is not in this split",
        ),
        (
            f"{PEOPLE}/TestG50.mat",
            "TestG50",
            lambda lists: lists[0, 3]["Query"]["idlocate"].__setitem__(
                (0, 0), np.array([[5, 5, 0, 9]])
            ),
            r"TestG50\.mat: query 4: expected a box with an area, got \[5, 5, 0, 9\]",
        ),
        (
            f"{PEOPLE}/TestG50.mat",
            "TestG50",
            lambda lists: lists[0, 3]["Gallery"]["idlocate"].__setitem__(
                (0, 0), np.array([[np.nan, 5, 9, 9]])
            ),
            r"TestG50\.mat: query 4, gallery entry 1: expected x, y, w, h, got \[nan",
        ),
        (
            f"{PEOPLE}/TestG100.mat",
            "TestG100",
            lambda lists: lists[0, 3]["Gallery"]["imname"].__setitem__((0, 5), "s9999.jpg"),
            r"TestG100\.mat: gallery of query 4: 's9999\.jpg' is not one of the test pictures",
        ),
        (
            f"{PEOPLE}/TestG100.mat",
            "TestG100",
            lambda lists: lists[0, 3]["Gallery"]["idlocate"].__setitem__(
                (0, 0), np.array([[1, 2, 3, 4]])
            ),
            r"TestG100\.mat: query 4, gallery entry 1: s\d+\.jpg has no box \[1, 2, 3, 4\]",
        ),
        (
            f"{PEOPLE}/TestG100.mat",
            "TestG100",
            lambda lists: lists[0, 3]["Query"]["idlocate"].__setitem__(
                (0, 0), np.array([[1, 2, 3, 4]])
            ),
            r"TestG100\.mat: query 4: s64\.jpg has no box \[1, 2, 3, 4\]",
        ),
        (
            f"{PEOPLE}/TestG100.mat",
            "TestG100",
            lambda lists: lists["Query"].__setitem__((0, 3), np.zeros((0, 0))),
            r"TestG100\(4\)\.Query: expected an array of structures",
        ),
    ],
)
def test_a_wrong_record_of_cuhk_sysu_is_named(cuhk, file, variable, edit, message):
    change(cuhk, file, variable, edit)

    with pytest.raises(DatasetError, match=message):
        read_cuhk_sysu(cuhk)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([np.nan, 1, 2, 3, 4], "row 2: expected a whole id"),
        ([5, 1, 2, np.inf, 4], "row 2: expected a whole id"),
        ([0, 1, 2, 3, 4], "row 2: expected a whole id of -2 or from 1"),
        ([-1, 1, 2, 3, 4], "row 2: expected a whole id of -2 or from 1"),
        ([7.5, 1, 2, 3, 4], "row 2: expected a whole id of -2 or from 1"),
        ([5, 1, 2, 3], r"expected numbers of shape \(N, 5\), got float64 of \(2, 4\)"),
    ],
)
def test_a_wrong_record_of_prw_is_named(prw, row, message):
    labels = np.array([[-2, 1, 2, 30, 40][: len(row)], row], np.float64)
    savemat(prw / "annotations" / "c6s3_017612.jpg.mat", {"box_new": labels}, appendmat=False)

    with pytest.raises(DatasetError, match=rf"c6s3_017612\.jpg\.mat: {message}"):
        read_prw(prw)


def test_a_split_without_pictures_is_refused(cuhk, prw):
    savemat(cuhk / "annotation" / "pool.mat", {"pool": np.zeros((0, 1), object)})
    savemat(prw / "frame_test.mat", {"img_index_test": np.zeros((0, 1), object)})

    with pytest.raises(DatasetError, match=r"pool\.mat: leaves no pictures for the test split"):
        read_cuhk_sysu(cuhk)
    with pytest.raises(DatasetError, match=r"frame_test\.mat: lists no frames"):
        read_prw(prw)


def test_people_of_another_kind_are_refused(cuhk):
    path = cuhk / PEOPLE / "Train.mat"
    for value in (np.eye(2), np.zeros((1, 1), dtype=[("idname", "O")])):
        people = np.zeros((1, 1), object)
        people[0, 0] = value
        savemat(path, {"Train": people})

        with pytest.raises(
            DatasetError, match=r"Train\(1\): expected structures with fields scene"
        ):
            read_cuhk_sysu(cuhk, split="train")


def test_annotations_under_another_name_are_named(prw):
    savemat(
        prw / "annotations" / "c6s3_017612.jpg.mat", {"boxes": np.zeros((1, 5))}, appendmat=False
    )

    with pytest.raises(DatasetError, match=r"expected variable box_new or .*, got boxes"):
        read_prw(prw)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("497 1 2 3 c1s3_017078", "line 2: expected id x y w h frame"),
        ("497 1 2 3 4 5 c1s3_017078", "line 2: expected id x y w h frame"),
        ("x 1 2 3 4 c1s3_017078", "line 2: expected id x y w h frame"),
        ("497 1 2 0.5 4 c1s3_017078", "line 2: expected finite x, y, w, h with an area"),
        ("497 nan 2 3 4 c1s3_017078", "line 2: expected finite x, y, w, h with an area"),
        ("497 1 2 3 4 c1s3_999999", "line 2: 'c1s3_999999.jpg' is not one of the test frames"),
        ("31 1 2 30 40 c1s3_017078", "line 2: person 31 is in none of the test frames"),
        ("é", "not readable as text"),
    ],
)
def test_a_wrong_query_of_prw_is_named(prw, line, message):
    path = prw / "query_info.txt"
    path.write_text(f"{path.read_text().splitlines()[0]}\n{line}\n", encoding="utf-8")

    with pytest.raises(DatasetError, match=rf"query_info\.txt: {message}"):
        read_prw(prw)


def test_a_frame_without_a_camera_in_its_name_is_refused(prw):
    change(prw, "frame_test.mat", "img_index_test", lambda names: names.__setitem__((0, 0), "x1"))
    (prw / "frames" / "c1s1_016171.jpg").rename(prw / "frames" / "x1.jpg")
    (prw / "annotations" / "c1s1_016171.jpg.mat").rename(prw / "annotations" / "x1.jpg.mat")

    with pytest.raises(DatasetError, match=r"x1\.jpg: expected a name like c1s1_000151\.jpg"):
        read_prw(prw)


@pytest.mark.parametrize("name", ["cuhk", "prw"])
def test_a_split_that_there_is_not_is_refused(originals, name):
    with pytest.raises(DatasetError, match="expected split train or test, got 'val'"):
        read(originals, name, "val")


@pytest.mark.parametrize("name", ["cuhk", "prw"])
def test_the_first_scenes_keep_what_is_to_be_found_in_them(originals, name):
    dataset = read(originals, name, "test")

    first = dataset.first(20)

    assert 0 < len(first.queries) < len(dataset.queries)
    whole = {(query.scene, *query.box.tolist()): query for query in dataset.queries}
    for query in first.queries:
        before = whole[(query.scene, *query.box.tolist())]
        assert query.gallery.tolist() == [g for g in before.gallery.tolist() if g < 20]
        assert {(query.gallery[place], box) for place, box in query.truth.tolist()} == {
            (before.gallery[place], box)
            for place, box in before.truth.tolist()
            if before.gallery[place] < 20
        }


def test_queries_across_cameras_need_no_second_reading(originals):
    dataset = read_prw(originals / "prw")

    queries = prw_queries(originals / "prw", dataset.scenes, dataset.source_ids, cross_camera=True)

    expected = read_prw(originals / "prw", cross_camera=True).queries
    assert [query.gallery.tolist() for query in queries] == [
        query.gallery.tolist() for query in expected
    ]


def test_without_scipy_the_reader_says_what_to_install(originals, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)

    with pytest.raises(DatasetError, match=r"frame_test\.mat: .* needs SciPy: .*\[train\]"):
        read_prw(originals / "prw")


def test_a_person_of_one_camera_is_not_asked_for_across_cameras(originals):
    dataset = read_prw(originals / "prw")
    person = dataset.source_ids.index(548)
    scenes = [
        dataclasses.replace(scene, camera="2") if person in scene.person_ids else scene
        for scene in dataset.scenes
    ]

    asked = {
        cross_camera: [
            query.person_id
            for query in prw_queries(
                originals / "prw", scenes, dataset.source_ids, cross_camera=cross_camera
            )
        ]
        for cross_camera in (False, True)
    }

    assert person in asked[False]
    assert asked[True] == [other for other in asked[False] if other != person]
