"""A gallery's database in one file of SQLite: the default."""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from indexer.database.tables import metadata
from indexer.errors import GalleryDamagedError, GalleryError, StorageFullError
from indexer.times import time_of_day

CHECKPOINT_WAIT_S = 60.0
PAGES_AT_ONCE = 1024
LOOK_FOR_DAMAGE = "PRAGMA integrity_check(1)"  # in pages, rows and indexes; the first there is

_WRITER_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit that returned survives a power cut
    "foreign_keys = ON",
    "secure_delete = ON",  # what is deleted is overwritten with zeros
)
_READER_PRAGMAS = ("query_only = ON",)


class SqliteFile:
    """A Store: one file, of one process.

    Raises:
        GalleryDamagedError: it ends within a page.
    """

    shared = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)
        self._writing = threading.Lock()
        _check_length(path)
        self.writer = _connect(
            path, "BEGIN IMMEDIATE", _WRITER_PRAGMAS, pool_size=1, max_overflow=0
        )
        self.reader = _connect(path, "BEGIN", _READER_PRAGMAS, pool_size=8, max_overflow=-1)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _translated(self.path), self.reader.begin() as connection:
            # What is seen is fixed by the first statement that reads, not by BEGIN.
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").scalar()
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._writing, _translated(self.path), self.writer.begin() as connection:
            yield connection

    def changing(self) -> AbstractContextManager[None]:
        return nullcontext()  # the lock on the directory keeps other processes away

    def indexing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def claim(self, name: str) -> bool:
        return True

    def unclaim(self, name: str) -> None:
        """Nothing to do: no other process claims names."""

    def holding_originals(self) -> AbstractContextManager[None]:
        return nullcontext()

    def originals_held(self) -> bool:
        return False

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        with (
            _translated(self.path),
            self.writer.connect() as connection,
            _without_foreign_keys(connection),
            connection.begin(),
        ):
            _refuse_damage(self.path, connection.exec_driver_sql(LOOK_FOR_DAMAGE).scalar())
            yield connection

    @contextmanager
    def frozen(self) -> Iterator["FrozenFile"]:
        with (
            _translated(self.path),
            closing(
                sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            ) as connection,
        ):
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM alembic_version")
            yield FrozenFile(connection)

    def counters(self, connection: Connection) -> dict[str, int]:
        found = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")
        return {name: int(last) for name, last in found}

    def set_counters(self, connection: Connection, counters: dict[str, int]) -> None:
        for name, last in counters.items():
            if not metadata.tables[name].dialect_options["sqlite"]["autoincrement"]:
                continue
            connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
            connection.exec_driver_sql("INSERT INTO sqlite_sequence VALUES (?, ?)", (name, last))

    def vacuum(self) -> None:
        with self._alone() as connection:
            connection.execute("VACUUM")
        self.empty_log()

    def empty_log(self) -> None:
        ends_at = time.monotonic() + CHECKPOINT_WAIT_S
        while True:
            with self._alone() as connection:
                (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return
            if time.monotonic() > ends_at:
                raise GalleryError(
                    f"cannot empty the log of {self.path}: a read that began before has not ended"
                )

    def space(self) -> tuple[int, int]:
        with self.reader.connect() as connection:
            size, pages, free = (
                int(connection.exec_driver_sql(f"PRAGMA {name}").scalar() or 0)
                for name in ("page_size", "page_count", "freelist_count")
            )
        return pages * size, free * size

    @property
    def nbytes(self) -> int:
        return sum(
            file.stat().st_size
            for file in self.path.parent.glob(f"{self.path.name}*")
            if file.is_file()
        )

    def close(self) -> None:
        self.reader.dispose()
        # Last, for SQLite then folds the log into the database file.
        self.writer.dispose()

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes, outside of a transaction."""
        with self._writing, _translated(self.path):
            pooled = self.writer.raw_connection()
            try:
                yield cast(sqlite3.Connection, pooled.driver_connection)
            finally:
                pooled.close()


class FrozenFile:
    """A Frozen: a read transaction of its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def copy_to(self, path: Path) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as copy:
            path.chmod(0o600)
            self._connection.backup(copy, pages=PAGES_AT_ONCE)
            # One file, without a log beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
            damage = copy.execute(LOOK_FOR_DAMAGE).fetchone()[0]
        _refuse_damage("the copy of the database", damage)
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        self._connection.close()


def _connect(path: Path, begin: str, pragmas: Sequence[str], **pool: int) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)), **pool)

    def set_up(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own
        connection.create_function("time_of_day", 2, time_of_day, deterministic=True)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", begin_transaction)
    return engine


@contextmanager
def _without_foreign_keys(connection: Connection) -> Iterator[None]:
    """Foreign keys off, so that dropping a table deletes no rows that refer to it.

    To be entered outside of a transaction.
    """
    plain = cast(sqlite3.Connection, connection.connection.driver_connection)
    plain.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        plain.execute("PRAGMA foreign_keys = ON")


def _check_length(path: Path) -> None:
    """SQLite reads the rest of a cut-off page as zeros, and a file of a few bytes as an empty one.

    A page may rightly be cut off while the write-ahead log still holds it.
    """
    log = path.with_name(f"{path.name}-wal")
    logged = log.exists() and log.stat().st_size
    if not logged and path.exists() and path.stat().st_size % 512:
        raise GalleryDamagedError(f"{path} is damaged: it ends within a page")


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """SQLite's failures as ours."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        name = getattr(cause, "sqlite_errorname", "")
        full = name == "SQLITE_FULL" or (
            name.startswith("SQLITE_IOERR") and shutil.disk_usage(path.parent).free < 2**20
        )
        if full:
            raise StorageFullError(f"no space is left for {path}") from error
        # Migrated files have neither text that is not UTF-8 nor columns under other names.
        unreadable = any(words in str(cause) for words in ("decode to UTF-8", "no such column"))
        if unreadable or name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise GalleryDamagedError(f"{path} is damaged: {_on_one_line(cause)}") from error
        if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_IOERR")):
            raise GalleryError(f"cannot use {path}: {cause}") from error
        raise
    except UnicodeDecodeError as error:  # SQLite quotes what it found in the file
        raise GalleryDamagedError(f"{path} is damaged: it holds text that is not UTF-8") from error


def _refuse_damage(what: object, found: object) -> None:
    if found != "ok":
        raise GalleryDamagedError(f"{what} is damaged: {_on_one_line(found)}")


def _on_one_line(words: object) -> str:
    return " ".join(str(words).split())
