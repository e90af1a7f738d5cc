"""Answers that were given once, to be given again to the same request."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, select

from indexer.database.statements import insert
from indexer.database.store import Store
from indexer.database.tables import replies

FORGOTTEN_AFTER_S = 24 * 3600


@dataclass(frozen=True)
class Reply:
    """An answer, and the request that it answers.

    Attributes:
        key_name: of the API key that asked, as JobRecord.key; "" without one.
        key: what the caller named the request.
        fingerprint: of the request; another one under the same key is another request.
        created_at: microseconds since 1970, UTC.
    """

    key_name: str
    key: str
    fingerprint: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    created_at: int = field(default_factory=lambda: time.time_ns() // 1000)


class ReplyStore:
    """The stored answers of one gallery; each is forgotten after FORGOTTEN_AFTER_S seconds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, key_name: str, key: str) -> Reply | None:
        """The answer stored under a key, unless it is too old."""
        wanted = (
            (replies.c.key_name == key_name)
            & (replies.c.key == key)
            & (replies.c.created_at > _expired())
        )
        with self._store.read() as connection:
            row = connection.execute(select(replies).where(wanted)).first()
        if row is None:
            return None
        return Reply(
            row.key_name,
            row.key,
            row.fingerprint,
            row.status,
            json.loads(row.headers),
            row.body,
            row.created_at,
        )

    def claim(self, key_name: str, key: str) -> bool:
        """Claim a key for this process, until unclaim; False when another process has it.

        Within one process, the caller sees to it that a key is claimed once at a time.
        """
        return self._store.claim(_claimed(key_name, key))

    def unclaim(self, key_name: str, key: str) -> None:
        """Give a key up: any process may answer it."""
        self._store.unclaim(_claimed(key_name, key))

    def store(self, reply: Reply) -> None:
        """Store an answer; on disk when this returns.

        Raises:
            StorageFullError: it was not stored.
        """
        with self._store.write() as connection:
            store_reply(connection, reply)

    def tidy(self) -> None:
        """Delete the answers that are too old."""
        with self._store.write() as connection:
            connection.execute(delete(replies).where(replies.c.created_at <= _expired()))


def store_reply(connection: Connection, reply: Reply) -> None:
    """Store an answer in a transaction that does more; it replaces one that is too old."""
    values = {
        "fingerprint": reply.fingerprint,
        "status": reply.status,
        "headers": json.dumps(dict(reply.headers)),
        "body": reply.body,
        "created_at": reply.created_at,
    }
    statement = insert(connection, replies).values(key_name=reply.key_name, key=reply.key, **values)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["key_name", "key"], set_=values)
    )


def _claimed(key_name: str, key: str) -> str:
    return f"reply\0{key_name}\0{key}"


def _expired() -> int:
    return time.time_ns() // 1000 - FORGOTTEN_AFTER_S * 1_000_000
