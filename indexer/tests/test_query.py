"""A person who is looked for: described from whatever names them, then ranked."""

import numpy as np
import pytest

from indexer.errors import NotCalibratedError, OppositeQueriesError
from indexer.ingest.ingest import index_scene
from indexer.search.query import PersonQuery, PersonSearch
from indexer.tests.scenery import StubDetector, open_gallery, picture
from models.image import ImageLimits


@pytest.fixture
def detector():
    return StubDetector()


@pytest.fixture
def gallery(tmp_path, detector):
    with open_gallery(tmp_path / "gallery") as opened:
        for seed in range(4):
            index_scene(picture(seed), detector, opened)
        yield opened


@pytest.fixture
def search(gallery, detector):
    return PersonSearch(lambda model: detector, gallery, limits=ImageLimits())


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"scene_id": "img_a", "detection_id": "det_a"},
        {"read": bytes, "scene_id": "img_a"},
        {"scene_id": "img_a", "box": (0, 0, 1, 1), "crop": True},
        {"detection_id": "det_a", "box": (0, 0, 1, 1)},
        {"detection_id": "det_a", "crop": True},
    ],
)
def test_a_query_names_one_picture_and_one_way_to_find_the_person_in_it(wrong):
    with pytest.raises(ValueError, match="expected one of"):
        PersonQuery(**wrong)


def test_a_stored_person_is_described_without_the_model(gallery, search, detector):
    (scene,) = gallery.scenes.page(limit=1).scenes
    surest = scene.detections[0]
    before = detector.asked

    by_scene, by_id = search.describe(
        [PersonQuery(scene_id=scene.id), PersonQuery(detection_id=surest.id)]
    )

    assert detector.asked == before
    assert np.array_equal(by_id.embedding, gallery.people.embedding(surest.id))
    assert np.array_equal(by_id.embedding, by_scene.embedding)
    assert (by_id.box, by_id.score, by_id.scene_ids) == (surest.box, surest.score, (scene.id,))


def test_an_uploaded_picture_that_is_stored_is_left_out_of_its_own_answer(gallery, search):
    stored = gallery.scenes.page().scenes[2]
    people = search.describe([PersonQuery(read=lambda: picture(2))])

    without = search.rank(people, limit=10)
    with_it = search.rank(people, limit=10, leave_own_scenes_out=False)

    assert people[0].scene_ids == (stored.id,)
    assert stored.id not in {one.hit.scene.id for one in without.hits}
    assert with_it.hits[0].hit.detection.id == stored.detections[0].id
    assert len(with_it.hits) == len(without.hits) + len(stored.detections)


def test_company_is_the_person_and_the_others_of_the_scene(gallery, search):
    (scene,) = gallery.scenes.page(limit=1).scenes
    lesser = scene.detections[1]

    (stored,) = search.describe([PersonQuery(detection_id=lesser.id)], with_company=True)
    (alone,) = search.describe([PersonQuery(detection_id=lesser.id)])

    assert stored.company.shape == (2, len(stored.embedding))
    assert np.allclose(stored.company[0], stored.embedding)
    assert alone.company is None


def test_a_false_match_rate_needs_a_calibration(search):
    people = search.describe([PersonQuery(read=lambda: picture(9), crop=True)])

    with pytest.raises(NotCalibratedError):
        search.rank(people, limit=1, max_fmr=0.01)


def test_opposite_pictures_have_no_mean(search, detector, monkeypatch):
    signs = iter([1, -1])
    usual = detector.embed_crop
    monkeypatch.setattr(detector, "embed_crop", lambda image: next(signs) * usual(image))
    people = search.describe([PersonQuery(read=lambda: picture(9), crop=True)] * 2)

    with pytest.raises(OppositeQueriesError):
        search.rank(people, limit=1, fusion="mean")
    assert search.rank(people, limit=1, fusion="max").hits
