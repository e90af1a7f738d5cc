"""One gallery in PostgreSQL, open in several processes; here each is a Gallery of its own."""

import itertools
import threading

import pytest

from indexer.database.opening import open_store
from indexer.errors import (
    DatabaseUnavailableError,
    GalleryError,
    GalleryMismatchError,
    SceneNotFoundError,
)
from indexer.gallery.gallery import Gallery
from indexer.tests.scenery import (
    DIM,
    OtherDetector,
    database_of,
    model_of,
    new_scene,
    open_gallery,
    people,
    person,
)


@pytest.fixture
def two(tmp_path, postgres):
    with open_gallery(tmp_path) as one, open_gallery(tmp_path) as other:
        yield one, other


def end_sessions(gallery, *, waiting_for):
    """End the database's sessions that hold an advisory lock, as a broken network does."""
    with gallery._store.read() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            f" AND objid = {waiting_for} AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        ).all()


def test_what_one_changes_the_other_sees_at_once(two):
    one, other = two
    scene = one.add(new_scene("a", camera_id="gate"), people(3, seed=1)).scene
    query = one.people.embedding(scene.detections[0].id)

    assert other.get(scene.id) == scene
    assert {hit.detection.id for hit in other.search(query, k=9)} == {
        one.id for one in scene.detections
    }
    assert other.stats().index_change == other.stats().last_change
    one.people.remove(scene.detections[0].id)
    assert len(other.search(query, k=9)) == 2
    other.remove(scene.id)
    assert one.search(query, k=9) == []
    with pytest.raises(SceneNotFoundError):
        one.remove(scene.id)


def test_the_same_bytes_added_by_two_at_once_become_one_scene(two):
    added = []

    def add(gallery):
        for number in range(20):
            added.append(gallery.add(new_scene(f"{number}"), people(2, seed=number)))

    threads = [threading.Thread(target=add, args=[gallery]) for gallery in (*two, *two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(added) == 80
    assert sum(one.created for one in added) == 20
    assert two[0].scenes.count() == two[1].scenes.count() == 20
    for scene in two[0].scenes.page().scenes:
        assert two[1].scenes.content(scene.id)
        assert len(scene.detections) == 2


def test_an_index_follows_through_many_changes_and_equals_a_new_one(two, tmp_path):
    one, other = two

    def change(gallery, seed):
        for number in range(25):
            scene = gallery.add(new_scene(f"{seed} {number}"), people(3, seed=number)).scene
            if number % 3 == 0:
                gallery.remove(scene.id)
            elif number % 3 == 1:
                gallery.people.remove(scene.detections[1].id)
            if number % 5 == 0:
                gallery.search(people(1, seed=number).embeddings[0], k=5)

    threads = [
        threading.Thread(target=change, args=args)
        for args in ((one, 1), (other, 2), (one, 3), (other, 4))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    queries = people(10, seed=99).embeddings
    with open_gallery(tmp_path) as fresh:
        for gallery in two:
            for query in queries:
                assert gallery.search(query, k=50) == fresh.search(query, k=50)
            assert sorted(gallery.index.live.rows()) == sorted(fresh.index.live.rows())


def test_a_model_that_one_activates_answers_at_the_other(two):
    one, other = two
    scenes = [one.add(new_scene(f"{n}"), people(2, seed=n)).scene for n in range(5)]
    new = one.generations.begin(model_of(OtherDetector))
    for number, scene in enumerate(scenes):
        other.generations.add_people(
            new.id, scene.id, person(people(1, dim=24, seed=number).embeddings[0])
        )
    query = people(1, dim=24, seed=3).embeddings[0]

    assert one.generations.activate(new.id)

    assert other.view().generation.id == new.id
    assert other.search(query, k=1)[0].scene.id == scenes[3].id
    other.remove(scenes[3].id)
    assert one.search(query, k=1)[0].scene.id != scenes[3].id


def test_who_loses_the_database_while_changing_writes_nothing_more(two):
    one, other = two
    scene = one.add(new_scene("a"), people(2)).scene
    key = 0x6E6165_01  # K_CHANGE

    with pytest.raises(DatabaseUnavailableError), one.changing():
        end_sessions(other, waiting_for=key)
        other.scenes.patch(scene.id, {"camera_id": "gate"})  # the lock is free: another one goes on
        one.scenes.patch(scene.id, {"camera_id": "yard"})

    assert one.get(scene.id).camera_id == "gate"
    assert one.scenes.patch(scene.id, {"camera_id": "yard"}).camera_id == "yard"


def test_an_addition_that_was_cut_off_can_be_made_again(tmp_path, postgres):
    lost = []

    def lose(step):
        if step == "inserted" and not lost:
            lost.append(step)
            end_sessions(other, waiting_for=0x6E6165_01)

    with open_gallery(tmp_path) as other, open_gallery(tmp_path, on_step=lose) as one:
        with pytest.raises(DatabaseUnavailableError):
            one.add(new_scene("a"), people(2))
        assert other.scenes.count() == 0

        scene = one.add(new_scene("a"), people(2)).scene

        assert other.scenes.content(scene.id) == b"a"


def test_a_name_is_claimed_by_one_and_free_once_its_connection_is_lost(two, postgres):
    one, other = (gallery.replies for gallery in two)
    assert one.claim("", "a")
    assert not other.claim("", "a")
    assert other.claim("", "b")
    one.unclaim("", "a")
    assert other.claim("", "a")
    postgres.stop()
    postgres.start()
    assert one.claim("", "a")
    assert not other.claim("", "a")
    other.unclaim("", "a")  # which it has no more
    assert not other.claim("", "a")


def test_numbers_of_changes_rise_in_the_order_in_which_they_are_seen(two):
    """Else an index that has come to one number could miss a lower one that is seen later."""
    seen, ended = [], threading.Event()

    def watch():
        store = open_store(database_of(two[0]._writer.directory))
        while not ended.is_set():
            with store.read() as connection:
                numbers = connection.exec_driver_sql("SELECT number FROM changes")
                seen.append(set(numbers.scalars()))
        store.close()

    watching = threading.Thread(target=watch)
    watching.start()
    threads = [
        threading.Thread(
            target=lambda gallery=gallery, number=number: [
                gallery.add(new_scene(f"{number} {each}"), people(1)) for each in range(20)
            ]
        )
        for number, gallery in enumerate((*two, *two))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    watching.join()

    for before, after in itertools.pairwise(seen):
        assert min(after - before, default=10**9) > max(before, default=0)
    assert len(seen) > 5


def test_a_nul_in_a_question_is_nowhere_and_no_fault(two):
    assert two[0].scenes.find("\0") is None
    with pytest.raises(SceneNotFoundError):
        two[0].get("img_\0")


def test_another_model_and_what_is_no_database_are_refused(tmp_path, postgres):
    url = database_of(tmp_path)
    open_gallery(tmp_path).close()
    with pytest.raises(GalleryMismatchError, match="of stub"):
        Gallery.open_(
            tmp_path, model_name="o", model_fingerprint="6" * 64, embedding_dim=DIM, database=url
        )
    for wrong, said in (
        ("mysql://somewhere/gallery", "expected a database URL"),
        (url.replace("postgres@", "nobody:secret-word@"), "cannot use"),
        ("postgresql://127.0.0.1:9/gallery", "cannot use"),
    ):
        with pytest.raises(GalleryError, match=said) as refusal:
            open_gallery(tmp_path, database=wrong)
        assert "secret-word" not in str(refusal.value)


def test_every_whole_number_has_64_bits(two):
    with two[0]._store.read() as connection:
        narrow = connection.exec_driver_sql(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND data_type IN ('integer', 'smallint')"
        ).all()

    assert narrow == []
