"""People cut out of crops and films: who is found, and what is pasted of them."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.datasets.cutouts import (
    CroppedPerson,
    DrawnPerson,
    FilmedPerson,
    as_sprite,
    film_people,
    read_crops,
    read_film,
    soft_outline,
)
from models.datasets.drawing import random_look
from models.errors import DatasetError
from models.tests.films import GREEN, RED, SIZE, film, scenery, write_film

ROOT = Path(__file__).parent.parent.parent


def rng(seed=0):
    return np.random.default_rng(seed)


def jpeg(colour, size=(20, 48)):
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "JPEG", quality=95)
    return stream.getvalue()


CROPS = {
    "0012_c2s1_000300_01.jpg": jpeg("red"),
    "0012_c1s1_000200_01.jpg": jpeg("orange"),
    "0003_c1s1_000100_01.jpg": jpeg("blue"),
    "-1_c1s1_000100_02.jpg": jpeg("grey"),
    "notes.txt": b"not a crop",
}


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "crops" / "camera").mkdir(parents=True)
    for name, content in CROPS.items():
        (tmp_path / "crops" / "camera" / name).write_bytes(content)
    return tmp_path / "crops"


@pytest.fixture
def archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "crops.zip", "w") as made:
        for name, content in CROPS.items():
            made.writestr(f"camera/{name}", content)
    return tmp_path / "crops.zip"


def test_a_zip_shows_the_same_people_as_a_directory_in_order_of_their_numbers(directory, archive):
    expected = [
        (CROPS["0003_c1s1_000100_01.jpg"],),
        (CROPS["0012_c1s1_000200_01.jpg"], CROPS["0012_c2s1_000300_01.jpg"]),
    ]

    assert [person.crops for person in read_crops(directory)] == expected
    assert [person.crops for person in read_crops(archive)] == expected
    assert [person.views for person in read_crops(archive)] == [1, 2]


def test_a_damaged_crop_is_named_when_it_is_looked_at(directory, archive):
    crop = directory / "camera" / "0012_c2s1_000300_01.jpg"
    crop.write_bytes(CROPS[crop.name][:300])
    no_picture = CroppedPerson((b"no picture",), ("crops.zip: 1_a.jpg",))

    _, damaged = read_crops(directory)

    assert damaged.picture(0).size == (20, 48)
    with pytest.raises(DatasetError, match=rf"{directory}: camera/{crop.name}: a crop cannot be"):
        damaged.seen(1, 50, 0, rng())
    with pytest.raises(DatasetError, match=r"crops\.zip: 1_a\.jpg: a crop that is no picture$"):
        no_picture.picture(0)


def broken_member(path):
    """A ZIP whose compressed data are not what its directory says."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("0001_c1.jpg", bytes(range(256)) * 40)
    content = bytearray(path.read_bytes())
    content[45:75] = b"\xff" * 30
    path.write_bytes(content)


def encrypted_member(path):
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("0001_c1.jpg", b"secret")
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "write",
    [
        broken_member,
        encrypted_member,
        lambda path: path.write_text("no archive"),
        lambda path: path.write_bytes(b""),
        lambda path: None,
        lambda path: (path / "0001_c1.jpg").mkdir(parents=True),
    ],
    ids=["broken", "encrypted", "text", "empty", "missing", "a directory for a crop"],
)
def test_what_holds_no_readable_crops_is_refused(tmp_path, write):
    path = tmp_path / "crops.zip"
    write(path)

    with pytest.raises(DatasetError, match=rf"{path}: expected a directory or a ZIP of crops: ."):
        read_crops(path)


def test_where_no_name_is_one_of_a_crop_the_names_are_explained(directory):
    for crop in directory.rglob("00*.jpg"):
        crop.unlink()

    with pytest.raises(DatasetError, match=rf"{directory}: no crops named like 0007_c1s6_"):
        read_crops(directory)


def test_a_cropped_person_is_as_tall_as_asked_and_keeps_its_shape_about():
    person = CroppedPerson((jpeg("red", (32, 64)),), ("a",))

    sprites = [person.seen(0, 100, 0, rng(seed)) for seed in range(20)]

    assert {sprite.mask.height for sprite in sprites} == {100}
    widths = [sprite.mask.width for sprite in sprites]
    assert 44 <= min(widths) < 49 and 51 < max(widths) <= 56
    assert all(sprite.whole for sprite in sprites)
    assert person.seen(0, 1, 0, rng()).mask.size >= (4, 8)


def test_a_cropped_person_is_shown_from_either_side():
    picture = Image.new("RGB", (40, 80), "black")
    picture.paste("white", (20, 0, 40, 80))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    person = CroppedPerson((stream.getvalue(),), ("a",))

    brighter = []
    for seed in range(20):
        colour = np.asarray(person.seen(0, 80, 0, rng(seed)).colour, np.float32).mean(axis=(0, 2))
        middle = len(colour) // 2
        brighter.append(colour[:middle].sum() > colour[middle:].sum())

    assert 4 <= sum(brighter) <= 16


def test_a_drawn_person_is_drawn_from_a_look_at_random_moments():
    person = DrawnPerson(random_look(rng(3)))

    sprites = [person.seen(0, 90, 0.1, rng(seed)) for seed in (1, 1, 2)]

    pixels = [np.asarray(sprite.colour) for sprite in sprites]
    assert np.array_equal(pixels[0], pixels[1])
    assert pixels[0].shape != pixels[2].shape or not np.array_equal(pixels[0], pixels[2])
    assert not sprites[0].whole


def test_a_sprite_stands_on_the_middle_of_its_lower_edge_and_is_black_where_it_covers_nothing():
    mask = Image.new("L", (10, 30), 0)
    mask.paste(255, (3, 5, 7, 30))

    sprite = as_sprite(Image.new("RGB", (10, 30), "yellow"), mask)

    assert (sprite.x, sprite.y, sprite.whole) == (5, 30, False)
    shown = np.asarray(sprite.colour).any(axis=2)
    assert np.array_equal(shown, np.asarray(mask) > 0)


def test_outlines_are_rectangles_or_bodies_that_cover_the_middle():
    outlines = [np.asarray(soft_outline(40, 100, rng(seed))) for seed in range(60)]

    assert {(outline.shape, outline.dtype.name) for outline in outlines} == {((100, 40), "uint8")}
    assert all(outline[50, 20] > 200 for outline in outlines)
    bodies = [outline[:8, :8].max() == 0 for outline in outlines]  # nothing beside the head
    assert 25 <= sum(bodies) <= 55
    again = np.asarray(soft_outline(40, 100, rng(7)))
    assert np.array_equal(outlines[7], again)


# Films.


@pytest.fixture(scope="module")
def scipy():
    return pytest.importorskip("scipy")


def test_each_visit_to_a_film_is_a_person_cut_out_along_the_body(scipy):
    frames = film((RED, range(12, 130, 9)), (GREEN, range(30, 100, 8)))

    people, still = film_people(frames)

    assert [len(person.cutouts) for person in people] == [14, 9]
    for person, colour in zip(people, (RED, GREEN), strict=True):
        for cutout in person.cutouts:
            pixels = np.asarray(cutout).astype(int)
            assert 70 * 24 <= (pixels[..., 3] > 127).sum() <= 72 * 26  # the blur's rim
            assert np.abs(pixels[pixels[..., 3] > 250][:, :3] - colour).max() == 0
            assert abs(pixels.shape[0] - 70) <= 4 and abs(pixels.shape[1] - 24) <= 4
    assert np.abs(still.astype(int) - scenery()).max() <= 1


def test_whoever_stands_at_the_edge_is_cut_out_as_far_as_they_are_seen(scipy):
    (person,), _ = film_people(film((RED, [40, -4, -8, -12, 144, 148])))

    widths = [cutout.width for cutout in person.cutouts]
    assert widths == pytest.approx([24, 20, 16, 12, 16, 12], abs=4)
    assert widths[0] > max(widths[1:])


@pytest.mark.parametrize(
    "frames",
    [
        film((RED, range(30, 62, 8))),  # four frames
        film((RED, range(30, 90, 8)), body=(50, 60)),  # lies
        film((RED, range(30, 90, 8)), body=(30, 12)),  # too small
        film(),
        film()[:1],
    ],
    ids=["short", "lying", "small", "nobody", "one frame"],
)
def test_what_is_no_person_to_be_seen_is_none(scipy, frames):
    people, still = film_people(frames)

    assert people == []
    assert still.shape == (*SIZE, 3)


def test_light_that_changes_slowly_is_nobody(scipy):
    dawn = [(scenery() * share).astype(np.uint8) for share in np.linspace(0.7, 1, 120)]
    visit = film((RED, range(30, 110, 8)))[6:]

    people, still = film_people([*dawn, *visit])

    assert len(people) == 1
    assert np.abs(still.astype(int) - scenery()).max() <= 4


def filmed():
    """Somebody with a white head, a grey top and dark trousers, 100 × 40 pixels."""
    pixels = np.zeros((100, 40, 4), np.uint8)
    pixels[:17, :, :3], pixels[17:50, :, :3], pixels[50:, :, :3] = 250, 120, 40
    pixels[..., 3] = 255
    return FilmedPerson((Image.fromarray(pixels),))


def test_other_clothes_change_the_garments_and_nothing_else():
    colour = np.array([200, 60, 90], np.float32)
    dressed = FilmedPerson(filmed().cutouts, colour, None)

    plain, changed = (np.asarray(one.seen(0, 100, 0, rng(1)).colour) for one in (filmed(), dressed))

    assert np.array_equal(plain[:15], changed[:15])
    assert np.array_equal(plain[52:], changed[52:])
    assert np.abs(changed[20:48].mean(axis=(0, 1)) - colour).max() < 5


def test_the_same_seed_dresses_alike_and_another_one_otherwise():
    clothes = [filmed().redressed(rng(seed)) for seed in (4, 4, 5)]

    assert all(one.upper is not None and one.lower is not None for one in clothes)
    assert np.array_equal(clothes[0].upper, clothes[1].upper)
    assert not np.array_equal(clothes[0].upper, clothes[2].upper)
    assert clothes[0].cutouts == filmed().cutouts


def test_folds_stay_in_other_clothes():
    pixels = np.asarray(filmed().cutouts[0]).copy()
    pixels[17:50, ::2, :3] = 90
    creased = FilmedPerson((Image.fromarray(pixels),), np.array([150, 150, 20], np.float32))

    shown = np.asarray(creased.seen(0, 100, 0, rng(1)).colour).astype(int)

    assert np.abs(np.diff(shown[30, 4:36, 0])).min() > 15


# Files of films.


@pytest.fixture(scope="module")
def av():
    return pytest.importorskip("av", reason="reading films takes PyAV")


def test_every_third_frame_of_a_film_is_read(av, tmp_path):
    levels = [10 * number for number in range(20)]
    path = write_film(tmp_path / "a.mp4", [np.full((48, 64, 3), one, np.uint8) for one in levels])

    frames = read_film(path)

    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 7
    means = [float(frame.mean()) for frame in frames]
    assert means == pytest.approx(levels[::3], abs=6)
    assert len(read_film(path, every=1)) == 20


def test_people_are_found_in_a_film_that_was_written_and_read(av, scipy, tmp_path):
    path = write_film(
        tmp_path / "a.mp4", film((RED, range(30, 110, 4)), (GREEN, range(30, 90, 3)), empty=12)
    )

    people, _ = film_people(read_film(path, every=2))

    assert len(people) == 2
    for person, colour in zip(people, (RED, GREEN), strict=True):
        pixels = np.asarray(person.cutouts[2]).astype(int)
        middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
        assert np.abs(middle[:3] - colour).max() < 40 and middle[3] == 255


def sound(path):
    import wave

    with wave.open(str(path), "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(8000)
        made.writeframes(bytes(8000))


@pytest.mark.parametrize(
    ("write", "problem"),
    [
        (lambda path: path.write_bytes(rng().bytes(4000)), "not readable as a film"),
        (lambda path: None, "not readable as a film: .*No such file"),
        (lambda path: path.mkdir(), "not readable as a film"),
        (sound, "expected a film, got no pictures"),
    ],
    ids=["noise", "missing", "directory", "sound"],
)
def test_what_is_no_film_is_refused(av, tmp_path, write, problem):
    path = tmp_path / "film.mp4"
    write(path)

    with pytest.raises(DatasetError, match=rf"{path}: {problem}"):
        read_film(path)


def test_without_its_reader_a_film_is_refused_naming_the_extra_that_has_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)

    with pytest.raises(DatasetError, match=r"film\.mp4: reading films needs PyAV: .*\[train\]"):
        read_film(Path("film.mp4"))


def test_without_scipy_no_film_is_searched_and_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)

    with pytest.raises(DatasetError, match=r"needs SciPy: .*\[train\]"):
        film_people(film())
