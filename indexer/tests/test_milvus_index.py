"""A gallery with its vectors in a real Milvus answers as it does with them in memory."""

import re
import threading
import time
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from datetime import time as clock

import numpy as np
import pytest

from indexer.errors import DatabaseUnavailableError, GalleryError
from indexer.index import milvus as milvus_index
from indexer.index.engines import MilvusServer
from indexer.records import SceneFilter, TimeOfDay
from indexer.tests.scenery import (
    DIM,
    OtherDetector,
    model_of,
    new_scene,
    open_gallery,
    people,
    person,
    unit,
)
from indexer.tests.servers import MilvusProcess

pytestmark = pytest.mark.slow

DAY = datetime(2026, 11, 20, tzinfo=UTC)
FILTERS = [
    SceneFilter(),
    SceneFilter(camera_in=("camera 1", 'it\'s "one"')),
    SceneFilter(camera_not_in=("camera 1", "camera 2")),
    SceneFilter(captured_from=DAY + timedelta(hours=3), captured_to=DAY + timedelta(hours=9)),
    SceneFilter(captured_to=DAY + timedelta(hours=2)),
    SceneFilter(time_of_day=TimeOfDay(clock(5), clock(9), "Europe/Berlin")),
    SceneFilter(time_of_day=TimeOfDay(clock(22, 30), clock(4), "America/St_Johns")),
    SceneFilter(
        time_of_day=TimeOfDay(clock(0), clock(12), "Asia/Tokyo"),
        camera_in=("camera 2",),
        captured_from=DAY,
        captured_to=DAY + timedelta(days=400),
    ),
    SceneFilter(tags_all=("a", "b"), tags_none=("früh",)),
    SceneFilter(tags_any=("b", "früh")),
    SceneFilter(external_id="scene 7"),
    SceneFilter(external_id="nowhere"),
    SceneFilter(camera_in=("nowhere",)),
]


def test_each_condition_of_a_filter_is_compared():
    asked = {
        each.name
        for each in fields(SceneFilter)
        for filter in FILTERS
        if getattr(filter, each.name) != each.default
    }
    assert asked == {each.name for each in fields(SceneFilter)} - {"scene_not_in"}  # not Milvus's


@pytest.fixture
def outside(milvus):
    """Options of a gallery with its vectors in Milvus."""
    return {"engine": "milvus-flat", "milvus": MilvusServer(milvus)}


def some_scene(number):
    about = {"external_id": f"scene {number}", "tags": ("a", "b", "früh")[: number % 4]}
    if number % 5:
        about["camera_id"] = (None, "camera 1", "camera 2", 'it\'s "one"', "4")[number % 5]
    if number % 7:
        about["captured_at"] = DAY + timedelta(minutes=number)
    if number % 7 == 1:  # also where clocks have changed, and where they were set wrongly
        about["captured_at"] = DAY.replace(year=(1877, 1970, 2027, 2500)[number % 4], month=7)
    return new_scene(f"scene {number}", **about)


def answers(gallery, count=6):
    queries = unit(np.random.default_rng(9).standard_normal((count, DIM), np.float32))
    return [
        [
            (hit.detection.id, hit.score)
            for hit in gallery.search(query, k=k, filter=filter, **options)
        ]
        for query in queries
        for filter in FILTERS
        for k, options in (
            (10, {}),
            (50, {"group_by": "image", "min_detection_score": 0.3}),
        )
    ]


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.soak)])
def test_answers_are_the_same_through_deletions_and_additions(tmp_path, outside, count):
    with open_gallery(tmp_path) as gallery:
        for number in range(count):
            gallery.add(some_scene(number), people(3, seed=number))
        inside = answers(gallery)
    chance = np.random.default_rng(3)
    with open_gallery(tmp_path, **outside) as gallery:
        compared = [(inside, answers(gallery))]
        scenes = gallery.scenes.page(limit=2000).scenes
        some = [scenes[place] for place in chance.permutation(count)]
        for scene in some[:40]:
            gallery.remove(scene.id)
        for scene in some[:20]:
            number = int(scene.external_id.removeprefix("scene "))
            gallery.add(some_scene(number), people(4, seed=5000 + number))
        for scene in some[40:60]:
            gallery.people.remove(scene.detections[0].id)
        for scene in some[60:80]:
            gallery.scenes.patch(
                scene.id, {"camera_id": "camera 1", "tags": ["b"], "captured_at": None}
            )
        there = answers(gallery)
        stats = gallery.stats()
        assert stats.index_change == stats.last_change
        assert len(gallery.index.live) == stats.detections
    with open_gallery(tmp_path) as gallery:
        compared.append((answers(gallery), there))

    pairs = [pair for one, other in compared for pair in zip(one, other, strict=True)]
    differences = [
        abs(a[1] - b[1]) for one, other in pairs for a, b in zip(one, other, strict=True)
    ]
    assert [[id for id, _ in one] for one, _ in pairs] == [
        [id for id, _ in two] for _, two in pairs
    ]
    assert max(differences) <= 1e-5
    print(  # noqa: T201
        f"{count} scenes: {len(pairs)} searches, the same ids in the same order, "
        f"largest difference of scores {max(differences):.1e}"
    )
    assert len(differences) > 1000


def test_what_one_process_adds_another_finds_and_what_it_removes_it_never_does(
    tmp_path, outside, postgres
):
    """The processes are two Galleries, as two processes have them."""
    stale = []

    def act(one, other, seed):
        for number in range(12):
            scene = one.add(
                new_scene(f"{seed} {number}"), people(2, seed=1000 * seed + number)
            ).scene
            query = one.people.embedding(scene.detections[0].id)
            found = {hit.scene.id for hit in other.search(query, k=200)}
            if scene.id not in found:
                stale.append((scene.id, "is not found"))
            if number % 2:
                one.remove(scene.id)
                if scene.id in {hit.scene.id for hit in other.search(query, k=200)}:
                    stale.append((scene.id, "is found again"))

    with open_gallery(tmp_path, **outside) as one, open_gallery(tmp_path, **outside) as other:
        threads = [
            threading.Thread(target=act, args=args)
            for args in ((one, other, 1), (other, one, 2), (one, one, 3))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert stale == []
        assert len(one.index.live) == len(other.index.live) == one.stats().detections == 36


def test_quick_searches_some_time_after_the_last_change_find_the_same(
    tmp_path, outside, monkeypatch
):
    with open_gallery(tmp_path, **outside) as gallery:
        for number in range(30):
            gallery.add(some_scene(number), people(3, seed=number))
        gallery.remove(gallery.scenes.page(limit=1).scenes[0].id)
        waited = answers(gallery, 2)
        time.sleep(6)  # Bounded shows what is older than 5 s
        monkeypatch.setattr(milvus_index, "STRONG_S", 0)
        assert answers(gallery, 2) == waited


def test_a_change_that_did_not_reach_milvus_reaches_it_before_the_next_search(
    tmp_path, outside, monkeypatch
):
    with open_gallery(tmp_path, **outside) as gallery:
        scene = gallery.add(some_scene(1), people(2, seed=1)).scene
        query = gallery.people.embedding(scene.detections[0].id)

        def away(*_, **__):
            raise DatabaseUnavailableError("away")

        with monkeypatch.context() as patched:
            patched.setattr(milvus_index.MilvusIndex, "replace", away)
            with pytest.raises(DatabaseUnavailableError):
                gallery.add(some_scene(2), people(2, seed=1))
            with pytest.raises(DatabaseUnavailableError):
                gallery.search(query, k=4)

        assert len(gallery.search(query, k=4)) == 4


def test_a_milvus_that_is_killed_takes_nothing_along(tmp_path, outside, milvus_server):
    if not isinstance(milvus_server, MilvusProcess):
        pytest.skip("a Milvus that was started elsewhere is not killed")
    acknowledged, refused = set(), 0
    with open_gallery(tmp_path, **outside) as gallery:
        early = [gallery.add(some_scene(n), people(2, seed=n)).scene.id for n in range(20)]
        adding = threading.Event()

        def add():
            nonlocal refused
            for number in range(100, 100_000):
                try:
                    scene = gallery.add(some_scene(number), people(2, seed=number)).scene
                except DatabaseUnavailableError:
                    refused += 1
                    return
                acknowledged.add(scene.id)
                adding.set()

        writer = threading.Thread(target=add)
        writer.start()
        adding.wait(60)
        time.sleep(1)
        milvus_server.kill()
        writer.join()
        for act in (lambda: gallery.remove(early[0]), lambda: answers(gallery, 1)):
            with pytest.raises(DatabaseUnavailableError, match=re.escape(milvus_server.uri)):
                act()
        milvus_server.start_again()
        found = wait_for_answers(gallery)
        there = {scene.id for scene in gallery.scenes.page(limit=1000).scenes}
    with open_gallery(tmp_path) as gallery:
        assert answers(gallery) == found
    assert refused == 1
    assert acknowledged | set(early[1:]) <= there


def wait_for_answers(gallery):
    """Answers of a gallery whose Milvus has just started."""
    ends = time.monotonic() + 120
    while True:
        try:
            return answers(gallery)
        except DatabaseUnavailableError:
            assert time.monotonic() < ends
            time.sleep(0.5)


def test_a_collection_that_was_lost_is_filled_again(tmp_path, outside):
    with open_gallery(tmp_path, **outside) as gallery:
        for number in range(20):
            gallery.add(some_scene(number), people(2, seed=number))
        before = answers(gallery, 1)
        gallery.index.live._client.drop_collection(gallery.index.live._name)

    with open_gallery(tmp_path, **outside) as gallery:
        assert answers(gallery, 1) == before
        gallery.index.rebuild()
        assert answers(gallery, 1) == before


def test_another_model_answers_from_a_collection_of_its_own(tmp_path, outside):
    with open_gallery(tmp_path, **outside) as gallery:
        scenes = [gallery.add(some_scene(n), people(2, seed=n)).scene for n in range(10)]
        old = gallery.view().generation
        new = gallery.generations.begin(model_of(OtherDetector))
        for number, scene in enumerate(scenes):
            gallery.generations.add_people(
                new.id, scene.id, person(people(1, dim=24, seed=number).embeddings[0])
            )
        assert gallery.generations.activate(new.id)
        query = people(1, dim=24, seed=4).embeddings[0]
        assert gallery.search(query, k=1)[0].scene.id == scenes[4].id
        gallery.remove(scenes[4].id)
        assert gallery.search(query, k=1)[0].scene.id != scenes[4].id
        gallery.generations.delete(old.id)
        names = gallery.index.live._client.list_collections()
        assert [name for name in names if old.id in name] == []


def test_hnsw_finds_nearly_all_of_the_nearest(tmp_path, outside):
    with open_gallery(tmp_path) as gallery:
        for number in range(300):
            gallery.add(some_scene(number), people(3, seed=number))
        exact = answers(gallery)
    with open_gallery(tmp_path, **{**outside, "engine": "milvus-hnsw"}) as gallery:
        assert not gallery.exact
        found = answers(gallery)
    both = [(set(one), set(other)) for one, other in zip(exact, found, strict=True)]
    assert sum(len(a & b) for a, b in both) >= 0.98 * sum(len(a) for a, _ in both)


def test_without_a_milvus_a_gallery_is_refused_with_its_address(tmp_path):
    pytest.importorskip("pymilvus")
    nowhere = MilvusServer("http://127.0.0.1:9")
    with pytest.raises(GalleryError, match=r"127\.0\.0\.1:9"):
        open_gallery(tmp_path, engine="milvus-flat", milvus=nowhere)
    with pytest.raises(GalleryError, match="address"):
        open_gallery(tmp_path, engine="milvus-flat", milvus=None)
    open_gallery(tmp_path, engine="exact").close()  # a refusal leaves no lock behind
