"""A gallery goes from one kind of database into the other and back, and answers the same."""

import numpy as np
import pytest

from indexer.errors import GalleryNotEmptyError, SnapshotDamagedError
from indexer.gallery.gallery import Gallery
from indexer.gallery.moving import export_gallery, import_gallery
from indexer.records import SceneFilter
from indexer.tests.scenery import (
    OtherDetector,
    database_of,
    model_of,
    new_scene,
    open_gallery,
    people,
    unit,
)

QUERIES = unit(np.random.default_rng(4).standard_normal((5, 48), np.float32))


def filled(directory, **options):
    gallery = open_gallery(directory, **options)
    for number in range(40):
        about = {"camera_id": f"camera {number % 3}", "tags": ("b", "a")[: number % 3]}
        gallery.add(new_scene(f"scene {number}", **about), people(3, seed=number))
    scenes = gallery.scenes.page(limit=100).scenes
    gallery.remove(scenes[-1].id)  # its numbers are not to be given again
    gallery.remove(scenes[3].id)
    gallery.people.remove(scenes[5].detections[1].id)
    gallery.people.label(scenes[6].detections[0].id, "somebody")
    gallery.generations.begin(model_of(OtherDetector))
    return gallery


def told(gallery):
    """Everything that can be read of a gallery, and what it answers."""
    scenes = gallery.scenes.page(limit=1000).scenes
    some = SceneFilter(camera_in=("camera 1",), tags_any=("a", "b"))
    return (
        scenes,
        [gallery.scenes.content(scene.id) for scene in scenes],
        [
            gallery.people.embedding(one.id).tobytes()
            for scene in scenes
            for one in scene.detections
        ],
        [gallery.search(query, k=20) for query in QUERIES],
        [gallery.search(query, k=20, filter=some, group_by="image") for query in QUERIES],
        gallery.generations.all(),
        gallery.stats().last_change,
    )


@pytest.mark.parametrize("name", ["moved", "moved.tar"])
def test_a_gallery_moves_to_postgresql_and_back_with_all_its_ids(tmp_path, postgres, name):
    with filled(tmp_path / "first", database=None) as gallery:
        before = told(gallery)
        export_gallery(gallery, tmp_path / name)
        later = gallery.add(new_scene("later"), people(2, seed=77)).scene

    url = database_of(tmp_path / "second")
    import_gallery(tmp_path / name, tmp_path / "second", database=url)
    with Gallery.reopen(tmp_path / "second", database=url) as gallery:
        assert told(gallery) == before
        again = gallery.add(new_scene("later"), people(2, seed=77)).scene
        assert gallery.scenes.find(later.sha256) == again
        live = gallery.index.live.rows().tolist()
        gallery.remove(again.id)
        export_gallery(gallery, tmp_path / f"back-{name}")

    import_gallery(tmp_path / f"back-{name}", tmp_path / "third")
    with Gallery.reopen(tmp_path / "third") as gallery:
        after = told(gallery)
        assert after[:-1] == before[:-1]
        gallery.add(new_scene("later"), people(2, seed=77))
        assert min(gallery.index.live.rows()[-2:]) > max(live)  # no row is given twice


def test_nothing_is_imported_where_a_gallery_is(tmp_path, database):
    with open_gallery(tmp_path / "first") as gallery:
        gallery.add(new_scene("a"), people(2))
        export_gallery(gallery, tmp_path / "moved")

    with open_gallery(tmp_path / "second") as gallery:
        gallery.add(new_scene("b"), people(2))
    with pytest.raises(GalleryNotEmptyError, match="already"):
        import_gallery(
            tmp_path / "moved", tmp_path / "second", database=database_of(tmp_path / "second")
        )

    with open_gallery(tmp_path / "second") as gallery:
        assert [gallery.scenes.content(scene.id) for scene in gallery.scenes.page().scenes] == [
            b"b"
        ]


def test_what_was_changed_on_the_way_is_not_imported(tmp_path):
    with open_gallery(tmp_path / "first") as gallery:
        scene = gallery.add(new_scene("a"), people(2)).scene
        export_gallery(gallery, tmp_path / "moved")
    path = tmp_path / "moved" / "originals" / scene.sha256
    path.unlink()
    path.write_bytes(b"b")

    with pytest.raises(SnapshotDamagedError, match=scene.sha256):
        import_gallery(tmp_path / "moved", tmp_path / "second")

    assert not (tmp_path / "second").exists()


def test_a_snapshot_in_postgresql_shows_one_moment_while_two_processes_change_it(
    tmp_path, postgres
):
    """The other one is a second Gallery, as another process has it."""
    with open_gallery(tmp_path) as one, open_gallery(tmp_path) as other:
        for number in range(20):
            one.add(new_scene(f"scene {number}"), people(2, seed=number))
        kept = other.scenes.page(limit=100).scenes

        def meanwhile(done, total):
            if not done:
                return
            for scene in other.scenes.page(limit=100).scenes[:3]:
                other.remove(scene.id)
            other.add(new_scene(f"new {done}"), people(1, seed=done))

        made = one.snapshots.make(on_progress=meanwhile)

        assert made.damaged == ()
        assert made.scenes == 20
        assert {path.name for path in (tmp_path / "originals").iterdir()} == {
            scene.sha256 for scene in one.scenes.page(limit=1000).scenes
        }
        import_gallery(one.snapshots.directory / made.id, tmp_path / "there")
    with Gallery.reopen(tmp_path / "there") as gallery:
        assert gallery.scenes.page(limit=100).scenes == kept
