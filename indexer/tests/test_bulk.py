"""Bulk runs end as if nothing had happened, whatever died on the way."""

import io
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer import __main__ as cli
from indexer.errors import GalleryError
from indexer.ingest.bulk import Stored
from indexer.ingest.bulk_workers import Processes, RayActors, WorkerLostError
from indexer.ingest.ingest import ingest
from indexer.rows.audit import acting_as
from indexer.tests.bulk_run import ChangingDetector, run
from indexer.tests.scenery import StubDetector, open_gallery, picture

ROOT = Path(__file__).parent.parent.parent
COUNT = 60


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        (folder / f"{number:03d}.png").write_bytes(picture(number))
    return folder


@pytest.fixture
def gallery(tmp_path):
    with open_gallery(tmp_path / "gallery") as gallery:
        yield gallery


def contents(gallery):
    """Each scene by its external id: bytes, boxes, scores and the stored vectors' best hits."""
    found = {}
    for scene in gallery.scenes.page(limit=1000).scenes:
        whole = gallery.get(scene.id)
        boxes = [(one.box, one.score) for one in whole.detections]
        assert scene.external_id not in found
        found[scene.external_id] = (scene.sha256, scene.camera_id, scene.tags, boxes)
    return found


def ranking(gallery):
    query = StubDetector().embed_crop(np.asarray(Image.open(io.BytesIO(picture(3)))))
    return [(hit.scene.external_id, hit.score) for hit in gallery.search(query, k=20)]


def workers_of(pid):
    """The worker processes of a bulk run."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
            found.append(int(child))
    return found


def test_a_bulk_run_stores_what_the_plain_indexer_stores(photos, gallery, tmp_path):
    with acting_as("(command line)"):
        stored = run(photos, gallery, camera_id="gate", tags=("a",))
    with open_gallery(tmp_path / "plain") as plain:
        for _ in ingest([photos], StubDetector(), plain, camera_id="gate", tags=("a",)):
            pass

        assert stored == Stored(created=COUNT, people=2 * COUNT)
        assert contents(gallery) == contents(plain)
        assert ranking(gallery) == ranking(plain)
    assert {entry.key for entry in gallery.trail.entries(limit=COUNT)} == {"(command line)"}
    assert not (tmp_path / "gallery" / "bulk").exists()


def test_what_is_stored_is_not_looked_at_again(photos, gallery):
    run(photos, gallery)
    begun = time.monotonic()
    stored = run(photos, gallery, seconds=60)

    assert stored == Stored(skipped=COUNT)
    assert time.monotonic() - begun < 30


def test_files_that_cannot_be_used_fail_alone(photos, gallery, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "bad.jpg").write_bytes(b"nonsense")
    (folder / "good.png").write_bytes(picture(1))
    (folder / "twin.png").write_bytes(picture(1))

    stored = run(folder, gallery)

    assert (stored.created, stored.skipped) == (1, 1)
    ((path, why),) = stored.failed
    assert path == str(folder / "bad.jpg")
    assert why


def test_a_file_that_changes_between_finding_and_storing_is_not_stored(gallery, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "a.png").write_bytes(picture(1))

    stored = run(folder, gallery, detector_of=partial(ChangingDetector, folder / "a.png"))

    assert (stored.created, gallery.scenes.count()) == (0, 0)
    assert stored.failed == ((str(folder / "a.png"), "the file was changed while it was indexed"),)


def test_killed_workers_lose_nothing(photos, tmp_path):
    command = [sys.executable, "-m", "indexer.tests.bulk_run", photos, tmp_path / "gallery", "0.1"]
    killed = 0
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as begun:
        while begun.poll() is None:
            time.sleep(0.7)
            for pid in workers_of(begun.pid)[: 1 if killed < 4 else 0]:
                os.kill(pid, signal.SIGKILL)
                killed += 1
        told = begun.stdout.read()

    assert killed == 4
    assert begun.returncode == 0
    assert f"created={COUNT}, people={2 * COUNT}, skipped=0" in told
    with open_gallery(tmp_path / "gallery") as gallery:
        assert sorted(contents(gallery)) == sorted(path.name for path in photos.iterdir())


def test_a_killed_run_goes_on_where_it_was(photos, tmp_path):
    parts = tmp_path / "gallery" / "bulk" / "parts"
    command = [sys.executable, "-m", "indexer.tests.bulk_run", photos, tmp_path / "gallery", "0.05"]
    begun = subprocess.Popen(command, cwd=ROOT)
    ends = time.monotonic() + 60
    while len(list(parts.glob("*.json"))) < 2:
        assert time.monotonic() < ends
        time.sleep(0.01)
    workers = workers_of(begun.pid)
    begun.kill()
    begun.wait()
    done = {path.name: path.stat().st_mtime_ns for path in parts.iterdir() if path.suffix != ".new"}
    ends = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):  # they end with it
        assert time.monotonic() < ends
        time.sleep(0.05)

    seen = []
    with open_gallery(tmp_path / "gallery") as gallery:
        stored = run(photos, gallery, on_progress=lambda done, total: seen.append((done, total)))

        assert len(done) >= 2
        assert seen[0][0] >= 20
        assert seen[-1] == (COUNT, COUNT)
        assert (stored.files, stored.failed) == (COUNT, ())
        assert sorted(contents(gallery)) == sorted(path.name for path in photos.iterdir())


def test_a_picture_that_kills_every_worker_is_named(photos, gallery, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    file = io.BytesIO()
    Image.new("RGB", (64, 48)).save(file, "PNG")
    (folder / "black.png").write_bytes(file.getvalue())
    (folder / "good.png").write_bytes(picture(1))

    with pytest.raises(GalleryError, match=r"10 workers died with the files from .*black\.png"):
        run(folder, gallery)

    (folder / "black.png").unlink()
    stored = run(folder, gallery)
    assert (stored.created, len(stored.failed)) == (1, 1)


def test_a_run_without_progress_ends(photos, gallery):
    with pytest.raises(GalleryError, match=r"no worker finished anything in 2 s"):
        run(photos, gallery, seconds=60, stall_s=2)


def test_a_model_that_is_not_there_ends_the_run_with_its_error(photos, gallery, tmp_path):
    from indexer.ingest.bulk import bulk
    from models.detector import OnnxDetector
    from models.errors import ModelFileError

    with pytest.raises(ModelFileError, match="nowhere"):
        bulk(
            [photos],
            gallery,
            tmp_path / "work",
            partial(Processes, 1),
            partial(OnnxDetector, tmp_path / "nowhere"),
        )


def test_another_run_does_not_take_the_place_of_an_unfinished_one(photos, gallery, tmp_path):
    with pytest.raises(GalleryError, match="no worker"):
        run(photos, gallery, seconds=60, stall_s=1)

    with pytest.raises(GalleryError, match=r"unfinished run of another command"):
        run(photos, gallery, camera_id="other")
    assert run(photos, gallery).created == COUNT


def test_a_lost_worker_is_told_of():
    pool = Processes(1, partial(dict, a=1))
    worker = pool.start()
    job = pool.submit(worker, None)
    assert list(pool.wait([job], 30)) == [job]
    pool.result(job)

    (process,) = pool._processes.values()
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(WorkerLostError, match="exit code -9"):
        pool.result(pool.submit(worker, None))
    pool.close()


@pytest.mark.slow
def test_the_command_takes_the_model_that_ships(tmp_path, capsys):
    scenes = ROOT / "service" / "demo_scenes" / "images"
    count = len(list(scenes.iterdir()))
    asked = ["bulk", str(scenes), "--gallery", str(tmp_path / "gallery"), "--shard", "3"]

    assert cli.main(asked) == 0

    out, told = capsys.readouterr()
    assert out.startswith(f"{count} added with ")
    assert f"{count} of {count} files" in told
    assert cli.main(asked) == 0
    assert capsys.readouterr().out.startswith(f"0 added with 0 people, {count} already there")


@pytest.mark.slow
def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(GalleryError, match=r"needs Ray: .*pip install .*\[ray\]"):
        RayActors(1, None, address=None)


def test_ray_does_what_processes_do(photos, gallery, tmp_path):
    pytest.importorskip("ray")
    started, killed = [], []

    class Actors(RayActors):
        def start(self):
            started.append(super().start())
            return started[-1]

        def result(self, job):
            super().result(job)
            if len(started) == 2 and len(killed) < 1 and run_has_a_part():
                killed.append(self._ray.kill(started[0]))

    def run_has_a_part():
        return any((tmp_path / "gallery" / "bulk" / "parts").iterdir())

    stored = run(photos, gallery, 0.02, make_pool=partial(Actors, 2, address=None))

    assert (len(killed), len(started)) == (1, 3)
    assert stored == Stored(created=COUNT, people=2 * COUNT)
    assert gallery.scenes.count() == COUNT
