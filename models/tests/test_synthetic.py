import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from models.datasets.drawing import draw_person, extent, paste, random_look
from models.datasets.scene import UNLABELED
from models.datasets.scenes_json import read_scenes_json
from models.datasets.synthetic import main, write_synthetic
from models.datasets.things import FURNITURE, PROPS, draw_furniture, draw_prop, draw_thing


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("synthetic")
    write_synthetic(directory, scenes=12, persons=5, cameras=2, size=(240, 180), seed=3)
    return directory


def test_the_reader_reads_what_was_written(directory):
    dataset = read_scenes_json(directory)

    assert len(dataset.scenes) == 12
    assert dataset.person_ids.tolist() == [0, 1, 2, 3, 4]
    assert {scene.camera for scene in dataset.scenes} == {"c1", "c2"}
    assert any((scene.person_ids == UNLABELED).any() for scene in dataset.scenes)
    for scene in dataset.scenes:
        assert scene.read().shape == (180, 240, 3)
        assert (scene.boxes >= 0).all()
        assert (scene.boxes <= [240, 180, 240, 180]).all()


def test_every_person_is_looked_for_in_other_scenes_that_show_them(directory):
    dataset = read_scenes_json(directory)

    assert sorted(query.person_id for query in dataset.queries) == [0, 1, 2, 3, 4]
    for query in dataset.queries:
        assert query.scene not in query.gallery
        assert len(query.gallery) == 11
        scenes = [dataset.scenes[index] for index in query.gallery]
        assert any(((s.person_ids == query.person_id) & ~s.ignore).any() for s in scenes)


def test_nobody_is_twice_in_a_scene(directory):
    for scene in read_scenes_json(directory).scenes:
        named = scene.person_ids[scene.person_ids != UNLABELED]

        assert len(np.unique(named)) == len(named)


def test_the_same_seed_writes_the_same_files_and_another_seed_others(tmp_path):
    for name, seed in (("one", 7), ("again", 7), ("other", 8)):
        write_synthetic(tmp_path / name, scenes=2, persons=3, size=(160, 120), seed=seed)

    def contents(name):
        files = sorted((tmp_path / name).rglob("*.*"))
        return [(file.name, file.read_bytes()) for file in files]

    assert len(contents("one")) == 3
    assert contents("one") == contents("again")
    assert contents("one") != contents("other")


def test_a_dataset_without_scenes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one scene"):
        write_synthetic(tmp_path, scenes=0, persons=3)


def test_the_command_writes_what_it_is_told(tmp_path):
    main([str(tmp_path), "--scenes", "2", "--persons", "2", "--width", "160", "--height", "120"])

    content = json.loads((tmp_path / "annotations.json").read_text())
    assert len(content["images"]) == 2
    with Image.open(tmp_path / "images" / content["images"][1]["file"]) as picture:
        assert picture.size == (160, 120)


def test_the_same_dataset_may_be_written_again_and_no_other_over_it(tmp_path, refusal):
    words = [tmp_path, "--scenes", "1", "--persons", "1", "--width", "64", "--height", "64"]
    assert main([str(word) for word in words]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert main([str(word) for word in words]) == 0

    said = refusal(main, *words, "--seed", "1")

    assert said == (
        f"error: {tmp_path} holds another dataset (synthetic-0): expected a new directory"
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_a_dataset_of_another_format_is_not_overwritten(tmp_path, refusal):
    (tmp_path / "annotations.json").write_text("[]")

    assert "holds another dataset (of another format)" in refusal(main, tmp_path)


@pytest.mark.parametrize("flag", ["--scenes", "--persons", "--cameras", "--width", "--height"])
def test_numbers_that_make_no_scene_are_refused_by_name(tmp_path, capsys, flag):
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "made"), flag, "0"])

    assert ended.value.code == 2
    assert re.search(f"argument {flag}: expected (1|64) or more, got 0", capsys.readouterr().err)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("facing", np.linspace(0, 2 * math.pi, 9))
def test_a_person_is_as_tall_as_asked_from_every_side(facing):
    for seed in range(6):
        look = random_look(np.random.default_rng(seed))

        sprite = draw_person(look, 120, facing=facing, phase=seed)

        _, top, _, bottom = sprite.mask.getbbox()
        assert (bottom - top) / 120 == pytest.approx(look.height, abs=0.11)
        assert abs(bottom - sprite.y) <= 12


def test_a_look_is_the_same_from_the_same_seed():
    looks = [random_look(np.random.default_rng(seed)) for seed in (1, 1, 2)]

    assert looks[0] == looks[1]
    assert looks[0] != looks[2]


@pytest.mark.parametrize("kind", [*PROPS, *FURNITURE])
def test_every_prop_covers_the_pixels_that_it_says(kind):
    canvas = Image.new("RGB", (200, 160), (1, 254, 3))
    draw = draw_prop if kind in PROPS else draw_furniture
    sprite = draw(kind, 50, np.random.default_rng(0))

    covered = paste(canvas, sprite, 100, 130)

    changed = (np.asarray(canvas) != (1, 254, 3)).any(axis=2)
    assert covered.sum() > 50
    assert not (covered & ~changed).any()


@pytest.mark.parametrize("seed", range(12))
def test_a_thing_is_as_tall_as_was_asked_for_and_stands_where_it_is_put(seed):
    canvas = Image.new("RGB", (200, 160), (1, 254, 3))

    covered = paste(canvas, draw_thing(100, np.random.default_rng(seed)), 100, 130)

    left, top, right, bottom = extent(covered)
    assert (bottom - top, bottom) == pytest.approx((100, 130), abs=8)
    assert left < 100 < right


def test_what_stands_outside_the_picture_changes_nothing():
    canvas = Image.new("RGB", (50, 50), "white")

    covered = paste(canvas, draw_prop("bin", 30, np.random.default_rng(0)), 500, 25)

    assert not covered.any()
    assert (np.asarray(canvas) == 255).all()
