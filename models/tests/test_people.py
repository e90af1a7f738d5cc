"""Rendered people: bodies, poses and clothes of a tiny set of assets, and the files of them."""

import colorsys
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from models.datasets.cutouts import read_crops
from models.datasets.people import scenes
from models.datasets.people.__main__ import main
from models.datasets.people.body import Bodies, Figure
from models.datasets.people.camera import develop, random_profile
from models.datasets.people.cast import FULL, Wardrobe, actor, random_look, random_pose
from models.datasets.people.formats import read_fit, read_mesh, read_target
from models.datasets.people.garments import COVERED, UPPER, dressed, skin_of
from models.datasets.people.patterns import another, bottom_cloth, colour, top_cloth
from models.datasets.people.places import random_place
from models.datasets.people.pose import bones_of, sitting, standing, walking
from models.datasets.people.render import Renderer, View
from models.datasets.scenes_json import read_scenes_json
from models.datasets.sprites import read_sprites
from models.errors import DatasetError
from models.tests.machine import missing
from models.tests.people_assets import make_assets

SLIM = Figure(female=0.0, old=0.0, origins=(0.0, 0.0, 1.0), tall=0.0, girth=0.0)
AHEAD = View(facing=0, pitch=0, distance=300, sun=(0, 0.6, 0.8), sunshine=0.6, sky=0.5)
RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    return make_assets(tmp_path_factory.mktemp("assets"))


@pytest.fixture(scope="module")
def wardrobe(assets):
    return Wardrobe(assets)


@pytest.fixture(scope="module")
def bodies(wardrobe):
    return wardrobe.bodies


@pytest.fixture(scope="module")
def renderer():
    pytest.importorskip("moderngl", reason="drawing people takes moderngl, of the extra train")
    try:
        return Renderer((120, 160))
    except DatasetError as error:
        missing(f"people cannot be drawn here: {error}")


def plain(cloth, colour):
    return replace(cloth, base=colour, kind=0, logo=0, trim=0, texture=0.0, folds=0.0)


def in_red_and_blue(wardrobe):
    """Somebody with a red top, blue trousers and nothing else to be seen but hands and head."""
    look = random_look(wardrobe, rng(1))
    return replace(
        look, figure=SLIM, top=plain(look.top, RED), bottom=plain(look.bottom, BLUE),
        sleeves=FULL, legs=FULL, skirt="none", hat="none", bag="none",
    )  # fmt: skip


def picture_of(renderer, wardrobe, look, view=AHEAD, pose=None):
    own = actor(wardrobe, look)
    renderer.take(own.layers)
    renderer.wear(own.dress)
    bones = bones_of(wardrobe.bodies.rig, own.shape, pose or standing(rng(2)))
    return renderer.draw(bones, view, height=own.shape.height)


# Files


def test_faces_of_four_corners_become_two_triangles(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\ng body\nf 1 2 3 4\n")

    mesh = read_mesh(path)

    assert mesh.corners[..., 0].tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.groups.tolist() == ["body", "body"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("v 0 0 0\n", "faces"),
        ("v 0 0 0\nf 1 2 3\n", "not there"),
        ("v 0 0 0\nf 0 1 1\n", "not there"),
        ("v x y z\nf 1 1 1\n", "cannot|can be read"),
    ],
)
def test_a_damaged_mesh_is_refused_by_name(tmp_path, text, told):
    path = tmp_path / "a.obj"
    path.write_text(text)

    with pytest.raises(DatasetError, match=rf"a\.obj.*({told})"):
        read_mesh(path)


def test_clothes_name_their_vertices_singly_or_by_three_and_what_they_hide_by_ranges(tmp_path):
    path = tmp_path / "a.mhclo"
    path.write_text(
        "obj_file a.obj\nz_scale 3 4 0.5\nverts 0\nmaterial a.mhmat\n7\n"
        "1 2 3 0.5 0.25 0.25 0.1 0.2 0.3\ndelete_verts\n3 - 5 9\n"
    )

    fit = read_fit(path)

    assert fit.on.tolist() == [[7, 7, 7], [1, 2, 3]]
    assert fit.weights.tolist() == [[1, 0, 0], [0.5, 0.25, 0.25]]
    assert fit.material == tmp_path / "a.mhmat"
    assert fit.scales[2] == (3, 4, 0.5)
    assert fit.hides.tolist() == [3, 4, 5, 9]


def test_a_target_of_another_body_is_refused(tmp_path):
    path = tmp_path / "a.target"
    path.write_text("12 0 0 1\n")

    with pytest.raises(DatasetError, match="not a target of this body"):
        read_target(path, 12)


# Bodies and poses


def test_a_tall_body_is_taller_a_stout_one_wider_and_both_stand_on_the_ground(bodies):
    slim, tall, stout = (
        bodies.shape(figure) for figure in (SLIM, replace(SLIM, tall=1.0), replace(SLIM, girth=1.0))
    )

    assert tall.height > 1.05 * slim.height
    assert stout.height == pytest.approx(slim.height, rel=0.05)
    chest = [np.ptp(shape.vertices[8:16, 0]) for shape in (slim, stout)]
    assert chest[1] > chest[0] + 0.2
    assert [shape.vertices[bodies.skin, 1].min() for shape in (slim, tall, stout)] == [0, 0, 0]


def test_sexes_differ_as_their_targets_do(bodies):
    man, woman = (bodies.shape(replace(SLIM, female=share)) for share in (0.0, 1.0))

    assert np.ptp(man.vertices[:8, 0]) == pytest.approx(np.ptp(woman.vertices[:8, 0]) + 0.6)


def test_limbs_are_counted_from_the_trunk_outwards(bodies):
    shape = bodies.shape(SLIM)
    arms = np.flatnonzero(shape.arm >= 0)
    upper = shape.vertices[arms, 1]

    assert shape.arm.max() > 2 and shape.leg.max() > 2
    assert np.all(shape.arm[:24] == -1) and np.all(shape.leg[:24] == -1)  # trunk and head
    assert np.corrcoef(upper, shape.arm[arms])[0, 1] < -0.95


def test_bones_turn_and_do_not_stretch_and_a_foot_is_always_on_the_ground(bodies):
    shape = bodies.shape(SLIM)
    poses = [walking(phase, rng(3)) for phase in np.linspace(0, 1, 13)]
    for pose in [*poses, standing(rng(4)), sitting(rng(5))]:
        bones = bones_of(bodies.rig, shape, pose)

        turns = bones[:, :3, :3]
        assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-5)
        assert np.allclose(np.linalg.det(turns), 1, atol=1e-5)
        moved = _moved(bodies, shape, bones)
        assert moved[bodies.skin, 1].min() == pytest.approx(0, abs=0.6)


def test_half_a_step_later_the_other_leg_is_in_front(bodies):
    shape = bodies.shape(SLIM)
    feet = [bodies.rig.names.index(f"foot.{side}") for side in "LR"]
    ahead = []
    for phase in (0.0, 0.5):
        bones = bones_of(bodies.rig, shape, walking(phase, rng(6)))
        left, right = ((bones[f] @ [*shape.heads[f], 1])[2] for f in feet)
        ahead.append(left - right)

    assert ahead[0] > 2 and ahead[1] < -2


def test_children_stay_joined_to_their_parents(bodies):
    shape = bodies.shape(SLIM)
    bones = bones_of(bodies.rig, shape, walking(0.3, rng(7)))

    for number, parent in enumerate(bodies.rig.parents):
        head = [*shape.heads[number], 1]
        if parent >= 0:
            assert np.allclose(bones[number] @ head, bones[parent] @ head, atol=1e-4)


def _moved(bodies, shape, bones):
    """All vertices where the bones take them, slowly."""
    points = np.concatenate([shape.vertices, np.ones((len(shape.vertices), 1))], axis=1)
    each = np.einsum("bij,vj->vbi", bones, points)
    return np.einsum("vb,vbi->vi", bodies.rig.weights, each)[:, :3]


# Clothes


def test_a_garment_lies_around_the_body_and_hides_what_it_covers(wardrobe, bodies):
    shape = bodies.shape(SLIM)
    suit = next(suit for suit in wardrobe.suits if suit.name == "male_suit01")

    part, skin = dressed(suit, bodies, shape), skin_of(bodies, shape, [suit])

    covered = skin.vertices[:, COVERED] > 0.5
    assert 0.2 < covered.mean() < 0.9
    chest = shape.vertices[8:16]
    assert part.vertices[:, 0].max() > chest[:, 0].max() + 0.1
    assert np.allclose(part.vertices[:, 12:16].sum(axis=1), 1, atol=1e-5)
    head = skin.vertices[:, 1] > 14.5
    assert not covered[head].any()


def test_what_is_above_the_waist_belongs_to_the_top(wardrobe, bodies):
    part = dressed(wardrobe.suits[0], bodies, bodies.shape(SLIM))
    height, upper = part.vertices[:, 1], part.vertices[:, UPPER]

    assert np.all(upper[height > 11] == 1)
    assert np.all(upper[height < 4] == 0)


def test_a_suit_whose_mesh_has_other_vertices_is_refused(tmp_path, bodies):
    assets = make_assets(tmp_path)
    path = assets / "clothes" / "male_suit01" / "male_suit01.mhclo"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for number, line in enumerate(lines) if number != 6))

    with pytest.raises(DatasetError, match=r"male_suit01\.mhclo: expected \d+ vertices"):
        Wardrobe(assets)


def test_colours_are_those_of_a_street_mostly_dark_pale_or_grey():
    drawn = [colour(rng(number)) for number in range(400)]

    saturations = np.array([colorsys.rgb_to_hsv(*one)[1] for one in drawn])
    assert 0.4 < (saturations < 0.2).mean() < 0.75
    assert all(0 <= value <= 1 for one in drawn for value in one)
    assert len(set(drawn)) == 400


def test_a_second_colour_can_be_told_from_the_first():
    for number in range(50):
        first = colour(rng(number))
        assert np.abs(np.subtract(another(rng(number + 1000), first), first)).sum() > 0.1


def test_cloths_differ_and_trousers_are_mostly_plain():
    tops = [top_cloth(rng(number)) for number in range(200)]
    bottoms = [bottom_cloth(rng(number)) for number in range(200)]

    assert len({cloth.kind for cloth in tops}) > 8
    assert np.mean([cloth.kind == 0 for cloth in bottoms]) > 0.7
    assert all(cloth.logo == 0 for cloth in bottoms)


# Pictures


def test_top_and_bottom_have_their_own_colours_and_the_person_fills_the_picture(renderer, wardrobe):
    pixels = picture_of(renderer, wardrobe, in_red_and_blue(wardrobe)).astype(int)

    rows = np.flatnonzero((pixels[..., 3] > 127).any(axis=1))
    assert 0.7 < (rows[-1] - rows[0]) / 160 < 0.85
    middle = pixels[:, 60]
    chest, thigh = (
        pixels[rows[0] + round(share * (rows[-1] - rows[0])), 50:70] for share in (0.3, 0.65)
    )
    assert (chest[:, 0] > 2 * chest[:, 2])[chest[:, 3] > 127].all() and (chest[:, 3] > 127).any()
    assert (thigh[:, 2] > 2 * thigh[:, 0])[thigh[:, 3] > 127].all() and (thigh[:, 3] > 127).any()
    assert middle[0, 3] == 0


def test_short_sleeves_and_legs_leave_skin_bare(renderer, wardrobe):
    look = in_red_and_blue(wardrobe)
    long, short = (
        picture_of(renderer, wardrobe, one).astype(int)
        for one in (look, replace(look, sleeves=0.5, legs=0.5))
    )

    def skin(pixels):
        red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
        return ((red > green) & (green > blue) & (green > 0.5 * red) & (pixels[..., 3] > 127)).sum()

    assert skin(short) > 1.5 * skin(long)


def test_a_backpack_is_seen_from_behind_and_not_from_the_front(renderer, wardrobe):
    look = replace(in_red_and_blue(wardrobe), bag="backpack", bag_colour=(0.1, 0.9, 0.1))
    green = []
    for facing in (0, 180):
        pixels = picture_of(renderer, wardrobe, look, replace(AHEAD, facing=facing)).astype(int)
        green.append(((pixels[..., 1] > 1.5 * pixels[..., 0]) & (pixels[..., 3] > 127)).sum())

    assert green[1] > 300
    assert green[1] > 2 * green[0]


@pytest.mark.parametrize("hat", ["cap", "beanie", "brim"])
def test_a_hat_is_on_the_head(renderer, wardrobe, hat):
    look = replace(in_red_and_blue(wardrobe), hat_colour=(0.1, 0.9, 0.1))
    green = []
    for worn in ("none", hat):
        pixels = picture_of(renderer, wardrobe, replace(look, hat=worn)).astype(int)
        hues = (pixels[..., 1] > 1.5 * pixels[..., 0]) & (pixels[..., 3] > 127)
        green.append(hues)

    assert not green[0].any()
    rows = np.flatnonzero(green[1].any(axis=1))
    assert green[1].sum() > 20 and rows.max() < 30


def test_light_falls_from_where_the_sun_is(renderer, wardrobe):
    look = in_red_and_blue(wardrobe)
    bright = []
    for side in (1, -1):
        pixels = picture_of(renderer, wardrobe, look, replace(AHEAD, sun=(0.9 * side, 0.3, 0.3)))
        lit = pixels[..., 0].astype(float) * (pixels[..., 3] > 127)
        bright.append(lit[40:80, 60:].sum() / lit[40:80, :60].sum())

    assert bright[0] > 1.1 * bright[1]


def test_the_same_person_is_drawn_alike_also_after_somebody_else(renderer, wardrobe):
    look = random_look(wardrobe, rng(8))
    pose = random_pose(look, rng(9))
    first = picture_of(renderer, wardrobe, look, pose=pose)
    other = picture_of(renderer, wardrobe, random_look(wardrobe, rng(10)), pose=pose)
    again = picture_of(renderer, wardrobe, look, pose=pose)

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_camera_keeps_the_size_and_two_cameras_see_other_colours():
    picture = Image.fromarray(rng(11).integers(0, 256, (192, 80, 3)).astype(np.uint8))
    one, same, other = (
        develop(picture, random_profile(rng(camera)), rng(13)) for camera in (1, 1, 2)
    )

    assert one.size == picture.size
    assert np.array_equal(one, same)
    assert np.abs(np.asarray(one, int).mean((0, 1)) - np.asarray(other, int).mean((0, 1))).max() > 4


# The command


def contents(folder):
    """Of each ZIP its names and bytes."""
    found = {}
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            found[path.name] = {name: archive.read(name) for name in archive.namelist()}
    return found


def test_crops_are_named_as_market_does_and_a_person_is_seen_by_several_cameras(
    renderer, assets, tmp_path
):
    assert main([str(assets), str(tmp_path), "--people", "2", "--views", "6"]) == 0

    people = read_crops(tmp_path / "people-00000.zip")
    assert [len(person.crops) for person in people] == [6, 6]
    for person in people:
        cameras = {re.search(r"_c(\d+)s1_", name)[1] for name in person.names}
        assert 3 <= len(cameras) <= 6
        for view in range(person.views):
            picture = person.picture(view)
            assert picture.height == 192 and 56 <= picture.width <= 128


def test_what_is_drawn_does_not_depend_on_who_else_is_drawn_or_was_there_already(
    renderer, assets, tmp_path
):
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    command = [str(assets), "--views", "2", "--seed", "5"]
    main([*command, str(whole), "--people", "3"])
    main([*command, str(rest), "--first", "2", "--people", "1"])
    before = contents(whole)
    assert main([*command, str(whole), "--people", "3"]) == 0

    assert contents(whole) == before
    third = {name: crop for name, crop in before["people-00000.zip"].items() if "/00002_" in name}
    assert contents(rest) == {"people-00002.zip": third}


@pytest.mark.slow
def test_several_processes_draw_what_one_draws(renderer, assets, tmp_path):
    drawn = []
    for processes in ("1", "2"):
        folder = tmp_path / processes
        command = [str(assets), str(folder), "--people", "4", "--views", "1"]
        assert main([*command, "--per-file", "2", "--processes", processes]) == 0
        drawn.append(contents(folder))

    assert drawn[0] == drawn[1]
    assert list(drawn[0]) == ["people-00000.zip", "people-00002.zip"]


def test_sprites_are_people_who_can_be_put_into_scenes(renderer, assets, tmp_path):
    assert main([str(assets), str(tmp_path), "--people", "2", "--views", "6", "--sprites"]) == 0

    first, second = read_sprites(tmp_path)
    assert first.views == second.views == 6
    sprite = first.seen(0, 90.0, 0.17, rng())
    assert 80 < sprite.mask.height < 97
    assert 0.3 < (np.asarray(sprite.mask) > 127).mean() < 0.95
    assert set(first.pitches) == {3.0, 10.0, 20.0}


def test_what_is_higher_or_farther_away_is_smaller_or_further_up():
    place = random_place((160, 120), rng(14))

    near, far, head = place.at(0, 80), place.at(0, 160), place.at(0, 80, up=17)

    assert near[0] == far[0] == 80
    assert head[1] < near[1]
    assert far[1] < near[1] and far[2] < near[2]
    assert near[1] - head[1] == pytest.approx(17 * near[2], rel=0.3)


@pytest.mark.slow
def test_scenes_tell_who_stands_where(renderer, assets, tmp_path, monkeypatch):
    monkeypatch.setattr(scenes, "SCENE_SIZE", (192, 144))
    command = [str(assets), "--scenes", "4", "--cameras", "2", "--people", "5", "--seed", "3"]
    for folder in ("a", "b"):
        assert main([*command, str(tmp_path / folder)]) == 0

    dataset = read_scenes_json(tmp_path / "a")
    assert [scene.camera for scene in dataset.scenes] == ["c1", "c2"] * 2
    assert len({int(one) for scene in dataset.scenes for one in scene.person_ids}) == 5
    for scene in dataset.scenes:
        pixels = scene.read()
        assert pixels.shape == (144, 192, 3)
        for x1, y1, x2, y2 in scene.boxes:
            assert 0 <= x1 < x2 <= 192 and 0 <= y1 < y2 <= 144
        again = (tmp_path / "b" / "images" / scene.name).read_bytes()
        assert again == (tmp_path / "a" / "images" / scene.name).read_bytes()
    assert dataset.queries


def test_whoever_is_farther_away_is_drawn_behind_and_is_smaller(renderer, wardrobe):
    place = random_place((192, 144), rng(15))
    own = actor(wardrobe, in_red_and_blue(wardrobe))
    two = [(1, own), (2, own)]
    spots = iter([(0.0, 90.0), (2.0, 130.0)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "_spot", lambda *_, **__: next(spots))
        patch.setattr(scenes, "THINGS", (0, 1))
        _, seen = scenes.draw_scene(place, two, wardrobe, Renderer((120, 160)), rng(16))

    (far, far_box, far_seen), (near, near_box, near_seen) = seen
    assert (far, near) == (2, 1)
    assert near_box[3] - near_box[1] > 1.2 * (far_box[3] - far_box[1])
    assert near_box[3] > far_box[3]
    assert near_seen == 1.0 and far_seen < 0.95


def test_a_sheet_shows_people_and_writes_nothing_else(renderer, assets, tmp_path):
    sheet = tmp_path / "sheet.png"

    assert main([str(assets), str(tmp_path / "out"), "--people", "2", "--sheet", str(sheet)]) == 0

    with Image.open(sheet) as picture:
        assert picture.height == 2 * 192
    assert not (tmp_path / "out").exists()


def test_a_folder_without_assets_is_named(renderer, tmp_path, capsys):
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2

    assert "base.obj: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--scenes", "0"],
        ["--people", "0"],
        ["--views", "0"],
        ["--processes", "0"],
        ["--seed", "-1"],
    ],
)
def test_numbers_that_make_no_sense_are_refused(tmp_path, wrong, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), str(tmp_path), *wrong])

    assert wrong[0] in capsys.readouterr().err


def test_a_rig_that_lacks_a_bone_is_refused(tmp_path):
    assets = make_assets(tmp_path)
    path = assets / "rigs" / "default.mhskel"
    path.write_text(path.read_text().replace("wrist.L", "wrist.X"))

    with pytest.raises(DatasetError, match=r"rigs/.*: not a rig of this body.*wrist"):
        Bodies(assets)
