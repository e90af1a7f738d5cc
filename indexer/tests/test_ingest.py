import numpy as np
import pytest

from indexer.errors import ExternalIdConflictError, GalleryDamagedError, StorageFullError
from indexer.ingest.folders import find_images
from indexer.ingest.ingest import MAX_DETECTIONS, index_scene, ingest
from indexer.records import SceneFilter
from indexer.tests.scenery import DIM, StubDetector, open_gallery, people, picture
from models.errors import ImageError, ImageTooLargeError, ImageTooSmallError
from models.image import ImageLimits


@pytest.fixture
def gallery(tmp_path):
    with open_gallery(tmp_path / "gallery") as opened:
        yield opened


@pytest.fixture
def detector():
    return StubDetector()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for number, name in enumerate(["b.png", "a.PNG", "day 1/c.png", "day 1/.hidden.png"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_a_picture_becomes_a_scene_with_its_people(gallery, detector):
    content = picture(0, width=80, height=60)

    result = index_scene(content, detector, gallery, camera_id="cam", tags=("t",))

    scene = result.scene
    assert result.created
    assert gallery.scenes.content(scene.id) == content
    assert (scene.width, scene.height, scene.format) == (80, 60, "PNG")
    assert (scene.camera_id, scene.tags) == ("cam", ("t",))
    assert [one.box for one in scene.detections] == [(0, 0, 40, 60), (40, 0, 80, 60)]


def test_a_person_is_found_again_by_its_crop(gallery, detector):
    for number in range(5):
        index_scene(picture(number), detector, gallery, external_id=str(number))
    from models.image import read_image

    crop = read_image(picture(3)).pixels[:, :32]

    best = gallery.search(detector.embed_crop(crop), k=1)[0]

    assert best.scene.external_id == "3"
    assert best.detection.box == (0, 0, 32, 48)
    assert best.similarity == pytest.approx(1, abs=1e-6)


def test_stored_bytes_are_not_looked_at_again(gallery, detector):
    first = index_scene(picture(0), detector, gallery)
    second = index_scene(picture(0), detector, gallery)

    assert (first.created, second.created) == (True, False)
    assert second.scene == first.scene
    assert detector.asked == 1


def test_a_taken_external_id_is_refused_before_the_detector_is_asked(gallery, detector):
    index_scene(picture(0), detector, gallery, external_id="x")

    with pytest.raises(ExternalIdConflictError):
        index_scene(picture(1), detector, gallery, external_id="x")

    assert detector.asked == 1


def test_only_the_best_detections_of_a_crowd_are_kept_best_first(gallery, detector):
    crowd = people(MAX_DETECTIONS + 20)
    shuffled = crowd.select(np.random.default_rng(0).permutation(len(crowd)))
    detector.detect = lambda images: [shuffled]

    scene = index_scene(picture(0), detector, gallery).scene

    kept = [one.score for one in scene.detections]
    assert kept == crowd.scores[:MAX_DETECTIONS].tolist()


def test_a_picture_out_of_bounds_is_refused_and_nothing_is_stored(gallery, detector):
    with pytest.raises(ImageTooSmallError):
        index_scene(picture(0, width=20), detector, gallery)
    with pytest.raises(ImageError):
        index_scene(b"not a picture", detector, gallery)

    assert gallery.scenes.count() == detector.asked == 0


def test_folders_are_walked_in_order_and_files_are_known_by_their_content(photos):
    (photos / "20261120081500").write_bytes(picture(7))
    (photos / "renamed.txt").write_bytes(picture(8))
    (photos / "day 1" / "readings.csv").write_bytes(b"not one")

    found = find_images([photos, photos / "notes.txt"])

    assert [file.external_id for file in found.files] == [
        "20261120081500",
        "a.PNG",
        "b.png",
        "day 1/c.png",
        "renamed.txt",
        "notes.txt",
    ]
    assert found.not_pictures >= 2


def test_what_was_thrown_away_or_made_by_others_is_left_out_and_counted(photos):
    for folder in ("#recycle", "@eaDir/a.PNG", "lost+found", ".Trash-1000/files", ".cache"):
        (photos / folder).mkdir(parents=True)
        (photos / folder / "x.png").write_bytes(picture(20))
    (photos / "elsewhere").symlink_to(photos / "day 1", target_is_directory=True)
    names = {file.external_id for file in find_images([photos]).files}

    assert names == {"a.PNG", "b.png", "day 1/c.png"}
    assert find_images([photos]).excluded >= 5
    assert find_images([photos]).links == 1
    more = find_images([photos], exclude=["day*"])
    assert "day 1/c.png" not in {file.external_id for file in more.files}
    assert len(more.files) == 2 + 5


def test_files_of_several_cameras_and_folders_are_told_apart(photos, tmp_path):
    other = tmp_path / "b" / photos.name
    other.mkdir(parents=True)
    (other / "a.PNG").write_bytes(picture(30))

    of_camera = find_images([photos], camera_id="gate").files
    of_both = find_images([photos, other]).files

    assert of_camera[0].external_id == "gate/a.PNG"
    assert len({file.external_id for file in of_both}) == 4


def test_a_folder_is_stored_under_the_paths_in_it_and_a_second_run_does_nothing(
    gallery, detector, photos
):
    first = list(ingest([photos], detector, gallery, camera_id="cam", tags=("t",)))
    second = list(ingest([photos], detector, gallery))

    assert [outcome.result.created for outcome in first] == [True] * 3
    assert [outcome.result.created for outcome in second] == [False] * 3
    assert detector.asked == 3
    stored = gallery.scenes.page().scenes
    assert [scene.external_id for scene in stored] == ["cam/a.PNG", "cam/b.png", "cam/day 1/c.png"]
    assert {(scene.camera_id, scene.tags) for scene in stored} == {("cam", ("t",))}


def test_an_interrupted_run_goes_on_where_it_stopped(gallery, detector, photos):
    run = ingest([photos], detector, gallery)
    next(run)
    run.close()

    rest = list(ingest([photos], detector, gallery))

    assert [outcome.result.created for outcome in rest] == [False, True, True]
    assert detector.asked == 3


def test_what_cannot_be_read_fails_alone(gallery, detector, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(picture(9)[:-50])
    (photos / "empty.jpg").write_bytes(b"")
    paths = [photos, photos / "notes.txt", tmp_path / "nowhere.jpg"]

    outcomes = list(ingest(paths, detector, gallery))

    failed = {outcome.file.external_id for outcome in outcomes if outcome.error is not None}
    assert failed == {"broken.jpg", "empty.jpg", "notes.txt", "nowhere.jpg"}
    assert gallery.scenes.count() == 3
    for outcome in outcomes:
        assert (outcome.result is None) != (outcome.error is None)


def test_an_overwritten_file_is_a_new_scene_and_the_old_one_stays(gallery, detector, photos):
    list(ingest([photos], detector, gallery))
    (photos / "a.PNG").write_bytes(picture(50))

    for _ in range(2):
        outcomes = list(ingest([photos], detector, gallery))
        assert [outcome.error for outcome in outcomes] == [None, None, None]

    names = sorted(scene.external_id for scene in gallery.scenes.page().scenes)
    assert len(names) == 4
    assert names[0] == "a.PNG"
    assert names[1].startswith("a.PNG@")


def test_an_overwritten_file_takes_the_place_of_what_it_was_where_that_is_asked(
    gallery, detector, photos
):
    list(ingest([photos], detector, gallery))
    (before,) = gallery.scenes.page(SceneFilter(external_id="a.PNG")).scenes
    (photos / "a.PNG").write_bytes(picture(50))

    for _ in range(2):
        list(ingest([photos], detector, gallery, replace=True))
        (after,) = gallery.scenes.page(SceneFilter(external_id="a.PNG")).scenes
        assert after.sha256 != before.sha256
        assert gallery.scenes.count() == 3


def test_a_file_with_too_many_bytes_is_not_read(gallery, detector, photos):
    limits = ImageLimits(max_bytes=10)

    outcomes = list(ingest([photos / "b.png"], detector, gallery, limits=limits))

    assert isinstance(outcomes[0].error, ImageTooLargeError)
    assert outcomes[0].error.limits == {"max_bytes": 10}


def test_a_name_that_is_no_text_gets_an_external_id_all_the_same(gallery, detector, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    (folder / name).write_bytes(picture(0))

    (outcome,) = ingest([folder], detector, gallery)

    assert outcome.result.scene.external_id == r"caf\xe9.png"


def test_a_full_disk_ends_the_run(gallery, detector, photos, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)

    with pytest.raises(StorageFullError):
        list(ingest([photos], detector, gallery))

    assert gallery.scenes.count() == 0
    assert gallery.search(np.eye(DIM, dtype=np.float32)[0], k=1) == []


@pytest.mark.parametrize("damage", ["gone", "torn", "flipped"])
def test_adding_a_picture_again_repairs_its_stored_file(gallery, detector, tmp_path, damage):
    content = picture(3)
    scene = index_scene(content, detector, gallery).scene
    original = tmp_path / "gallery" / "originals" / scene.sha256
    if damage == "gone":
        original.unlink()
    else:
        original.write_bytes(content[:40] if damage == "torn" else content[:-1] + b"?")
    with pytest.raises(GalleryDamagedError):
        gallery.scenes.content(scene.id)

    again = index_scene(content, detector, gallery)

    assert not again.created
    assert gallery.scenes.content(scene.id) == content
    assert gallery.scenes.picture(scene.id).width == scene.width
