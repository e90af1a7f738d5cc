"""Originals in object storage: a gallery keeps, gives and deletes them as it does files."""

import pytest

from indexer.errors import (
    DatabaseUnavailableError,
    ExternalIdConflictError,
    GalleryDamagedError,
    GalleryError,
)
from indexer.files.object_originals import ObjectOriginals
from indexer.files.objects import Objects
from indexer.gallery.moving import export_gallery, import_gallery
from indexer.tests.scenery import database_of, new_scene, open_gallery, people, reopen_gallery

pytestmark = pytest.mark.slow


@pytest.fixture
def there(s3_url):
    return ObjectOriginals(Objects(s3_url))


def nothing(step):
    pass


def test_a_file_comes_back_as_it_was_given_and_goes_when_it_is_removed(there):
    scene = new_scene("a")
    assert there.is_empty()

    there.put(scene.sha256, scene.content, nothing)

    assert there.has(scene.sha256)
    assert there.read(scene.sha256) == b"a"
    assert there.stored() == {scene.sha256}
    there.remove([scene.sha256])
    there.remove([scene.sha256])
    assert not there.has(scene.sha256)
    with pytest.raises(GalleryDamagedError, match="is gone"):
        there.read(scene.sha256)


def test_a_file_that_was_changed_is_noticed(there):
    scene = new_scene("a")
    there.put(scene.sha256, b"b", nothing)

    with pytest.raises(GalleryDamagedError, match="not what was stored"):
        there.read(scene.sha256)


def test_a_gallery_has_exactly_the_originals_of_its_scenes(tmp_path, database, s3_url, there):
    with open_gallery(tmp_path, originals=s3_url) as gallery:
        scenes = [
            gallery.add(new_scene(f"{n}", external_id=f"{n}"), people(2)).scene for n in "abc"
        ]
        with pytest.raises(ExternalIdConflictError):
            gallery.add(new_scene("d", external_id="a"), people(2))
        gallery.remove(scenes[0].id)
        gallery.erasures.finish(gallery.erasures.begin(scene_ids=[scenes[1].id]).id)

        assert there.stored() == {scenes[2].sha256}
        assert gallery.scenes.content(scenes[2].id) == b"c"
    there.put(new_scene("left by a crash").sha256, b"left by a crash", nothing)
    for name in "xy":
        there.put(new_scene(name).sha256, name.encode(), nothing)
    there.mark([new_scene("x").sha256])  # its removal ended before it was deleted
    with reopen_gallery(tmp_path, originals=s3_url) as gallery:
        gallery.upkeep.sweep_originals()
        assert there.stored() == {scenes[2].sha256}
        left = [new_scene(name).sha256 for name in ("left by a crash", "y")]
        assert {one.sha256 for one in gallery.quarantine.look()} == set(left)
        assert gallery.quarantine.read(left[1]) == b"y"
        gallery.quarantine.remove(left[:1])
        added = gallery.add(new_scene("y"), people(2)).scene
        assert gallery.quarantine.look() == []
        gallery.remove(added.id)
        gallery.upkeep.sweep_originals()
        assert gallery.quarantine.look() == []
        assert gallery.scenes.content(scenes[2].id) == b"c"
    assert not (tmp_path / "originals").exists()


def test_a_gallery_moves_into_object_storage_and_out_of_it(tmp_path, s3_url, there):
    with open_gallery(tmp_path / "first") as gallery:
        for number in range(5):
            gallery.add(new_scene(f"{number}"), people(2, seed=number))
        export_gallery(gallery, tmp_path / "moved.tar")
        scenes = gallery.scenes.page().scenes
    import_gallery(tmp_path / "moved.tar", tmp_path / "second", originals=s3_url)
    with reopen_gallery(tmp_path / "second", originals=s3_url) as gallery:
        assert gallery.scenes.page().scenes == scenes
        assert [gallery.scenes.content(scene.id) for scene in scenes] == [
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
        ]
        gone = []

        def meanwhile(done, total):
            if not gone:
                gone.append(scenes[4].id)
                gallery.remove(scenes[4].id)

        made = gallery.snapshots.make(on_progress=meanwhile)
        assert (made.scenes, made.damaged) == (5, ())
        assert there.stored() == {scene.sha256 for scene in scenes[:4]}
        export_gallery(gallery, tmp_path / "back")
    import_gallery(tmp_path / "back", tmp_path / "third")
    with reopen_gallery(tmp_path / "third") as gallery:
        assert [gallery.scenes.content(scene.id) for scene in scenes[:4]] == [
            b"0",
            b"1",
            b"2",
            b"3",
        ]


def test_processes_with_different_object_storage_are_refused(tmp_path, postgres, s3_url):
    url = database_of(tmp_path)
    with open_gallery(tmp_path / "one", originals=s3_url, database=url) as gallery:
        gallery.add(new_scene("a"), people(2))

    with pytest.raises(GalleryError, match="must share them"):
        open_gallery(tmp_path / "two", originals=f"{s3_url}-elsewhere", database=url)
    with open_gallery(tmp_path / "three", originals=s3_url, database=url) as gallery:
        assert gallery.scenes.content(gallery.scenes.page().scenes[0].id) == b"a"


def test_storage_that_cannot_be_reached_is_named(tmp_path, monkeypatch, s3_url):
    monkeypatch.setattr("indexer.files.objects.TIMEOUT_S", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(DatabaseUnavailableError, match=s3_url):
        open_gallery(tmp_path, originals=s3_url)


def test_a_url_that_is_none_is_refused(tmp_path):
    pytest.importorskip("obstore")
    with pytest.raises(GalleryError, match="cannot use"):
        open_gallery(tmp_path, originals="nowhere://x")
