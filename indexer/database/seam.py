"""The seam between the store and the database that keeps it: a file of SQLite, or PostgreSQL.

What the two do differently stands in sqlite.py and postgres.py beside this; all else is one set
of tables, one set of migrations and one set of statements.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite


class Database(Protocol):
    """One database of one gallery.

    Attributes:
        shared: whether other processes may change it meanwhile.
        name: for messages; holds no password.
        reader, writer: pools of connections.
    """

    shared: bool
    name: str
    reader: Engine
    writer: Engine

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that shows what is committed at its first statement, and only reads.

        Raises:
            GalleryError, of the kind that fits: here and below, whatever the database fails at.
        """

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction; one at a time, of all processes. On disk when it ends without an error."""

    def changing(self) -> AbstractContextManager[None]:
        """A time in which nobody else is in one, in this process or another; the thread may nest
        it. When the database is lost meanwhile, a transaction that writes within fails."""

    def indexing(self) -> AbstractContextManager[None]:
        """A time in which no other process brings up an index that all of them use."""

    def claim(self, name: str) -> bool:
        """Have a name for this process alone; False when another process has it. Until unclaim, or
        until the database is lost. Within one process, who calls keeps them apart."""

    def unclaim(self, name: str) -> None:
        """Have a name no more, if this process has it."""

    def keeping(self) -> AbstractContextManager[None]:
        """A time in which kept is true for the other processes; several may be in one."""

    def kept(self) -> bool:
        """Whether another process is in such a time."""

    def migrating(self) -> AbstractContextManager[Connection]:
        """A transaction for what changes tables; damage that can be seen quickly is found here."""

    def frozen(self) -> AbstractContextManager["Frozen"]:
        """What is committed now, for as long as a copy takes."""

    def counters(self, connection: Connection) -> dict[str, int]:
        """Of tables whose numbers are never given twice, the last that was given."""

    def set_counters(self, connection: Connection, counters: dict[str, int]) -> None:
        """Give no number again up to these."""

    def vacuum(self) -> None:
        """Write the database anew, without what was deleted."""

    def empty_log(self) -> None:
        """Leave nothing deleted in a log that belongs to the gallery."""

    def space(self) -> tuple[int, int]:
        """Bytes of the database, its log left out, and how many of them nothing needs."""

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
        """Let go of it."""


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT that can say ON CONFLICT, in the words of a connection's database."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)
