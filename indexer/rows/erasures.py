"""Erasures: deletions that leave nothing behind, each with a receipt.

An erasure goes in steps, and the process may die between any two:

    1  accepted    what is to be erased, and its receipt, are committed, and in a file of their own
                   beside the database (gallery/accepted.py): from here on it will be
    2  deleted     some of its rows, in one open transaction; 2 to 5 repeat until none is left
    3  committed   … on disk
    4  unindexed   … out of the index in memory
    5  erased      … and their originals
    6  compacted   the database is written anew, its log is emptied, other files of the directory
                   with the originals' content are gone
    7  completed   the receipt says when; of what was erased, only hashes of ids are left; the file
                   of 1 is gone

After a death from 1 on, opening the gallery goes on.

SQLite overwrites what it deletes with zeros (secure_delete). But where it has moved rows from page
to page, copies can stay in unused parts of the file: seen for a few in ten thousand deleted rows.
Only a database that is written anew certainly holds nothing of them.
"""

import hashlib
import json
import logging
import os
import re
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, delete, insert, select, update

from indexer.database.statements import chunks
from indexer.database.tables import detections, erasures, replies, scenes
from indexer.errors import ErasureNotFoundError
from indexer.ids import new_id
from indexer.rows import audit
from indexer.times import microseconds, now, time_of

What = Literal["images", "detections"]
COLUMNS = tuple(column.name for column in erasures.columns)

_ID = re.compile(r"(?:img|det)_[0-9A-HJKMNP-TV-Z]{26}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Erasure:
    """The receipt of an erasure.

    Attributes:
        by: the name of the API key; None without keys.
        completed_at: None until nothing is left.
        what: "images" are whole scenes; with "detections" their pictures stay.
        images, detections, originals: how many of each are erased.
        ids_sha256: SHA-256 of every id that will be erased, sorted: with an id one can tell that it
            is among them, but no id can be read from them.
    """

    id: str
    accepted_at: datetime
    completed_at: datetime | None
    by: str | None
    what: What
    images: int
    detections: int
    originals: int
    ids_sha256: tuple[str, ...]


@dataclass(frozen=True)
class Pending:
    """What is still to be erased.

    Attributes:
        contents: (SHA-256, bytes) of the originals.
    """

    scenes: tuple[str, ...]
    detections: tuple[str, ...]
    contents: tuple[tuple[str, int], ...]


def accept(
    connection: Connection, *, scene_ids: Collection[str], detection_ids: Collection[str]
) -> Erasure:
    """Write down that scenes, or detections, will be erased; unknown ids are left out."""
    pending = _pending(connection, scene_ids, detection_ids)
    gone = list(pending.detections) or _people_in(connection, pending.scenes)
    what: What = "images" if pending.scenes else "detections"
    receipt = {
        "what": what,
        "images": len(pending.scenes),
        "detections": len(gone),
        "originals": len(pending.contents),
        "ids_sha256": sorted(map(hash_id, [*pending.scenes, *gone])),
    }
    id = new_id("era_")
    connection.execute(
        insert(erasures).values(
            id=id,
            accepted_at=microseconds(now()),
            key=audit.actor(),
            pending=_as_json(pending),
            receipt=json.dumps(receipt),
        )
    )
    counts = {name: receipt[name] for name in ("what", "images", "detections")}
    audit.record(connection, "erasure_accepted", id, counts)
    return get(connection, id)


def get(connection: Connection, id: str) -> Erasure:
    """
    Raises:
        ErasureNotFoundError: there is none.
    """
    row = connection.execute(select(erasures).where(erasures.c.id == id)).first()
    if row is None:
        raise ErasureNotFoundError(f"there is no erasure {id}")
    return _erasure(row)


def page(connection: Connection, limit: int, before: str | None) -> list[Erasure]:
    """At most limit erasures, newest first, of those with ids below before."""
    statement = select(erasures).order_by(erasures.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(erasures.c.id < before)
    return [_erasure(row) for row in connection.execute(statement)]


def unfinished(connection: Connection) -> list[str]:
    """The ids of erasures that were accepted and not completed."""
    statement = select(erasures.c.id).where(erasures.c.pending.is_not(None))
    return list(connection.scalars(statement.order_by(erasures.c.id)))


def pending(connection: Connection, id: str) -> Pending | None:
    """What of an erasure is still to be done; None when it is completed."""
    text = connection.scalar(select(erasures.c.pending).where(erasures.c.id == id))
    if text is None:
        return None
    read = json.loads(text)
    contents = tuple((str(sha256), int(size)) for sha256, size in read["contents"])
    return Pending(tuple(read["scenes"]), tuple(read["detections"]), contents)


def complete(connection: Connection, id: str) -> None:
    """Note that an erasure is done, and forget what it erased."""
    connection.execute(
        update(erasures)
        .where(erasures.c.id == id)
        .values(pending=None, completed_at=microseconds(now()))
    )
    audit.record(connection, "erasure_completed", id, {})


def row(connection: Connection, id: str) -> Mapping[str, Any]:
    """The row of an erasure, by column, as accept_again takes it.

    Raises:
        ErasureNotFoundError: there is none.
    """
    found = connection.execute(select(erasures).where(erasures.c.id == id)).first()
    if found is None:
        raise ErasureNotFoundError(f"there is no erasure {id}")
    return dict(found._mapping)


def accept_again(connection: Connection, row: Mapping[str, Any]) -> Erasure | None:
    """Put the row of an erasure back that is unknown, and return None; else the known one."""
    known = connection.execute(select(erasures).where(erasures.c.id == row["id"])).first()
    if known is None:
        connection.execute(insert(erasures).values(**row))
        return None
    return _erasure(known)


def pending_contents(connection: Connection) -> set[str]:
    """The SHA-256 of every original that an erasure still has to delete."""
    found = (pending(connection, id) for id in unfinished(connection))
    return {sha256 for one in found if one is not None for sha256, _ in one.contents}


def read_all(database: Path) -> list[Mapping[str, Any]]:
    """The rows of all erasures in a SQLite file that nobody has open; none if it is unreadable."""
    if not database.is_file():
        return []
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM erasures")]
    except sqlite3.Error as error:
        if "no such table" not in str(error):
            _log.warning("what was erased cannot be read from %s: %s", database, error)
        return []


def erase_again(connection: Connection, known: Sequence[Mapping[str, Any]]) -> int:
    """Carry erasures over from the replaced gallery, so that they are done again in this one.

    Args:
        known: the replaced gallery's erasures, of read_all.

    Returns:
        How many scenes and detections of this gallery they will erase.
    """
    own = set(connection.scalars(select(erasures.c.id)))
    by_hash = {
        table: {hash_id(id): id for id in connection.scalars(select(table.c.id))}
        for table in (scenes, detections)
    }
    found = 0
    for row in known:
        if row["id"] in own:
            continue
        values = {column.name: row[column.name] for column in erasures.columns}
        receipt = json.loads(row["receipt"])
        hashes = receipt["ids_sha256"]
        here = [
            [ids[each] for each in hashes if each in ids]
            for ids in (by_hash[scenes], by_hash[detections])
        ]
        again = _pending(connection, *here)
        found += len(again.scenes) + len(again.detections)
        done = not (again.scenes or again.detections)
        connection.execute(
            insert(erasures).values(
                **values
                | {
                    "pending": None if done else _as_json(again),
                    "completed_at": (values["completed_at"] or microseconds(now()))
                    if done
                    else None,
                }
            )
        )
    return found


def hash_id(id: str) -> str:
    """The SHA-256 by which receipts name an id."""
    return hashlib.sha256(id.encode()).hexdigest()


def remove_copies(directory: Path, contents: Collection[tuple[str, int]], *, but: Path) -> int:
    """Delete files below a directory that have one of these contents, except in snapshots.

    Args:
        contents: (SHA-256, bytes).
        but: a directory to leave out.

    Returns:
        How many there were.
    """
    sizes = {size for _, size in contents}
    hashes = {sha256 for sha256, _ in contents}
    found = 0
    for folder, folders, names in os.walk(directory):
        folders[:] = [
            each for each in folders if not each.startswith("snap_") and Path(folder, each) != but
        ]
        for path in (Path(folder, name) for name in names):
            if path.is_symlink() or not path.is_file() or path.stat().st_size not in sizes:
                continue
            with path.open("rb") as file:
                same = hashlib.file_digest(file, "sha256").hexdigest() in hashes
            if same:
                path.unlink(missing_ok=True)
                found += 1
    return found


def remove_mentions(connection: Connection, pending: Pending) -> None:
    """Delete the stored answers to requests that mention erased scenes or detections.

    Jobs forget their arguments by themselves when they end.
    """
    ids = {*pending.scenes, *pending.detections}
    answers = connection.execute(select(replies.c.key_name, replies.c.key, replies.c.body)).all()
    for key_name, key, body in answers:
        if not ids.isdisjoint(_ID.findall(body.decode("utf-8", "replace"))):
            mentioning = (replies.c.key_name == key_name) & (replies.c.key == key)
            connection.execute(delete(replies).where(mentioning))


def _pending(
    connection: Connection, scene_ids: Collection[str], detection_ids: Collection[str]
) -> Pending:
    contents = []
    there = []
    for chunk in chunks(scene_ids):
        known = select(scenes.c.id, scenes.c.sha256, scenes.c.content_bytes)
        for row in connection.execute(known.where(scenes.c.id.in_(chunk))):
            there.append(row.id)
            contents.append((row.sha256, row.content_bytes))
    people: list[str] = []
    for chunk in chunks(detection_ids):
        known_people = select(detections.c.id).distinct().where(detections.c.id.in_(chunk))
        people += connection.scalars(known_people)
    return Pending(tuple(there), tuple(people), tuple(contents))


def _people_in(connection: Connection, scene_ids: Collection[str]) -> list[str]:
    found: list[str] = []
    for chunk in chunks(scene_ids):
        joined = select(detections.c.id).distinct().join_from(detections, scenes)
        found += connection.scalars(joined.where(scenes.c.id.in_(chunk)))
    return found


def _as_json(pending: Pending) -> str:
    return json.dumps(
        {
            "scenes": pending.scenes,
            "detections": pending.detections,
            "contents": pending.contents,
        }
    )


def _erasure(row: Any) -> Erasure:
    receipt = json.loads(row.receipt)
    return Erasure(
        id=row.id,
        accepted_at=time_of(row.accepted_at),
        completed_at=None if row.completed_at is None else time_of(row.completed_at),
        by=row.key,
        what=receipt["what"],
        images=receipt["images"],
        detections=receipt["detections"],
        originals=receipt["originals"],
        ids_sha256=tuple(receipt["ids_sha256"]),
    )
