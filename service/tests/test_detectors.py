"""Models found by name, and loaded when they are needed."""

import json
import logging
import shutil

import pytest

from indexer.records import GalleryModel
from models.detector import DEFAULT_MODEL
from models.errors import ModelFileError
from models.model_card import CARD_NAME, load_card
from service.http.errors import RequestError
from service.running.detectors import Detectors
from service.tests.stub import OtherStub, StubDetector


@pytest.fixture
def models_dir(tmp_path):
    """A directory with a model that differs from the one that ships, and a broken one."""
    folder = tmp_path / "models"
    shutil.copytree(DEFAULT_MODEL, folder / "stricter")
    card = json.loads((folder / "stricter" / CARD_NAME).read_text())
    card["detections"]["score_threshold"] = 0.9
    (folder / "stricter" / CARD_NAME).write_text(json.dumps(card))
    (folder / "broken").mkdir()
    (folder / "broken" / CARD_NAME).write_text("{")
    return folder


def gallery_model(directory, path=None):
    card = load_card(directory)
    return GalleryModel(card.name, card.fingerprint, card.embedding_dim, path)


def test_models_of_a_directory_are_known_and_broken_ones_are_logged(models_dir, caplog):
    with caplog.at_level(logging.WARNING):
        known = Detectors(DEFAULT_MODEL, models_dir).known()

    assert [one.name for one in known] == ["nae-lite", "nae-lite-clean", "stricter"]
    assert "broken" in caplog.text
    assert known[0].path is known[1].path is None  # they move with the package
    assert known[2].of_gallery.path == str(models_dir / "stricter")


def test_a_model_is_found_by_the_name_of_its_directory_its_card_or_its_sha256(models_dir):
    detectors = Detectors(DEFAULT_MODEL, models_dir)
    stricter = load_card(models_dir / "stricter")

    for name in ("stricter", stricter.fingerprint):
        assert detectors.find(name).card == stricter
    assert detectors.find(stricter.name).name == "nae-lite"
    with pytest.raises(RequestError, match="There is no model nobody"):
        detectors.find("nobody")


def test_a_model_is_loaded_once_and_is_the_one_that_was_asked_for(models_dir):
    detectors = Detectors(DEFAULT_MODEL, models_dir)
    wanted = gallery_model(models_dir / "stricter")

    detector = detectors.of(wanted)

    assert detector.card.fingerprint == wanted.fingerprint
    assert detectors.of(wanted) is detector


def test_a_model_is_also_found_where_the_gallery_remembers_it(models_dir):
    wanted = gallery_model(models_dir / "stricter", str(models_dir / "stricter"))

    assert Detectors(DEFAULT_MODEL, None).of(wanted).card.fingerprint == wanted.fingerprint


def test_a_model_that_is_nowhere_or_is_another_one_by_now_is_refused(models_dir):
    wanted = gallery_model(models_dir / "stricter", str(models_dir / "stricter"))
    shutil.copy(DEFAULT_MODEL / CARD_NAME, models_dir / "stricter" / CARD_NAME)

    with pytest.raises(ModelFileError, match="is nowhere to be found: put its directory"):
        Detectors(DEFAULT_MODEL, models_dir).of(wanted)


def test_detectors_that_are_given_need_no_files():
    first, other = StubDetector(), OtherStub()
    detectors = Detectors(DEFAULT_MODEL, None, given=[first, other])

    names = [one.name for one in detectors.known()]
    assert names == ["stub", "other", "nae-lite", "nae-lite-clean"]
    assert detectors.of(detectors.find("other").of_gallery) is other
