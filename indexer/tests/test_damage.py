"""Files that changed behind a gallery's back: it says so, or answers rightly all the same.

People (boxes, scores, embeddings), what a sender said about a scene, and originals are checked byte
for byte. SQLite's own indexes are not: a flipped bit where SQLite finds the people of a scene, or
the scenes of a camera, is not noticed.
"""

import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from indexer.database.store import DATABASE
from indexer.errors import GalleryDamagedError
from indexer.tests.scenery import new_scene, open_gallery, people
from models.errors import PersonSearchError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SCENES = 40


def answers(gallery):
    """Everything that can be asked; an error in the place of what is refused."""
    told = {}

    def ask(what, call):
        try:
            told[what] = call()
        except PersonSearchError as error:
            assert str(error)
            told[what] = None

    ask("scenes", lambda: gallery.scenes.page(limit=1000))
    scenes = told.pop("scenes") or EMPTY
    for number in range(SCENES):
        query = people(3, seed=number).embeddings[0]
        ask(("search", number), lambda query=query: hits_of(gallery.search(query, k=10)))
    for scene in scenes.scenes:
        about = (scene.camera_id, scene.tags, scene.captured_at, scene.attributes, scene.created_at)
        told["scene", scene.sha256] = (scene.external_id, scene.width, scene.height, *about)
        ask(("content", scene.sha256), lambda id=scene.id: gallery.scenes.content(id))
        for one in scene.detections:
            ask(("embedding", one.id), lambda id=one.id: gallery.people.embedding(id).tobytes())
    return told


def hits_of(hits):
    return [(hit.detection.id, hit.detection.box, hit.score, hit.similarity) for hit in hits]


class EMPTY:
    scenes = ()


@pytest.fixture
def whole(tmp_path):
    """A closed gallery's directory, and what it answers."""
    directory = tmp_path / "whole"
    with open_gallery(directory) as gallery:
        for number in range(SCENES):
            about = {"camera_id": f"camera {number % 3}", "tags": ("a",) * (number % 2)}
            about |= {"external_id": f"x{number}", "attributes": {"n": str(number)}}
            gallery.add(new_scene(f"scene {number}", **about), people(3, seed=number))
        told = answers(gallery)
    return directory, told


def wrong_answers(directory, right):
    """None when the gallery does not open; else what it answers otherwise than before."""
    try:
        with open_gallery(directory) as gallery:
            told = answers(gallery)
    except PersonSearchError as error:
        assert len(str(error).splitlines()) == 1
        return None
    return [
        what
        for what, answer in told.items()
        if answer is not None and answer != right.get(what, answer)
    ]


@pytest.mark.parametrize(
    "damage",
    [
        *("id = 'img_other'", "sha256 = '00'", "content_bytes = 1", "width = width + 1"),
        *("height = height + 1", "format = 'PNG'", "orientation = 3", "external_id = 'y'"),
        *("external_id = NULL", "camera_id = 'camera 8'", "captured_at = 0", "created_at = 0"),
        *("attributes = '{}'", "checksum = NULL", "checksum = checksum + 1"),
    ],
)
def test_a_scene_that_is_not_as_it_was_written_is_refused_and_found(whole, damage):
    with closing(sqlite3.connect(whole[0] / DATABASE)) as base, base:
        base.execute(f"UPDATE scenes SET {damage} WHERE number = 7")
    with open_gallery(whole[0]) as gallery:
        with pytest.raises(GalleryDamagedError, match="not as it was written"):
            gallery.scenes.page(limit=1000)
        with pytest.raises(GalleryDamagedError, match="not as it was written"):
            gallery.index.rebuild()
        assert gallery.search(people(1).embeddings[0], k=1)  # of other scenes


@pytest.mark.parametrize("damage", ["UPDATE scene_tags SET tag = 'b'", "DELETE FROM scene_tags"])
def test_a_changed_tag_is_noticed(whole, damage):
    with closing(sqlite3.connect(whole[0] / DATABASE)) as base, base:
        base.execute(f"{damage} WHERE scene = 8")
    with open_gallery(whole[0]) as gallery:
        with pytest.raises(GalleryDamagedError, match="not as it was written"):
            gallery.scenes.page(limit=1000)
        with pytest.raises(GalleryDamagedError, match="not as it was written"):
            gallery.index.rebuild()


def test_a_changed_scene_is_as_it_was_written_last(whole):
    with open_gallery(whole[0]) as gallery:
        scene = gallery.scenes.page().scenes[7]
        for changes in ({"camera_id": "b"}, {"tags": ("c", "a", "c")}, {"external_id": None}):
            gallery.scenes.patch(scene.id, changes)
        gallery.index.rebuild()

        assert gallery.get(scene.id).tags == ("c", "a")


def test_a_list_of_a_scene_s_people_that_misses_one_is_refused(whole):
    path, the_list = whole[0] / DATABASE, "sqlite_schema WHERE name = 'detections_by_scene'"
    with closing(sqlite3.connect(path)) as base, base:
        kept = base.execute(f"SELECT * FROM {the_list}").fetchone()
        base.execute("PRAGMA writable_schema = ON")
        base.execute(f"DELETE FROM {the_list}")
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("UPDATE detections SET scene = scene + 1 WHERE row = 5")
        base.execute("PRAGMA writable_schema = ON")
        base.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", kept)

    with pytest.raises(GalleryDamagedError, match="row 5 missing from index"):
        open_gallery(whole[0])


@pytest.mark.parametrize("times", [20, pytest.param(1000, marks=pytest.mark.soak)])
def test_a_database_cut_off_anywhere_is_refused_or_answers_rightly(tmp_path, whole, times, seed):
    directory, right = whole
    chance = random.Random(seed)
    size = (directory / DATABASE).stat().st_size
    for _ in range(times):
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        with (copy / DATABASE).open("r+b") as file:
            file.truncate(chance.randrange(size))
        assert not wrong_answers(copy, right)
        shutil.rmtree(copy)


@pytest.mark.parametrize("kind", ["database", "original"])
@pytest.mark.parametrize("times", [40, pytest.param(5000, marks=pytest.mark.soak)])
def test_a_flipped_bit_never_gives_a_wrong_answer(tmp_path, whole, kind, times, seed):
    directory, right = whole
    # Always the same bits with every change: a rare one is for soak to find.
    chance = random.Random(seed if times > 40 else 3448485401)
    refused = 0
    for _ in range(times):
        copy = tmp_path / "copy"
        shutil.copytree(directory, copy)
        path = copy / DATABASE
        if kind == "original":
            path = chance.choice(sorted((copy / "originals").iterdir()))
        content = bytearray(path.read_bytes())
        place = chance.randrange(len(content))
        content[place] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        wrong = wrong_answers(copy, right)
        refused += wrong is None
        assert not wrong, (place, wrong)
        shutil.rmtree(copy)
    print(f"{refused} of {times} galleries were refused")  # noqa: T201
