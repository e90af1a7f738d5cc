"""Jobs go on after a crash, end when they are cancelled, and hold nobody up."""

import errno
import io
import itertools
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import service
from indexer.errors import StorageFullError, TooManyJobsError
from indexer.ids import new_id
from service.http.errors import RequestError
from service.http.metrics import Metrics
from service.kinds import job_kinds
from service.running.jobs import MAX_DEATHS
from service.running.parts import open_parts
from service.running.spool import Spool
from service.running.worker import Lane
from service.settings import Settings, SettingsError
from service.tests.dying_jobs import DEATH, PICTURES, RED, app, upload
from service.tests.stub import StubDetector, picture


@pytest.fixture
def detector():
    return StubDetector()


@pytest.fixture
def opened(tmp_path, detector):
    """Open a service's parts, with some kinds of job; called with none, the real ones."""

    @contextmanager
    def opening(only=None, besides=None, **settings):
        settings = Settings(data_dir=tmp_path / "data", **settings)

        def kinds(parts):
            return {**(job_kinds(parts) if only is None else only), **(besides or {})}

        with open_parts(settings, [detector], Metrics(), kinds) as parts:
            yield parts

    return opening


def until(condition, seconds=20):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def ended(parts, id):
    until(lambda: parts.gallery.jobs.get(id).ended)
    return parts.gallery.jobs.get(id)


def import_of(parts, root, names):
    """An import of these files, as the route asks for one."""
    lines = "".join(json.dumps({"file": name}) + "\n" for name in names)
    manifest = root.parent / "manifest"
    manifest.write_text(lines)
    id = new_id("job_")
    with manifest.open("rb") as file:
        parts.jobs.spool.store(id, {"manifest.jsonl": file})
    return parts.jobs.submit("import", {"total": len(names)}, key=None, id=id).id


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(40):
        content = picture(RED, file_format="PNG", seed=number)
        (root / f"{number:02}.png").write_bytes(content)
    return root


def test_jobs_run_in_order_and_keep_what_they_gave(opened):
    order = []

    def count(context):
        order.append(context.arguments["name"])
        context.failed_item("x", RequestError("image_corrupt", "torn"))
        context.progress(2, 2, failed=1)
        return {"counted": 2}

    with opened({"count": count}) as parts:
        ids = [parts.jobs.submit("count", {"name": n}, key="me").id for n in "abc"]
        record = ended(parts, ids[-1])

        assert order == ["a", "b", "c"]
        assert (record.state, record.result, record.key) == ("succeeded", {"counted": 2}, "me")
        assert (record.done, record.total, record.failed) == (2, 2, 1)
        (error,) = parts.gallery.jobs.errors(ids[-1])
        assert (error.item, error.problem["code"]) == ("x", "image_corrupt")
        assert error.problem["instance"] == f"/jobs/{ids[-1]}"


def test_uploads_do_not_wait_for_longer_work(opened, detector, photos, tmp_path):
    detector.seconds = 0.05
    small = tmp_path / "small.png"
    small.write_bytes(picture(("blue", (40, 40, 80, 160)), file_format="PNG"))
    with opened(import_dir=photos) as parts:
        long = import_of(parts, photos, sorted(file.name for file in photos.iterdir()))
        until(lambda: parts.gallery.jobs.get(long).done)
        before = parts.gallery.jobs.get(long).done
        id = new_id("job_")
        with small.open("rb") as file:
            parts.jobs.spool.store(id, {"0000": file})
        arguments = {"metadata": [{}], "on_duplicate": "return"}
        upload = ended(parts, parts.jobs.submit("ingest", arguments, key=None, id=id).id)
        meanwhile = parts.gallery.jobs.get(long)

        assert (upload.state, upload.result["created"]) == ("succeeded", 1)
        assert meanwhile.state == "running"
        assert meanwhile.done - before < 10
        assert ended(parts, long).result == {"created": 40, "duplicates": 0, "failed": 0}


def test_whatever_else_runs_an_upload_begins_at_once(opened):
    go, held = threading.Event(), threading.Event()

    def hold(context):
        held.set()
        assert go.wait(30)
        return {}

    with opened({"hold": hold, "ingest": lambda context: {}}) as parts:
        first, second = (parts.jobs.submit("hold", {}, key=None).id for _ in range(2))
        assert held.wait(30)
        for _ in range(3):
            assert ended(parts, parts.jobs.submit("ingest", {}, key=None).id).state == "succeeded"

        assert [parts.gallery.jobs.get(id).state for id in (first, second)] == ["running", "queued"]
        go.set()
        assert ended(parts, second).state == "succeeded"


@pytest.mark.parametrize(
    ("raised", "code"),
    [(RequestError("image_corrupt", "torn"), "image_corrupt"), (ValueError("oh"), "internal")],
)
def test_a_job_that_fails_says_why_and_the_next_one_runs(opened, raised, code):
    def fail(context):
        context.failed_item("a", RequestError("image_corrupt", "torn"))
        raise raised

    with opened({"fail": fail, "work": lambda context: {}}) as parts:
        failed = parts.jobs.submit("fail", {}, key=None).id
        after = parts.jobs.submit("work", {}, key=None).id

        assert ended(parts, after).state == "succeeded"
        record = parts.gallery.jobs.get(failed)
        assert (record.state, record.problem["code"]) == ("failed", code)
        assert "oh" not in record.problem["detail"]
        assert len(parts.gallery.jobs.errors(failed)) == 1


def test_a_stop_interrupts_a_job_at_its_next_step_and_the_next_start_resumes_it(opened):
    begun, seen = threading.Event(), []

    def slow(context):
        seen.append((context.done, context.result))
        for done in range(context.done + 1, 1000):
            context.progress(done, 1000, result={"sum": done})
            begun.set()
            time.sleep(0.01)
            if len(seen) > 1:
                return {"sum": done}
        raise AssertionError("it was never stopped")

    with opened({"slow": slow}) as parts:
        id = parts.jobs.submit("slow", {}, key=None).id
        assert begun.wait(10)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    with opened({"slow": slow}) as parts:
        record = ended(parts, id)

    done = seen[1][0]
    assert done >= 1
    assert seen == [(0, {}), (done, {"sum": done})]
    assert (record.state, record.result) == ("succeeded", {"sum": done + 1})
    assert (record.attempts, record.deaths) == (2, 0)


def test_a_stop_waits_no_longer_than_the_drain_time(opened):
    go, begun = threading.Event(), threading.Event()

    def deaf(context):
        begun.set()
        go.wait(20)
        return {}

    with opened({"deaf": deaf}, drain_s=0.3) as parts:
        id = parts.jobs.submit("deaf", {}, key=None).id
        assert begun.wait(10)
        started = time.monotonic()
    took = time.monotonic() - started
    go.set()

    assert 0.2 < took < 3
    with opened({"deaf": deaf}) as parts:
        assert ended(parts, id).state == "succeeded"


def test_a_running_import_is_cancelled_within_two_seconds(opened, detector, photos):
    with opened(import_dir=photos) as parts:
        detector.seconds = 0.1
        id = import_of(parts, photos, sorted(file.name for file in photos.iterdir()))
        until(lambda: parts.gallery.jobs.get(id).done >= 2)
        started = time.monotonic()
        parts.jobs.cancel(id, key=None)
        record = ended(parts, id)

        assert time.monotonic() - started < 2
        assert record.state == "cancelled"
        assert 2 <= record.done < 40
        assert record.done == record.result["created"] == parts.gallery.scenes.count()
        until(lambda: not parts.jobs.spool.folder(id).exists())


def test_a_full_lane_makes_a_job_wait_and_it_can_be_cancelled_there(opened, detector, photos):
    with opened(import_dir=photos, ingest_queue_max=1) as parts:
        detector.go.clear()
        calls = len(detector.asked)
        parts.worker.submit(Lane.INGEST, lambda: detector._wait("block"))
        until(lambda: len(detector.asked) > calls)
        filling = parts.worker.submit(Lane.INGEST, int)
        id = import_of(parts, photos, ["00.png", "01.png"])
        until(lambda: parts.gallery.jobs.get(id).total == 2)
        time.sleep(0.6)
        assert (parts.gallery.jobs.get(id).state, parts.worker.waiting(Lane.INGEST)) == (
            "running",
            1,
        )
        started = time.monotonic()
        parts.jobs.cancel(id, key=None)
        assert ended(parts, id).state == "cancelled"
        assert time.monotonic() - started < 2

        again = import_of(parts, photos, ["00.png", "01.png"])
        time.sleep(0.3)
        detector.go.set()
        record = ended(parts, again)
        assert (record.state, record.failed) == ("succeeded", 0)
        assert filling.done()


def test_a_job_that_waits_for_the_model_gives_its_place_back_when_cancelled(
    opened, detector, photos
):
    with opened(import_dir=photos) as parts:
        detector.go.clear()
        parts.worker.submit(Lane.INGEST, lambda: detector._wait("block"))
        id = import_of(parts, photos, ["00.png"])
        until(lambda: parts.worker.waiting(Lane.INGEST) == 1)
        parts.jobs.cancel(id, key=None)

        assert ended(parts, id).state == "cancelled"
        assert parts.worker.waiting(Lane.INGEST) == 0
        detector.go.set()
        assert parts.gallery.scenes.count() == 0


def test_a_search_waits_for_no_more_than_the_picture_in_work(opened, detector, photos):
    with opened(import_dir=photos) as parts:
        calls = len(detector.asked)
        detector.go.clear()
        id = import_of(parts, photos, sorted(file.name for file in photos.iterdir()))
        until(lambda: len(detector.asked) == calls + 1)
        for _ in range(5):
            parts.worker.submit(Lane.SEARCH, lambda: detector._wait("search"))
        detector.go.set()
        record = ended(parts, id)

        assert detector.asked[calls : calls + 6] == ["detect", *["search"] * 5]
        assert record.result == {"created": 40, "duplicates": 0, "failed": 0}


@pytest.mark.slow
def test_one_bad_file_of_a_thousand_fails_alone_and_progress_never_falls(opened, photos):
    (photos / "torn.png").write_bytes((photos / "00.png").read_bytes()[:60])
    names = [f"{number % 40:02}.png" for number in range(1000)]
    names[617] = "torn.png"
    with opened(import_dir=photos) as parts:
        id = import_of(parts, photos, names)
        seen = [parts.gallery.jobs.get(id)]
        while not seen[-1].ended:
            seen.append(parts.gallery.jobs.get(id))
            time.sleep(0.01)
        errors = parts.gallery.jobs.errors(id)

    last = seen[-1]
    assert (last.state, last.done, last.total, last.failed) == ("succeeded", 1000, 1000, 1)
    assert last.result == {"created": 40, "duplicates": 959, "failed": 1}
    assert [(error.item, error.problem["code"]) for error in errors] == [
        ("torn.png", "image_truncated")
    ]
    for before, after in itertools.pairwise(seen):
        assert (before.done, before.failed) <= (after.done, after.failed)
    running = [one for one in seen if one.state == "running" and one.done]
    assert all(one.rate > 0 and one.eta_s >= 0 for one in running)
    assert running[len(running) // 2].eta_s > running[-1].eta_s


def test_an_import_refuses_what_lies_outside_and_every_bad_line_alone(opened, photos, tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(RED))
    (photos / "link.png").symlink_to(tmp_path / "secret.png")
    (photos / "text.png").write_bytes(b"not a picture")
    lines = [
        {"file": "00.png", "external_id": "a"},
        {"file": "link.png"},
        {"file": "../secret.png"},
        {"file": str(tmp_path / "secret.png")},
        {"file": "/dev/zero"},
        {"file": "none.png"},
        {"file": "text.png"},
        {"file": "01.png", "external_id": "a"},
        {"file": "02.png", "camera": "typo"},
        {"file": "03.png", "attributes": {str(n): "x" * 1000 for n in range(5)}},
        [],
        {"file": "04.png", "camera_id": "gate", "tags": ["x"]},
    ]
    manifest = b"not json\n\n\xff\n" + b"\r\n".join(json.dumps(one).encode() for one in lines)
    (tmp_path / "manifest").write_bytes(manifest)
    with opened(import_dir=photos) as parts:
        with (tmp_path / "manifest").open("rb") as file:
            parts.jobs.spool.store("job_x", {"manifest.jsonl": file})
        parts.jobs.submit("import", {"total": 14}, key=None, id="job_x")
        record = ended(parts, "job_x")
        codes = [(one.item, one.problem["code"]) for one in parts.gallery.jobs.errors("job_x")]
        scenes = parts.gallery.scenes.page().scenes

    assert record.result == {"created": 2, "duplicates": 0, "failed": 12}
    assert codes == [
        ("line 1", "malformed_body"),
        ("line 3", "malformed_body"),
        ("link.png", "path_not_allowed"),
        ("../secret.png", "path_not_allowed"),
        (str(tmp_path / "secret.png"), "path_not_allowed"),
        ("/dev/zero", "path_not_allowed"),
        ("none.png", "file_unreadable"),
        ("text.png", "unsupported_image_format"),
        ("01.png", "external_id_conflict"),
        ("line 12", "validation_failed"),
        ("line 13", "validation_failed"),
        ("line 14", "validation_failed"),
    ]
    assert [(s.external_id, s.camera_id, s.tags) for s in scenes] == [
        ("a", None, ()),
        (None, "gate", ("x",)),
    ]


def test_a_full_disk_makes_an_import_wait_and_space_lets_it_go_on(opened, photos, monkeypatch):
    full = [True]

    def check(disk):
        if full[0]:
            raise StorageFullError("full")

    monkeypatch.setattr("service.running.disk.Disk.check", check)
    monkeypatch.setattr("service.running.jobs.DISK_WAIT_S", 0.1)
    with opened(import_dir=photos) as parts:
        id = import_of(parts, photos, ["00.png", "01.png"])
        time.sleep(0.5)
        assert parts.gallery.jobs.get(id).state == "running"
        full[0] = False

        assert ended(parts, id).result["created"] == 2


def test_a_job_whose_end_could_not_be_written_ends_when_its_lease_lapses(opened, monkeypatch):
    monkeypatch.setattr("service.running.jobs.IDLE_S", 0.05)
    monkeypatch.setattr("indexer.rows.jobs.LEASE_S", 0)
    ran, failed = [], []
    with opened({"work": lambda context: ran.append(1) or {}}) as parts:
        finish = parts.gallery.jobs.finish

        def fail_once(*arguments, **options):
            if not failed:
                failed.append(1)
                raise StorageFullError("full")
            return finish(*arguments, **options)

        monkeypatch.setattr(parts.gallery.jobs, "finish", fail_once)
        record = ended(parts, parts.jobs.submit("work", {}, key=None).id)

    assert (record.state, record.attempts, ran, failed) == ("succeeded", 2, [1, 1], [1])


def test_what_nobody_waits_for_is_swept_from_the_spool_at_the_start(opened, tmp_path):
    left = tmp_path / "data" / "spool" / "job_left"
    with opened():
        pass
    left.mkdir()
    (left / "0000").write_bytes(b"x")

    with opened():
        assert not left.exists()


def test_too_many_jobs_are_refused_with_their_files(opened):
    hold, running = threading.Event(), threading.Event()

    def wait(context):
        running.set()
        hold.wait(20)
        return {}

    with opened({"wait": wait}, job_queue_max=1) as parts:
        parts.jobs.submit("wait", {}, key=None)
        assert running.wait(10)
        parts.jobs.submit("wait", {}, key=None)
        with (Path(__file__)).open("rb") as file:
            parts.jobs.spool.store("job_x", {"a": file})
        with pytest.raises(TooManyJobsError):
            parts.jobs.submit("wait", {}, key=None, id="job_x")
        hold.set()

        assert not parts.jobs.spool.folder("job_x").exists()


def test_files_are_spooled_whole_or_not_at_all(tmp_path, monkeypatch):
    spool = Spool(tmp_path / "spool")
    spool.store("job_a", {"0": io.BytesIO(b"first"), "1": io.BytesIO(b"second")})
    files = [io.BytesIO(b"first"), io.BytesIO(b"second")]

    def no_space(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(StorageFullError):
        patched.setattr("os.fsync", no_space)
        spool.store("job_b", {"0": files[0], "1": files[1]})

    assert [one.name for one in spool.folder("job_a").parent.iterdir()] == ["job_a"]
    assert (spool.folder("job_a") / "1").read_bytes() == b"second"


def test_an_import_directory_that_is_not_there_hinders_the_start(opened, tmp_path):
    with pytest.raises(SettingsError, match="not a directory"), opened(import_dir=tmp_path / "no"):
        pass


# --- crashes


def dying(directory, step, *key):
    """What a process acknowledged that dies at a step; the ids of jobs."""
    command = [sys.executable, "-m", "service.tests.dying_jobs", str(directory), step, *key]
    root = Path(service.__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == DEATH, done.stderr
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "accepted", "attempts", "described_again"),
    [
        ("spooled", False, 0, 0),
        ("accepted", True, 1, 6),
        ("claimed", True, 2, 6),
        ("detecting", True, 2, 3),
        ("stored", True, 2, 2),
        ("noted", True, 2, 2),
        ("finished", True, 1, 0),
    ],
)
def test_an_accepted_job_is_done_once_wherever_the_process_dies(
    opened, detector, tmp_path, step, accepted, attempts, described_again
):
    acknowledged = dying(tmp_path / "data", step)

    with opened() as parts:
        warm_up = 2
        records = parts.gallery.jobs.page().jobs
        assert len(records) == accepted
        assert set(acknowledged) <= {record.id for record in records}
        if accepted:
            record = ended(parts, records[0].id)
            assert (record.state, record.attempts) == ("succeeded", attempts)
            images = record.result.pop("image_ids")
            assert record.result == {"created": PICTURES, "duplicates": 0, "failed": 0}
            assert images == [scene.id for scene in parts.gallery.scenes.page().scenes]
            assert detector.asked.count("detect") - warm_up == described_again
        assert parts.gallery.scenes.count() == PICTURES * accepted
        until(lambda: not any((tmp_path / "data" / "spool").iterdir()))


@pytest.mark.slow
def test_a_job_that_keeps_ending_the_process_is_given_up(opened, tmp_path):
    for _ in range(MAX_DEATHS):
        dying(tmp_path / "data", "poison")

    with opened() as parts:
        (record,) = parts.gallery.jobs.page().jobs
        record = ended(parts, record.id)
        assert (record.state, record.problem["code"]) == ("failed", "job_abandoned")
        assert parts.gallery.scenes.count() == 0
        until(lambda: not any((tmp_path / "data" / "spool").iterdir()))


@pytest.mark.slow
def test_an_upload_that_ran_beside_a_job_that_ends_the_process_is_done(opened, tmp_path):
    for _ in range(MAX_DEATHS):
        dying(tmp_path / "data", "beside")

    with opened(besides={"poison": lambda context: {}}) as parts:
        upload, poison = sorted(parts.gallery.jobs.page().jobs, key=lambda job: job.kind)
        assert ended(parts, upload.id).state == "succeeded"
        assert ended(parts, poison.id).problem["code"] == "job_abandoned"
        assert parts.gallery.scenes.count() == PICTURES


@pytest.mark.slow
def test_an_answer_that_was_never_sent_is_given_to_who_asks_again(detector, tmp_path):
    assert dying(tmp_path / "data", "accepted", "once") == []

    with TestClient(app(tmp_path / "data", detector), base_url="http://localhost") as client:
        again = upload(client, "once")
        (job,) = client.get("/jobs").json()["items"]

    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    assert again.json() == {"job_id": job["id"], "state": "queued"}
    assert again.headers["location"] == f"/jobs/{job['id']}"
