"""The audit trail of a gallery: who did what. Every change enters itself; here it is read."""

from datetime import datetime

from indexer.gallery.writer import Writer
from indexer.rows import audit
from indexer.rows.audit import AuditEntry


class Trail:
    """The audit trail, as gallery.trail."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def note(self, action: str, subject: str | None, **details: object) -> None:
        """Enter something that changes nothing else, such as that an original was read."""

        def enter() -> None:
            with self._writer.store.write() as connection:
                audit.record(connection, action, subject, details)

        self._writer.deleting(enter)

    def entries(
        self,
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
        with self._writer.store.read() as connection:
            return audit.entries(
                connection, limit=limit, before=before, action=action, subject=subject
            )

    def trim(self, before: datetime) -> int:
        """Delete the entries that are older; returns how many."""
        with self._writer.store.write() as connection:
            return audit.trim(connection, before)
