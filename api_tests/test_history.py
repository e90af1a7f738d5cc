"""Many clients at once: what they saw can be told as one story in which things happen one by one.

Clients add, delete, get and search the same few pictures. Every request is written down with the
times of its beginning and its end; afterwards, for each picture, an order of its requests is looked
for that fits the times and in which every answer is right (the history is linearizable).
"""

import random
import threading
import time

import pytest

from service.tests.serving import Client, scene, served

THREADS = 32
PICTURES = 24


class Log:
    def __init__(self):
        self.entries = {number: [] for number in range(PICTURES)}
        self.searches = []

    def __call__(self, number, began, kind, id):
        self.entries[number].append((began, time.monotonic(), kind, id))

    def read_searches(self, ids):
        """Say of each search what it saw of each picture, once all ids are known."""
        of = {id: number for number, theirs in ids.items() for id in theirs}
        for number, began, ended, found in self.searches:
            seen = {of[id]: id for id in found}
            assert len(seen) == len(found), "a picture is there twice"
            for other, id in seen.items():
                self.entries[other].append((began, ended, "seen", id))
            if number not in seen:
                self.entries[number].append((began, ended, "none", None))


def act(client, chance, ids, log):
    """One request; ids maps a picture to the ids that it has had."""
    number = chance.randrange(PICTURES)
    known = ids[number]
    kind = chance.choice(["add", "add", "delete", "delete", "get", "search"])
    began = time.monotonic()
    if kind == "add" or not known:
        status, answer = client.post_form("/gallery/images", scene(number, 1))
        assert status in (200, 201), answer
        known.append(answer["id"])
        log(number, began, "created" if status == 201 else "seen", answer["id"])
    elif kind == "search":
        status, answer = client.post_form(
            "/search", scene(number, 1), request={"limit": 1000, "queries": [{"image": 0}],
                                                  "exclude_query_image": False},
        )  # fmt: skip
        assert status == 200, answer
        found = {hit["image"]["id"] for hit in answer["hits"]}
        assert len(found) == len(answer["hits"]) <= PICTURES
        log.searches.append((number, began, time.monotonic(), found))
    else:
        id = chance.choice(known[-2:])
        path = f"/gallery/images/{id}"
        status, answer = client.json("DELETE" if kind == "delete" else "GET", path)
        assert status in (200, 204, 404), answer
        if kind == "delete":
            log(number, began, "deleted" if status == 204 else "not", id)
        else:
            log(number, began, "seen" if status == 200 else "not", id)


def after(state, kind, id):
    """The id that is there after a request that saw this; False when it could not have been so."""
    if kind == "created":
        return id if state is None else False
    if kind == "deleted":
        return None if state == id else False
    fits = {"seen": state == id, "not": state != id, "none": state is None}[kind]
    return state if fits else False


def is_linearizable(entries):
    """Whether some order fits: of what has not ended before another began, anything may be first.

    Reference:
        Wing and Gong, Testing and Verifying Concurrent Objects, JPDC 1993.
    """
    entries = sorted(entries)
    # A step is (how many of the sorted entries are all done, which later ones are done, state).
    steps, tried = [(0, frozenset(), None)], set()
    while steps:
        step = steps.pop()
        if step in tried:
            continue
        tried.add(step)
        first, done, state = step
        while first in done:
            done, first = done - {first}, first + 1
        if first == len(entries):
            return True
        ends, place = entries[first][1], first
        while place < len(entries) and entries[place][0] <= ends:
            if place not in done:
                ends = min(ends, entries[place][1])
                following = after(state, *entries[place][2:])
                if following is not False:
                    steps.append((first, done | {place}, following))
            place += 1
    return False


def test_the_check_of_histories_finds_what_cannot_have_been():
    fine = [(0, 3, "created", "a"), (1, 2, "not", "a"), (2, 4, "seen", "a"), (5, 6, "deleted", "a")]
    lost = [(0, 1, "created", "a"), (2, 3, "none", None)]
    back = [(0, 1, "created", "a"), (2, 3, "deleted", "a"), (4, 5, "seen", "a")]
    twice = [(0, 5, "created", "a"), (1, 6, "created", "b")]

    assert is_linearizable(fine)
    assert not is_linearizable(lost)
    assert not is_linearizable(back)
    assert not is_linearizable(twice)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("requests", [640, pytest.param(10_000, marks=pytest.mark.soak)])
def test_what_32_clients_saw_can_have_happened_one_by_one(tmp_path, requests, seed):
    log, wrong = Log(), []
    ids = {number: [] for number in range(PICTURES)}

    def live(number, port):
        chance = random.Random(seed + number)
        with Client(port) as client:
            try:
                for _ in range(requests // THREADS):
                    act(client, chance, ids, log)
            except Exception as error:
                wrong.append(repr(error))

    settings = {"search_queue_max": THREADS, "ingest_queue_max": THREADS}
    with served(tmp_path / "data", **settings) as service:
        threads = [
            threading.Thread(target=live, args=(number, service.port)) for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert wrong == []
    log.read_searches(ids)
    assert sum(map(len, log.entries.values())) >= requests
    assert [n for n, entries in log.entries.items() if not is_linearizable(entries)] == []
