"""What was acknowledged outlives the process: kills at random moments of mixed work.

The service runs in a process of its own and is killed (SIGKILL) while several clients add, delete,
change, search, send jobs, make snapshots, compact and change the model. After each restart the
books that the clients kept are compared with what is there.
"""

import contextlib
import hashlib
import http.client
import os
import random
import sqlite3
import threading
import time

import numpy as np
import pytest

from indexer.gallery.manifest import check_snapshot
from indexer.rows.jobs import LEASE_S
from indexer.tests.scenery import database_of
from indexer.tests.servers import ENGINE, psycopg
from service.tests.serving import Client, Served, free_port, scene

CLIENTS = 6
OFTEN = 60  # kills after which all kinds of requests were under way
PEOPLE = 2
JOB_FILES = 3
LONGEST_S = 30 + LEASE_S  # of a job; in a shared gallery its lease has to lapse first
KINDS = ("add", "delete", "patch", "search", "job", "snapshot", "reindex")
MODELS = ("stub", "other")
BROKEN = (OSError, http.client.HTTPException)


class Image:
    """What a client knows of an image.

    Attributes:
        id: None before it was acknowledged.
        there: True, False, or None while an answer is missing.
        tags: those that it may have; more than one while an answer is missing.
        people: ids of who is in it, whatever model answers; None before they were seen.
    """

    def __init__(self, number):
        self.number, self.id, self.there, self.tags = number, None, None, {"new"}
        self.people = None


class Books:
    """Everything that the clients know, and how much was acknowledged."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.images = {}
        self.jobs = {}  # id to its images; None for jobs without
        self.stray = set()  # numbers in requests for jobs that were never answered
        self.snapshots = set()
        self.counts = dict.fromkeys(KINDS, 0)
        self.goings_on = 0  # how often a change of the model went on after a kill
        self._lock = threading.Lock()
        self._next = 0

    def new(self):
        with self._lock:
            self._next += 1
            return Image(self._next)

    def acknowledged(self, what):
        with self._lock:
            self.counts[what] += 1


class Caller(threading.Thread):
    """A client with images of its own, until its service is gone."""

    def __init__(self, books, port, seed, mine):
        super().__init__(daemon=True)
        self.books, self.port, self.mine = books, port, mine
        self.chance, self.wrong = random.Random(seed), []

    def run(self):
        with Client(self.port, timeout=20) as self.client:
            try:
                while not self.wrong:
                    self.act()
            except BROKEN:
                return
            except Exception as error:
                self.wrong.append(repr(error))

    def act(self):
        known = [image for image in self.mine if image.there]
        kinds = {"add": 40, "job": 4, "snapshot": 0.5, "compact": 0.5, "reindex": 3}
        if known:
            kinds |= {"delete": 25, "patch": 15, "search": 20}
        (kind,) = self.chance.choices(list(kinds), list(kinds.values()))
        image = self.chance.choice(known) if known else None
        getattr(self, kind)(image)

    def check(self, right, *words):
        if not right:
            self.wrong.append(words)

    def add(self, _):
        image = self.books.new()
        self.books.images[image.number] = image
        self.mine.append(image)
        status, answer = send(self.client, image)
        self.check(status == 201 and len(answer["detections"]) == PEOPLE, status, answer)
        image.id, image.there = answer["id"], True
        self.books.acknowledged("add")

    def delete(self, image):
        image.there = None
        status, answer = self.client.json("DELETE", f"/gallery/images/{image.id}")
        self.check(status == 204, "delete", status, answer)
        image.there = False
        self.books.acknowledged("delete")

    def patch(self, image):
        tag = f"tag {self.chance.randrange(10**6)}"
        image.tags = image.tags | {tag}
        status, answer = self.client.json("PATCH", f"/gallery/images/{image.id}", {"tags": [tag]})
        self.check(status == 200 and answer["tags"] == [tag], "patch", status, answer)
        image.tags = {tag}
        self.books.acknowledged("patch")

    def search(self, image):
        gone = {one.id for one in list(self.books.images.values()) if one.there is False}
        asked = {"queries": [{"image_id": image.id}], "limit": 50, "exclude_query_image": False}
        status, answer = self.client.json("POST", "/search", asked)
        self.check(status == 200, "search", status, answer)
        found = {hit["image"]["id"] for hit in answer["hits"]}
        self.check(image.id in found, image.id, "is not found")
        self.check(not found & gone, found & gone, "is found again")
        self.books.acknowledged("search")

    def job(self, _):
        images = [self.books.new() for _ in range(JOB_FILES)]
        self.books.stray |= {image.number for image in images}
        about = [{"external_id": str(image.number), "tags": ["new"]} for image in images]
        files = [scene(image.number, PEOPLE) for image in images]
        path = "/gallery/images?wait=false"
        status, answer = self.client.post_form(path, *files, metadata=about)
        self.check(status == 202, "job", status, answer)
        self.books.jobs[answer["job_id"]] = images
        self.books.acknowledged("job")

    def snapshot(self, _):
        status, answer = self.client.json("POST", "/snapshots")
        self.check(status == 202, "snapshot", status, answer)
        self.books.jobs[answer["job_id"]] = None
        self.books.snapshots.add(answer["snapshot_id"])
        self.books.acknowledged("snapshot")

    def compact(self, _):
        status, answer = self.client.json("POST", "/index/compact")
        self.check(status == 202, "compact", status, answer)
        self.books.jobs[answer["job_id"]] = None

    def reindex(self, _):
        name = self.chance.choice(MODELS)
        status, answer = self.client.json("POST", f"/models/{name}/reindex")
        if status == 409:  # it answers already, or another caller is changing the model
            self.check(answer["code"].startswith("generation_"), answer)
            return
        self.check(status == 202, "reindex", status, answer)
        self.books.jobs[answer["job_id"]] = None
        self.books.acknowledged("reindex")


def send(client, image):
    return client.post_form(
        "/gallery/images",
        scene(image.number, PEOPLE),
        headers={"Idempotency-Key": f"add {image.number}"},
        metadata={"external_id": str(image.number), "tags": ["new"]},
    )


def settle(books, client, callers):
    """Compare the books with what is there, and write into them what the kill left open."""
    for id, images in list(books.jobs.items()):
        job = until_ended(client, id)
        assert job["state"] == "succeeded", job
        books.goings_on += job["kind"] == "reindex" and job["attempts"] > 1
        for image in images or ():
            books.images[image.number] = image
            books.stray.discard(image.number)
            callers[image.number % CLIENTS].append(image)
            image.there = "by job"
        del books.jobs[id]
    while client.get("/jobs?state=queued&state=running")[1]["items"]:
        time.sleep(0.01)  # those whose 202 was never read
    present = {int(record["external_id"]): record for record in client.all_images()}
    for number, image in books.images.items():
        record = present.pop(number, None)
        if image.there is None and image.id is None:  # an add without an answer: ask again
            was_there = record is not None
            status, record = send(client, image)
            assert status in (200, 201), record
            assert status == 201 or was_there
            image.id = record["id"]
        elif image.there is None:  # a delete without an answer
            image.there = record is not None
        if image.there is False:
            assert record is None, f"{number} was deleted and is there again"
            continue
        assert record is not None, f"{number} was acknowledged and is lost"
        assert image.id in (None, record["id"])
        people = {one["id"] for one in record["detections"]}
        assert len(people) == PEOPLE, f"{number} is torn"
        assert image.people in (None, people)
        assert len(record["tags"]) == 1
        assert record["tags"][0] in image.tags, f"a change of {number} is lost"
        image.id, image.there, image.tags = record["id"], True, set(record["tags"])
        image.people = people
    assert set(present) <= books.stray, "nobody sent these"


def until_ended(client, id):
    ends = time.monotonic() + LONGEST_S
    while (job := client.get(f"/jobs/{id}")[1])["state"] in ("queued", "running"):
        assert time.monotonic() < ends, job
        time.sleep(0.01)
    return job


def check_files(data):
    """Rows, embeddings and originals belong together.

    Returns:
        Ids, scores and embeddings of the people of the generation that answers.
    """
    url = database_of(data)
    with contextlib.closing(
        psycopg.connect(url)
        if url
        else sqlite3.connect(f"file:{data}/gallery.sqlite3?mode=ro", uri=True)
    ) as base:
        contents = {row[0] for row in base.execute("select sha256 from scenes")}
        stored = base.execute(
            "select d.id, d.score, v.embedding from detections d left join vectors v using (row)"
            " join generations g on g.number = d.generation where g.state = 'active'"
        ).fetchall()
        per_scene = base.execute(
            "select count(d.id) from scene_generations s left join detections d"
            " using (scene, generation) group by s.scene, s.generation"
        ).fetchall()
        lacking = base.execute(
            "select count(*) from scenes where number not in (select s.scene from"
            " scene_generations s join generations g on g.number = s.generation"
            " where g.state = 'active')"
        ).fetchone()
        states = [row[0] for row in base.execute("select state from generations")]
        strays = base.execute(
            "select count(*) from detections where (scene, generation) not in"
            " (select scene, generation from scene_generations)"
        ).fetchone()
        orphans = base.execute(
            "select count(*) from vectors where row not in (select row from detections)"
        ).fetchone()
    assert {count for (count,) in per_scene} <= {PEOPLE}
    assert orphans == lacking == strays == (0,)
    assert states.count("active") == 1
    files = {file.name: file for file in (data / "originals").iterdir()}
    assert set(files) == contents
    for name, file in files.items():
        assert hashlib.sha256(file.read_bytes()).hexdigest() == name
    vectors = np.array([np.frombuffer(blob, "<f4") for _, _, blob in stored], np.float64)
    return [row[0] for row in stored], np.array([row[1] for row in stored]), vectors


def check_exact(client, chance, ids, scores, vectors):
    """Searches answer what comparing with every stored vector answers."""
    for place in chance.sample(range(len(ids)), min(3, len(ids))):
        asked = {"queries": [{"detection_id": ids[place]}], "limit": 100}
        _, answer = client.json("POST", "/search", asked | {"exclude_query_image": False})
        weighted = np.round(scores * (vectors @ vectors[place]), 6)
        best = sorted(zip((-weighted).tolist(), ids, strict=True))[:100]
        found = [hit["detection"]["id"] for hit in answer["hits"]]
        told = np.array([hit["score"] for hit in answer["hits"]])
        if ENGINE in os.environ:  # another program, which may round otherwise
            assert set(found) <= set(ids)
            np.testing.assert_allclose(told, weighted[[ids.index(id) for id in found]], atol=1e-5)
            np.testing.assert_allclose(told, [-score for score, _ in best], atol=1e-5)
        else:
            assert found == [id for _, id in best]
            np.testing.assert_allclose(told, [-score for score, _ in best], atol=1e-9)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kills", [20, pytest.param(2000, marks=pytest.mark.soak)])
def test_nothing_acknowledged_is_lost_or_comes_back_when_the_service_is_killed(
    tmp_path, kills, seed
):
    books, data, port = Books(seed), tmp_path / "data", free_port()
    own = [[] for _ in range(CLIENTS)]

    for life in range(kills + 1):
        service = Served(data, port=port)
        try:
            with Client(port) as client:
                settle(books, client, own)
                rows = check_files(data)
                check_exact(client, books.chance, *rows)
            if life < kills:
                callers = [Caller(books, port, books.chance.random(), mine) for mine in own]
                for caller in callers:
                    caller.start()
                time.sleep(books.chance.uniform(0.02, 0.7))
        finally:
            service.kill()
        if life < kills:
            for caller in callers:
                caller.join()
            assert [caller.wrong for caller in callers] == [[]] * CLIENTS

    print(  # noqa: T201
        f"after {kills} kills: {books.counts}; {books.goings_on} changes of the model went on"
    )
    assert sum(books.counts.values()) > kills
    if kills >= OFTEN:
        assert all(books.counts.values())
        assert books.goings_on
    for id in books.snapshots:
        check_snapshot(data / "snapshots" / id)
