"""Labels of detections, and calibrations measured on them."""

import numpy as np
import pytest

from indexer.errors import (
    CalibrationNotFoundError,
    CrowdTooLargeError,
    DetectionNotFoundError,
    LabelNotFoundError,
)
from indexer.tests.scenery import DIM, new_scene, open_gallery, people, unit
from models.detections import Detections
from models.errors import CalibrationError

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def gallery(tmp_path):
    with open_gallery(tmp_path / "gallery") as opened:
        yield opened


def add(gallery, name, count=3, *, seed=0, **metadata):
    return gallery.add(new_scene(name, **metadata), people(count, seed=seed)).scene


def labelled_crowd(gallery, persons=22, boxes=4, seed=0):
    """Each scene holds one person; returns detection ids by label."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((persons, DIM))
    ids = {}
    for number in range(persons * boxes):
        person = number % persons
        look = unit(centres[person] + random.standard_normal(DIM)).astype(np.float32)
        found = Detections(
            np.array([[1, 2, 30, 90]], np.float32), np.array([0.9], np.float32), look[None]
        )
        (detection,) = gallery.add(new_scene(f"{seed}-{number}"), found).scene.detections
        gallery.people.label(detection.id, f"p{person}")
        ids.setdefault(f"p{person}", []).append(detection.id)
    return ids


def rows(gallery, table):
    with gallery._store.read() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()


def test_a_label_is_kept_until_another_takes_its_place_or_it_is_removed(gallery, tmp_path):
    first, second, _ = add(gallery, "a").detections
    assert gallery.people.label(first.id, "ada").label == "ada"
    gallery.people.label(first.id, "bea")
    gallery.people.label(second.id, "bea")
    gallery.people.remove_label(second.id)
    gallery.close()

    with open_gallery(tmp_path / "gallery") as again:
        assert [one.label for one in again.get(first.scene_id).detections] == ["bea", None, None]
        assert again.people.get(first.id).label == "bea"


def test_what_is_not_there_cannot_be_labelled_nor_a_label_removed_twice(gallery):
    (detection,) = add(gallery, "a", 1).detections
    gallery.people.label(detection.id, "ada")
    gallery.people.remove_label(detection.id)

    with pytest.raises(LabelNotFoundError):
        gallery.people.remove_label(detection.id)
    for change in (
        lambda: gallery.people.label("det_x", "ada"),
        lambda: gallery.people.remove_label("det_x"),
    ):
        with pytest.raises(DetectionNotFoundError):
            change()


def test_a_removed_detection_or_scene_takes_its_labels_along(gallery):
    scene, other = add(gallery, "a"), add(gallery, "b")
    for detection in (*scene.detections, *other.detections):
        gallery.people.label(detection.id, "ada")
    gallery.people.remove(other.detections[0].id)
    assert rows(gallery, "labels") == 5
    gallery.remove(scene.id)

    assert rows(gallery, "labels") == 2


def test_labels_never_change_a_ranking_and_are_told_with_its_hits(gallery):
    scene = add(gallery, "a", 9)
    query = gallery.people.embedding(scene.detections[3].id)
    before = gallery.search(query, k=9)
    worst = before[-1].detection.id
    gallery.people.label(worst, "ada")
    after = gallery.search(query, k=9)

    assert [(hit.detection.id, hit.score) for hit in after] == [
        (hit.detection.id, hit.score) for hit in before
    ]
    assert [hit.detection.label for hit in after] == [None] * 8 + ["ada"]


def test_labels_are_numbered_changes_that_the_index_follows(gallery):
    (detection,) = add(gallery, "a", 1).detections
    gallery.people.label(detection.id, "ada")
    gallery.people.remove_label(detection.id)
    stats = gallery.stats()

    assert (stats.last_change, stats.index_change) == (3, 3)


@pytest.mark.sqlite
def test_a_label_can_be_removed_on_a_full_disk(gallery):
    (detection,) = add(gallery, "a", 1).detections
    gallery.people.label(detection.id, "ada")
    with gallery._store.writer.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    gallery.people.remove_label(detection.id)

    assert gallery.people.get(detection.id).label is None


def test_the_labelled_are_read_with_their_scenes_and_nobody_else(gallery):
    scene, _, other = add(gallery, "a", seed=1), add(gallery, "b"), add(gallery, "c", seed=2)
    for detection, label in ((scene.detections[2], "x"), (scene.detections[0], "y"),
                             (other.detections[1], "x")):  # fmt: skip
        gallery.people.label(detection.id, label)
    crowd = gallery.people.labelled()

    assert [one.id for one in crowd.scenes] == [scene.id, other.id]
    assert crowd.ids == (
        (scene.detections[0].id, scene.detections[2].id),
        (other.detections[1].id,),
    )
    assert crowd.labels == (("y", "x"), ("x",))
    for own, ids in zip(crowd.people, crowd.ids, strict=True):
        for embedding, id in zip(own.embeddings, ids, strict=True):
            assert (embedding == gallery.people.embedding(id)).all()


def test_everybody_is_read_also_the_scenes_without_people(gallery):
    scene, empty, other = add(gallery, "a"), add(gallery, "b", 0), add(gallery, "c", 2)
    gallery.people.label(other.detections[1].id, "x")
    crowd = gallery.people.everybody(most=5)
    some = gallery.people.everybody(scene_ids=[empty.id, other.id], most=2)

    assert [one.id for one in crowd.scenes] == [scene.id, empty.id, other.id]
    assert [len(own) for own in crowd.people] == [3, 0, 2]
    assert crowd.labels == ((None,) * 3, (), (None, "x"))
    assert [one.id for one in some.scenes] == [empty.id, other.id]
    assert some.people[1].boxes.tolist() == [list(one.box) for one in other.detections]
    with pytest.raises(CrowdTooLargeError):
        gallery.people.everybody(most=4)
    assert gallery.people.everybody(scene_ids=["img_x", other.id]).scenes == some.scenes[1:]


def test_an_empty_gallery_has_a_crowd_of_nobody(gallery):
    assert gallery.people.labelled().scenes == gallery.people.everybody(most=1).scenes == ()


def test_a_set_of_labels_has_one_name_whatever_its_order_of_coming(gallery):
    first, second, _ = add(gallery, "a").detections
    gallery.people.label(first.id, "x")
    gallery.people.label(second.id, "y")
    name = gallery.people.labelled().labels_sha256
    gallery.people.label(second.id, "x")
    other = gallery.people.labelled().labels_sha256
    gallery.people.remove_label(first.id)
    gallery.people.label(second.id, "y")
    gallery.people.label(first.id, "x")

    assert (
        gallery.people.labelled().labels_sha256
        == gallery.people.everybody(most=9).labels_sha256
        == name
    )
    assert other != name


def test_the_newest_calibration_of_the_model_is_in_use_and_survives(gallery, tmp_path):
    assert gallery.calibrations.in_use() is None
    labelled_crowd(gallery)
    first = gallery.calibrations.make([0.05])
    assert gallery.calibrations.in_use() == first
    second = gallery.calibrations.make()

    assert second.content.impostor_pairs == 22 * 21 // 2 * 16
    assert second.labels_sha256 == first.labels_sha256 == gallery.people.labelled().labels_sha256
    assert [one.id for one in gallery.calibrations.all()] == [second.id, first.id]
    assert gallery.calibrations.in_use() == second
    gallery.close()
    with open_gallery(tmp_path / "gallery") as again:
        assert again.calibrations.in_use() == second
        assert again.calibrations.get(first.id) == first


def test_a_calibration_of_another_model_is_not_used(gallery):
    labelled_crowd(gallery)
    made = gallery.calibrations.make([0.05])
    with gallery._store.write() as connection:
        connection.exec_driver_sql("UPDATE calibrations SET model_fingerprint = 'other'")

    assert gallery.calibrations.all() == []
    assert gallery.calibrations.in_use() is None
    with pytest.raises(CalibrationNotFoundError):
        gallery.calibrations.get("cal_x")
    assert gallery.calibrations.get(made.id).model_fingerprint == "other"


def test_a_calibration_scores_as_a_search_does(gallery):
    ids = labelled_crowd(gallery)
    made = gallery.calibrations.make([0.05]).content
    scores = []
    for label, own in ids.items():
        for id in own:
            hits = gallery.search(
                gallery.people.embedding(id),
                k=999,
                exclude_scene_ids=[gallery.people.get(id).scene_id],
            )
            scores += [hit.score for hit in hits if hit.detection.label != label]
    (one,) = made.thresholds

    assert len(scores) == 2 * made.impostor_pairs
    assert one.fmr.value == np.mean(np.array(scores) >= one.score)


def test_only_the_newest_calibrations_are_kept(gallery, monkeypatch):
    monkeypatch.setattr("indexer.gallery.calibrations.MOST_CALIBRATIONS", 3)
    labelled_crowd(gallery)
    made = [gallery.calibrations.make([0.05]).id for _ in range(5)]

    assert [one.id for one in gallery.calibrations.all()] == made[:1:-1]
    assert rows(gallery, "calibrations") == 3


def test_labels_that_cannot_support_a_rate_make_no_calibration(gallery):
    labelled_crowd(gallery, persons=21, boxes=2)
    with pytest.raises(CalibrationError, match="rule of 30"):
        gallery.calibrations.make([0.001])

    assert gallery.calibrations.all() == []
