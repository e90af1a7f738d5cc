"""Several services over one gallery in PostgreSQL: what one acknowledged, all of them know."""

import contextlib
import http.client
import random
import threading
import time

import pytest

from indexer.files.objects import Objects
from indexer.tests.scenery import database_of
from service.tests.serving import Client, Served, scene

pytestmark = pytest.mark.slow

REPLICAS = 3
CLIENTS = 6
LEASE_S = 6  # a fifth of the usual: what a killed service left is taken over after so long
BROKEN = (OSError, http.client.HTTPException)


@pytest.fixture
def start(postgres, tmp_path):
    """Start one more service over the gallery; all end with the test."""
    with contextlib.ExitStack() as stack:

        def started(data="data", **settings):
            options = {"database_url": database_of(tmp_path), "lease_s": LEASE_S, **settings}
            service = Served(tmp_path / data, **options)
            stack.callback(service.kill)
            return service

        yield started


def add(client, number, **about):
    metadata = {"external_id": str(number), **about}
    status, answer = client.post_form("/gallery/images", scene(number), metadata=metadata)
    assert status in (200, 201), answer
    return answer["id"]


def found_by(client, image_id):
    """The images that a search for the people of a stored one finds; None if it is not stored."""
    asked = {"queries": [{"image_id": image_id}], "limit": 200, "exclude_query_image": False}
    status, answer = client.json("POST", "/search", asked)
    if status == 404:
        return None
    assert status == 200, answer
    return {hit["image"]["id"] for hit in answer["hits"]}


class Caller(threading.Thread):
    """Adds and deletes images at any service, and looks for them at any other."""

    def __init__(self, ports, seed, numbers, gone):
        super().__init__(daemon=True)
        self.ports, self.chance, self.numbers, self.gone = ports, random.Random(seed), numbers, gone
        self.there, self.unsure, self.wrong = {}, {}, []
        self.searches = self.writes = 0
        self.stop = threading.Event()

    def run(self):
        for number in self.numbers:
            if self.stop.is_set() or self.wrong:
                return
            try:
                self.act(number)
            except BROKEN:
                continue  # the one that was asked is gone: ask another one
            except Exception as error:
                self.wrong.append(repr(error))

    def client(self):
        return Client(self.chance.choice(self.ports), timeout=60)

    def act(self, number):
        with self.client() as first, self.client() as second:
            self.unsure[number] = None
            id = add(first, number)
            self.there[number] = id
            del self.unsure[number]
            self.writes += 1
            gone = set(self.gone)
            found = found_by(second, id)
            self.searches += 1
            if found is None or id not in found:
                self.wrong.append((id, "was added and is not found"))
            elif found & gone:
                self.wrong.append((found & gone, "were deleted and are found"))
            if self.chance.random() < 0.5:
                number, id = self.chance.choice(list(self.there.items()))
                self.unsure[number] = self.there.pop(number)
                status, answer = first.json("DELETE", f"/gallery/images/{id}")
                if status not in (204, 404):
                    self.wrong.append((status, answer))
                self.gone.add(id)
                del self.unsure[number]
                self.writes += 1
                if found_by(second, id) is not None:
                    self.wrong.append((id, "was deleted and is there"))


def callers(services, gone):
    ports = [service.port for service in services]
    return [
        Caller(ports, seed, range(seed * 10_000 + 1, seed * 10_000 + 10_000), gone)
        for seed in range(CLIENTS)
    ]


def finish(threads):
    for thread in threads:
        thread.stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_what_one_service_acknowledged_every_other_finds_and_what_it_deleted_none(start):
    services = [start() for _ in range(REPLICAS)]
    gone = set()
    threads = callers(services, gone)
    for thread in threads:
        thread.start()
    time.sleep(8)
    finish(threads)

    assert [thread.wrong for thread in threads] == [[]] * CLIENTS
    there = {id for thread in threads for id in thread.there.values()}
    for service in services:
        with Client(service.port) as client:
            assert {image["id"] for image in client.all_images()} == there
            assert client.get("/readyz")[0] == 200
    searches, writes = (
        sum(getattr(one, name) for one in threads) for name in ("searches", "writes")
    )
    print(f"{REPLICAS} replicas: {writes} writes, {searches} searches, 0 stale")  # noqa: T201
    assert searches > 50


def test_of_three_services_one_is_killed_and_nothing_acknowledged_is_lost(start):
    services = [start() for _ in range(REPLICAS)]
    gone = set()
    threads = callers(services, gone)
    for thread in threads:
        thread.start()
    time.sleep(3)
    services[0].kill()
    for thread in threads:  # as a load balancer does
        thread.ports = [service.port for service in services[1:]]
    time.sleep(4)
    finish(threads)

    assert [thread.wrong for thread in threads] == [[]] * CLIENTS
    unsure = {str(number) for thread in threads for number in thread.unsure}
    there = {id for thread in threads for id in thread.there.values()}
    again = start()
    for service in (*services[1:], again):
        with Client(service.port) as client:
            images = {image["id"]: image["external_id"] for image in client.all_images()}
            assert there <= images.keys()
            assert {images[id] for id in images.keys() - there} <= unsure
            assert not images.keys() & gone
            for id in sorted(images)[::10]:
                assert id in found_by(client, id)
                assert client.send("GET", f"/gallery/images/{id}/content")[0] == 200


def test_a_job_is_done_once_though_the_service_that_took_it_is_killed(start):
    first = start(job_queue_max=50)
    numbers = range(1, 31)
    with Client(first.port) as client:
        jobs = []
        for at in range(0, len(numbers), 10):
            some = numbers[at : at + 10]
            about = [{"external_id": str(number)} for number in some]
            files = [scene(number) for number in some]
            status, answer = client.post_form("/gallery/images?wait=false", *files, metadata=about)
            assert status == 202
            jobs.append(answer["job_id"])
    first.kill()
    second, third = start(), start()
    with Client(second.port) as client, Client(third.port) as other:
        ends = time.monotonic() + 90  # a lease has to lapse first
        while any(other.get(f"/jobs/{job}")[1]["state"] != "succeeded" for job in jobs):
            assert time.monotonic() < ends, [other.get(f"/jobs/{job}")[1] for job in jobs]
            time.sleep(0.1)
        images = client.all_images()
        assert sorted(int(image["external_id"]) for image in images) == list(numbers)
        for job in jobs:
            done = other.get(f"/jobs/{job}")[1]
            assert done["progress"]["done"] == 10, done


def test_a_key_that_one_service_answers_no_other_does_until_it_ends(start):
    one, other = (start(seconds=1.5) for _ in range(2))
    again = {"headers": {"Idempotency-Key": "a key"}}
    told = []

    def ask(service, number):
        with (
            contextlib.suppress(OSError, http.client.HTTPException),
            Client(service.port) as client,
        ):
            told.append(client.post_form("/gallery/images", scene(number), **again))

    both = [threading.Thread(target=ask, args=(service, 1)) for service in (one, other)]
    for each in both:
        each.start()
    for each in both:
        each.join()
    ask(other, 1)

    assert [status for status, _ in told] == [409, 201, 201]
    assert told[0][1]["code"] == "idempotency_in_progress"
    assert told[1] == told[2]

    again["headers"]["Idempotency-Key"] = "another key"
    first = threading.Thread(target=ask, args=(one, 2))
    first.start()
    time.sleep(0.5)
    one.kill()
    first.join()
    ask(other, 2)
    assert [status for status, _ in told[3:]] == [201]


def test_a_change_of_metadata_counts_at_every_service_at_once(start):
    services = [start() for _ in range(2)]
    with Client(services[0].port) as one, Client(services[1].port) as other:
        id = add(one, 1, camera_id="gate")
        for number in range(30):
            camera = f"camera {number}"
            one.json("PATCH", f"/gallery/images/{id}", {"camera_id": camera})
            wanted = {"camera_id": {"in": [camera]}}
            asked = {"queries": [{"image_id": id}], "filter": wanted, "exclude_query_image": False}
            status, answer = other.json("POST", "/search", asked)
            assert (status, len(answer["hits"])) == (200, 2), answer


def test_without_its_database_a_service_says_so_and_goes_on_once_it_is_back(start, postgres):
    service = start()
    with Client(service.port) as client:
        id = add(client, 1)
        postgres.stop()
        try:
            status, answer = client.get(f"/gallery/images/{id}")
            assert (status, answer["code"]) == (503, "database_unavailable")
            assert "postgresql" not in str(answer)
        finally:
            postgres.start()
        assert client.get(f"/gallery/images/{id}")[0] == 200
        assert add(client, 2)


def test_services_whose_directories_are_not_the_same_are_refused(start, tmp_path):
    first = start()
    with Client(first.port) as client:
        add(client, 1)

    elsewhere = tmp_path / "elsewhere" / "data"
    elsewhere.parent.mkdir()
    with pytest.raises(AssertionError, match="must share them"):
        Served(elsewhere, database_url=database_of(tmp_path))


def test_with_object_storage_services_share_no_directory(start, s3_url):
    options = {"originals_url": s3_url}
    first = start("first", **options)
    with Client(first.port) as client:
        id = add(client, 1)
        about = [{"external_id": str(number)} for number in range(2, 12)]
        files = [scene(number) for number in range(2, 12)]
        status, answer = client.post_form("/gallery/images?wait=false", *files, metadata=about)
        assert status == 202
        job = answer["job_id"]
    first.kill()
    second = start("second", **options)
    with Client(second.port) as client:
        assert client.send("GET", f"/gallery/images/{id}/content")[0] == 200
        ends = time.monotonic() + 90
        while client.get(f"/jobs/{job}")[1]["state"] != "succeeded":
            assert time.monotonic() < ends, client.get(f"/jobs/{job}")
            time.sleep(0.1)
        images = client.all_images()
        assert len(images) == 11
        for image in images:
            assert client.send("GET", f"/gallery/images/{image['id']}/content")[0] == 200
    assert not list(Objects(s3_url).names("spool"))
