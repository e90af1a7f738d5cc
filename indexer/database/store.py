"""What a gallery needs of its database: connections, transactions, locks.

sqlite.py and postgres.py beside this say how each kind does it; all else is one set of tables, one
set of migrations and one set of statements, in a module for each kind of row.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, Engine

DATABASE = "gallery.sqlite3"  # the name of the file in a gallery's directory


class Store(Protocol):
    """The database of one gallery; open_store opens it.

    Attributes:
        shared: whether other processes may change it meanwhile.
        name: for messages; holds no password.
        reader, writer: pools of connections.

    Raises:
        GalleryError, of the kind that fits: whatever the database fails at.
    """

    shared: bool
    name: str
    reader: Engine
    writer: Engine

    def read(self) -> AbstractContextManager[Connection]:
        """A transaction that only reads, and shows what is committed when it begins."""

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction; one at a time, of all processes: who comes second waits.

        Committed and on disk when it ends, undone by an exception.

        Raises:
            StorageFullError: nothing was changed.
        """

    def changing(self) -> AbstractContextManager[None]:
        """While open, no other thread or process is in one; the same thread may nest it.

        When the database is lost meanwhile, a transaction that writes within fails.
        """

    def indexing(self) -> AbstractContextManager[None]:
        """While open, no other process brings up an index that all of them use."""

    def claim(self, name: str) -> bool:
        """Claim a name for this process, until unclaim or until the database is lost.

        False when another process has it. Within one process, the callers keep apart themselves.
        """

    def unclaim(self, name: str) -> None:
        """Give a name up, if this process has it."""

    def holding_originals(self) -> AbstractContextManager[None]:
        """While open, other processes must not delete originals; several may be open."""

    def originals_held(self) -> bool:
        """Whether another process holds originals."""

    def migrating(self) -> AbstractContextManager[Connection]:
        """A transaction for what changes tables; damage that can be seen quickly is found here."""

    def frozen(self) -> AbstractContextManager["Frozen"]:
        """What is committed now, for as long as a copy takes."""

    def counters(self, connection: Connection) -> dict[str, int]:
        """By table, the last number given, where numbers are never given twice."""

    def set_counters(self, connection: Connection, counters: dict[str, int]) -> None:
        """Give no number again up to these."""

    def vacuum(self) -> None:
        """Write the database anew, without what was deleted, and empty the log.

        SQLite needs twice the space of the database for a while, and as much for a temporary file;
        changes wait, reading goes on. PostgreSQL writes one table after the other; reading waits,
        too.

        Raises:
            StorageFullError: there is no space; nothing was changed.
        """

    def empty_log(self) -> None:
        """Fold SQLite's write-ahead log into the database, and cut it to nothing.

        Waits for reads that began before it; changes wait for it. PostgreSQL's log is its own.

        Raises:
            GalleryError: a read went on for longer than a minute.
        """

    def space(self) -> tuple[int, int]:
        """Bytes of the database without its log, and how many of them are unused."""

    @property
    def nbytes(self) -> int:
        """Bytes of the database and its log."""

    def close(self) -> None: ...


class Frozen(Protocol):
    """One committed state of a database."""

    def copy_to(self, path: Path) -> None:
        """Write it into a new file of SQLite, without a log beside it, on disk when this returns.

        Raises:
            GalleryDamagedError: it cannot be copied as it is.
        """

    def close(self) -> None:
        """End the transaction that holds the state."""
