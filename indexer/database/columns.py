"""Column types and functions that the databases have in common."""

from typing import Any

from sqlalchemy import BigInteger, Integer
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

# 64 bits everywhere. SQLite's INTEGER has them, and only by that name may count up by itself.
WHOLE = BigInteger().with_variant(Integer(), "sqlite")


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
