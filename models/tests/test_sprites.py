"""Sprites of rendered people: what is read, and which one is shown."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from models.datasets.compose import write_composed
from models.datasets.material import gather
from models.datasets.scenes_json import read_scenes_json
from models.datasets.sprites import read_sprites
from models.errors import DatasetError

COLOURS = {3: (200, 0, 0, 255), 10: (0, 200, 0, 255), 20: (0, 0, 200, 255)}


def sprite(colour):
    stream = io.BytesIO()
    Image.new("RGBA", (20, 50), colour).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def write(path, people, colours=COLOURS):
    with zipfile.ZipFile(path, "w") as archive:
        for person in people:
            for pitch, colour in colours.items():
                archive.writestr(f"sprites/{person:05d}_p{pitch:02d}_000.webp", sprite(colour))


@pytest.mark.parametrize(("tilt", "shown"), [(0.0, 0), (0.19, 1), (0.6, 2)])
@pytest.mark.parametrize("view", [0, 1, 5])
def test_the_sprite_nearest_to_the_cameras_tilt_is_shown(tmp_path, tilt, shown, view):
    write(tmp_path / "a.zip", [7])
    (person,) = read_sprites(tmp_path / "a.zip")

    sprite = person.seen(view, 100.0, tilt, np.random.default_rng(0))

    mean = np.asarray(sprite.colour).reshape(-1, 3).mean(axis=0)
    assert mean.argmax() == shown
    assert 92 <= sprite.mask.height <= 106
    assert sprite.mask.width == pytest.approx(0.4 * sprite.mask.height, abs=1)


def test_all_zips_of_a_directory_are_read_in_the_order_of_identities(tmp_path):
    write(tmp_path / "b.zip", [1, 2])
    write(tmp_path / "a.zip", [3], {10: COLOURS[10]})

    people = read_sprites(tmp_path)

    assert [person.views for person in people] == [3, 3, 1]


@pytest.mark.parametrize("content", [b"", b"no zip"])
def test_what_is_no_zip_of_sprites_is_named(tmp_path, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)

    with pytest.raises(DatasetError, match=r"a\.zip: expected a ZIP of sprites"):
        read_sprites(path)


def test_a_directory_without_sprites_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no sprites named like"):
        read_sprites(tmp_path)


def test_a_damaged_sprite_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("sprites/00001_p10_000.webp", b"RIFF")

    (person,) = read_sprites(tmp_path / "a.zip")

    with pytest.raises(DatasetError, match=r"a\.zip: sprites/00001_p10_000\.webp"):
        person.seen(0, 50.0, 0.1, np.random.default_rng(0))


def test_rendered_people_stand_in_composed_scenes(tmp_path):
    write(tmp_path / "a.zip", range(12))
    training, validation = gather([], [], [], 0, people=[tmp_path / "a.zip"], seed=0)

    write_composed(
        tmp_path / "out", training, scenes=6, size=(192, 128), name="a", licence="b", seed=0
    )

    assert (len(training.people), len(validation.people)) == (10, 2)
    shown = {
        int(person)
        for scene in read_scenes_json(tmp_path / "out").scenes
        for person in scene.person_ids
        if person >= 0
    }
    assert len(shown) > 5
