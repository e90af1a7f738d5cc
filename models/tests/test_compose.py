"""Composed scenes: what stands in them is what the annotations say, and nobody is in two parts."""

import io
import json
import re
import zipfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.datasets import backgrounds
from models.datasets import compose as composing
from models.datasets import material as materials
from models.datasets import stage as staging
from models.datasets.compose import (
    LAYOUTS,
    LEAST_VISIBLE,
    compose,
    main,
    write_composed,
    write_crops,
)
from models.datasets.cutouts import DrawnPerson, as_sprite
from models.datasets.drawing import random_look
from models.datasets.lenses import random_lens
from models.datasets.material import Material, gather
from models.datasets.read import read_dataset
from models.datasets.scene import UNLABELED
from models.datasets.scenes_json import read_scenes_json
from models.datasets.stage import Seen, Stage
from models.datasets.synthetic import make_camera, write_synthetic
from models.errors import DatasetError
from models.tests.films import RED, film, write_film

SIZE = (192, 128)
SMALL = ["--width", "192", "--height", "128", "--drawn", "12", "--count", "10", "--val-count", "3"]


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """23 people, three crops of each, every person of one colour."""
    directory = tmp_path_factory.mktemp("crops")
    for person in range(1, 24):
        colour = tuple(rng(person).integers(0, 256, 3).tolist())
        for view in range(3):
            path = directory / f"{person:04d}_c{view}s1_000000_00.jpg"
            Image.new("RGB", (24, 56), colour).save(path)
    return directory


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    directory = tmp_path_factory.mktemp("street")
    write_synthetic(directory, scenes=12, persons=6, cameras=2, size=(240, 160), seed=4)
    return directory


@pytest.fixture(scope="module")
def composed(crops, street, tmp_path_factory):
    """What the command writes."""
    directory = tmp_path_factory.mktemp("composed")
    words = ["--crops", str(crops), "--scenes", str(street), "--name", "mine", "--licence", "free"]
    assert main([str(directory), *SMALL, *words]) == 0
    return directory


def contents(directory):
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def annotations(directory):
    return json.loads((directory / "annotations.json").read_text())


def material_of(street, people=(), **changes):
    scenes = list(read_dataset(street, split="train").scenes)
    made = Material(list(people), scenes, cameras=[make_camera(rng(one), SIZE) for one in range(2)])
    return replace(made, **changes)


@dataclass(frozen=True)
class Paper:
    """Somebody who is a sheet of one colour, half as wide as tall."""

    colour: tuple[int, int, int]
    views: int = 3

    def seen(self, view, height, tilt, rng):
        size = (max(4, round(height) // 2), max(8, round(height)))
        return as_sprite(Image.new("RGB", size, self.colour), Image.new("L", size, 255))


PAPERS = [Paper((255 - number, number % 7, 250)) for number in range(40)]


# What is written.


def test_the_same_arguments_write_the_same_files_and_another_seed_others(
    composed, crops, street, tmp_path
):
    words = ["--crops", str(crops), "--scenes", str(street), "--name", "mine", "--licence", "free"]
    assert main([str(tmp_path / "again"), *SMALL, *words]) == 0
    assert main([str(tmp_path / "other"), *SMALL, *words, "--seed", "1"]) == 0

    first, again, other = (contents(d) for d in (composed, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert not any(first[name] == other[name] for name in first if "train/images" in name)


def test_the_command_writes_scenes_for_both_parts_and_the_crops_of_one(composed):
    parts = {name: read_scenes_json(composed / name) for name in ("train", "val", "crops")}

    # 23 people of crops and 12 drawn: the first and every tenth of each are for validation.
    assert {name: len(part.scenes) for name, part in parts.items()} == {
        "train": 10, "val": 3, "crops": 20 * 3 + 10 * 8
    }  # fmt: skip
    assert len(parts["crops"].source_ids) == 30
    assert len(parts["val"].source_ids) <= 5
    assert [parts[name].name for name in parts] == ["mine-train", "mine-val", "mine-train"]
    assert {part.licence for part in parts.values()} == {"free"}
    assert all(scene.exhaustive for part in parts.values() for scene in part.scenes)


@pytest.mark.parametrize("part", ["train", "val"])
def test_boxes_lie_within_their_scene_and_are_large_enough_to_see(composed, part):
    dataset = read_scenes_json(composed / part)

    assert sum(len(scene.boxes) for scene in dataset.scenes) > 10
    for scene in dataset.scenes:
        assert scene.read().shape == (128, 192, 3)
        assert (scene.boxes >= 0).all()
        assert (scene.boxes <= [192, 128, 192, 128]).all()
        assert (scene.boxes[:, 2:] - scene.boxes[:, :2]).min(initial=9) >= 3.8


def test_an_ignored_person_has_no_identity(composed):
    boxes = annotations(composed / "train")["boxes"]

    ignored = [box for box in boxes if box.get("ignore")]
    assert ignored
    assert {box["person_id"] for box in ignored} == {UNLABELED}
    assert any(box["person_id"] != UNLABELED for box in boxes)


def test_of_whom_too_little_is_visible_neither_presence_nor_identity_is_learned(
    monkeypatch, tmp_path
):
    box = (4.0, 5.0, 30.0, 60.0)
    people = [Seen(0, box, 0.34), Seen(1, box, 0.36), Seen(2, box, 0.9), Seen(UNLABELED, box, 0.9)]
    monkeypatch.setattr(composing, "compose", lambda *given: (Image.new("RGB", SIZE), people))

    write_composed(tmp_path, Material(), scenes=2, size=SIZE, name="a", licence="b", seed=0)

    content = annotations(tmp_path)
    told = [(box["person_id"], box.get("ignore", False)) for box in content["boxes"]]
    assert told == [(UNLABELED, True), (1, False), (2, False), (UNLABELED, False)] * 2
    assert [query["person_id"] for query in content["queries"]] == [2, 2]


def test_nobody_is_twice_in_a_scene(composed):
    for scene in read_scenes_json(composed / "train").scenes:
        named = scene.person_ids[scene.person_ids != UNLABELED]
        assert len(np.unique(named)) == len(named)


def test_a_query_is_for_somebody_who_is_in_other_scenes_too(composed):
    dataset = read_scenes_json(composed / "train")

    assert len(dataset.queries) > 10
    assert max(Counter(query.person_id for query in dataset.queries).values()) == 2
    for query in dataset.queries:
        assert query.gallery.tolist() == sorted({*range(10)} - {query.scene})
        others = [dataset.scenes[scene] for scene in query.gallery]
        assert any(((s.person_ids == query.person_id) & ~s.ignore).any() for s in others)


def test_each_appearance_is_written_alone_once(composed, crops):
    dataset = read_scenes_json(composed / "crops")

    shown = Counter(int(scene.person_ids[0]) for scene in dataset.scenes)
    assert shown == {person: 3 if person < 20 else 8 for person in range(30)}
    for scene in dataset.scenes:
        assert scene.boxes.tolist() == [[0, 0, 64, 128]]
    # The first is for validation: here the second is person 0.
    expected = np.asarray(Image.open(crops / "0002_c0s1_000000_00.jpg").convert("RGB"))[28, 12]
    assert np.abs(dataset.scenes[0].read()[64, 32].astype(int) - expected).max() < 12


def test_crops_and_scenes_number_people_alike(composed):
    alone, among = (read_scenes_json(composed / name) for name in ("crops", "train"))

    assert among.source_ids == alone.source_ids
    colours = {int(s.person_ids[0]): s.read()[64, 32].astype(int) for s in alone.scenes}
    seen = 0
    for scene in among.scenes:
        pixels = scene.read()
        for (x1, y1, x2, y2), person in zip(scene.boxes, scene.person_ids, strict=True):
            if 0 <= person < 20 and y2 - y1 > 30:  # of crops, which are of one colour
                middle = pixels[int((y1 + y2) / 2), int((x1 + x2) / 2)]
                seen += np.abs(middle - colours[int(person)]).max() < 60
    assert seen > 15


def test_as_many_processes_as_one_likes_write_the_same_files(composed, crops, street, tmp_path):
    words = ["--crops", str(crops), "--scenes", str(street), "--name", "mine", "--licence", "free"]

    assert main([str(tmp_path / "two"), *SMALL, *words, "--processes", "2"]) == 0

    assert contents(tmp_path / "two") == contents(composed)


def test_crops_may_be_left_out(tmp_path):
    assert main([str(tmp_path / "made"), *SMALL, "--no-crops"]) == 0

    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["train", "val"]


# Who is in which part.


def test_nobody_is_for_training_and_for_validation(crops, street, tmp_path):
    more = tmp_path / "more"
    write_synthetic(more, scenes=3, persons=2, cameras=1, size=(96, 64), seed=9)

    training, validation = gather([crops], [street, more], [], 25, seed=2)

    names = [
        {n for p in part.people for n in getattr(p, "names", ())} for part in (training, validation)
    ]
    assert len(names[0]) + len(names[1]) == 69 and not names[0] & names[1]
    looks = [
        [p.look for p in part.people if isinstance(p, DrawnPerson)]
        for part in (training, validation)
    ]
    assert [len(one) for one in looks] == [22, 3]
    assert not any(look in looks[0] for look in looks[1])
    paths = [{scene.path for scene in part.scenes} for part in (training, validation)]
    assert [len(one) for one in paths] == [12, 3]
    assert not paths[0] & paths[1]


def test_no_background_is_for_training_and_for_validation(monkeypatch, tmp_path):
    parts = []
    monkeypatch.setattr(
        composing, "gather", lambda *a, **more: parts.extend(gather(*a, **more)) or parts
    )

    assert main([str(tmp_path), *SMALL]) == 0

    walls = [{camera.background.tobytes() for camera in part.cameras} for part in parts]
    assert [len(one) for one in walls] == [10, 3]
    assert not walls[0] & walls[1]


@pytest.fixture
def photos(tmp_path):
    """Two photographs each of 12 places, every place of one colour; and a text."""
    directory = tmp_path / "photos"
    directory.mkdir()
    (directory / "CREDITS.txt").write_text("who took them")
    for place in range(12):
        for view in range(2):
            colour = (20 * place, 255 - 20 * place, 30)
            Image.new("RGB", (96, 64), colour).save(directory / f"{chr(97 + place)}_{view}.png")
    return directory


def test_no_place_of_photographs_is_for_training_and_for_validation(photos):
    training, validation = gather([], [], [], 11, photos=[photos], seed=0)

    names = [[Path(photo.name).stem for photo in part.photos] for part in (training, validation)]
    assert names[1] == ["a_0", "a_1", "k_0", "k_1"]
    assert len(names[0]) == 20 and not {*names[0]} & {*names[1]}


def test_photographs_are_stages_and_patches(photos, monkeypatch):
    monkeypatch.setattr(backgrounds, "KINDS", {"photo": 1})
    monkeypatch.setattr(backgrounds, "_lit_anew", lambda picture, rng: picture)
    material, _ = gather([], [], [], 11, photos=[photos], seed=0)

    stage = backgrounds.random_stage(material, SIZE, rng(), populated=True)
    patch = backgrounds.empty_patch(material, (20, 40), rng())

    for picture, size in ((stage.picture, SIZE), (patch, (20, 40))):
        assert picture.size == size
        (colour,) = {tuple(pixel) for pixel in np.asarray(picture).reshape(-1, 3).tolist()}
        assert colour[0] % 20 == 0 and colour[0] + colour[1] == 255 and colour[2] == 30


def test_a_filmed_person_is_on_one_side_in_all_their_clothes(monkeypatch):
    pytest.importorskip("scipy")
    visits = [(RED, range(30, 90, 9))] * 11
    monkeypatch.setattr(materials, "read_film", lambda path: film(*visits))

    training, validation = gather([], [], ["film.mp4"], 0, seed=0)

    assert [len(part.people) for part in (training, validation)] == [9 * 25, 2 * 25]
    bodies = [{id(p.cutouts) for p in part.people} for part in (training, validation)]
    assert [len(one) for one in bodies] == [9, 2]
    assert not bodies[0] & bodies[1]
    assert [len(part.stills) for part in (training, validation)] == [1, 0]


def test_people_of_a_film_are_shown_in_scenes(tmp_path):
    pytest.importorskip("scipy")
    pytest.importorskip("av", reason="reading films takes PyAV")
    path = write_film(tmp_path / "film.mp4", film(*[(RED, range(30, 90, 3))] * 2, empty=18))

    assert main([str(tmp_path / "made"), *SMALL, "--video", str(path)]) == 0

    dataset = read_scenes_json(tmp_path / "made" / "crops")
    filmed = [scene for scene in dataset.scenes if scene.person_ids[0] == 0]
    assert len(dataset.source_ids) == 25 + 10
    middle = np.median([scene.read()[40:90, 24:40] for scene in filmed], axis=(0, 1, 2))
    assert middle[0] > 150 > middle[1]


# One scene.


@pytest.mark.parametrize("layout", [layout for layout, _ in LAYOUTS], ids=str)
def test_boxes_and_what_is_visible_are_those_of_the_pixels(street, monkeypatch, layout):
    monkeypatch.setattr(staging, "SHADOWED", 0)
    monkeypatch.setattr(backgrounds, "DISTRACTORS", (0, 1))
    monkeypatch.setattr(backgrounds, "THINGS", (0, 1))
    monkeypatch.setattr(composing, "THINGS_IN_FRONT", (0, 1))
    monkeypatch.setattr(staging, "LIT", 0)
    material = material_of(street, PAPERS)
    cast = [(number, 0) for number in range(24)]

    picture, people = compose(material, cast, layout, (384, 256), rng(3))

    pixels = np.asarray(picture)
    named = [seen for seen in people if seen.person != UNLABELED]
    assert len(named) > 10
    for seen in named:
        rows, columns = np.nonzero((pixels == PAPERS[seen.person].colour).all(axis=2))
        x1, y1, x2, y2 = seen.box
        assert len(rows) or seen.visible == 0
        if seen.visible == 1:
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert box == seen.box
        assert (columns >= x1).all() and (columns < x2).all()
        assert (rows >= y1).all() and (rows < y2).all()
        # At least as large as what is within the view, of a sheet that may reach out of it.
        assert len(rows) >= 0.99 * seen.visible * (x2 - x1) * (y2 - y1)
    assert any(seen.visible < 0.9 for seen in named)


def test_somebody_in_front_hides_another(monkeypatch):
    monkeypatch.setattr(staging, "SHADOWED", 0)
    stage = Stage(
        Image.new("RGB", (300, 200)), horizon=0, slope=0.5, far=150, near=199, tilt=0,
        there=[(np.array([0.0, 40, 300, 200]), 1.0)],
    )  # fmt: skip
    before = stage.people()

    stage.put_people([(number, PAPERS[number], 0) for number in range(3)], rng(1))

    pixels, after = np.asarray(stage.picture), stage.people()
    assert [(seen.person, seen.visible) for seen in before] == [(UNLABELED, 1.0)]
    assert [seen.person for seen in after] == [UNLABELED, 0, 1, 2]
    behind = 1 - (pixels[40:] != 0).any(axis=2).mean()
    assert after[0].visible == pytest.approx(behind)
    assert behind < 0.95
    bottoms = [seen.box[3] for seen in after[1:]]
    assert bottoms == sorted(bottoms)  # who is nearer is put later, in front


def test_people_cast_shadows_on_what_is_there(monkeypatch):
    pictures = []
    monkeypatch.setattr(staging, "LIT", 0)
    for share in (0, 1):
        monkeypatch.setattr(staging, "SHADOWED", share)
        stage = Stage(
            Image.new("RGB", (300, 200), "white"),
            horizon=0, slope=0.3, far=120, near=180, tilt=0,
        )  # fmt: skip
        stage.put_people([(number, PAPERS[number], 0) for number in range(2)], rng(1))
        pictures.append(np.asarray(stage.picture).astype(int))

    plain, shadowed = pictures
    assert (shadowed <= plain).all()
    assert 50 < (shadowed < plain - 20).any(axis=2).sum() < 0.2 * 300 * 200


@pytest.mark.parametrize("known", [0, 1])
def test_a_thing_hides_who_is_behind_it_and_is_nobody(monkeypatch, known):
    monkeypatch.setattr(staging, "KNOWN_SHARE", known)
    stage = Stage(
        Image.new("RGB", (300, 200)), horizon=0, slope=0.5, far=150, near=199, tilt=0,
        there=[(np.array([0.0, 0, 300, 200]), 1.0)],
    )  # fmt: skip

    draws = rng(known)
    for _ in range(8):
        stage.put_thing(draws)

    (behind,) = stage.people()
    shown = (np.asarray(stage.picture) != 0).any(axis=2).mean()
    assert behind.person == UNLABELED
    assert 0.01 < shown < 0.5
    assert behind.visible == pytest.approx(1 - shown, abs=0.02)


def test_a_scene_without_a_cast_shows_nobody(street):
    material = material_of(street, PAPERS)

    for seed in range(12):
        _, people = compose(material, [], LAYOUTS[seed % 4][0], SIZE, rng(seed))
        assert people == []


def test_a_scene_that_is_left_empty_has_no_boxes(street, monkeypatch, tmp_path):
    monkeypatch.setattr(composing, "EMPTY_SHARE", 1)

    write_composed(
        tmp_path, material_of(street, PAPERS), scenes=3, size=SIZE, name="a", licence="b", seed=0
    )

    content = annotations(tmp_path)
    assert len(content["images"]) == 3
    assert content["boxes"] == content["queries"] == []
    assert len(read_scenes_json(tmp_path).scenes) == 3


@pytest.mark.parametrize("kind", ["plain", "photo"])
def test_a_view_of_nothing_has_nobody_and_no_things(photos, monkeypatch, kind):
    monkeypatch.setattr(backgrounds, "EMPTY_KINDS", {kind: 1})
    monkeypatch.setattr(staging.Stage, "put_thing", None)
    material, _ = gather([], [], [], 11, photos=[photos], seed=0)

    pictures = [compose(material, [], (1, 1), SIZE, rng(seed)) for seed in range(20)]

    assert [people for _, people in pictures] == [[]] * 20
    assert len({picture.tobytes() for picture, _ in pictures}) > 10


@pytest.mark.parametrize("low", [0.2, 0.9])
def test_people_are_as_tall_as_their_view_lets_the_nearest_be(monkeypatch, low):
    monkeypatch.setattr(backgrounds, "REACHES", (((low, low + 0.1), 1),))
    monkeypatch.setattr(backgrounds, "KINDS", {"plain": 1})
    material = Material(PAPERS, cameras=[make_camera(rng(), SIZE)])

    boxes = [
        seen.box
        for seed in range(20)
        for seen in compose(material, [(0, 0), (1, 0)], (1, 1), (384, 256), rng(seed))[1]
    ]

    heights = [(y2 - y1) / 256 for _, y1, _, y2 in boxes]
    assert max(heights) > 0.75 * low
    assert max(heights) <= min(1, 1.2 * (low + 0.1))
    assert min(heights) >= 10 / 256  # the least is 24 pixels, of which an edge may cut some


def test_a_camera_changes_how_a_view_looks_but_not_who_is_in_it(street):
    plain = material_of(street, PAPERS)
    seen_by = replace(plain, lenses=[random_lens(rng(number)) for number in range(3)])

    pictures = [compose(one, [(0, 0), (1, 0)], (1, 1), SIZE, rng(2)) for one in (plain, seen_by)]

    (before, people), (after, same) = pictures
    assert people == same
    apart = np.abs(np.asarray(before, int) - np.asarray(after, int)).mean()
    assert 2 < apart < 100


def test_people_of_pedestrian_scenes_keep_their_boxes_and_have_no_identity(street, monkeypatch):
    monkeypatch.setattr(backgrounds, "KINDS", {"scene": 1})
    found = Counter()

    for seed in range(8):
        _, people = compose(material_of(street, PAPERS), [(0, 0)], (1, 1), SIZE, rng(seed))
        found.update(seen.person for seen in people)

    assert found.keys() == {UNLABELED, 0}
    assert found[UNLABELED] > 8


def test_ignored_people_of_pedestrian_scenes_are_ignored(street, monkeypatch):
    monkeypatch.setattr(backgrounds, "KINDS", {"scene": 1})
    material = material_of(street, PAPERS)
    material.scenes = [replace(s, ignore=np.ones(len(s.boxes), np.bool_)) for s in material.scenes]

    people = [
        seen
        for seed in range(8)
        for seen in compose(material, [(0, 0)], (1, 1), SIZE, rng(seed))[1]
        if seen.person == UNLABELED
    ]

    assert len(people) > 8
    assert max(seen.visible for seen in people) < LEAST_VISIBLE


@pytest.mark.parametrize("layout", [layout for layout, _ in LAYOUTS], ids=str)
def test_the_smallest_scene_that_is_allowed_can_be_filled(street, layout):
    material = material_of(street, PAPERS)

    for seed in range(10):
        picture, people = compose(
            material, [(number, 0) for number in range(20)], layout, (64, 64), rng(seed)
        )
        assert picture.size == (64, 64)
        for seen in people:
            x1, y1, x2, y2 = seen.box
            assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 64
            assert 0 <= seen.visible <= 1


def test_somebody_alone_fills_the_view_for_the_most_part():
    for seed in range(10):
        stage = Stage(Image.new("RGB", (128, 256)), horizon=0, slope=1, far=100, near=200, tilt=0)

        alone = np.asarray(stage.put_alone(PAPERS[3], 0, rng(seed)))

        filled = (alone == PAPERS[3].colour).all(axis=2)
        assert filled.mean() > 0.65
        assert filled.sum() > 0.9 * 0.8 * 256 * 0.4 * 256


# The cast.


def casts_of(monkeypatch, people, scenes, tmp_path):
    """Who was cast with which view, scene by scene."""
    seen = []

    def noted(material, cast, layout, size, rng):
        seen.append(cast)
        return Image.new("RGB", size), []

    monkeypatch.setattr(composing, "compose", noted)
    write_composed(
        tmp_path, Material(people), scenes=scenes, size=(64, 64), name="a", licence="b", seed=5
    )
    return seen


def test_an_appearance_has_its_turn_before_one_is_shown_again(monkeypatch, tmp_path):
    people = [DrawnPerson(random_look(rng()), views=2) for _ in range(300)]
    every = {(person, view) for person in range(300) for view in range(2)}

    casts = casts_of(monkeypatch, people, 120, tmp_path)

    order = [appearance for cast in casts for appearance in cast]
    repeat = next(n for n, one in enumerate(order) if one in order[:n])
    passed_over = every - {*order[:repeat]}
    assert len(passed_over) < 0.03 * len(every)
    # Only where the same person was in the scene already.
    assert {person for person, _ in passed_over} <= {person for person, _ in order[:repeat]}
    assert len({*order}) == len(every)


def test_no_scene_has_somebody_twice_or_more_people_than_there_are(monkeypatch, tmp_path):
    people = [DrawnPerson(random_look(rng()), views=3) for _ in range(4)]

    casts = casts_of(monkeypatch, people, 30, tmp_path)

    assert {len(cast) for cast in casts} == {0, 4}
    assert all(len({person for person, _ in cast}) == len(cast) for cast in casts)


# What is refused.


def test_a_directory_that_holds_another_dataset_is_refused_in_one_line(tmp_path, capsys):
    write_synthetic(tmp_path / "made" / "val", scenes=1, persons=1, size=(64, 64))

    line = refusal(capsys, tmp_path / "made", *SMALL)

    assert f"{tmp_path}/made/val holds another dataset (synthetic-0)" in line
    assert not (tmp_path / "made" / "train").exists()


def refusal(capsys, *words):
    """The one line that the command wrote."""
    code = main([str(word) for word in words])
    lines = capsys.readouterr().err.splitlines()

    assert code == 2
    (line,) = lines
    assert line.startswith("error: ")
    return line


def no_zip(path):
    path.write_text("no archive")


def zip_without_crops(path):
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("readme.txt", "no crops")


def empty_directory(path):
    path.mkdir()


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (no_zip, "expected a directory or a ZIP of crops"),
        (zip_without_crops, "no crops named like"),
        (empty_directory, "no crops named like"),
        (lambda path: None, "expected a directory or a ZIP of crops: .*No such file"),
    ],
    ids=["no ZIP", "no crops", "empty", "missing"],
)
def test_what_holds_no_crops_is_refused_in_one_line(tmp_path, capsys, write, problem):
    path = tmp_path / "crops.zip"
    write(path)

    line = refusal(capsys, tmp_path / "made", "--crops", path)

    assert re.search(f"error: {path}: {problem}", line)


def test_a_damaged_crop_is_named_in_one_line(tmp_path, capsys):
    path = tmp_path / "crops.zip"
    stream = io.BytesIO()
    Image.new("RGB", (24, 56), "red").save(stream, "JPEG")
    with zipfile.ZipFile(path, "w") as made:
        for person in range(12):
            content = stream.getvalue()
            made.writestr(f"{person:04d}_c1.jpg", content[:200] if person == 4 else content)

    line = refusal(capsys, tmp_path / "made", *SMALL, "--drawn", 0, "--crops", path)

    assert line.startswith(f"error: {path}: 0004_c1.jpg: a crop cannot be read: ")


@pytest.mark.parametrize(
    ("drawn", "told"), [(0, "got 0 and 0"), (1, "got 0 and 1"), (10, "got 9 and 1")]
)
def test_too_few_people_are_refused_in_one_line(tmp_path, capsys, drawn, told):
    line = refusal(capsys, tmp_path / "made", *SMALL, "--drawn", drawn)

    assert "expected 11 people or more" in line and told in line
    assert not (tmp_path / "made").exists()


def test_the_fewest_people_that_are_enough_are_enough(tmp_path):
    training, validation = gather([], [], [], 11, seed=0)

    assert (len(training.people), len(validation.people)) == (9, 2)


def test_what_is_no_film_is_refused_in_one_line(tmp_path, capsys):
    pytest.importorskip("av", reason="reading films takes PyAV")
    path = tmp_path / "film.mp4"
    path.write_bytes(rng().bytes(3000))

    line = refusal(capsys, tmp_path / "made", "--video", path)

    assert line.startswith(f"error: {path}: not readable as a film: ")


def test_a_film_without_people_is_refused_in_one_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("scipy")
    monkeypatch.setattr(materials, "read_film", lambda path: film())

    line = refusal(capsys, tmp_path / "made", "--video", "film.mp4")

    assert line == "error: film.mp4: nobody found who walks in after an empty beginning"


def test_what_is_no_dataset_of_scenes_is_refused_in_one_line(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()

    missing = refusal(capsys, tmp_path / "made", "--scenes", tmp_path / "nowhere")
    assert main([str(tmp_path / "made"), "--scenes", str(empty)]) == 2
    unknown = capsys.readouterr().err

    assert missing == f"error: {tmp_path / 'nowhere'}: no such file or directory"
    assert unknown.startswith(f"error: {empty}: none of the dataset layouts that are read:\n")


def test_scenes_in_which_some_people_may_have_no_box_are_refused_in_one_line(tmp_path, capsys):
    partly = tmp_path / "partly"
    write_synthetic(partly, scenes=3, persons=2, cameras=1, size=(96, 64), seed=9)
    content = annotations(partly)
    for image in content["images"]:
        image["exhaustive"] = False
    (partly / "annotations.json").write_text(json.dumps(content))

    line = refusal(capsys, tmp_path / "made", "--scenes", partly)

    assert line == (
        f"error: {partly}: expected scenes in which every person is labelled, got none among 3"
    )


def test_scenes_in_which_some_people_may_have_no_box_are_left_out(street, tmp_path):
    content = annotations(street)
    for image in content["images"][::2]:
        image["exhaustive"] = False
    (tmp_path / "images").symlink_to(street / "images")
    (tmp_path / "annotations.json").write_text(json.dumps(content))

    training, validation = gather([], [tmp_path], [], 11, seed=0)

    kept = sorted(scene.name for scene in training.scenes + validation.scenes)
    assert kept == sorted(image["file"] for image in content["images"][1::2])


def test_a_directory_without_photographs_is_refused_in_one_line(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_text("no picture")

    nothing = refusal(capsys, tmp_path / "made", "--photos", empty)
    missing = refusal(capsys, tmp_path / "made", "--photos", tmp_path / "nowhere")
    broken = refusal(capsys, tmp_path / "made", "--photos", tmp_path / "broken")

    assert nothing == f"error: {empty}: no photographs (.jpg, .jpeg, .png, .webp) in it"
    assert missing == f"error: {tmp_path / 'nowhere'}: expected a directory of photographs"
    assert broken.startswith(f"error: {tmp_path / 'broken' / 'a.jpg'}: not readable as a picture")


def test_a_place_that_cannot_be_written_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "made").write_text("a file")

    assert str(tmp_path / "made") in refusal(capsys, tmp_path / "made", *SMALL)


@pytest.mark.parametrize(
    ("flag", "value", "least"),
    [
        ("--count", 0, 1),
        ("--count", -3, 1),
        ("--val-count", 0, 1),
        ("--drawn", -1, 0),
        ("--seed", -1, 0),
        ("--processes", 0, 1),
        ("--width", 63, 64),
        ("--height", 20, 64),
        ("--height", -20, 64),
    ],
)
def test_numbers_that_make_no_scene_are_refused_by_name(tmp_path, capsys, flag, value, least):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "made"), flag, str(value)])

    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert f"argument {flag}: expected {least} or more, got {value}" in told
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("scenes", "size"), [(0, SIZE), (2, (63, 128)), (2, (128, 0))])
def test_a_dataset_of_nothing_is_refused(tmp_path, scenes, size):
    with pytest.raises(ValueError, match=r"at least one scene and 64 × 64 pixels, got "):
        write_composed(
            tmp_path / "made", Material(), scenes=scenes, size=size, name="a", licence="b", seed=0
        )


def test_a_pedestrian_scene_that_cannot_be_read_is_named(street, tmp_path, monkeypatch):
    monkeypatch.setattr(backgrounds, "KINDS", {"scene": 1})
    material = material_of(street, PAPERS)
    gone = tmp_path / "gone.jpg"
    material.scenes = [replace(material.scenes[0], path=gone)]

    with pytest.raises(DatasetError, match=str(gone)):
        compose(material, [(0, 0)], (1, 1), SIZE, rng())


def test_crops_of_people_are_written_as_they_are_given(crops, tmp_path):
    training, _ = gather([crops], [], [], 0, seed=0)

    write_crops(tmp_path, training, name="a", licence="b", seed=0)

    assert len(read_scenes_json(tmp_path).scenes) == 60
