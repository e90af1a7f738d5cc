"""Opening the database of a gallery, whichever kind it is."""

from pathlib import Path

from indexer.database.migrate import migrate
from indexer.database.sqlite import SqliteFile
from indexer.database.store import Store
from indexer.errors import GalleryError
from models.packages import how_to_install


def open_store(where: Path | str) -> Store:
    """The database in a file of SQLite, or at a URL: postgresql://user@host/name.

    A new one gets its tables, and one of an older format is brought to the newest.

    Raises:
        GalleryMismatchError: a newer version of this code wrote it, or something else.
        GalleryDamagedError: it is no SQLite database, or a broken one.
        GalleryError: the URL is of something else, or what it needs is not installed.
    """
    store = _connect(where)
    try:
        migrate(store)
    except BaseException:
        store.close()
        raise
    return store


def _connect(where: Path | str) -> Store:
    if isinstance(where, Path):
        return SqliteFile(where)
    if where.partition(":")[0] not in ("postgresql", "postgres"):
        raise GalleryError("expected a database URL like postgresql://user@host/name")
    try:
        import psycopg  # noqa: F401  # only who has a PostgreSQL needs to have it
    except ImportError:
        raise GalleryError(f"PostgreSQL needs psycopg: {how_to_install('psycopg')}") from None
    from indexer.database.postgres import Postgres

    return Postgres(where)
