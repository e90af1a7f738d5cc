"""What statements in both databases are made of: column types, functions, long lists of values."""

from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Connection, Integer, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

CHUNK = 5_000  # values in one IN (…), rows in one fetch; SQLite allows 32,766 values
T = TypeVar("T")

# 64 bits everywhere. SQLite's INTEGER has them, and only by that name may count up by itself.
WHOLE = BigInteger().with_variant(Integer(), "sqlite")


def chunks(values: Collection[T]) -> Iterator[list[T]]:
    """Some values at a time, at most CHUNK."""
    listed = list(values)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]


def insert(connection: Connection, table: Table) -> Any:
    """An INSERT that can say ON CONFLICT, in the words of a connection's database."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


class TimeOfDay(FunctionElement[int]):
    """As times.time_of_day, of a column and the name of a zone."""

    name = "time_of_day"
    type = BigInteger()
    inherit_cache = True


@compiles(TimeOfDay)
def _of_a_function(element: TimeOfDay, compiler: Any, **options: Any) -> str:
    return f"time_of_day({compiler.process(element.clauses, **options)})"


@compiles(TimeOfDay, "postgresql")
def _of_postgresql(element: TimeOfDay, compiler: Any, **options: Any) -> str:
    at, zone = (compiler.process(clause, **options) for clause in element.clauses)
    shown = f"(to_timestamp({at} / 1000000.0) AT TIME ZONE {zone})::time"
    return f"(extract(epoch FROM {shown}) * 1000000)::bigint"
