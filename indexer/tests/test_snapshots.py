import errno
import json
import os
import random
import shutil
import threading
import time
from contextlib import closing

import pytest

from indexer.errors import (
    GalleryLockedError,
    GalleryMismatchError,
    SceneNotFoundError,
    SnapshotBusyError,
    SnapshotDamagedError,
    SnapshotNotFoundError,
    StorageFullError,
)
from indexer.gallery import manifest as module
from indexer.gallery.gallery import Gallery
from indexer.gallery.manifest import MANIFEST, check_snapshot
from indexer.gallery.restoring import restore_snapshot
from indexer.gallery.snapshots import DATABASE, find_snapshot, list_snapshots, remove_snapshot
from indexer.tests.dying import DEATH
from indexer.tests.scenery import new_scene, open_gallery, people
from indexer.tests.test_crash_recovery import assert_whole, death, gallery_of_three


def names(directory):
    return {path.name for path in directory.glob("*")}


def changed(directory):
    """A gallery with a snapshot of three scenes, of which one is gone now and a fourth is new."""
    gallery_of_three(directory)
    with open_gallery(directory) as gallery:
        made = gallery.snapshots.make()
        gallery.remove(gallery.scenes.find(new_scene("old 0").sha256).id)
        gallery.add(new_scene("late"), people(2, seed=9))
    return directory / "snapshots" / made.id


def assert_is_the_snapshot(directory):
    with open_gallery(directory) as gallery:
        assert_whole(gallery, directory)
        assert gallery.scenes.count() == 3
        for number in range(3):
            scene = gallery.scenes.find(new_scene(f"old {number}").sha256)
            expected = people(4, seed=number)
            for one, embedding in zip(scene.detections, expected.embeddings, strict=True):
                assert gallery.people.embedding(one.id).tobytes() == embedding.tobytes()


def assert_is_as_it_was(directory):
    with open_gallery(directory) as gallery:
        assert_whole(gallery, directory)
        assert gallery.scenes.count() == 3
        assert gallery.scenes.find(new_scene("old 0").sha256) is None
        assert gallery.scenes.find(new_scene("late").sha256) is not None


def test_a_snapshot_restored_elsewhere_is_the_gallery_that_it_was_made_of(tmp_path):
    snapshot = changed(tmp_path / "here")

    restore_snapshot(snapshot, tmp_path / "there")

    assert_is_the_snapshot(tmp_path / "there")


def test_a_snapshot_restored_in_place_undoes_what_came_after_it(tmp_path):
    snapshot = changed(tmp_path)

    restore_snapshot(snapshot, tmp_path)

    assert_is_the_snapshot(tmp_path)
    assert list_snapshots(tmp_path / "snapshots")[0].path == snapshot
    assert sorted(names(tmp_path)) == [
        DATABASE,
        "lock",
        "originals",
        "reserve",
        "snapshots",
    ]


def test_a_manifest_says_size_and_hash_of_every_file_and_whose_gallery_it_is(tmp_path):
    snapshot = changed(tmp_path)

    manifest = find_snapshot(snapshot.parent, snapshot.name).manifest
    files = {
        str(path.relative_to(snapshot)): path.stat().st_size
        for path in snapshot.rglob("*")
        if path.is_file() and path.name != MANIFEST
    }
    assert {name: size for name, (size, _) in manifest.files.items()} == files
    assert (manifest.scenes, manifest.detections, manifest.last_change) == (3, 12, 3)
    assert (manifest.model_name, manifest.embedding_dim, manifest.damaged) == ("stub", 48, ())
    assert check_snapshot(snapshot) == manifest


def test_originals_are_linked_and_not_copied(tmp_path):
    snapshot = changed(tmp_path)
    name = new_scene("old 1").sha256

    assert (snapshot / "originals" / name).samefile(tmp_path / "originals" / name)


def test_where_no_link_can_be_made_originals_are_copied(tmp_path, monkeypatch):
    def refuse(source, target):
        if not source.exists():
            raise FileNotFoundError(errno.ENOENT, "gone", source)
        raise OSError(errno.EXDEV, "another file system", source)

    monkeypatch.setattr(os, "link", refuse)
    snapshot = changed(tmp_path / "here")
    restore_snapshot(snapshot, tmp_path / "there")

    copied = snapshot / "originals" / new_scene("old 1").sha256
    assert copied.stat().st_nlink == 1
    assert_is_the_snapshot(tmp_path / "there")


def test_a_snapshot_shows_one_moment_though_scenes_come_and_go_all_the_while(tmp_path):
    """Twenty snapshots, each restored elsewhere and compared with its number of changes."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 (shown when the test fails)
    here, there = tmp_path / "here", tmp_path / "there"
    ended = threading.Event()
    present = {}  # by number of change, what was there after it
    failures = []

    def come_and_go(gallery):
        chance, ids, count = random.Random(seed), {}, 0
        try:
            while not ended.is_set():
                if ids and chance.random() < 0.5:
                    name = chance.choice(list(ids))
                    gallery.remove(ids.pop(name))
                else:
                    # Few names: what goes comes back, also while a snapshot is being made.
                    name = f"scene {chance.randrange(30)}"
                    added = gallery.add(new_scene(name), people(2, seed=count))
                    if not added.created:
                        continue
                    ids[name] = added.scene.id
                count += 1
                present[count] = frozenset(ids)
        except Exception as error:
            failures.append(error)
            raise

    with open_gallery(here) as gallery:
        writer = threading.Thread(target=come_and_go, args=(gallery,))
        writer.start()
        try:
            for _ in range(20):
                time.sleep(0.02)
                made = gallery.snapshots.make()

                restore_snapshot(here / "snapshots" / made.id, there)

                with open_gallery(there) as restored:
                    assert_whole(restored, there)
                    scenes = restored.scenes.page(limit=100).scenes
                    found = {restored.scenes.content(one.id).decode() for one in scenes}
                while made.last_change not in present:  # committed, and not yet written down
                    assert writer.is_alive()
                    time.sleep(0.01)
                assert found == present[made.last_change]
                assert made.damaged == ()
                shutil.rmtree(there)
                remove_snapshot(here / "snapshots", made.id)
        finally:
            ended.set()
            writer.join()
        assert not failures
        assert_whole(gallery, here)
        assert len(present) > 20


def test_what_is_removed_during_a_snapshot_is_in_it_and_gone_from_the_gallery(tmp_path):
    gallery_of_three(tmp_path)

    def remove_one(step):
        if step == "copied":
            gallery.remove(gallery.scenes.find(new_scene("old 1").sha256).id)

    with open_gallery(tmp_path, on_step=remove_one) as gallery:
        made = gallery.snapshots.make()

        assert_whole(gallery, tmp_path)
        assert (made.scenes, made.damaged) == (3, ())


def test_a_lost_or_damaged_original_does_not_hinder_a_snapshot_and_is_named(tmp_path):
    gallery_of_three(tmp_path / "here")
    lost, damaged = new_scene("old 0").sha256, new_scene("old 2").sha256
    (tmp_path / "here" / "originals" / lost).unlink()
    (tmp_path / "here" / "originals" / damaged).write_bytes(b"OLD 2")
    with open_gallery(tmp_path / "here") as gallery:
        made = gallery.snapshots.make()
        restore_snapshot(gallery.snapshots.directory / made.id, tmp_path / "there")

    assert set(made.damaged) == {lost, damaged}
    with open_gallery(tmp_path / "there") as gallery:
        assert gallery.scenes.count() == 3
        assert gallery.scenes.content(gallery.scenes.find(new_scene("old 1").sha256).id) == b"old 1"


def damages():
    def cut(snapshot):
        path = snapshot / DATABASE
        path.write_bytes(path.read_bytes()[:-4096])

    def flip(snapshot):
        path = snapshot / DATABASE
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def lose(snapshot):
        (snapshot / "originals" / new_scene("old 1").sha256).unlink()

    def replace(snapshot):
        path = snapshot / "originals" / new_scene("old 1").sha256
        path.unlink()  # it is a link: the gallery's own must stay
        path.write_bytes(b"old 2")

    def edit(snapshot):
        path = snapshot / MANIFEST
        path.write_text(path.read_text().replace('"scenes": 3', '"scenes": 2'))

    def lose_manifest(snapshot):
        (snapshot / MANIFEST).unlink()

    def no_manifest(snapshot):
        (snapshot / MANIFEST).write_text("[]")

    return [cut, flip, lose, replace, edit, lose_manifest, no_manifest]


@pytest.mark.parametrize("damage", damages(), ids=lambda damage: damage.__name__)
def test_a_damaged_snapshot_is_refused_and_the_gallery_stays_as_it_was(tmp_path, damage):
    snapshot = changed(tmp_path)
    damage(snapshot)

    with pytest.raises(SnapshotDamagedError, match=snapshot.name):
        restore_snapshot(snapshot, tmp_path)

    assert_is_as_it_was(tmp_path)


def test_a_manifest_cannot_name_files_elsewhere(tmp_path):
    snapshot = changed(tmp_path)
    document = json.loads((snapshot / MANIFEST).read_text())
    document.pop("sha256")
    document["manifest"]["files"][1]["path"] = "../../lock"
    document["sha256"] = module._document_sha256(document)
    (snapshot / MANIFEST).write_text(json.dumps(document))

    with pytest.raises(SnapshotDamagedError, match="has no place"):
        restore_snapshot(snapshot, tmp_path)


def test_a_snapshot_of_a_newer_format_is_refused(tmp_path, monkeypatch):
    snapshot = changed(tmp_path)

    monkeypatch.setattr(module, "FORMAT", 3)

    with pytest.raises(GalleryMismatchError, match="reads up to 3"):
        restore_snapshot(snapshot, tmp_path)


def test_a_damaged_snapshot_is_listed_as_one(tmp_path):
    snapshot = changed(tmp_path)
    (snapshot / MANIFEST).write_text("{")

    (listed,) = list_snapshots(tmp_path / "snapshots")
    assert listed.manifest is None
    assert "cannot be read" in listed.problem


def test_nothing_is_restored_into_a_gallery_that_is_open(tmp_path):
    snapshot = changed(tmp_path)

    with open_gallery(tmp_path), pytest.raises(GalleryLockedError):
        restore_snapshot(snapshot, tmp_path)

    assert_is_as_it_was(tmp_path)


def test_a_snapshot_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(SnapshotNotFoundError):
        restore_snapshot(tmp_path / "snap_none", tmp_path)
    for id in ("snap_none", "..", "snap_" + "0" * 26):
        with pytest.raises(SnapshotNotFoundError):
            find_snapshot(tmp_path, id)
        with pytest.raises(SnapshotNotFoundError):
            remove_snapshot(tmp_path, id)


def test_a_full_disk_leaves_nothing_of_a_snapshot(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "full")

    gallery_of_three(tmp_path)
    with open_gallery(tmp_path) as gallery:
        monkeypatch.setattr(os, "link", full)
        with pytest.raises(StorageFullError):
            gallery.snapshots.make()

        assert names(tmp_path / "snapshots") == {"lock"}
        gallery.remove(gallery.scenes.page().scenes[0].id)
        assert_whole(gallery, tmp_path)


def test_a_snapshot_can_be_given_up_and_leaves_nothing(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    gallery_of_three(tmp_path)
    with open_gallery(tmp_path) as gallery:
        with pytest.raises(KeyboardInterrupt):
            gallery.snapshots.make(on_progress=stop)

        assert names(tmp_path / "snapshots") == {"lock"}


def test_two_galleries_do_not_write_snapshots_into_one_directory_at_once(tmp_path):
    gallery_of_three(tmp_path / "a")
    gallery_of_three(tmp_path / "b")

    def meanwhile(step):
        if step == "copied":
            with (
                open_gallery(tmp_path / "b", snapshots=tmp_path / "s") as other,
                pytest.raises(SnapshotBusyError),
            ):
                other.snapshots.make()

    with open_gallery(tmp_path / "a", snapshots=tmp_path / "s", on_step=meanwhile) as gallery:
        made = gallery.snapshots.make()

    assert check_snapshot(tmp_path / "s" / made.id).scenes == 3


def test_the_log_of_the_database_that_goes_is_not_applied_to_the_one_that_comes(tmp_path):
    snapshot = changed(tmp_path)
    with open_gallery(tmp_path) as gallery:
        gallery.add(new_scene("in the log"), people(2))
        with closing(module.sqlite3.connect(tmp_path / DATABASE)) as reader:
            reader.execute("SELECT * FROM scenes").fetchone()
            gallery.close()
            shutil.copy(tmp_path / f"{DATABASE}-wal", tmp_path / "kept")
    shutil.move(tmp_path / "kept", tmp_path / f"{DATABASE}-wal")

    restore_snapshot(snapshot, tmp_path)

    assert_is_the_snapshot(tmp_path)


def test_a_damaged_gallery_can_be_replaced(tmp_path):
    snapshot = changed(tmp_path)
    (tmp_path / DATABASE).write_bytes(b"no database" * 999)

    restore_snapshot(snapshot, tmp_path)

    assert_is_the_snapshot(tmp_path)


def test_what_was_erased_stays_erased_when_an_older_snapshot_is_restored(tmp_path):
    snapshot = changed(tmp_path)
    with open_gallery(tmp_path) as gallery:
        whole = gallery.scenes.find(new_scene("old 1").sha256)
        part = gallery.scenes.find(new_scene("old 2").sha256).detections[0]
        receipts = [
            gallery.erasures.finish(gallery.erasures.begin(scene_ids=[whole.id]).id),
            gallery.erasures.finish(gallery.erasures.begin(detection_ids=[part.id]).id),
        ]

    restore_snapshot(snapshot, tmp_path)

    with open_gallery(tmp_path) as gallery:
        assert_whole(gallery, tmp_path)
        assert gallery.scenes.count() == 2
        assert gallery.scenes.find(new_scene("old 0").sha256) is not None
        assert part.id not in [one.id for one in gallery.scenes.page().scenes[-1].detections]
        for receipt in receipts:
            again = gallery.erasures.get(receipt.id)
            assert again.ids_sha256 == receipt.ids_sha256
            assert again.completed_at > receipt.completed_at
    needle = people(4, seed=1).embeddings[0].tobytes()
    assert needle not in (tmp_path / DATABASE).read_bytes()
    assert needle in (snapshot / DATABASE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["frozen", "copied", "placed", "described", "named"])
def test_a_snapshot_is_there_whole_or_not_at_all_wherever_making_it_ends(tmp_path, step):
    gallery_of_three(tmp_path)

    assert death("snapshot", tmp_path, step) == DEATH

    with open_gallery(tmp_path) as gallery:
        assert_whole(gallery, tmp_path)
        found = list_snapshots(tmp_path / "snapshots")
        assert len(found) == (step == "named")
        assert names(tmp_path / "snapshots") <= {"lock", *(one.id for one in found)}
        gallery.snapshots.make()
    for one in list_snapshots(tmp_path / "snapshots"):
        assert check_snapshot(one.path).scenes == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "restored"),
    [
        ("checked", False),
        ("gathered", False),
        ("decided", True),
        ("originals away", True),
        ("originals in place", True),
        ("database in place", True),
        ("swapped", True),
    ],
)
def test_a_gallery_is_the_old_or_the_restored_one_wherever_restoring_ends(tmp_path, step, restored):
    changed(tmp_path)

    assert death("restore", tmp_path, step) == DEATH

    (assert_is_the_snapshot if restored else assert_is_as_it_was)(tmp_path)
    assert not [name for name in names(tmp_path) if name.startswith("restore")]


def test_a_restore_that_was_decided_is_finished_by_whoever_opens_the_gallery(tmp_path, monkeypatch):
    snapshot = changed(tmp_path)

    def die(step):
        if step == "originals in place":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_snapshot(snapshot, tmp_path, on_step=die)

    with Gallery.reopen(tmp_path) as gallery:
        assert gallery.scenes.find(new_scene("old 0").sha256) is not None
        with pytest.raises(SceneNotFoundError):
            gallery.get("img_none")
