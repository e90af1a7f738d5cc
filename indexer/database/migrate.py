"""Bring a database to the newest format; an older one by the scripts in migrations/."""

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, inspect

from indexer.database.store import Store
from indexer.database.tables import FORMAT, metadata
from indexer.errors import GalleryMismatchError

_FORMATS = Table(  # Alembic's own
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def migrate(store: Store) -> None:
    """Make the tables of a new database, or change those of an older one; all or nothing.

    Raises:
        GalleryMismatchError: a newer version of this code wrote it, or something else.
        GalleryDamagedError: it is damaged, as far as a quick look can tell.
    """
    with store.migrating() as connection:
        found = _format_of(connection, store.name)
        if found > FORMAT:
            raise GalleryMismatchError(
                f"{store.name} has format {found}, and this version reads up to {FORMAT}: "
                "open it with a newer one"
            )
        if not found:
            make_tables(connection)
        elif found < FORMAT:
            run_migrations(connection)


def _format_of(connection: Connection, name: str) -> int:
    if not inspect(connection).has_table("alembic_version"):
        return 0
    number = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() or 0
    if not str(number).isdecimal():
        raise GalleryMismatchError(f"{name} is the database of something else")
    return int(number)


def make_tables(connection: Connection) -> None:
    """Make all tables as they are today, and note their format as Alembic would."""
    metadata.create_all(connection, checkfirst=False)
    _FORMATS.create(connection, checkfirst=False)
    connection.execute(_FORMATS.insert().values(version_num=f"{FORMAT:04}"))


def run_migrations(connection: Connection) -> None:
    """Run the scripts that a connection's database lacks, in its transaction."""
    from alembic import command  # takes a moment, and most opens have nothing to migrate
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
    )
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")
