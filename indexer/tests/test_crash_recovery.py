import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import indexer
from indexer.errors import SceneNotFoundError
from indexer.tests import dying
from indexer.tests.dying import DEATH
from indexer.tests.scenery import (
    StubDetector,
    new_scene,
    open_gallery,
    people,
    picture,
    reopen_gallery,
    unit,
)
from models.image import read_image

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]


# Forked from a process that has imported everything: one to die takes a tenth of the time.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["indexer.tests.dying"])


def child(action, directory, argument):
    """A process of indexer.tests.dying."""
    command = [sys.executable, "-m", "indexer.tests.dying", action, str(directory), str(argument)]
    root = Path(indexer.__file__).parent.parent
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)


def _die(environment, action, directory, argument):
    os.environ.clear()  # what the first test had set is not for the others
    os.environ.update(environment)
    dying.main(action, directory, argument)


def death(action, directory, argument):
    """The exit code of such a process."""
    process = FORKS.Process(target=_die, args=(dict(os.environ), action, directory, argument))
    process.start()
    process.join()
    return process.exitcode


def assert_whole(gallery, directory):
    """What the database, the originals, and the index hold is the same, and search is exact."""
    scenes = gallery.scenes.page(limit=10_000).scenes
    stored = [detection for scene in scenes for detection in scene.detections]
    assert {path.name for path in (directory / "originals").iterdir()} == {
        scene.sha256 for scene in scenes
    }
    for scene in scenes:
        gallery.scenes.content(scene.id)  # checks the SHA-256
    stats = gallery.stats()
    assert (stats.scenes, stats.detections) == (len(scenes), len(stored))
    assert stats.index_change == stats.last_change
    assert len(gallery.index.live.rows()) == len(stored)
    if not stored:
        return
    embeddings = np.stack([gallery.people.embedding(one.id) for one in stored]).astype(float)
    query = unit(np.random.default_rng(1).standard_normal(embeddings.shape[1], np.float32))
    scores = np.round(np.array([one.score for one in stored]) * (embeddings @ query), 6)
    best = sorted(zip(-scores, [one.id for one in stored], strict=True))[:10]
    assert [(-hit.score, hit.detection.id) for hit in gallery.search(query, k=10)] == best


def gallery_of_three(directory):
    with open_gallery(directory) as gallery:
        for number in range(3):
            gallery.add(new_scene(f"old {number}"), people(4, seed=number))


@pytest.mark.parametrize(
    ("step", "stays"),
    [
        ("written", False),
        ("synced", False),
        ("renamed", False),
        ("placed", False),
        ("inserted", False),
        ("committed", True),
        ("indexed", True),
    ],
)
def test_a_scene_is_stored_whole_or_not_at_all_wherever_adding_it_ends(tmp_path, step, stays):
    gallery_of_three(tmp_path)

    assert death("add", tmp_path, step) == DEATH

    with open_gallery(tmp_path) as gallery:
        assert_whole(gallery, tmp_path)
        found = gallery.scenes.find(new_scene("new").sha256)
        assert gallery.scenes.count() == 3 + stays
        assert (found is not None) == stays
        if found is not None:
            assert (found.external_id, found.tags) == ("new", ("a", "b"))
            assert [one.score for one in found.detections] == people(5, seed=5).scores.tolist()
        again = gallery.add(new_scene("new", external_id="new"), people(5, seed=5))
        assert again.created != stays
        assert_whole(gallery, tmp_path)


@pytest.mark.parametrize(
    ("step", "stays"),
    [("deleted", True), ("committed", False), ("unindexed", False), ("erased", False)],
)
def test_a_scene_is_gone_wholly_or_not_at_all_wherever_removing_it_ends(tmp_path, step, stays):
    gallery_of_three(tmp_path)

    assert death("remove", tmp_path, step) == DEATH

    with open_gallery(tmp_path) as gallery:
        assert_whole(gallery, tmp_path)
        assert (gallery.scenes.find(new_scene("old 1").sha256) is not None) == stays
        assert gallery.scenes.count() == 2 + stays


def test_what_was_acknowledged_survives_being_killed_at_any_moment(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 (shown when the test fails)
    chance = random.Random(seed)
    photos, directory = tmp_path / "photos", tmp_path / "gallery"
    photos.mkdir()
    for number in range(60):
        (photos / f"{number:02}.png").write_bytes(picture(number))
    stored, removed = {}, set()

    for life in range(8):
        with child("ingest", directory, photos) as process:
            lines = [process.stdout.readline()]  # it has begun
            if life < 7:
                time.sleep(chance.uniform(0, 0.15))
                process.send_signal(signal.SIGKILL)
            lines += process.stdout
        for line in lines:
            what, id, external_id = line.split()
            if what == "stored":
                stored[id] = external_id
            elif what == "removed":
                removed.add(id)

        with reopen_gallery(directory) as gallery:
            assert_whole(gallery, directory)
            detector = StubDetector()
            for id, external_id in stored.items():
                if id in removed:
                    with pytest.raises(SceneNotFoundError):
                        gallery.get(id)
                    continue
                content = (photos / external_id).read_bytes()
                (expected,) = detector.detect([read_image(content).pixels])
                try:
                    scene = gallery.get(id)
                except SceneNotFoundError:
                    # its removal may have been committed and not yet acknowledged: the last line
                    assert (life < 7, lines[-1].split()[1]) == (True, id)
                    removed.add(id)
                    continue
                assert gallery.scenes.content(id) == content
                assert len(scene.detections) == 2
                for one, embedding in zip(scene.detections, expected.embeddings, strict=True):
                    assert gallery.people.embedding(one.id).tobytes() == embedding.tobytes()
    assert lines[-1].split()[0] == "done"
    assert process.returncode == 0
