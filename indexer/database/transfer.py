"""All rows of a gallery, from one database into another."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, insert, select

from indexer.database.migrate import migrate
from indexer.database.sqlite import SqliteFile
from indexer.database.store import Store
from indexer.database.tables import generations, indexes, metadata
from indexer.errors import GalleryNotEmptyError

ROWS_AT_ONCE = 2_000


def copy_all(source: Store, target: Store) -> None:
    """Copy everything that a store holds, with its ids and numbers, into an empty one.

    Raises:
        GalleryNotEmptyError: target holds something already; nothing was changed.
    """
    with source.read() as theirs, target.write() as ours:
        if ours.execute(select(generations.c.number).limit(1)).first() is not None:
            raise GalleryNotEmptyError(f"there is a gallery in {target.name} already")
        counters = source.counters(theirs)
        copy_rows(theirs, ours)
        target.set_counters(ours, counters)


def copy_rows(source: Connection, target: Connection) -> None:
    """Copy every row of every table, with its numbers, into tables that are empty.

    Both have the newest format. How far an index outside has come is not copied: it is of the
    source's, and the target begins one of its own.
    """
    for table in metadata.sorted_tables:
        if table is indexes:
            continue
        rows = source.execute(select(table).execution_options(yield_per=ROWS_AT_ONCE))
        for some in rows.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in some])


def write_file(source: Connection, counters: dict[str, int], path: Path) -> None:
    """Write what a transaction shows into a new file of SQLite, on disk when this returns.

    Args:
        counters: of tables whose numbers are never given twice, the last that was given.
    """
    path.touch(mode=0o600, exist_ok=False)
    database = SqliteFile(path)
    try:
        migrate(database)
        with database.write() as target:
            copy_rows(source, target)
            database.set_counters(target, counters)
    finally:
        database.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
    with path.open("rb") as file:
        os.fsync(file.fileno())
