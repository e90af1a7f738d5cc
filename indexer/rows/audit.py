"""Who did what: the audit trail of a gallery.

An entry is written in the transaction of the change that it describes, so that neither exists
without the other. It holds ids, names of fields and counts: no embedding, no part of a picture, no
value of metadata.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, insert, select

from indexer.database.tables import audit
from indexer.times import microseconds, time_of

_actor: ContextVar[str | None] = ContextVar("actor", default=None)


@dataclass(frozen=True)
class AuditEntry:
    """One line of the trail.

    Attributes:
        number: rises from entry to entry.
        key: the name of the API key that was used; None without keys. Names in parentheses are not
            keys: "(retention)", "(command line)".
        subject: the id of what it was done to; None where there is no single one.
    """

    number: int
    at: datetime
    key: str | None
    action: str
    subject: str | None
    details: Mapping[str, object]


def act_as(name: str | None) -> None:
    """Set the name under which this thread or task enters what it does from here on."""
    _actor.set(name)


@contextmanager
def acting_as(name: str | None) -> Iterator[None]:
    """Within it, entries carry this name."""
    token = _actor.set(name)
    try:
        yield
    finally:
        _actor.reset(token)


def actor() -> str | None:
    """The name that entries carry now."""
    return _actor.get()


def record(
    connection: Connection, action: str, subject: str | None, details: Mapping[str, object]
) -> None:
    """Write an entry, in the transaction of a connection."""
    connection.execute(
        insert(audit).values(
            at=microseconds(datetime.now(UTC)),
            key=_actor.get(),
            action=action,
            subject=subject,
            details=json.dumps(dict(details)),
        )
    )


def entries(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    action: str | None = None,
    subject: str | None = None,
) -> list[AuditEntry]:
    """At most limit entries, newest first.

    Args:
        before: only entries with lower numbers.
        action, subject: only entries with exactly these.
    """
    statement = select(audit).order_by(audit.c.number.desc()).limit(limit)
    if before is not None:
        statement = statement.where(audit.c.number < before)
    if action is not None:
        statement = statement.where(audit.c.action == action)
    if subject is not None:
        statement = statement.where(audit.c.subject == subject)
    return [
        AuditEntry(
            row.number, time_of(row.at), row.key, row.action, row.subject, json.loads(row.details)
        )
        for row in connection.execute(statement)
    ]


def trim(connection: Connection, before: datetime) -> int:
    """Delete the entries that are older; returns how many. Deleting any is an entry itself."""
    deleted = connection.execute(delete(audit).where(audit.c.at < microseconds(before))).rowcount
    if deleted:
        record(connection, "audit_trimmed", None, {"entries": deleted})
    return deleted
