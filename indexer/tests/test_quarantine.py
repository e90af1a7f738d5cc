"""A database that is older than the originals beside it: its write-ahead log was lost, say."""

import errno
import logging
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indexer.database.store import DATABASE
from indexer.errors import GalleryDamagedError, GalleryError
from indexer.gallery.restoring import restore_snapshot
from indexer.ingest.quarantine import take_back
from indexer.tests.scenery import StubDetector, new_scene, open_gallery, people, picture
from indexer.tests.test_crash_recovery import assert_whole
from indexer.tests.test_erasures import found_in

REMOVING = ["marked", "deleted", "committed", "unindexed", "erased"]
ERASING = [
    *("accepted", "erasing", "erasure committed", "erasure unindexed", "originals erased"),
    *("compacted", "completed"),
]


def without_log(directory, to):
    """Copy a gallery's directory as it is now, the log of its database left out."""
    shutil.copytree(directory, to, ignore=shutil.ignore_patterns("*-wal", "*-shm", "lock"))


def gallery_with_a(directory):
    with open_gallery(directory) as gallery:
        gallery.add(new_scene("a"), people(2, seed=1))


def lost(tmp_path, *names):
    """A gallery of the scene a, and the originals of others that its database has lost."""
    gallery_with_a(tmp_path / "whole")
    with open_gallery(tmp_path / "whole") as gallery:
        for number, name in enumerate(names):
            gallery.add(new_scene(name), people(2, seed=10 + number))
        without_log(tmp_path / "whole", tmp_path / "lost")
    return tmp_path / "lost"


def aside(gallery):
    return {one.sha256 for one in gallery.quarantine.look()}


def test_what_the_database_has_lost_is_set_aside_counted_and_logged(tmp_path, caplog):
    directory = lost(tmp_path, "b", "c")
    b, c = new_scene("b").sha256, new_scene("c").sha256

    with caplog.at_level(logging.WARNING), open_gallery(directory) as gallery:
        assert gallery.scenes.count() == 1
        assert_whole(gallery, directory)
        assert (gallery.quarantine.files, gallery.quarantine.nbytes) == (2, 2)
        assert {gallery.quarantine.read(one) for one in (b, c)} == {b"b", b"c"}
        (entry,) = gallery.trail.entries(limit=5, action="originals_set_aside")
        assert entry.details == {"files": 2}
    assert "2 originals" in caplog.text
    with open_gallery(directory) as gallery:
        assert gallery.quarantine.files == 2  # still there, and not counted anew
        assert len(gallery.trail.entries(limit=5, action="originals_set_aside")) == 1


def test_a_gallery_that_was_never_closed_opens_without_its_log(tmp_path):
    with open_gallery(tmp_path / "whole") as gallery:
        gallery.add(new_scene("a"), people(2))
        without_log(tmp_path / "whole", tmp_path / "lost")

    with open_gallery(tmp_path / "lost") as gallery:
        assert (gallery.scenes.count(), gallery.quarantine.files) == (0, 1)
        assert gallery.quarantine.read(new_scene("a").sha256) == b"a"


def test_originals_come_back_with_their_database(tmp_path):
    directory = lost(tmp_path, "b")
    open_gallery(directory).close()
    assert (directory / "quarantine" / new_scene("b").sha256).exists()
    shutil.copyfile(tmp_path / "whole" / DATABASE, directory / DATABASE)

    with open_gallery(directory) as gallery:
        assert aside(gallery) == set()
        assert_whole(gallery, directory)
        assert gallery.scenes.content(gallery.scenes.find(new_scene("b").sha256).id) == b"b"


def test_what_is_added_again_leaves_the_quarantine(tmp_path):
    directory = lost(tmp_path, "b", "c")
    with open_gallery(directory) as gallery:
        gallery.add(new_scene("b"), people(2))

        assert aside(gallery) == {new_scene("c").sha256}
        assert gallery.quarantine.files == 1
        assert_whole(gallery, directory)


@pytest.mark.parametrize("step", REMOVING)
@pytest.mark.parametrize("known", [True, False], ids=["in the database", "lost with the log"])
def test_what_was_being_removed_is_deleted_and_never_set_aside(tmp_path, step, known):
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    gallery_with_a(whole)

    def copied(reached):
        if armed and reached == step:
            without_log(whole, copy)

    armed = False
    with open_gallery(whole, on_step=copied) as gallery:
        gallery.add(new_scene("b"), people(2))
        armed = True
        gallery.remove(gallery.scenes.find(new_scene("a" if known else "b").sha256).id)

    with open_gallery(copy) as gallery:
        assert aside(gallery) == ({new_scene("b").sha256} if known else set())
        assert not list((copy / "originals").glob("*.removed"))
        if not known:
            assert not (copy / "originals" / new_scene("b").sha256).exists()


def test_no_mark_is_left_of_a_removal(tmp_path):
    with open_gallery(tmp_path) as gallery:
        scene = gallery.add(new_scene("a"), people(2)).scene

        def meanwhile(done, total):
            if gallery.scenes.count():
                gallery.remove(scene.id)

        gallery.snapshots.make(on_progress=meanwhile)

        assert list((tmp_path / "originals").iterdir()) == []


def test_a_scene_added_again_while_a_snapshot_holds_its_file_is_no_longer_marked(tmp_path):
    with open_gallery(tmp_path / "whole") as gallery:
        scene = gallery.add(new_scene("a"), people(2)).scene
        done_once = []

        def meanwhile(done, total):
            if not done_once:
                gallery.remove(scene.id)
                assert list((tmp_path / "whole" / "originals").glob("*.removed"))
                gallery.add(new_scene("a"), people(2))
                done_once.append(without_log(tmp_path / "whole", tmp_path / "lost"))

        gallery.snapshots.make(on_progress=meanwhile)

        assert_whole(gallery, tmp_path / "whole")
    with open_gallery(tmp_path / "lost") as gallery:
        assert aside(gallery) == {scene.sha256}


@pytest.mark.parametrize("step", ERASING)
@pytest.mark.parametrize("known", [True, False], ids=["in the database", "lost with the log"])
def test_what_was_accepted_is_erased_though_the_log_is_lost_after_any_step(tmp_path, step, known):
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    with open_gallery(whole) as gallery:
        gallery.add(new_scene("another"), people(2, seed=8))
        if known:
            gallery.add(new_scene("a face"), people(2, seed=9))

    def copied(reached):
        if reached == step:
            without_log(whole, copy)

    with open_gallery(whole, on_step=copied) as gallery:
        if not known:
            gallery.add(new_scene("a face"), people(2, seed=9))
        scene = gallery.scenes.find(new_scene("a face").sha256)
        accepted = gallery.erasures.begin(scene_ids=[scene.id])
        receipt = gallery.erasures.finish(accepted.id)
        assert list((whole / "erasures").iterdir()) == []

    with open_gallery(copy) as gallery:
        again = gallery.erasures.get(accepted.id)
        assert again.completed_at is not None
        assert (again.images, again.ids_sha256) == (1, receipt.ids_sha256)
        assert aside(gallery) == set()
        assert gallery.scenes.count() == 1
        assert_whole(gallery, copy)
    needles = [b"a face", *(one.tobytes() for one in people(2, seed=9).embeddings)]
    assert found_in(copy, *needles, scene.sha256.encode()) == []


def test_erased_people_stay_erased_though_the_log_is_lost(tmp_path):
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    gallery_with_a(whole)
    with open_gallery(whole) as gallery:
        scene = gallery.scenes.find(new_scene("a").sha256)
        gallery.erasures.begin(detection_ids=[scene.detections[0].id])
        without_log(whole, copy)

    with open_gallery(copy) as gallery:
        assert gallery.get(scene.id).detections == scene.detections[1:]
        assert gallery.scenes.content(scene.id) == b"a"


def test_an_erasure_that_was_not_accepted_leaves_no_file(tmp_path, monkeypatch):
    gallery_with_a(tmp_path)
    with open_gallery(tmp_path) as gallery:
        scene = gallery.scenes.find(new_scene("a").sha256)

        def fail(connection, id):
            raise GalleryError("no")

        with monkeypatch.context() as patched, pytest.raises(GalleryError, match="no"):
            patched.setattr(gallery.erasures._accepted, "write", fail)
            gallery.erasures.begin(scene_ids=[scene.id])

        assert gallery.erasures.page(limit=5) == []
        assert found_in(tmp_path / "erasures", b"pending") == []


def test_a_damaged_file_of_an_erasure_is_refused(tmp_path):
    gallery_with_a(tmp_path)
    (tmp_path / "erasures").mkdir()
    (tmp_path / "erasures" / "era_x.json").write_text("{}")

    with pytest.raises(GalleryDamagedError, match=r"era_x\.json is damaged"):
        open_gallery(tmp_path)


def test_erased_bytes_go_from_the_quarantine_too(tmp_path):
    gallery_with_a(tmp_path)
    with open_gallery(tmp_path) as gallery:
        scene = gallery.scenes.find(new_scene("a").sha256)
        (tmp_path / "quarantine").mkdir()
        (tmp_path / "quarantine" / scene.sha256).write_bytes(b"a")

        gallery.erasures.finish(gallery.erasures.begin(scene_ids=[scene.id]).id)

        assert aside(gallery) == set()


def test_what_is_in_quarantine_survives_a_restore(tmp_path):
    directory = lost(tmp_path, "b")
    with open_gallery(directory) as gallery:
        snapshot = gallery.snapshots.make()

    restore_snapshot(directory / "snapshots" / snapshot.id, directory)

    with open_gallery(directory) as gallery:
        assert gallery.quarantine.read(new_scene("b").sha256) == b"b"


def test_pictures_taken_back_are_scenes_again_and_what_is_none_stays(tmp_path):
    gallery_with_a(tmp_path)
    (tmp_path / "originals" / ("0" * 64)).write_bytes(b"no picture")
    open_gallery(tmp_path).close()
    (tmp_path / "quarantine" / ("1" * 64)).write_bytes(picture(1))

    with open_gallery(tmp_path) as gallery:
        names = [one.sha256 for one in gallery.quarantine.look()]
        first, second = sorted(
            take_back(names, StubDetector(), gallery, camera_id="gate"), key=lambda one: one.sha256
        )

        assert first.result is None
        assert "picture" in str(first.error)
        assert second.result.created
        assert second.result.scene.camera_id == "gate"
        assert gallery.scenes.content(second.result.scene.id) == picture(1)
        assert aside(gallery) == {"0" * 64}
        with pytest.raises(GalleryError, match="there is no"):
            gallery.quarantine.remove(["0" * 64, "2" * 64])
        assert aside(gallery) == {"0" * 64}
        gallery.quarantine.remove(["0" * 64])
        assert aside(gallery) == set()


def test_what_is_older_than_any_camera_allows_is_deleted_from_quarantine(tmp_path):
    directory = lost(tmp_path, "b")
    with open_gallery(directory) as gallery:
        at = datetime.now(UTC) + timedelta(days=20)
        gallery.upkeep.expire({"gate": 10}, at)  # others stay for ever: whose it is is not known
        gallery.upkeep.expire({"gate": 30, "*": 10}, at)
        assert gallery.quarantine.files == 1
        gallery.upkeep.expire({"gate": 10, "*": 10}, at)

        assert gallery.quarantine.files == 0
        assert found_in(directory / "quarantine", b"b") == []


def test_a_quarantine_that_cannot_be_read_is_named(tmp_path):
    gallery_with_a(tmp_path)
    (tmp_path / "quarantine").write_bytes(b"in the way")

    with pytest.raises(GalleryError, match="cannot read"):
        open_gallery(tmp_path)


def test_a_quarantine_on_another_file_system_gets_a_copy(tmp_path, monkeypatch):
    directory = lost(tmp_path, "b")
    name = new_scene("b").sha256
    rename = Path.replace

    def elsewhere(path, target):
        if path.parent != Path(target).parent:
            raise OSError(errno.EXDEV, "another file system")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", elsewhere)
    with open_gallery(directory) as gallery:
        assert gallery.quarantine.read(name) == b"b"
    assert not (directory / "originals" / name).exists()


def test_a_file_that_cannot_be_set_aside_stays_where_it_is(tmp_path, caplog, monkeypatch):
    directory = lost(tmp_path, "b")

    def fail(source, target):
        raise OSError(errno.EACCES, "not allowed")

    monkeypatch.setattr("indexer.files.quarantine._move", fail)

    with open_gallery(directory) as gallery:
        assert gallery.scenes.count() == 1

    assert (directory / "originals" / new_scene("b").sha256).read_bytes() == b"b"
    assert "cannot be moved" in caplog.text
