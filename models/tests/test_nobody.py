"""Pictures without people, and what is told of a model that sees some there."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from models import nobody
from models.datasets import stage
from models.datasets.nobody import pictures_of_nobody
from models.detections import Detections

SIZE = (96, 64)


@pytest.fixture
def photos(tmp_path):
    directory = tmp_path / "photos"
    directory.mkdir()
    for number in range(3):
        Image.new("RGB", (120, 90), (200, 10 * number, 0)).save(directory / f"{number}.png")
    return directory


class RedDetector:
    """Sees two people in every picture that is mostly red."""

    card = SimpleNamespace(
        name="red", fingerprint="0123", detections=SimpleNamespace(score_threshold=0.4)
    )

    def detect(self, images):
        found = []
        for image in images:
            red, green, blue = np.median(image.reshape(-1, 3), axis=0)
            count = 2 if red > 60 + max(green, blue) else 0
            boxes = np.array([[4, 4, 20, 40], [30, 4, 50, 40]], np.float32)[:count]
            scores = np.array([0.9, 0.5], np.float32)[:count]
            found.append(Detections(boxes, scores, np.eye(4, dtype=np.float32)[:count]))
        return found


@pytest.fixture
def asked(monkeypatch):
    """What the detector of the command was made with."""
    given = {}

    def made(model, **options):
        given.update(options, model=model)
        return RedDetector()

    monkeypatch.setattr(nobody, "OnnxDetector", made)
    return given


def test_the_same_arguments_show_the_same_pictures_and_another_seed_others(photos):
    first, again, other = (
        [(kind, picture.tobytes()) for kind, picture in shown]
        for shown in (pictures_of_nobody(8, [photos], size=SIZE, seed=seed) for seed in (0, 0, 1))
    )

    assert first == again
    assert [kind for kind, _ in first] == [kind for kind, _ in other]
    assert not any(one == two for one, two in zip(first, other, strict=True))
    assert all(len(pixels) == 96 * 64 * 3 for _, pixels in first)


def test_kinds_take_turns_and_photographs_are_shown_where_there_are_some(photos):
    kinds = [
        [kind for kind, _ in pictures_of_nobody(5, given, size=SIZE, seed=0)]
        for given in ([], [photos])
    ]

    assert kinds[0] == ["plain", "drawn", "plain", "drawn", "plain"]
    assert kinds[1] == ["plain", "drawn", "photo", "photo with things", "plain"]


def test_nobody_is_put_into_the_pictures(photos, monkeypatch):
    monkeypatch.setattr(stage.Stage, "put_people", None)
    monkeypatch.setattr(stage.Stage, "put_alone", None)

    assert len(list(pictures_of_nobody(12, [photos], size=SIZE, seed=0))) == 12


def test_the_command_tells_the_share_of_each_kind_and_keeps_what_it_counts(
    photos, asked, tmp_path, capsys
):
    kept, file = tmp_path / "kept", tmp_path / "told.json"
    words = ["--model", "m", "--photos", photos, "--count", 24, "--width", 96, "--height", 64]

    assert nobody.main([str(word) for word in [*words, "--keep", kept, "--json", file]]) == 0

    kinds = json.loads(file.read_text())["kinds"]
    assert {kind: own["pictures"] for kind, own in kinds.items()} == {
        "plain": 6, "drawn": 6, "photo": 6, "photo with things": 6, "all": 24
    }  # fmt: skip
    assert kinds["photo"]["with_box"]["value"] > 0.5 > kinds["drawn"]["with_box"]["value"]
    every = kinds["all"]
    assert (
        every["boxes"]
        == 2 * round(24 * every["with_box"]["value"])
        == 2 * len(list(kept.iterdir()))
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "red, boxes scored above 0.4, pictures that show nobody:"
    assert [line[:17].strip() for line in lines[1:]] == list(kinds)
    assert asked["score_threshold"] is None


def test_another_threshold_is_the_detectors_and_is_told(asked, tmp_path, capsys):
    words = ["--model", "m", "--count", "2", "--width", "64", "--height", "64"]

    assert nobody.main([*words, "--score-threshold", "0"]) == 0

    assert asked["score_threshold"] == 0
    assert "scored above 0," in capsys.readouterr().out


def test_shares_have_intervals():
    told = nobody.shares([0] * 90 + [3] * 10)

    assert (told["pictures"], told["boxes"]) == (100, 30)
    share = told["with_box"]
    assert 0.03 < share["low"] < share["value"] == 0.1 < share["high"] < 0.18


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--count", "0"], "argument --count: expected 1 or more, got 0"),
        (["--width", "63"], "argument --width: expected 64 or more, got 63"),
        (["--score-threshold", "1.5"], "argument --score-threshold: expected 0 to 1, got 1.5"),
        (["--json", "/nowhere/a.json"], "there is no directory /nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_model_is_loaded(asked, capsys, words, told):
    with pytest.raises(SystemExit):
        nobody.main(["--model", "m", *words])

    assert told in capsys.readouterr().err
    assert asked == {}


def test_a_directory_without_photographs_is_refused_in_one_line(asked, tmp_path, capsys):
    assert nobody.main(["--model", "m", "--photos", str(tmp_path)]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {tmp_path}: no photographs (.jpg, .jpeg, .png, .webp) in it"
