import threading

import pytest

from indexer.database.sqlite import SqliteFile
from indexer.errors import (
    ErasureChangedError,
    ErasureNotFoundError,
    GalleryError,
    StorageFullError,
)
from indexer.gallery.gallery import Gallery
from indexer.rows.erasures import hash_id
from indexer.tests.dying import DEATH
from indexer.tests.scenery import new_scene, open_gallery, people
from indexer.tests.test_crash_recovery import assert_whole, death

# So many that rows fill many pages.
NAMES = [*(f"old {number}" for number in range(3)), *(f"scene {number}" for number in range(37))]


def gallery_of_many(directory):
    """Scenes of four people; the names of the first three are those of the other crash tests."""
    with open_gallery(directory) as gallery:
        for number, name in enumerate(NAMES):
            gallery.add(new_scene(name), people(4, seed=number))
        for name in NAMES[10:30:3]:  # so that rows have moved between pages, and left gaps
            gallery.remove(gallery.scenes.find(new_scene(name).sha256).id)


def vectors(number, count=4):
    return [embedding.tobytes() for embedding in people(4, seed=number).embeddings[:count]]


def found_in(directory, *needles):
    """The files of a directory that hold one of these."""
    return [
        path
        for path in directory.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


def scene_of(gallery, name):
    return gallery.scenes.find(new_scene(name).sha256)


def test_of_an_erased_scene_no_byte_is_left_in_the_directory(tmp_path):
    gallery_of_many(tmp_path)
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "upload").write_bytes(b"old 1")
    (tmp_path / "spool" / "other").write_bytes(b"old 0")
    with open_gallery(tmp_path) as gallery:
        gallery.add(new_scene("a face"), people(2, seed=99))  # only in the log yet
        scenes = [scene_of(gallery, "old 1"), scene_of(gallery, "a face")]
        assert found_in(tmp_path, *vectors(1), b"old 1", b"a face")

        erasure = gallery.erasures.finish(
            gallery.erasures.begin(scene_ids=[one.id for one in scenes]).id
        )

        needles = [*vectors(1), b"old 1", b"a face", *(one.sha256.encode() for one in scenes)]
        needles += [embedding.tobytes() for embedding in people(2, seed=99).embeddings]
        assert found_in(tmp_path, *needles) == []
        assert_whole(gallery, tmp_path)
    assert (erasure.images, erasure.detections, erasure.originals) == (2, 6, 2)
    assert found_in(tmp_path, *needles) == []
    assert (tmp_path / "spool" / "other").exists()


def test_erased_detections_leave_their_scene_and_its_picture(tmp_path):
    gallery_of_many(tmp_path)
    with open_gallery(tmp_path) as gallery:
        scene = scene_of(gallery, "old 1")
        erased, kept = scene.detections[:2], scene.detections[2:]

        erasure = gallery.erasures.finish(
            gallery.erasures.begin(detection_ids=[one.id for one in erased]).id
        )

        assert gallery.get(scene.id).detections == kept
        assert gallery.scenes.content(scene.id) == b"old 1"
        assert found_in(tmp_path, *vectors(1, 2)) == []
        assert found_in(tmp_path, vectors(1)[3])
        assert_whole(gallery, tmp_path)
    assert (erasure.what, erasure.images, erasure.detections) == ("detections", 0, 2)


def test_a_receipt_says_what_when_and_who_by_hashes_alone(tmp_path):
    gallery_of_many(tmp_path)
    with open_gallery(tmp_path) as gallery:
        scene = scene_of(gallery, "old 1")
        accepted = gallery.erasures.begin(scene_ids=[scene.id, "img_none"])
        receipt = gallery.erasures.finish(accepted.id)
        again = gallery.erasures.finish(accepted.id)

    ids = [scene.id, *(one.id for one in scene.detections)]
    assert receipt.ids_sha256 == tuple(sorted(map(hash_id, ids)))
    assert accepted.completed_at is None
    assert receipt.accepted_at <= receipt.completed_at
    assert again == receipt
    with Gallery.reopen(tmp_path) as gallery:
        assert gallery.erasures.get(receipt.id) == receipt
        assert gallery.erasures.page(limit=5) == [receipt]
        assert gallery.erasures.page(limit=5, before=receipt.id) == []
        with pytest.raises(ErasureNotFoundError):
            gallery.erasures.get("era_none")


def test_what_is_not_agreed_is_not_erased(tmp_path):
    gallery_of_many(tmp_path)
    with open_gallery(tmp_path) as gallery:
        scene = scene_of(gallery, "old 1")

        with pytest.raises(ErasureChangedError):
            gallery.erasures.begin(scene_ids=[scene.id], agreed=lambda: False)

        assert gallery.get(scene.id) == scene
        assert gallery.erasures.page(limit=5) == []
        with pytest.raises(ValueError, match="scenes, or detections"):
            gallery.erasures.begin()


def test_a_picture_that_was_added_again_after_it_was_accepted_stays(tmp_path):
    gallery_of_many(tmp_path)
    with open_gallery(tmp_path) as gallery:
        scene = scene_of(gallery, "old 1")
        accepted = gallery.erasures.begin(scene_ids=[scene.id])
        gallery.remove(scene.id)
        again = gallery.add(new_scene("old 1"), people(1, seed=77)).scene

        gallery.erasures.finish(accepted.id)

        assert gallery.scenes.content(again.id) == b"old 1"
        assert found_in(tmp_path, *vectors(1)) == []
        assert_whole(gallery, tmp_path)


def test_a_search_during_an_erasure_does_not_hinder_it(tmp_path):
    gallery_of_many(tmp_path)

    def search(step):
        if step == "originals erased":
            assert len(gallery.search(people(1, seed=5).embeddings[0], k=200)) > 100

    with open_gallery(tmp_path, on_step=search) as gallery:
        gallery.erasures.finish(
            gallery.erasures.begin(scene_ids=[scene_of(gallery, "old 1").id]).id
        )

        assert_whole(gallery, tmp_path)


def test_an_erasure_writes_the_database_anew_and_leaves_no_unused_page(tmp_path):
    gallery_of_many(tmp_path)
    with open_gallery(tmp_path) as gallery:
        for number in range(100, 130):
            gallery.add(new_scene(f"{number}"), people(20, seed=number))
        ids = [scene.id for scene in gallery.scenes.page(limit=60).scenes[:-3]]
        for id in ids[30:]:
            gallery.remove(id)
        assert gallery.upkeep.index_state().database_free_bytes > 0

        gallery.erasures.finish(gallery.erasures.begin(scene_ids=ids[:5]).id)

        assert gallery.upkeep.index_state().database_free_bytes == 0
        assert (tmp_path / "gallery.sqlite3-wal").stat().st_size == 0


def test_searches_go_on_while_the_database_is_written_anew(tmp_path):
    gallery_of_many(tmp_path)
    ended, failures, searches = threading.Event(), [], []

    def search(gallery, seed):
        query = people(1, seed=seed).embeddings[0]
        try:
            while not ended.is_set():
                searches.append(len(gallery.search(query, k=20)))
        except Exception as error:
            failures.append(error)
            raise

    with open_gallery(tmp_path) as gallery:
        threads = [threading.Thread(target=search, args=(gallery, seed)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for scene in gallery.scenes.page(limit=5).scenes:
            gallery.erasures.finish(gallery.erasures.begin(scene_ids=[scene.id]).id)
        ended.set()
        for thread in threads:
            thread.join()

        assert_whole(gallery, tmp_path)
    assert failures == []
    assert len(searches) > 5
    assert set(searches) == {20}


def test_a_read_without_an_end_is_told_and_the_erasure_goes_on_later(tmp_path, monkeypatch):
    monkeypatch.setattr("indexer.database.sqlite.CHECKPOINT_WAIT_S", 0)
    gallery_of_many(tmp_path)
    with open_gallery(tmp_path) as gallery:
        accepted = gallery.erasures.begin(scene_ids=[scene_of(gallery, "old 1").id])
        with (
            gallery._store.frozen(),
            pytest.raises(GalleryError, match="has not ended"),
        ):
            gallery.erasures.finish(accepted.id)
        assert gallery.erasures.get(accepted.id).completed_at is None
        assert scene_of(gallery, "old 1") is None

        gallery.erasures.finish_all()

        assert gallery.erasures.get(accepted.id).completed_at is not None
        assert found_in(tmp_path, *vectors(1), b"old 1") == []


def test_without_space_an_erasure_deletes_and_is_finished_later(tmp_path, monkeypatch):
    def full(self):
        raise StorageFullError("full")

    gallery_of_many(tmp_path)
    with open_gallery(tmp_path) as gallery:
        accepted = gallery.erasures.begin(scene_ids=[scene_of(gallery, "old 1").id])
        with monkeypatch.context() as patched, pytest.raises(StorageFullError):
            patched.setattr(SqliteFile, "vacuum", full)
            gallery.erasures.finish(accepted.id)
        assert scene_of(gallery, "old 1") is None
        assert gallery.erasures.get(accepted.id).completed_at is None
    with monkeypatch.context() as patched:
        patched.setattr(SqliteFile, "vacuum", full)
        with open_gallery(tmp_path) as gallery:  # opens nevertheless
            assert gallery.erasures.get(accepted.id).completed_at is None

    with open_gallery(tmp_path) as gallery:
        assert gallery.erasures.get(accepted.id).completed_at is not None
    assert found_in(tmp_path, *vectors(1), b"old 1") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        "accepted",
        "erasing",
        "erasure committed",
        "erasure unindexed",
        "originals erased",
        "compacted",
        "completed",
    ],
)
@pytest.mark.parametrize("action", ["erase", "forget"])
def test_what_was_accepted_is_erased_wherever_the_erasure_ends(tmp_path, action, step):
    gallery_of_many(tmp_path)

    assert death(action, tmp_path, step) == DEATH

    count = {"erase": 4, "forget": 2}[action]
    with open_gallery(tmp_path) as gallery:
        assert_whole(gallery, tmp_path)
        (receipt,) = gallery.erasures.page(limit=5)
        assert receipt.completed_at is not None
        assert receipt.detections == count
        assert (scene_of(gallery, "old 1") is None) == (action == "erase")
        assert found_in(tmp_path, *vectors(1, count)) == []
        actions = [entry.action for entry in gallery.trail.entries(limit=100)]
        assert (actions.count("erasure_accepted"), actions.count("erasure_completed")) == (1, 1)
        removed = {"erase": "scene_removed", "forget": "detection_removed"}[action]
        erased = [
            entry for entry in gallery.trail.entries(limit=100, action=removed) if entry.details
        ]
        assert len(erased) == {"erase": 1, "forget": 2}[action]
    if action == "erase":
        assert found_in(tmp_path, b"old 1") == []
