"""A gallery whose model is changed: beside what answers, in one step, and back."""

import threading

import numpy as np
import pytest

from indexer.errors import (
    DetectionGoneError,
    DetectionNotFoundError,
    GenerationActiveError,
    GenerationBuildingError,
    GenerationGoneError,
    GenerationNotFoundError,
    ReindexIncompleteError,
)
from indexer.ingest.ingest import find_people, index_scene
from indexer.ingest.reindex import reindex
from indexer.same_people import overlapping, paired
from indexer.tests.dying import DEATH, open_gallery_of_any
from indexer.tests.scenery import (
    DETECTORS,
    OtherDetector,
    StubDetector,
    model_of,
    open_gallery,
    picture,
    reopen_gallery,
)
from indexer.tests.test_crash_recovery import assert_whole, death

pytestmark = pytest.mark.usefixtures("database")

OLD, NEW = model_of(StubDetector), model_of(OtherDetector)
SWAP = ["loaded", "checked", "swapping", "swapped", "answering"]


def detector_of(model):
    return DETECTORS[model.fingerprint]()


def add(gallery, seed):
    return index_scene(picture(seed), StubDetector(), gallery, detector_of=detector_of).scene


def query(detector, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    return find_people(pixels, detector).embeddings[0]


def answers(gallery, model, count=10):
    detector = detector_of(model)
    return [gallery.search(query(detector, seed), k=50) for seed in range(count)]


@pytest.fixture
def gallery(tmp_path):
    with open_gallery(tmp_path / "gallery") as opened:
        for seed in range(10):
            add(opened, seed)
        yield opened


def test_boxes_are_paired_best_first_and_each_only_once():
    old = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]], float)
    new = np.array([[0, 0, 10, 11.5], [0, 0, 10, 10], [52, 52, 62, 62], [90, 90, 99, 99]], float)

    assert paired(old, new) == {1: 0, 0: 1}
    assert paired(old[:0], new) == {}
    assert overlapping(new, old).tolist() == [True, True, False, False]
    assert overlapping(new, old[:0]).tolist() == [False] * 4


def test_another_model_answers_once_all_scenes_are_indexed(gallery):
    before = gallery.get(gallery.scenes.page().scenes[0].id)
    told = []

    generation = reindex(gallery, NEW, detector_of, on_progress=told.append)

    assert [(one.done, one.total, one.failed) for one in told] == [(n, 10, 0) for n in range(1, 11)]
    assert (gallery.model, gallery.view().generation) == (NEW, generation)
    after = gallery.get(before.id)
    assert [one.box for one in after.detections] == [
        (0, 1, 32, 48),
        (0, pytest.approx(38.4), 64, 48),
    ]
    hits = gallery.search(query(OtherDetector(), 3), k=1)
    assert hits[0].similarity == pytest.approx(1)
    stats = gallery.stats()
    assert (stats.model_name, stats.detections, stats.index_change) == ("other", 20, 11)
    assert [
        (one.generation.state, one.scenes, one.detections) for one in gallery.generations.all()
    ] == [
        ("kept", 10, 20),
        ("active", 10, 20),
    ]


def test_ids_survive_a_change_of_the_model_where_the_box_does(gallery):
    (left, right) = gallery.scenes.page().scenes[0].detections
    reindex(gallery, NEW, detector_of)

    (still, new) = gallery.get(left.scene_id).detections
    assert still.id == left.id
    assert new.id not in (left.id, right.id)
    with pytest.raises(DetectionGoneError, match=left.scene_id):
        gallery.people.get(right.id)
    with pytest.raises(DetectionGoneError):
        gallery.people.embedding(right.id)
    with pytest.raises(DetectionGoneError):
        gallery.people.remove(right.id)
    with pytest.raises(DetectionNotFoundError, match="there is no detection"):
        gallery.people.get("det_nobody")


def test_going_back_gives_the_old_answers_bit_for_bit(gallery):
    before = answers(gallery, OLD)
    reindex(gallery, NEW, detector_of)
    between = answers(gallery, NEW)
    asked = []

    reindex(gallery, OLD, asked.append)

    assert asked == []  # nothing was lacking, and no model needed
    assert answers(gallery, OLD) == before
    reindex(gallery, NEW, asked.append)
    assert answers(gallery, NEW) == between


def test_labels_survive_a_change_of_the_model_and_the_way_back(gallery, tmp_path):
    (left, right), (other, _) = (scene.detections for scene in gallery.scenes.page().scenes[:2])
    for one, label in ((left, "ada"), (right, "bea"), (other, "cid")):
        gallery.people.label(one.id, label)
    set_of_old = gallery.people.labelled().labels_sha256
    reindex(gallery, NEW, detector_of)

    (still, bottom) = gallery.get(left.scene_id).detections
    assert (still.id, still.label, bottom.label) == (left.id, "ada", None)
    assert [one.id for one in gallery.people.with_label("ada")] == [left.id]
    assert gallery.people.with_label("bea") == []  # this model does not see them
    gallery.people.label(left.id, "ann")
    gallery.people.label(bottom.id, "dan")
    gallery.people.remove_label(other.id)
    set_of_new = gallery.people.labelled().labels_sha256

    reindex(gallery, OLD, detector_of)
    assert [one.label for one in gallery.get(left.scene_id).detections] == ["ann", "bea"]
    assert gallery.people.get(other.id).label is None
    gallery.people.label(left.id, "ada")
    gallery.people.label(other.id, "cid")
    assert gallery.people.labelled().labels_sha256 == set_of_old
    gallery.people.label(left.id, "ann")
    gallery.people.remove_label(other.id)

    reindex(gallery, NEW, detector_of)
    gallery.close()
    with reopen_gallery(tmp_path / "gallery") as again:
        assert [one.label for one in again.get(left.scene_id).detections] == ["ann", "dan"]
        assert again.people.labelled().labels_sha256 == set_of_new


def test_a_kept_generation_gets_the_scenes_that_came_since_before_it_answers(gallery):
    reindex(gallery, NEW, detector_of)
    late = index_scene(picture(77), OtherDetector(), gallery).scene
    asked = []

    def counting(model):
        asked.append(model.name)
        return detector_of(model)

    reindex(gallery, OLD, counting)

    assert asked == ["stub"]
    (hit,) = gallery.search(query(StubDetector(), 77), k=1)
    assert (hit.scene.id, hit.detection.id) == (late.id, late.detections[0].id)


def test_scenes_that_come_while_another_model_is_indexed_go_into_both(gallery):
    generation = gallery.generations.begin(NEW)

    late = add(gallery, 50)

    assert late.id not in gallery.generations.lacking(generation.id, limit=100).values()
    assert len(late.detections) == 2
    assert gallery.generations.scenes_in(generation.id) == (1, 11)
    gallery.generations.park(generation.id)
    later = add(gallery, 51)
    assert later.id in gallery.generations.lacking(generation.id, limit=100).values()


def test_a_scene_is_added_also_when_the_model_to_come_cannot_be_loaded(gallery):
    generation = gallery.generations.begin(NEW)

    def missing(model):
        raise ReindexIncompleteError("any of ours")

    late = index_scene(picture(50), StubDetector(), gallery, detector_of=missing).scene

    assert late.id in gallery.generations.lacking(generation.id, limit=100).values()


def test_a_scene_that_was_described_before_the_swap_is_added_after_it(gallery):
    class Swapping(StubDetector):
        def detect(self, images):
            reindex(gallery, NEW, detector_of)
            return super().detect(images)

    late = index_scene(picture(50), Swapping(), gallery, detector_of=detector_of).scene

    assert gallery.model == NEW
    assert gallery.search(query(OtherDetector(), 50), k=1)[0].scene.id == late.id


def test_deleted_people_stay_away_from_every_model(gallery):
    kept, gone, erased = (scene.detections[0] for scene in gallery.scenes.page().scenes[:3])
    gallery.generations.begin(NEW)
    reindex(gallery, NEW, detector_of, activate=False)
    gallery.people.remove(gone.id)  # from what is built already
    gallery.erasures.finish(gallery.erasures.begin(detection_ids=[erased.id]).id)

    reindex(gallery, NEW, detector_of)
    assert len(gallery.get(kept.scene_id).detections) == 2
    for one in (gone, erased):
        assert len(gallery.get(one.scene_id).detections) == 1
    reindex(gallery, OLD, detector_of)
    gallery.generations.delete(gallery.generations.all()[1].generation.id)
    reindex(gallery, NEW, detector_of)  # and from what is built anew
    for one in (gone, erased):
        with pytest.raises(DetectionNotFoundError):
            gallery.people.get(one.id)
        assert [each.box[1] for each in gallery.get(one.scene_id).detections] == [
            pytest.approx(38.4)
        ]


def test_a_removed_scene_is_removed_from_every_generation(gallery):
    scene = gallery.scenes.page().scenes[0]
    reindex(gallery, NEW, detector_of)

    gallery.remove(scene.id)

    assert [(one.scenes, one.detections) for one in gallery.generations.all()] == [(9, 18)] * 2
    with pytest.raises(DetectionNotFoundError, match="there is no"):
        gallery.people.get(scene.detections[1].id)
    reindex(gallery, OLD, detector_of)
    assert all(hit.scene.id != scene.id for hit in gallery.search(query(StubDetector(), 0), k=50))


def test_a_search_that_began_before_the_swap_ends_on_what_described_it(gallery):
    view = gallery.view()
    asked = query(StubDetector(), 3)
    before = gallery.search(asked, k=50)
    reindex(gallery, NEW, detector_of)

    assert gallery.search(asked, k=50, view=view) == before
    gallery.generations.delete(view.generation.id)
    with pytest.raises(GenerationGoneError):
        gallery.search(asked, k=50, view=view)


def test_a_scene_that_cannot_be_indexed_leaves_the_old_model_answering(gallery, tmp_path):
    before = answers(gallery, OLD)
    scene = gallery.scenes.page().scenes[4]
    (tmp_path / "gallery" / "originals" / scene.sha256).write_bytes(b"torn")
    failed = []

    with pytest.raises(ReindexIncompleteError, match="1 failed"):
        reindex(gallery, NEW, detector_of, on_failure=lambda id, error: failed.append(id))

    assert failed == [scene.id]
    assert answers(gallery, OLD) == before
    assert gallery.generations.building() is None
    gallery.remove(scene.id)
    assert reindex(gallery, NEW, detector_of).state == "active"


def test_scenes_that_cannot_be_read_are_left_out_where_that_is_asked(gallery, tmp_path):
    scene = gallery.scenes.page().scenes[4]
    (tmp_path / "gallery" / "originals" / scene.sha256).unlink()
    failed = []

    done = reindex(
        gallery,
        NEW,
        detector_of,
        skip_unreadable=True,
        on_failure=lambda id, error: failed.append(id),
    )

    assert done.state == "active"
    assert failed == [scene.id]
    assert gallery.get(scene.id).detections == ()


def test_a_generation_is_activated_only_when_it_has_every_scene(gallery):
    generation = gallery.generations.begin(NEW)

    assert not gallery.generations.activate(generation.id)
    assert gallery.model == OLD
    assert reindex(gallery, NEW, detector_of, activate=False).state == "kept"
    assert gallery.model == OLD
    assert gallery.generations.activate(generation.id)
    assert gallery.model == NEW


def test_one_generation_is_built_at_a_time_and_the_one_that_answers_stays(gallery):
    active = gallery.view().generation
    building = gallery.generations.begin(NEW)

    assert gallery.generations.begin(NEW) == building
    with pytest.raises(GenerationBuildingError, match="other is being indexed"):
        gallery.generations.begin(type(NEW)("third", "7" * 64, 8))
    with pytest.raises(GenerationActiveError):
        gallery.generations.begin(OLD)
    with pytest.raises(GenerationActiveError):
        gallery.generations.delete(active.id)
    gallery.generations.delete(building.id)
    with pytest.raises(GenerationNotFoundError):
        gallery.generations.delete(building.id)


def test_a_deleted_generation_leaves_nothing(gallery):
    before = answers(gallery, OLD)
    reindex(gallery, NEW, detector_of, activate=False)

    gallery.generations.delete(gallery.generations.all()[1].generation.id)

    with gallery._store.read() as connection:
        for table, left in (("detections", 20), ("vectors", 20), ("scene_generations", 10)):
            counted = connection.exec_driver_sql(f"SELECT count(*) FROM {table}")
            assert counted.scalar() == left
    assert answers(gallery, OLD) == before


def test_a_change_of_the_model_survives_a_restart(gallery, tmp_path):
    reindex(gallery, NEW, detector_of)
    after = answers(gallery, NEW)
    gallery.close()

    with reopen_gallery(tmp_path / "gallery") as again:
        assert again.model == NEW
        assert answers(again, NEW) == after


def test_a_snapshot_holds_every_generation(gallery, tmp_path):
    reindex(gallery, NEW, detector_of)

    made = gallery.snapshots.make()

    assert (made.model_name, made.detections) == ("other", 20)


def test_a_failure_while_swapping_is_mended_by_the_next_call(gallery, monkeypatch):
    generation = reindex(gallery, NEW, detector_of, activate=False)

    def fail(step):
        if step == "swapped":
            raise RuntimeError("out of memory, say")

    monkeypatch.setattr(gallery._writer, "on_step", fail)
    with pytest.raises(RuntimeError):
        gallery.generations.activate(generation.id)

    assert gallery.search(query(OtherDetector(), 3), k=1)[0].similarity == pytest.approx(1)
    assert gallery.model == NEW


# Dying


def filled(directory, count=10):
    with open_gallery(directory) as gallery:
        for seed in range(count):
            add(gallery, seed)
        return answers(gallery, OLD)


@pytest.mark.parametrize(
    ("action", "step"),
    [("reindex", step) for step in ("people inserted", "people committed", *SWAP)]
    + [("back", step) for step in SWAP],
)
def test_after_a_death_one_of_the_models_answers_and_all_of_it(tmp_path, action, step):
    before = filled(tmp_path)
    if action == "back":
        with open_gallery(tmp_path) as gallery:
            reindex(gallery, NEW, detector_of)
    target, other = (NEW, OLD) if action == "reindex" else (OLD, NEW)

    assert death(action, tmp_path, step) == DEATH

    with open_gallery_of_any(tmp_path) as gallery:
        assert_whole(gallery, tmp_path)
        assert gallery.model == (target if step in ("swapped", "answering") else other)
        if gallery.model == OLD:
            assert answers(gallery, OLD) == before
        if gallery.model != target:
            reindex(gallery, target, detector_of)
        assert gallery.model == target
        assert_whole(gallery, tmp_path)
        if target == OLD:
            assert answers(gallery, OLD) == before


def test_after_a_death_at_half_at_most_one_scene_is_indexed_again(tmp_path):
    filled(tmp_path)
    assert death("reindex", tmp_path, "5people inserted") == DEATH
    asked = []

    def counting(model):
        asked.append(model)
        return detector_of(model)

    with open_gallery_of_any(tmp_path) as gallery:
        assert gallery.generations.building() is not None
        reindex(gallery, NEW, counting)
        assert_whole(gallery, tmp_path)

    assert len(asked) == 6


# Under load


@pytest.mark.sqlite
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenes", [150, pytest.param(500, marks=pytest.mark.soak)])
def test_changing_the_model_disturbs_no_search_and_loses_no_scene(tmp_path, scenes):
    with open_gallery(tmp_path) as gallery:
        for seed in range(scenes):
            add(gallery, seed)
        before = answers(gallery, OLD, 50)
        stopping = threading.Event()
        failures, added, views = [], [], set()

        def search():
            number = 0
            while not stopping.is_set():
                number += 1
                try:
                    view = gallery.view()
                    asked = query(detector_of(view.generation.model), number % scenes)
                    hits = gallery.search(asked, k=5, view=view)
                    views.add(view.generation.id)
                    assert len(hits) == 5
                    assert hits[0].similarity > 0.999999, view.generation.model.name
                except BaseException as error:
                    failures.append(error)

        def more():
            number = 0
            while not stopping.is_set():
                number += 1
                try:
                    added.append(add(gallery, 1000 + number).id)
                    if number % 3 == 0:
                        gallery.remove(added.pop())
                except BaseException as error:
                    failures.append(error)
                stopping.wait(0.01)

        threads = [threading.Thread(target=each) for each in (search, search, more)]
        for thread in threads:
            thread.start()
        new = reindex(gallery, NEW, detector_of)
        stopping.wait(0.3)
        stopping.set()
        for thread in threads:
            thread.join()

        assert failures == []
        assert len(views) == 2
        assert len(added) > 5
        assert_whole(gallery, tmp_path)
        assert gallery.generations.lacking(new.id, limit=1) == {}
        reindex(gallery, OLD, detector_of)
        assert_whole(gallery, tmp_path)
        for id in added:
            gallery.remove(id)
        assert answers(gallery, OLD, 50) == before
