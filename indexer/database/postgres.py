"""A gallery's database in PostgreSQL, which several processes may use at once.

A writer first takes a lock of the database (K_WRITE) and holds it until others see the commit, so
that changes are numbered in the order in which they are seen. A change of more than rows, of files
say, holds a second lock (K_CHANGE) meanwhile and writes on the connection that holds it: when that
connection breaks, the lock is free and nothing more can be written under it.
"""

import hashlib
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg import Connection as DriverConnection
from psycopg import errors
from psycopg.types.string import StrDumper
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from indexer.database.tables import metadata
from indexer.database.transfer import write_file
from indexer.errors import (
    DatabaseUnavailableError,
    GalleryDamagedError,
    GalleryError,
    StorageFullError,
)

K_WRITE, K_CHANGE, K_MIGRATE, K_HOLD, K_INDEX = (0x6E6165_00 + number for number in range(5))
LOCK_WAIT_S = 60
# Of a session: see soon that the other side is gone, and wait for a lock with an end.
_SESSION = (
    ("lock_timeout", f"{LOCK_WAIT_S}s"),
    ("client_connection_check_interval", "5s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
)
CONNECT_WAIT_S = 10


class Postgres:
    """A Store: one PostgreSQL database, of any number of processes.

    Raises:
        GalleryError: the URL cannot be read.
    """

    shared = True

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url).set(drivername="postgresql+psycopg")
        except ArgumentError:
            raise GalleryError("the database URL cannot be read") from None
        self.name = parsed.set(drivername="postgresql").render_as_string(hide_password=True)
        self._closed = False
        self._held = threading.local()  # .connection: that holds K_CHANGE
        self._claiming = threading.Lock()
        self._claims: Connection | None = None
        self.reader = _connect(parsed, "REPEATABLE READ", read_only=True, at_once=12)
        # Each statement sees what was committed before it, so what follows a lock is up to date.
        self.writer = _connect(parsed, "READ COMMITTED", read_only=False, at_once=8)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._translated(), self.reader.begin() as connection:
            connection.exec_driver_sql("SELECT 1").scalar()  # fixes what is seen; BEGIN does not
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        held: Connection | None = getattr(self._held, "connection", None)
        with self._translated():
            if held is not None:
                if held.invalidated:
                    raise DatabaseUnavailableError(f"the connection to {self.name} was lost")
                with held.begin():
                    _lock_transaction(held, K_WRITE)
                    yield held
            else:
                with self.writer.begin() as connection:
                    _lock_transaction(connection, K_WRITE)
                    yield connection

    @contextmanager
    def changing(self) -> Iterator[None]:
        if getattr(self._held, "connection", None) is not None:
            yield
            return
        with self._translated(), self.writer.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": K_CHANGE})
            connection.commit()
            self._held.connection = connection
            try:
                yield
            finally:
                self._held.connection = None
                self._unlock(connection, K_CHANGE)

    @contextmanager
    def indexing(self) -> Iterator[None]:
        with self._translated(), self.writer.connect() as connection:
            # Filling an index takes as long as it takes.
            connection.exec_driver_sql("SELECT set_config('lock_timeout', '0', true)")
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": K_INDEX})
            connection.commit()
            try:
                yield
            finally:
                self._unlock(connection, K_INDEX)

    def claim(self, name: str) -> bool:
        return bool(self._of_claims("SELECT pg_try_advisory_lock(:high, :low)", name))

    def unclaim(self, name: str) -> None:
        with suppress(GalleryError):  # lost or closed: then it is free already
            self._of_claims("SELECT pg_advisory_unlock(:high, :low)", name)

    def _of_claims(self, statement: str, name: str) -> Any:
        """Run a statement about the lock of a name, on the one connection that holds them all."""
        high, low = struct.unpack(">ii", hashlib.sha256(name.encode()).digest()[:8])
        numbers = {"high": high, "low": low}
        with self._claiming, self._translated():
            if self._claims is not None:
                with suppress(DBAPIError):  # it may have been lost long ago
                    return _scalar(self._claims, statement, numbers)
                _end(self._claims)
            self._claims = self.writer.connect()
            return _scalar(self._claims, statement, numbers)

    @contextmanager
    def holding_originals(self) -> Iterator[None]:
        with self._translated(), self.reader.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock_shared(:key)"), {"key": K_HOLD})
            connection.commit()
            try:
                yield
            finally:
                connection.invalidate()  # a session that ends gives its locks back

    def originals_held(self) -> bool:
        with self.read() as connection:
            free = text("SELECT pg_try_advisory_xact_lock(:key)")
            return not connection.execute(free, {"key": K_HOLD}).scalar()

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        with self._translated(), self.writer.begin() as connection:
            _lock_transaction(connection, K_MIGRATE)
            yield connection

    @contextmanager
    def frozen(self) -> Iterator["FrozenState"]:
        with self._translated(), self.reader.connect() as connection, connection.begin():
            connection.exec_driver_sql("SELECT count(*) FROM alembic_version")
            yield FrozenState(self, connection)

    def counters(self, connection: Connection) -> dict[str, int]:
        found = {}
        for table, sequence in _sequences(connection).items():
            row = connection.exec_driver_sql(f"SELECT last_value, is_called FROM {sequence}").one()
            found[table] = int(row.last_value) if row.is_called else 0
        return found

    def set_counters(self, connection: Connection, counters: dict[str, int]) -> None:
        for table, sequence in _sequences(connection).items():
            (largest,) = connection.exec_driver_sql(
                f"SELECT coalesce(max({_number_of(table)}), 0) FROM {table}"
            ).one()
            last = max(int(largest), counters.get(table, 0))
            if last:
                connection.execute(
                    text("SELECT setval(CAST(:name AS regclass), :last)"),
                    {"name": sequence, "last": last},
                )

    def vacuum(self) -> None:
        with self._translated(), self.writer.connect() as connection:
            plain = connection.execution_options(isolation_level="AUTOCOMMIT")
            for table in metadata.sorted_tables:
                plain.exec_driver_sql(f"VACUUM (FULL) {table.name}")

    def empty_log(self) -> None:
        """Its log is the server's."""

    def space(self) -> tuple[int, int]:
        return self.nbytes, 0  # what is unused is used again: PostgreSQL cleans up by itself

    @property
    def nbytes(self) -> int:
        with self.read() as connection:
            size = connection.exec_driver_sql("SELECT pg_database_size(current_database())")
            return int(size.scalar() or 0)

    def close(self) -> None:
        with self._claiming:
            self._closed = True  # else a pool that was disposed of would connect again
            if self._claims is not None:
                _end(self._claims)
        self.reader.dispose()
        self.writer.dispose()

    def _unlock(self, connection: Connection, key: int) -> None:
        try:
            if not connection.invalidated:
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": key})
                connection.commit()
        except DBAPIError:
            connection.invalidate()  # a session that ends gives its locks back

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """PostgreSQL's failures as ours."""
        if self._closed:
            raise GalleryError(f"{self.name} is closed")
        try:
            yield
        except PoolTimeoutError as error:
            raise DatabaseUnavailableError(f"all connections to {self.name} are busy") from error
        except DBAPIError as error:
            cause = error.orig
            said = " ".join(str(cause).split())
            if isinstance(cause, errors.DiskFull):
                raise StorageFullError(f"no space is left for {self.name}") from error
            if isinstance(cause, (errors.DataCorrupted, errors.IndexCorrupted)):
                raise GalleryDamagedError(f"{self.name} is damaged: {said}") from error
            if isinstance(cause, (errors.InsufficientPrivilege, errors.UndefinedTable)):
                raise GalleryError(f"cannot use {self.name}: {said}") from error
            away = error.connection_invalidated or isinstance(
                error, (OperationalError, InterfaceError)
            )
            if away or isinstance(cause, errors.ReadOnlySqlTransaction):
                raise DatabaseUnavailableError(f"cannot use {self.name}: {said}") from error
            raise


class FrozenState:
    """A Frozen: a transaction that shows one state."""

    def __init__(self, database: Postgres, connection: Connection) -> None:
        self._database = database
        self._connection = connection

    def copy_to(self, path: Path) -> None:
        write_file(self._connection, self._database.counters(self._connection), path)

    def close(self) -> None:
        with suppress(DBAPIError):
            self._connection.close()


class _Text(StrDumper):
    """PostgreSQL's text holds no NUL. Stored, it becomes U+FFFD; looked for, it is not found."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def _connect(url: Any, isolation_level: Any, *, read_only: bool, at_once: int) -> Engine:
    engine = create_engine(
        url,
        isolation_level=isolation_level,
        pool_size=4,
        max_overflow=at_once - 4,
        pool_timeout=30,
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_WAIT_S},
    )

    def set_up(connection: DriverConnection[Any], _: object) -> None:
        connection.adapters.register_dumper(str, _Text)
        for name, value in _SESSION:
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        # A commit that returned survives a power cut; more than that is left as it is set.
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        )
        connection.commit()
        connection.read_only = read_only

    event.listen(engine, "connect", set_up)
    return engine


def _scalar(connection: Connection, statement: str, numbers: dict[str, int]) -> Any:
    with connection.begin():
        return connection.execute(text(statement), numbers).scalar()


def _end(connection: Connection) -> None:
    """A session that ends gives its locks back."""
    connection.invalidate()
    connection.close()


def _lock_transaction(connection: Connection, key: int) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


def _sequences(connection: Connection) -> dict[str, str]:
    """By table, the sequence that numbers its rows."""
    found = {}
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None:
            name = connection.execute(
                text("SELECT pg_get_serial_sequence(:table, :column)"),
                {"table": table.name, "column": column.name},
            ).scalar()
            if name is not None:
                found[table.name] = str(name)
    return found


def _number_of(table: str) -> str:
    column = metadata.tables[table].autoincrement_column
    assert column is not None
    return column.name
