import hashlib
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from indexer.errors import (
    DetectionNotFoundError,
    ExternalIdConflictError,
    GalleryDamagedError,
    GalleryError,
    GalleryLockedError,
    GalleryMismatchError,
    InvalidCursorError,
    SceneNotFoundError,
    StorageFullError,
)
from indexer.files.reserve import BYTES
from indexer.gallery.gallery import Gallery
from indexer.gallery.opening import remembered_model
from indexer.records import SceneFilter
from indexer.tests import scenery
from indexer.tests.scenery import DIM, new_scene, open_gallery, people, person, reopen_gallery, unit
from models.detections import Detections

pytestmark = pytest.mark.usefixtures("database")

DAY = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def gallery(tmp_path):
    with open_gallery(tmp_path / "gallery") as opened:
        yield opened


def one_query(seed=0):
    return unit(np.random.default_rng(seed).standard_normal(DIM, np.float32))


def everything(gallery):
    """Every stored detection with its scene, and its embedding as stored."""
    return [
        (scene, detection, gallery.people.embedding(detection.id))
        for scene in gallery.scenes.page(limit=10_000).scenes
        for detection in scene.detections
    ]


def obvious_search(rows, query, *, k, wanted=lambda scene, detection: True, by_image=False):
    """Ids and scores of what a search must give, by comparing with everything."""
    scored = []
    for scene, detection, embedding in rows:
        if wanted(scene, detection):
            product = detection.score * (embedding.astype(float) @ query.astype(float))
            scored.append((-round(product, 6), detection.id, scene.id))
    scored.sort()
    if by_image:
        best = {}
        for one in scored:
            best.setdefault(one[2], one)
        scored = list(best.values())
    return [(id, -score) for score, id, _ in scored[:k]]


def answers(hits):
    return [(hit.detection.id, hit.score) for hit in hits]


# Adding and reading


def test_an_added_scene_reads_back_as_it_was_given(gallery):
    found = people(3)
    scene = new_scene(
        "a",
        external_id="cam/1.jpg",
        camera_id="cam",
        captured_at=DAY,
        tags=("b", "a", "b"),
        attributes={"shift": "früh"},
    )

    added = gallery.add(scene, found)

    stored = added.scene
    assert added.created
    assert stored == gallery.get(stored.id) == gallery.scenes.find(scene.sha256)
    assert stored.id.startswith("img_")
    assert (stored.sha256, stored.width, stored.height) == (scene.sha256, 100, 80)
    assert (stored.format, stored.orientation) == ("JPEG", 1)
    assert (stored.external_id, stored.camera_id) == ("cam/1.jpg", "cam")
    assert stored.captured_at == DAY
    assert abs(stored.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert stored.tags == ("b", "a")
    assert stored.attributes == {"shift": "früh"}
    assert [list(one.box) for one in stored.detections] == found.boxes.tolist()
    assert [one.score for one in stored.detections] == found.scores.tolist()
    assert gallery.scenes.content(stored.id) == b"a"
    for one, embedding in zip(stored.detections, found.embeddings, strict=True):
        assert gallery.people.get(one.id) == one
        assert gallery.people.embedding(one.id).tobytes() == embedding.tobytes()


def test_a_scene_without_people_is_stored(gallery):
    stored = gallery.add(new_scene("empty"), Detections.empty(DIM)).scene

    assert stored.detections == ()
    assert gallery.search(one_query(), k=3) == []


def test_the_same_bytes_again_give_the_scene_that_is_there(gallery):
    first = gallery.add(new_scene("a", camera_id="x"), people(2))
    second = gallery.add(new_scene("a", camera_id="y"), people(5, seed=9))

    assert not second.created
    assert second.scene == first.scene
    assert gallery.scenes.count() == 1


def test_the_same_bytes_at_the_same_time_become_one_scene(gallery):
    results = []

    def add():
        results.append(gallery.add(new_scene("a"), people(2)))

    threads = [threading.Thread(target=add) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(result.created for result in results) == 1
    assert len({result.scene.id for result in results}) == 1
    assert (gallery.scenes.count(), gallery.stats().detections) == (1, 2)


def test_an_external_id_belongs_to_one_scene_and_nothing_of_a_second_is_kept(gallery, tmp_path):
    first = gallery.add(new_scene("a", external_id="x"), people(1)).scene

    with pytest.raises(ExternalIdConflictError, match=first.id):
        gallery.add(new_scene("b", external_id="x"), people(1))

    assert gallery.scenes.find(new_scene("b").sha256) is None
    assert files(tmp_path) == {first.sha256}
    assert gallery.stats().detections == gallery.stats().last_change == 1


def files(tmp_path):
    return {path.name for path in (tmp_path / "gallery" / "originals").rglob("*") if path.is_file()}


def test_embeddings_of_another_length_are_refused(gallery):
    with pytest.raises(GalleryMismatchError, match="expected embeddings of 48 numbers, got 9"):
        gallery.add(new_scene("a"), people(1, dim=9))


def test_what_is_not_there_is_said_not_to_be_there(gallery):
    for action in (gallery.get, gallery.remove, gallery.scenes.content):
        with pytest.raises(SceneNotFoundError, match="there is no scene img_x"):
            action("img_x")
    for action in (gallery.people.get, gallery.people.remove, gallery.people.embedding):
        with pytest.raises(DetectionNotFoundError, match="there is no detection det_x"):
            action("det_x")
    with pytest.raises(SceneNotFoundError):
        gallery.scenes.patch("img_x", {"camera_id": "y"})
    assert gallery.scenes.find("0" * 64) is None


def test_a_changed_or_lost_original_is_named_and_not_given(gallery, tmp_path):
    stored = gallery.add(new_scene("a"), people(1)).scene
    path = tmp_path / "gallery" / "originals" / stored.sha256
    path.write_bytes(b"b")
    with pytest.raises(GalleryDamagedError, match=stored.sha256):
        gallery.scenes.content(stored.id)
    path.unlink()
    with pytest.raises(GalleryDamagedError, match=f"{stored.sha256} is gone"):
        gallery.scenes.content(stored.id)


# Metadata and pages


def test_a_patch_changes_what_it_names_and_filters_see_it_at_once(gallery):
    stored = gallery.add(new_scene("a", external_id="x", tags=("old",)), people(1)).scene
    changed = {"camera_id": "cam", "captured_at": DAY, "tags": ("new",), "attributes": {"k": "v"}}

    patched = gallery.scenes.patch(stored.id, changed)

    assert patched == gallery.get(stored.id)
    assert (patched.external_id, patched.camera_id) == ("x", "cam")
    assert (patched.captured_at, patched.tags, patched.attributes) == (DAY, ("new",), {"k": "v"})
    assert gallery.scenes.count(SceneFilter(camera_in=("cam",), tags_all=("new",))) == 1
    assert gallery.scenes.count(SceneFilter(tags_any=("old",))) == 0
    assert len(gallery.search(one_query(), k=1, filter=SceneFilter(camera_in=("cam",)))) == 1
    assert gallery.scenes.patch(stored.id, {"external_id": None}).external_id is None


@pytest.mark.parametrize("changes", [{"width": 3}, {"tags": None}, {"camera_id": 3}])
def test_a_patch_of_anything_else_is_refused_and_changes_nothing(gallery, changes):
    stored = gallery.add(new_scene("a"), people(1)).scene

    with pytest.raises(ValueError, match="expected metadata"):
        gallery.scenes.patch(stored.id, {"external_id": "x"} | changes)

    assert gallery.get(stored.id) == stored


def test_a_patch_can_not_take_another_scenes_external_id(gallery):
    gallery.add(new_scene("a", external_id="x"), people(1))
    other = gallery.add(new_scene("b", external_id="y"), people(1)).scene

    with pytest.raises(ExternalIdConflictError):
        gallery.scenes.patch(other.id, {"external_id": "x"})

    assert gallery.scenes.patch(other.id, {"external_id": "y"}).external_id == "y"


def test_pages_give_every_scene_once_while_scenes_come_and_go(gallery):
    ids = [gallery.add(new_scene(str(n)), people(0)).scene.id for n in range(10)]
    first = gallery.scenes.page(limit=4)
    gallery.remove(ids[1])
    gallery.remove(ids[5])
    late = gallery.add(new_scene("late"), people(0)).scene.id
    second = gallery.scenes.page(limit=4, cursor=first.next_cursor)
    third = gallery.scenes.page(limit=4, cursor=second.next_cursor)

    assert [scene.id for scene in first.scenes] == ids[:4]
    assert [scene.id for scene in second.scenes] == [ids[4], *ids[6:9]]
    assert [scene.id for scene in third.scenes] == [ids[9], late]
    assert third.next_cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "aW1nXw==", "ü", "=" * 40, "aW1nXzAxSk\x00"])
def test_a_cursor_that_is_not_ours_is_refused(gallery, cursor):
    with pytest.raises(InvalidCursorError):
        gallery.scenes.page(cursor=cursor)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (SceneFilter(), "abcd"),
        (SceneFilter(camera_in=("1",)), "ab"),
        (SceneFilter(camera_in=("1", "2")), "abc"),
        (SceneFilter(camera_in=()), ""),
        (SceneFilter(camera_not_in=("1",)), "cd"),
        (SceneFilter(captured_from=DAY), "bc"),
        (SceneFilter(captured_to=DAY + timedelta(hours=1)), "ab"),
        (SceneFilter(captured_from=DAY, captured_to=DAY + timedelta(hours=1)), "b"),
        (SceneFilter(tags_all=("x", "y")), "b"),
        (SceneFilter(tags_any=("y", "z")), "bc"),
        (SceneFilter(tags_none=("x",)), "cd"),
        (SceneFilter(external_id="c"), "c"),
        (SceneFilter(tags_any=("x",), camera_in=("1",), captured_from=DAY), "b"),
    ],
)
def test_a_filter_means_the_same_in_lists_counts_and_searches(gallery, filter, expected):
    hour = timedelta(hours=1)
    for name, camera, taken, tags in [
        ("a", "1", DAY - hour, ("x",)),
        ("b", "1", DAY, ("x", "y")),
        ("c", "2", DAY + hour, ("z",)),
        ("d", None, None, ()),
    ]:
        gallery.add(
            new_scene(name, external_id=name, camera_id=camera, captured_at=taken, tags=tags),
            people(1, seed=ord(name)),
        )

    listed = gallery.scenes.page(filter).scenes
    hits = gallery.search(one_query(), k=10, filter=filter)

    assert "".join(scene.external_id for scene in listed) == expected
    assert gallery.scenes.count(filter) == len(expected)
    assert sorted(hit.scene.external_id for hit in hits) == sorted(expected)


# Searching


def test_search_is_exact_whatever_is_asked_for(gallery):
    random = np.random.default_rng(0)
    twin = one_query(99)
    for number in range(60):
        found = people(int(random.integers(0, 6)), seed=number)
        if number % 3 == 0 and len(found):  # many ties
            found = Detections(found.boxes, found.scores.round(1), np.tile(twin, (len(found), 1)))
        scene = new_scene(str(number), camera_id=f"cam{number % 4}", tags=("t",) * (number % 2))
        gallery.add(scene, found)
    for scene in gallery.scenes.page(limit=500).scenes[::7]:
        gallery.remove(scene.id)
    rows = everything(gallery)
    ids = [scene.id for scene in gallery.scenes.page(limit=500).scenes]

    for number in range(100):
        query = twin if number % 2 else one_query(number)
        k = int(random.choice([1, 2, 5, 20, 1000]))
        cameras = None if random.random() < 0.5 else tuple(random.choice(["cam0", "cam1", "x"], 2))
        tags = ("t",) if random.random() < 0.3 else ()
        least = float(random.choice([0, 0.3, 0.9]))
        out = set(random.choice(ids, 5).tolist()) if random.random() < 0.5 else set()
        by_image = bool(random.random() < 0.5)

        hits = gallery.search(
            query,
            k=k,
            filter=SceneFilter(camera_in=cameras, tags_all=tags),
            min_detection_score=least,
            group_by="image" if by_image else "detection",
            exclude_scene_ids=out,
        )

        def wanted(scene, detection, cameras=cameras, tags=tags, least=least, out=out):
            return (
                (cameras is None or scene.camera_id in cameras)
                and set(tags) <= set(scene.tags)
                and np.float32(detection.score) >= np.float32(least)
                and scene.id not in out
            )

        expected = obvious_search(rows, query, k=k, wanted=wanted, by_image=by_image)
        assert answers(hits) == expected


def test_ties_at_the_last_place_go_to_the_lowest_detection_id(gallery):
    same = one_query()
    ids = []
    for number in range(60):
        stored = gallery.add(new_scene(str(number)), person(same, score=0.5)).scene
        ids.append(stored.detections[0].id)
    gallery.remove(gallery.people.get(ids.pop(0)).scene_id)

    hits = gallery.search(same, k=10)

    assert [hit.detection.id for hit in hits] == ids[:10]


def test_a_crowd_in_one_scene_does_not_keep_other_scenes_from_the_answer(gallery):
    asked = one_query()
    crowd = Detections(
        np.tile(np.float32([1, 2, 3, 4]), (100, 1)),
        np.linspace(0.9, 1, 100, dtype=np.float32),
        np.tile(asked, (100, 1)),
    )
    first = gallery.add(new_scene("crowd"), crowd).scene.id
    others = [gallery.add(new_scene(str(n)), person(one_query(n + 5))).scene.id for n in range(4)]

    hits = gallery.search(asked, k=5, group_by="image")

    assert hits[0].scene.id == first
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert {hit.scene.id for hit in hits} == {first, *others}


def test_score_is_detection_score_times_similarity(gallery):
    gallery.add(new_scene("a"), people(20))
    query = one_query()

    for hit in gallery.search(query, k=20):
        cosine = float(gallery.people.embedding(hit.detection.id) @ query)
        assert hit.similarity == pytest.approx(cosine, abs=1e-6)
        assert hit.score == pytest.approx(hit.detection.score * cosine, abs=1e-6)
        assert hit.scene.id == hit.detection.scene_id


def test_a_person_with_a_detection_score_of_zero_keeps_its_similarity(gallery):
    query = one_query()
    gallery.add(new_scene("a"), person(query, score=0))

    (hit,) = gallery.search(query, k=1)

    assert hit.score == 0
    assert hit.similarity == pytest.approx(1, abs=1e-6)


def test_min_score_leaves_out_what_is_below_it_and_not_what_equals_it(gallery):
    gallery.add(new_scene("a"), people(50))
    query = one_query()
    every = gallery.search(query, k=50)
    bar = every[20].score

    assert gallery.search(query, k=50, min_score=bar) == every[:21]
    assert gallery.search(query, k=50, min_score=2) == []


def test_the_same_search_gives_the_same_answer_after_reopening(tmp_path):
    with open_gallery(tmp_path / "gallery") as gallery:
        for number in range(20):
            gallery.add(new_scene(str(number)), people(5, seed=number))
        gallery.remove(gallery.scenes.page().scenes[3].id)
        before = gallery.search(one_query(), k=40)
        gallery.index.rebuild()
        rebuilt = gallery.search(one_query(), k=40)
    with reopen_gallery(tmp_path / "gallery", engine="exact") as gallery:
        after = gallery.search(one_query(), k=40)

    assert before == rebuilt == after
    assert len(before) == 40


@pytest.mark.parametrize(
    "query", [np.ones(DIM), np.zeros(DIM), one_query()[:-1], one_query()[None]]
)
def test_a_query_of_another_shape_or_length_is_refused(gallery, query):
    with pytest.raises(ValueError, match="unit length"):
        gallery.search(np.float32(query), k=1)


def test_k_below_one_is_refused(gallery):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        gallery.search(one_query(), k=0)


# Removing


def test_a_removed_scene_is_never_found(gallery, tmp_path):
    query = one_query()
    stored = gallery.add(new_scene("a"), person(query)).scene
    gallery.add(new_scene("b"), person(-query))

    gallery.remove(stored.id)

    assert [hit.scene.sha256 for hit in gallery.search(query, k=5)] == [new_scene("b").sha256]
    with pytest.raises(SceneNotFoundError):
        gallery.get(stored.id)
    with pytest.raises(DetectionNotFoundError):
        gallery.people.get(stored.detections[0].id)
    assert files(tmp_path) == {new_scene("b").sha256}


def test_a_removed_scene_can_be_added_again_under_a_new_id(gallery):
    first = gallery.add(new_scene("a", external_id="x"), people(1)).scene
    gallery.remove(first.id)
    second = gallery.add(new_scene("a", external_id="x"), people(1))

    assert second.created
    assert second.scene.id > first.id
    assert gallery.scenes.content(second.scene.id) == b"a"


def test_a_removed_detection_is_not_found_and_its_scene_stays(gallery):
    query = one_query()
    both = Detections(
        np.ones((2, 4), np.float32), np.ones(2, np.float32), np.stack([query, -query])
    )
    stored = gallery.add(new_scene("a"), both).scene

    gallery.people.remove(stored.detections[0].id)

    (hit,) = gallery.search(query, k=2)
    assert hit.detection.id == stored.detections[1].id
    assert gallery.get(stored.id).detections == stored.detections[1:]


def test_every_thread_finds_what_it_has_added_and_never_what_it_has_removed(gallery):
    failures = []
    started = threading.Barrier(6)

    def live(number):
        query = np.zeros(DIM, np.float32)
        query[number] = 1
        mine = 0
        started.wait()
        for turn in range(9):
            stored = gallery.add(new_scene(f"{number} {turn}"), person(query)).scene
            mine += 1
            found = gallery.search(query, k=50, min_score=0.5)
            if stored.id not in [hit.scene.id for hit in found] or len(found) != mine:
                failures.append(f"{stored.id} was added and not found")
            if turn % 3 == 0:
                gallery.remove(stored.id)
                mine -= 1
                found = gallery.search(query, k=50, min_score=0.5)
                if stored.id in [hit.scene.id for hit in found] or len(found) != mine:
                    failures.append(f"{stored.id} was removed and found")

    def run(number):
        try:
            live(number)
        except Exception as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stats = gallery.stats()
    assert failures == []
    assert stats.scenes == stats.detections == 6 * 6
    assert stats.index_change == stats.last_change == 6 * 12


# Opening


@pytest.mark.sqlite
def test_a_gallery_is_open_once_and_the_error_names_the_directory(gallery, tmp_path):
    for opening in (
        lambda: open_gallery(tmp_path / "gallery"),
        lambda: reopen_gallery(tmp_path / "gallery"),
    ):
        with pytest.raises(GalleryLockedError, match=str(tmp_path / "gallery")):
            opening()


def test_another_models_gallery_is_refused_and_both_models_are_named(tmp_path):
    open_gallery(tmp_path / "gallery").close()

    with pytest.raises(
        GalleryMismatchError, match=r"of stub \(555555555555\), not of other \(6666"
    ):
        Gallery.open_(
            tmp_path / "gallery",
            model_name="other",
            model_fingerprint="6" * 64,
            embedding_dim=DIM,
            database=scenery.database_of(tmp_path / "gallery"),
        )

    open_gallery(tmp_path / "gallery").close()  # a refusal leaves no lock behind


def test_a_gallery_remembers_its_model(tmp_path):
    assert remembered_model(tmp_path / "gallery", scenery.database_of(tmp_path / "gallery")) is None
    open_gallery(tmp_path / "gallery", model_path=tmp_path / "model").close()
    open_gallery(tmp_path / "gallery").close()

    model = remembered_model(tmp_path / "gallery", scenery.database_of(tmp_path / "gallery"))

    assert (model.name, model.fingerprint, model.embedding_dim) == ("stub", "5" * 64, DIM)
    assert model.path == str(tmp_path / "model")
    with reopen_gallery(tmp_path / "gallery") as gallery:
        assert gallery.model == model


def test_reopening_what_is_not_there_is_refused_and_makes_nothing(tmp_path):
    with pytest.raises(GalleryError, match="there is no gallery in"):
        reopen_gallery(tmp_path / "nowhere")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.sqlite
def test_originals_without_their_database_are_not_swept_away(tmp_path):
    with open_gallery(tmp_path / "gallery") as gallery:
        gallery.add(new_scene("a"), people(1))
    (tmp_path / "gallery" / "gallery.sqlite3").unlink()

    with pytest.raises(GalleryDamagedError, match="holds originals"):
        open_gallery(tmp_path / "gallery")

    assert files(tmp_path) == {new_scene("a").sha256}


def test_files_that_are_not_ours_are_left_alone(tmp_path):
    open_gallery(tmp_path / "gallery").close()
    other = tmp_path / "gallery" / "originals" / "holiday.jpg"
    other.write_bytes(b"mine")
    orphan = other.with_name(hashlib.sha256(b"").hexdigest())
    half = orphan.with_suffix(".new")
    orphan.write_bytes(b"")
    half.write_bytes(b"")

    open_gallery(tmp_path / "gallery").close()

    assert other.read_bytes() == b"mine"
    assert not orphan.exists()
    assert not half.exists()


# Failing


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(122, "Quota")])
def test_a_full_disk_is_said_to_be_full_and_nothing_half_stored_stays(
    gallery, tmp_path, monkeypatch, error
):
    query = one_query()
    stored = gallery.add(new_scene("a"), person(query)).scene

    def full(_):
        raise error

    with monkeypatch.context() as patched, pytest.raises(StorageFullError, match="no space"):
        patched.setattr("os.fsync", full)
        gallery.add(new_scene("b"), person(query))

    assert files(tmp_path) == {stored.sha256}
    assert answers(gallery.search(query, k=5)) == [(stored.detections[0].id, 1)]
    assert gallery.add(new_scene("b"), person(query)).created


@pytest.mark.sqlite
def test_a_full_database_undoes_the_original_too(gallery, tmp_path):
    with gallery._store.writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    with pytest.raises(StorageFullError):
        gallery.add(new_scene("a"), people(90))
    with gallery._store.writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")

    assert files(tmp_path) == set()
    assert gallery.add(new_scene("a"), people(90)).created


def test_an_index_that_missed_a_change_is_filled_anew(gallery, monkeypatch):
    query = one_query()

    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched, pytest.raises(MemoryError):
        patched.setattr(
            gallery.index.live, "replace" if gallery.index.live.outside else "add", fail
        )
        gallery.add(new_scene("a"), person(query))

    assert len(gallery.search(query, k=1)) == 1
    assert gallery.stats().index_change == gallery.stats().last_change


@pytest.mark.sqlite
def test_a_full_disk_can_be_emptied_with_the_space_kept_back(gallery, tmp_path, monkeypatch):
    reserve = tmp_path / "gallery" / "reserve"
    ids = [gallery.add(new_scene(name), people(2, seed=ord(name))).scene.id for name in "ab"]
    write = gallery._store.write

    def full_while_kept_back():
        if reserve.exists():
            raise StorageFullError("full")
        return write()

    monkeypatch.setattr(gallery._store, "write", full_while_kept_back)
    gallery.remove(ids[0])
    gallery.people.remove(gallery.get(ids[1]).detections[0].id)

    assert gallery.stats().detections == 1
    assert reserve.stat().st_size == BYTES


@pytest.mark.sqlite
def test_nothing_is_added_while_no_space_can_be_kept_back(gallery, tmp_path, monkeypatch):
    (tmp_path / "gallery" / "reserve").unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(StorageFullError, match="are left for"):
        patched.setattr("os.posix_fallocate", full)
        gallery.add(new_scene("a"), people(1))

    assert gallery.scenes.count() == 0
    assert gallery.add(new_scene("a"), people(1)).created


def test_a_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(GalleryError, match=f"cannot use {tmp_path / 'file'} as a gallery"):
        open_gallery(tmp_path / "file")


def test_a_disk_that_fails_is_said_to_fail_and_nothing_half_stored_stays(
    gallery, tmp_path, monkeypatch
):
    def fail(_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched, pytest.raises(GalleryError, match="Input/output"):
        patched.setattr("os.fsync", fail)
        gallery.add(new_scene("a"), people(1))

    assert files(tmp_path) == set()
    assert gallery.scenes.count() == 0


def test_a_closed_gallery_takes_nothing_and_closes_again_without_harm(tmp_path):
    gallery = open_gallery(tmp_path / "gallery")
    gallery.close()
    gallery.close()

    with pytest.raises(GalleryError, match="is closed"):
        gallery.add(new_scene("a"), people(1))
