"""Crops of people in films, in endless clothes."""

import numpy as np
import pytest
from PIL import Image

from models.datasets.crops import list_crops
from models.datasets.film_views import Films, main
from models.datasets.scene import UNLABELED
from models.errors import DatasetError
from models.tests.films import GREEN, RED, film, scenery, write_film

pytest.importorskip("scipy", reason="finding people in films takes SciPy")


@pytest.fixture(scope="module")
def walks(tmp_path_factory):
    """A GIF of somebody in red who walks through it."""
    frames = [Image.fromarray(frame) for frame in film((RED, range(0, 140, 7)))]
    path = tmp_path_factory.mktemp("film") / "walks.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def test_the_same_seed_writes_the_same_unnamed_crops(walks, tmp_path, capsys):
    for name, seed in (("one", "0"), ("same", "0"), ("other", "1")):
        arguments = [str(tmp_path / name), "--film", str(walks), "--count", "6", "--seed", seed]
        assert main(arguments) == 0

    assert "6 crops of 1 people" in capsys.readouterr().out
    one, same, other = (
        [crop.read() for crop in list_crops(tmp_path / name)] for name in ("one", "same", "other")
    )
    assert one == same and len(one) == 6
    assert not set(one) & set(other)
    assert {crop.person for crop in list_crops(tmp_path / "one")} == {UNLABELED}


def test_clothes_differ_from_those_of_the_film_and_from_each_other(walks):
    films = Films([walks])

    middles = []
    for seed in range(30):
        view = np.asarray(films.view(np.random.default_rng(seed)), int)
        height, width = view.shape[:2]
        assert 96 <= height <= 256
        middles.append(view[height // 3, width // 2])

    red = [m for m in middles if m[0] > 150 and m[1:].max() < 80]
    assert len(red) < 15
    assert np.std(middles, axis=0).min() > 25


def test_the_first_person_of_a_video_is_left_to_validation(tmp_path):
    pytest.importorskip("av", reason="reading a video takes PyAV")
    frames = film((RED, range(0, 140, 6)), (GREEN, range(0, 140, 6)))
    path = write_film(tmp_path / "two.mp4", [frame for frame in frames for _ in range(3)])

    films = Films([path])

    ((cutouts),) = films.people
    for cutout in cutouts:
        pixels = np.asarray(cutout)
        body = pixels[pixels[..., 3] > 200][:, :3]
        assert body.mean(axis=0).argmax() == 1  # green


def test_a_film_without_anybody_is_refused(tmp_path):
    still = Image.fromarray(scenery())
    still.save(tmp_path / "empty.gif", save_all=True, append_images=[still] * 8)

    with pytest.raises(DatasetError, match="nobody found who moves"):
        Films([tmp_path / "empty.gif"])
