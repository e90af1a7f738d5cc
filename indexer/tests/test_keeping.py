"""Compaction, retention by camera, and the audit trail."""

import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from indexer.errors import SceneNotFoundError, StorageFullError
from indexer.gallery import upkeep
from indexer.rows.audit import acting_as
from indexer.rows.retention import parse_retention
from indexer.tests.dying import DEATH
from indexer.tests.scenery import new_scene, open_gallery, people
from indexer.tests.test_crash_recovery import assert_whole, death, gallery_of_three

pytestmark = pytest.mark.usefixtures("database")

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def gallery(tmp_path):
    with open_gallery(tmp_path) as opened:
        yield opened


# Compaction


def test_compacting_leaves_nothing_empty_and_finds_the_same(gallery, tmp_path):
    ids = [gallery.add(new_scene(f"{i}"), people(5, seed=i)).scene.id for i in range(40)]
    for id in ids[::2]:
        gallery.remove(id)
    query = people(1, seed=99).embeddings[0]
    before = gallery.search(query, k=50)
    state = gallery.upkeep.index_state()
    assert (state.rows, state.gone, state.compacted_at) == (100, 100, None)

    freed = gallery.upkeep.compact()

    after = gallery.upkeep.index_state()
    assert (after.rows, after.gone, freed.gone) == (100, 0, 100)
    assert after.index_bytes < state.index_bytes
    assert freed.index_bytes == state.index_bytes - after.index_bytes
    assert after.compacted_at is not None
    assert gallery.search(query, k=50) == before
    gallery.add(new_scene("later"), people(5, seed=41))
    gallery.remove(ids[1])
    assert_whole(gallery, tmp_path)


@pytest.mark.sqlite
def test_a_database_with_much_unused_space_becomes_smaller(gallery, tmp_path, monkeypatch):
    monkeypatch.setattr(upkeep, "UNUSED_BYTES", 2**16)
    for number in range(60):
        gallery.add(new_scene(f"{number}"), people(50, seed=number))
    for scene in gallery.scenes.page(limit=50).scenes:
        gallery.remove(scene.id)
    before = (tmp_path / "gallery.sqlite3").stat().st_size
    assert gallery.upkeep.wants_compaction

    gallery.upkeep.compact()

    assert (tmp_path / "gallery.sqlite3").stat().st_size < before / 2
    assert not gallery.upkeep.wants_compaction
    assert_whole(gallery, tmp_path)


def test_compaction_is_wanted_once_a_fifth_and_more_than_a_thousand_are_gone(gallery, monkeypatch):
    ids = [gallery.add(new_scene(f"{i}"), people(100, seed=i)).scene.id for i in range(30)]
    for id in ids[:10]:
        gallery.remove(id)
    assert not gallery.upkeep.wants_compaction  # a third, but not more than a thousand
    gallery.remove(ids[10])

    assert gallery.upkeep.wants_compaction
    monkeypatch.setattr(upkeep, "UNUSED_SHARE", 0.5)
    assert not gallery.upkeep.wants_compaction


def test_what_comes_and_goes_during_a_compaction_is_seen_afterwards(gallery, tmp_path):
    ids = [gallery.add(new_scene(f"{i}"), people(5, seed=i)).scene.id for i in range(30)]
    ended = threading.Event()

    def come_and_go():
        number = 100
        while not ended.is_set():
            gallery.remove(ids.pop())
            ids.insert(0, gallery.add(new_scene(f"{number}"), people(5, seed=number)).scene.id)
            number += 1

    writer = threading.Thread(target=come_and_go)
    writer.start()
    try:
        for _ in range(10):
            gallery.upkeep.compact()
            assert len(gallery.search(people(1, seed=5).embeddings[0], k=10)) == 10
    finally:
        ended.set()
        writer.join()

    assert_whole(gallery, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["refilled", "vacuumed"])
def test_a_gallery_is_whole_wherever_a_compaction_ends(tmp_path, step):
    gallery_of_three(tmp_path)

    assert death("compact", tmp_path, step) == DEATH

    with open_gallery(tmp_path) as gallery:
        assert_whole(gallery, tmp_path)
        assert gallery.scenes.count() == 3


# Retention


def test_days_are_read_by_camera():
    assert parse_retention("gate=30, *=365") == {"gate": 30, "*": 365}
    assert parse_retention("a=b=7") == {"a=b": 7}
    assert parse_retention("") == {}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("gate", "expected camera=days"),
        ("=3", "expected camera=days"),
        ("gate=", "whole days"),
        ("gate=0", "whole days"),
        ("gate=-1", "whole days"),
        ("gate=1.5", "whole days"),
        ("gate=99999", "whole days"),
        ("gate=soon", "whole days"),
        ("gate=1,gate=2", "twice"),
    ],
)
def test_nonsense_about_days_is_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_retention(text)


def test_scenes_go_when_their_camera_allows_no_more(gallery, tmp_path):
    def add(name, camera, days):
        taken = None if days is None else NOW - timedelta(days=days)
        gallery.add(new_scene(name, camera_id=camera, captured_at=taken), people(2))

    add("gate, new", "gate", 29)
    add("gate, old", "gate", 31)
    add("door, new", "door", 31)
    add("door, old", "door", 366)
    add("nowhere, old", None, 366)
    add("nowhere, new", None, 364)
    add("no time", "gate", None)

    assert gallery.upkeep.expire({"gate": 30}, NOW) == 1
    assert gallery.upkeep.expire({"gate": 30, "*": 365}, NOW) == 2
    assert gallery.upkeep.expire({"gate": 30, "*": 365}, NOW) == 0

    left = {gallery.scenes.content(scene.id).decode() for scene in gallery.scenes.page().scenes}
    assert left == {"gate, new", "door, new", "nowhere, new", "no time"}
    assert_whole(gallery, tmp_path)
    removed = gallery.trail.entries(limit=9, action="scene_removed")
    assert [entry.key for entry in removed] == ["(retention)"] * 3


def test_without_captured_at_the_time_of_adding_counts(gallery):
    gallery.add(new_scene("a", camera_id="gate"), people(2))
    now = datetime.now(UTC)

    assert gallery.upkeep.expire({"gate": 30}, now + timedelta(days=29)) == 0
    assert gallery.upkeep.expire({"gate": 30}, now + timedelta(days=31)) == 1


def test_more_scenes_than_one_round_takes_all_go(gallery, monkeypatch):
    monkeypatch.setattr(upkeep, "EXPIRED_AT_ONCE", 3)
    for number in range(10):
        taken = NOW - timedelta(days=number)
        gallery.add(new_scene(f"{number}", captured_at=taken), people(1))

    assert gallery.upkeep.expire({"*": 2}, NOW) == 7
    assert gallery.scenes.count() == 3


# The audit trail


def test_every_change_is_in_the_trail_with_who_made_it(gallery):
    with acting_as("anna"):
        scene = gallery.add(new_scene("a", external_id="secret name"), people(3)).scene
        gallery.scenes.patch(scene.id, {"camera_id": "hidden", "tags": ("private",)})
    with acting_as("bert"):
        gallery.people.remove(scene.detections[0].id)
        gallery.remove(scene.id)
    gallery.trail.note("embedding_read", "det_1")

    entries = gallery.trail.entries(limit=10)
    assert [(one.key, one.action, one.subject) for one in reversed(entries)] == [
        ("anna", "scene_added", scene.id),
        ("anna", "scene_changed", scene.id),
        ("bert", "detection_removed", scene.detections[0].id),
        ("bert", "scene_removed", scene.id),
        (None, "embedding_read", "det_1"),
    ]
    assert entries[-2].details == {"fields": ["camera_id", "tags"]}
    assert entries[-1].details == {"detections": 3}
    text = str(entries)
    assert not [word for word in ("secret name", "hidden", "private") if word in text]


def test_what_was_not_done_is_not_in_the_trail(gallery):
    gallery.add(new_scene("a"), people(1))
    gallery.add(new_scene("a"), people(1))  # there already
    with pytest.raises(SceneNotFoundError):
        gallery.remove("img_none")

    def full(*_):
        raise StorageFullError("full")

    gallery._writer.originals.put = full
    with pytest.raises(StorageFullError):
        gallery.add(new_scene("b"), people(1))

    assert [one.action for one in gallery.trail.entries(limit=10)] == ["scene_added"]


def test_the_trail_is_walked_newest_first_and_narrowed(gallery):
    for number in range(5):
        gallery.trail.note("looked", f"thing {number % 2}")

    first = gallery.trail.entries(limit=2)
    rest = gallery.trail.entries(limit=9, before=first[-1].number)
    numbers = [one.number for one in [*first, *rest]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 5
    assert len(gallery.trail.entries(limit=9, subject="thing 1")) == 2
    assert gallery.trail.entries(limit=9, action="added") == []


def test_old_entries_of_the_trail_are_deleted_and_that_is_entered(gallery):
    gallery.trail.note("looked", "thing")
    assert gallery.trail.trim(datetime.now(UTC) - timedelta(days=1)) == 0

    assert gallery.trail.trim(datetime.now(UTC) + timedelta(seconds=1)) == 1

    (entry,) = gallery.trail.entries(limit=9)
    assert (entry.action, entry.details) == ("audit_trimmed", {"entries": 1})


@pytest.mark.slow
@pytest.mark.parametrize("step", ["inserted", "committed"])
def test_a_change_and_its_entry_are_stored_together_or_not_at_all(tmp_path, step):
    gallery_of_three(tmp_path)

    assert death("add", tmp_path, step) == DEATH

    with open_gallery(tmp_path) as gallery:
        added = gallery.trail.entries(limit=99, action="scene_added")
        assert len(added) == gallery.scenes.count() == 3 + (step == "committed")
        assert np.all(np.diff([one.number for one in added]) < 0)
