import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import indexer
from indexer.database import migrate as migrate_module
from indexer.database.opening import open_store
from indexer.database.tables import FORMAT, metadata
from indexer.errors import GalleryDamagedError, GalleryMismatchError, StorageFullError
from indexer.ids import new_id
from indexer.records import GalleryModel, SceneFilter
from indexer.rows import change_log, generations, scenes
from indexer.rows import people as people_rows
from indexer.tests.scenery import DIM, database_of, new_scene, people
from models.detections import Detections


@pytest.fixture
def where(database, tmp_path):
    """Where a store is: the path of a file, or the URL of a database."""
    return database_of(tmp_path) or tmp_path / "gallery.sqlite3"


@pytest.fixture
def store(where):
    opened = open_store(where)
    yield opened
    opened.close()


def active_number(connection):
    active = generations.active(connection)
    model = GalleryModel("stub", "5" * 64, DIM)
    return (active or generations.begin(connection, model, "active")).number


def add(store, name, found=None, **metadata_of_scene):
    with store.write() as connection:
        active = active_number(connection)
        scene = new_scene(name, **metadata_of_scene)
        id, added = scenes.add(connection, scene, {active: found or people(2)})
        return id, added[active].rows


def migrated_to(revision):
    """Makes the tables of a new database by the migrations up to one, instead of at once."""

    def make(connection):
        config = Config(attributes={"connection": connection})
        folder = Path(indexer.__file__).parent / "database" / "migrations"
        config.set_main_option("script_location", str(folder))
        config.set_main_option("path_separator", "os")
        command.upgrade(config, revision)

    return make


@pytest.fixture
def older(database, tmp_path, monkeypatch):
    """A store that the migrations made, from the first to the newest."""
    where = database_of(tmp_path / "older") or tmp_path / "older.sqlite3"
    with monkeypatch.context() as patched:
        patched.setattr(migrate_module, "make_tables", migrated_to("head"))
        opened = open_store(where)
    yield opened
    opened.close()


SCHEMA = {
    "sqlite": ["SELECT type, name, sql FROM sqlite_master"],
    "postgresql": [
        "SELECT table_name, column_name, data_type, is_nullable, column_default"
        " FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint",
        "SELECT sequencename, data_type FROM pg_sequences",
    ],
}


def schema_of(store):
    """All that a database says of its tables, without line breaks and quotes."""
    with store.reader.connect() as connection:
        rows = [
            row
            for query in SCHEMA[connection.dialect.name]
            for row in connection.exec_driver_sql(query)
        ]
    return sorted(re.sub(r'[\s"]', "", " | ".join(map(str, row))) for row in rows)


def test_the_migrations_make_the_tables_that_the_code_uses(older):
    with older.reader.connect() as connection:
        context = MigrationContext.configure(connection)

        assert compare_metadata(context, metadata) == []


def test_a_new_database_has_the_tables_that_the_migrations_make(store, older):
    made, migrated = schema_of(store), schema_of(older)

    assert len(made) > 30
    assert made == migrated
    with store.reader.connect() as new, older.reader.connect() as old:
        assert [
            connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            for connection in (new, old)
        ] == [f"{FORMAT:04}"] * 2


def test_the_format_is_the_number_of_the_newest_migration():
    scripts = ScriptDirectory(Path(indexer.__file__).parent / "database" / "migrations")

    assert int(scripts.get_current_head()) == FORMAT


def test_a_newer_format_is_refused_and_both_numbers_are_named(tmp_path):
    path = tmp_path / "gallery.sqlite3"
    open_store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
    connection.close()

    with pytest.raises(GalleryMismatchError, match=f"format 99.*up to {FORMAT}"):
        open_store(path)


def test_a_database_of_another_program_is_refused_and_left_as_it_is(where, store):
    with store.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '1a2b3c'")

    with pytest.raises(GalleryMismatchError, match="something else"):
        open_store(where)

    with store.reader.connect() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
        assert version.scalar() == "1a2b3c"


def test_boxes_scores_and_embeddings_come_back_bit_for_bit(store):
    tiny = np.nextafter(np.float32(0), np.float32(1))
    found = people(50, seed=3)
    scores = found.scores.copy()
    scores[-2:] = tiny, 0
    found = Detections(found.boxes / 3, scores, found.embeddings)
    _, rows = add(store, "a", found)

    with store.read() as connection:
        (stored,) = people_rows.at_rows(connection, rows.tolist())

    for name in ("boxes", "scores", "embeddings"):
        kept, given = getattr(stored.detections, name), getattr(found, name)
        assert kept.dtype == np.float32
        assert kept.tobytes() == given.tobytes()


def test_a_time_comes_back_in_utc_to_the_microsecond(store):
    there = timezone(timedelta(hours=5, minutes=45))
    taken = datetime(1969, 7, 20, 20, 17, 40, 123456, tzinfo=there)
    id, _ = add(store, "a", captured_at=taken)

    with store.read() as connection:
        stored = scenes.get(connection, id).captured_at

    assert stored == taken
    assert stored.tzinfo is UTC


def test_a_time_without_a_zone_is_refused(store):
    with pytest.raises(ValueError, match="time zone"):
        add(store, "a", captured_at=datetime(2026, 1, 1))


def test_changes_are_numbered_without_gaps(store):
    first, _ = add(store, "a")
    add(store, "b")
    with store.write() as connection:
        scenes.remove(connection, first)
    with store.read() as connection:
        assert change_log.last(connection) == 3


def test_rows_of_removed_detections_are_not_given_again(store):
    id, first = add(store, "a")
    with store.write() as connection:
        scenes.remove(connection, id)
    _, second = add(store, "b")

    assert first.max() < second.min()


def test_a_removed_scene_leaves_no_rows_behind(store):
    id, _ = add(store, "a", tags=("x",), attributes={"k": "v"})
    with store.write() as connection:
        scenes.remove(connection, id)

    with store.reader.connect() as connection:
        for table in ("scenes", "scene_tags", "detections", "vectors"):
            assert connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0


def test_an_exception_in_a_transaction_undoes_all_of_it(store):
    with pytest.raises(KeyError), store.write() as connection:
        scenes.add(connection, new_scene("a", tags=("x",)), {active_number(connection): people(3)})
        raise KeyError

    with store.read() as connection:
        assert scenes.count(connection, SceneFilter()) == 0
        assert change_log.last(connection) == 0


def test_a_snapshot_does_not_see_what_is_committed_after_it_began(store):
    with store.read() as connection:
        _, rows = add(store, "a")

        assert scenes.count(connection, SceneFilter()) == 0
        assert list(people_rows.at_rows(connection, rows.tolist())) == []


def test_a_changed_byte_of_an_embedding_is_noticed_and_named(tmp_path):
    path = tmp_path / "gallery.sqlite3"
    store = open_store(path)
    found = people(3)
    add(store, "a", found)
    store.close()
    content = bytearray(path.read_bytes())
    content[content.index(found.embeddings[1].tobytes()) + 5] ^= 1
    path.write_bytes(content)
    store = open_store(path)

    with store.read() as connection, pytest.raises(GalleryDamagedError, match="det_"):
        list(people_rows.everybody(connection))

    store.close()


def test_a_cut_off_database_is_refused(tmp_path):
    path = tmp_path / "gallery.sqlite3"
    store = open_store(path)
    for name in "abcdefgh":
        add(store, name, people(9))
    store.close()
    content = path.read_bytes()

    for length in np.linspace(1, len(content) - 1, 20).astype(int).tolist():
        path.write_bytes(content[:length])
        with pytest.raises(GalleryDamagedError, match=r"gallery\.sqlite3 is damaged"):
            open_store(path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "gallery.sqlite3"
    path.write_bytes(b"holiday pictures" * 1024)

    with pytest.raises(GalleryDamagedError, match="not a database"):
        open_store(path)


@pytest.mark.sqlite
def test_a_full_disk_is_said_to_be_full_and_writing_goes_on_once_it_is_not(store):
    with store.writer.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageFullError, match="no space"):
        add(store, "a", people(90))
    with store.writer.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")

    add(store, "a", people(90))

    with store.read() as connection:
        assert change_log.last(connection) == 1


def test_ids_grow_and_never_repeat_also_when_the_clock_goes_back(monkeypatch):
    before = [new_id("img_") for _ in range(1000)]
    monkeypatch.setattr("time.time_ns", lambda: 0)
    after = [new_id("img_") for _ in range(1000)]

    ids = before + after
    assert ids == sorted(set(ids))
    assert {len(id) for id in ids} == {30}


@pytest.mark.parametrize("step", ["make_tables", "run_migrations"])
def test_a_format_that_is_cut_short_leaves_what_was_and_is_done_the_next_time(
    tmp_path, monkeypatch, step
):
    path = tmp_path / "gallery.sqlite3"
    if step == "run_migrations":
        with monkeypatch.context() as patched:
            patched.setattr(migrate_module, "make_tables", migrated_to("0001"))
            open_store(path).close()
    done = getattr(migrate_module, step)

    def die(connection):
        done(connection)
        raise KeyboardInterrupt

    def tables():
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT name, sql FROM sqlite_master").fetchall()

    before = tables()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(migrate_module, step, die)
        open_store(path)
    assert tables() == before

    store = open_store(path)
    with store.read() as connection:
        assert scenes.count(connection, SceneFilter()) == 0
    store.close()


def test_a_gallery_of_an_older_format_keeps_its_scenes(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(migrate_module, "make_tables", migrated_to("0001"))
        open_store(tmp_path / "gallery.sqlite3").close()
    with closing(sqlite3.connect(tmp_path / "gallery.sqlite3")) as old, old:
        old.executescript("""
            INSERT INTO gallery VALUES (1, 'stub', 'f', 2, NULL, 7);
            INSERT INTO scenes VALUES
                (4, 'img_a', 'aa', 3, 9, 9, 'PNG', 1, NULL, 'gate', NULL, 7, '{}');
            INSERT INTO detections VALUES (3, 'det_a', 4, 1, 2, 3, 4, 0.5, 5);
            INSERT INTO vectors VALUES (3, x'0000803f00000000');
            INSERT INTO detections VALUES (8, 'det_b', 4, 1, 2, 3, 4, 0.5, 5);
            DELETE FROM detections WHERE row = 8;
        """)

    new = open_store(tmp_path / "gallery.sqlite3")
    with new.read() as connection:
        version = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
        assert int(version.scalar()) == FORMAT
        scene = scenes.get(connection, "img_a")
        assert scene.camera_id == "gate"
        assert [(one.id, one.box) for one in scene.detections] == [("det_a", (1, 2, 3, 4))]
        assert generations.active(connection).model == GalleryModel("stub", "f", 2)
        assert generations.lacking(connection, 1, 1) == {}
        vectors = connection.exec_driver_sql("SELECT row, embedding FROM vectors")
        assert vectors.all() == [(3, b"\0\0\x80\x3f\0\0\0\0")]
        assert not connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    with new.write() as connection:
        _, added = scenes.add(connection, new_scene("b"), {1: people(2, dim=2)})
        assert added[1].rows.tolist() == [9, 10]  # 8 was given once
        scenes.remove(connection, "img_a")
        left = connection.exec_driver_sql("SELECT row FROM vectors WHERE row < 9")
        assert left.all() == []
    new.close()
