"""Jobs: what is to be done, how far it is, and what became of it.

A job is queued, then running, then succeeded, failed or cancelled, for good. Whoever runs it holds
a lease with a name of its own for each attempt. What is written under another name is refused, so
an attempt that was given up cannot disturb the next. Each progress renews the lease; when it runs
out, the job is taken up again. Where only one process may open the gallery, its start voids all
leases: whoever held one is dead. Where several share the database, their clocks must agree to some
seconds.
"""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, or_, select, update

from indexer.cursor import read_cursor, write_cursor
from indexer.database.statements import insert
from indexer.database.store import Store
from indexer.database.tables import job_errors, jobs
from indexer.errors import JobConflictError, JobNotFoundError, TooManyJobsError
from indexer.rows.replies import Reply, store_reply
from indexer.times import EPOCH

STATES = ("queued", "running", "succeeded", "failed", "cancelled")
ENDED = ("succeeded", "failed", "cancelled")
MAX_ERRORS = 1000
LEASE_S = 30
FORGOTTEN_AFTER_DAYS = 30

Problem = Mapping[str, Any]


@dataclass(frozen=True)
class JobRecord:
    """A job as it is on disk.

    Attributes:
        state: of STATES.
        arguments: JSON, as given; {} once the job has ended, when nobody needs them.
        key: who asked for it: the name of an API key, after a space the id of one that has an
            id, so that the next key of the same name is another one; None without a key.
        done: items dealt with, failed ones among them; never falls.
        total: items in all; None until that is known.
        result: what the kind of job gives; while it runs, what there is of it.
        problem: why it failed.
        attempts: how often it was started.
        deaths: how many attempts in a row ended with the process, without any progress.
        rate: items per second of the latest attempt; None before its first.
    """

    id: str
    kind: str
    state: str
    arguments: dict[str, Any]
    key: str | None
    done: int
    total: int | None
    failed: int
    result: dict[str, Any] | None
    problem: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    deaths: int
    cancel_requested: bool
    rate: float | None

    @property
    def key_name(self) -> str | None:
        """The name of the API key alone."""
        return None if self.key is None else self.key.partition(" ")[0]

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED

    @property
    def eta_s(self) -> float | None:
        """Seconds left at the latest rate; None when that cannot be told."""
        if self.state != "running" or self.total is None or not self.rate:
            return None
        return (self.total - self.done) / self.rate


@dataclass(frozen=True)
class JobError:
    """An item of a job that failed alone, and why."""

    item: str
    problem: Problem


@dataclass(frozen=True)
class JobPage:
    """Some jobs, newest first, and where to go on; None after the last."""

    jobs: tuple[JobRecord, ...]
    next_cursor: str | None


class JobStore:
    """The jobs of one gallery. Any thread may call anything; each call is one transaction.

    Writing raises StorageFullError when the disk is full; then nothing was changed.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    # Asking for work

    def submit(
        self,
        id: str,
        kind: str,
        arguments: Mapping[str, Any],
        *,
        key: str | None,
        most_waiting: int,
        reply: Reply | None = None,
    ) -> JobRecord:
        """Queue a job; on disk when this returns.

        Args:
            id: job_ and a ULID.
            arguments: JSON.
            reply: the answer to the request, stored in the same transaction.

        Raises:
            TooManyJobsError: most_waiting jobs are queued; nothing was stored.
        """
        with self._store.write() as connection:
            waiting = _count(connection, jobs.c.state == "queued")
            if waiting >= most_waiting:
                raise TooManyJobsError(f"{waiting} jobs are waiting already")
            connection.execute(
                insert(connection, jobs).values(
                    id=id,
                    kind=kind,
                    state="queued",
                    arguments=json.dumps(dict(arguments)),
                    key=key,
                    done=0,
                    failed=0,
                    created_at=_now(),
                    attempts=0,
                    deaths=0,
                    cancel_requested=False,
                )
            )
            if reply is not None:
                store_reply(connection, reply)
            return _get(connection, id)

    def cancel(self, id: str, *, key: str | None = None) -> JobRecord:
        """End a queued job, and ask a running one to end; a cancelled one stays as it is.

        Args:
            key: only a job of this API key is meant; None is any.

        Raises:
            JobNotFoundError, JobConflictError: it has succeeded or failed.
        """
        with self._store.write() as connection:
            record = _get(connection, id, key)
            if record.state in ("succeeded", "failed"):
                raise JobConflictError(f"the job has {record.state}")
            values: dict[str, Any] = {"cancel_requested": True}
            if record.state == "queued":
                values |= {"state": "cancelled", "finished_at": _now(), "arguments": "{}"}
            if not record.ended:
                connection.execute(update(jobs).where(jobs.c.id == id).values(values))
            return _get(connection, id)

    # Looking

    def get(self, id: str, *, key: str | None = None) -> JobRecord:
        """
        Args:
            key: only a job of this API key is meant; None is any.

        Raises:
            JobNotFoundError
        """
        with self._store.read() as connection:
            return _get(connection, id, key)

    def errors(self, id: str) -> list[JobError]:
        """The items that failed, in the order in which they did; at most MAX_ERRORS."""
        statement = select(job_errors.c.item, job_errors.c.problem).join(jobs)
        ordered = statement.where(jobs.c.id == id).order_by(job_errors.c.number)
        with self._store.read() as connection:
            found = connection.execute(ordered).all()
        return [JobError(row.item, json.loads(row.problem)) for row in found]

    def page(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        states: Collection[str] = (),
        kinds: Collection[str] = (),
        key: str | None = None,
    ) -> JobPage:
        """Jobs, newest first.

        Args:
            states, kinds: of any of these; empty is any at all.
            key: only those of this API key; None is all.

        Raises:
            InvalidCursorError: when the cursor is not one of ours.
        """
        statement = select(jobs).order_by(jobs.c.id.desc()).limit(limit + 1)
        if cursor is not None:
            statement = statement.where(jobs.c.id < read_cursor(cursor, "job_"))
        if states:
            statement = statement.where(jobs.c.state.in_(states))
        if kinds:
            statement = statement.where(jobs.c.kind.in_(kinds))
        if key is not None:
            statement = statement.where(jobs.c.key == key)
        with self._store.read() as connection:
            found = [_record(row) for row in connection.execute(statement)]
        page = tuple(found[:limit])
        return JobPage(page, write_cursor(page[-1].id) if len(found) > limit else None)

    def unfinished(self) -> set[str]:
        """The ids of the jobs that are queued or running."""
        statement = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running")))
        with self._store.read() as connection:
            return set(connection.scalars(statement))

    def waiting(self) -> int:
        """How many jobs are queued."""
        with self._store.read() as connection:
            return _count(connection, jobs.c.state == "queued")

    # Working

    def void_leases(self) -> int:
        """Whoever ran jobs is dead: each may be claimed at once. Returns how many there are."""
        with self._store.write() as connection:
            running = update(jobs).where(jobs.c.state == "running")
            return connection.execute(running.values(lease_until=0)).rowcount

    def claim(
        self, lease: str, *, kinds: Collection[str] = (), but: Collection[str] = ()
    ) -> JobRecord | None:
        """Take the oldest job that waits or whose lease has lapsed; None when there is none.

        Args:
            kinds: of any of these; empty is any at all.
            but: of none of these.
        """
        now = _now()
        lapsed = and_(jobs.c.state == "running", jobs.c.lease_until < now)
        free = and_(or_(jobs.c.state == "queued", lapsed), jobs.c.kind.not_in(but))
        if kinds:
            free = and_(free, jobs.c.kind.in_(kinds))
        oldest = select(jobs.c.id).where(free).order_by(jobs.c.number).limit(1)
        with self._store.read() as connection:  # mostly there is none: do not hold others up
            if connection.scalar(oldest) is None:
                return None
        with self._store.write() as connection:
            id = connection.scalar(oldest)
            if id is None:
                return None
            connection.execute(
                update(jobs)
                .where(jobs.c.id == id)
                .values(
                    state="running",
                    lease=lease,
                    lease_until=_lease_end(now),
                    attempts=jobs.c.attempts + 1,
                    deaths=jobs.c.deaths + case((jobs.c.state == "running", 1), else_=0),
                    started_at=func.coalesce(jobs.c.started_at, now),
                    resumed_at=now,
                    resumed_done=jobs.c.done,
                    progressed_at=now,
                )
            )
            return _get(connection, id)

    def progress(
        self,
        id: str,
        lease: str,
        *,
        done: int,
        total: int | None,
        failed: int,
        result: Mapping[str, Any] | None = None,
        errors: Sequence[JobError] = (),
    ) -> JobRecord | None:
        """Note how far a job is, all or nothing, and renew its lease; no number ever falls.

        Args:
            result: what there is of it; None leaves what was noted before.

        Returns:
            None when the job runs under another lease, or no longer: nothing was noted.
        """
        now = _now()
        further = _larger(jobs.c.done, done)
        noted: dict[str, Any] = {
            "done": further,
            "failed": _larger(jobs.c.failed, failed),
            "progressed_at": now,
            "lease_until": _lease_end(now),
            "deaths": case((further > jobs.c.done, 0), else_=jobs.c.deaths),
        }
        if total is not None:
            noted["total"] = _larger(further, total)
        if result is not None:
            noted["result"] = json.dumps(dict(result))
        with self._store.write() as connection:
            written = connection.execute(update(jobs).where(_held(id, lease)).values(noted))
            if not written.rowcount:
                return None
            _add_errors(connection, id, errors)
            return _get(connection, id)

    def renew(self, id: str, lease: str) -> None:
        """Extend a lease by LEASE_S seconds, without any progress."""
        with self._store.write() as connection:
            extended = update(jobs).where(_held(id, lease))
            connection.execute(extended.values(lease_until=_lease_end(_now())))

    def finish(
        self,
        id: str,
        lease: str,
        state: str,
        *,
        result: Mapping[str, Any] | None = None,
        problem: Problem | None = None,
        errors: Sequence[JobError] = (),
    ) -> bool:
        """End a running job for good.

        Args:
            state: one of ENDED.
            result: None leaves what was noted before.

        Returns:
            False when the job runs under another lease, or no longer: nothing was changed.
        """
        values: dict[str, Any] = {"state": state, "finished_at": _now(), "arguments": "{}"}
        if result is not None:
            values["result"] = json.dumps(dict(result))
        if problem is not None:
            values["problem"] = json.dumps(dict(problem))
        with self._store.write() as connection:
            written = connection.execute(update(jobs).where(_held(id, lease)).values(values))
            if not written.rowcount:
                return False
            _add_errors(connection, id, errors)
            return True

    def release(self, id: str, lease: str) -> None:
        """Give a job back, to be resumed by the next who claims it."""
        with self._store.write() as connection:
            given = update(jobs).where(_held(id, lease)).values(state="queued", lease=None)
            connection.execute(given)

    def tidy(self) -> None:
        """Forget jobs that ended more than FORGOTTEN_AFTER_DAYS ago."""
        ended = jobs.c.finished_at < _now() - FORGOTTEN_AFTER_DAYS * 86_400 * 1_000_000
        with self._store.write() as connection:
            connection.execute(delete(jobs).where(ended))


def _held(id: str, lease: str) -> ColumnElement[bool]:
    return and_(jobs.c.id == id, jobs.c.state == "running", jobs.c.lease == lease)


def _get(connection: Connection, id: str, key: str | None = None) -> JobRecord:
    row = connection.execute(select(jobs).where(jobs.c.id == id)).first()
    if row is None or (key is not None and row.key != key):
        raise JobNotFoundError("there is no such job")
    return _record(row)


def _count(connection: Connection, condition: ColumnElement[bool]) -> int:
    return connection.scalar(select(func.count()).select_from(jobs).where(condition)) or 0


def _add_errors(connection: Connection, id: str, errors: Sequence[JobError]) -> None:
    """Up to MAX_ERRORS of a job; an item that is met again stays as it was."""
    if not errors:
        return
    number = connection.scalar(select(jobs.c.number).where(jobs.c.id == id))
    mine = select(func.count()).select_from(job_errors).where(job_errors.c.job == number)
    room = MAX_ERRORS - (connection.scalar(mine) or 0)
    values = [
        {"job": number, "item": error.item, "problem": json.dumps(dict(error.problem))}
        for error in errors[: max(0, room)]
    ]
    if values:
        connection.execute(insert(connection, job_errors).on_conflict_do_nothing(), values)


def _larger(a: ColumnElement[int], b: int) -> ColumnElement[int]:
    return case((a > b, a), else_=b)


def _record(row: Any) -> JobRecord:
    rate = None
    if row.resumed_at is not None and row.done > row.resumed_done:
        rate = (row.done - row.resumed_done) * 1e6 / max(1, row.progressed_at - row.resumed_at)
    return JobRecord(
        id=row.id,
        kind=row.kind,
        state=row.state,
        arguments=json.loads(row.arguments),
        key=row.key,
        done=row.done,
        total=row.total,
        failed=row.failed,
        result=None if row.result is None else json.loads(row.result),
        problem=None if row.problem is None else json.loads(row.problem),
        created_at=_time(row.created_at),
        started_at=None if row.started_at is None else _time(row.started_at),
        finished_at=None if row.finished_at is None else _time(row.finished_at),
        attempts=row.attempts,
        deaths=row.deaths,
        cancel_requested=row.cancel_requested,
        rate=rate,
    )


def _now() -> int:
    return time.time_ns() // 1000


def _lease_end(now: int) -> int:
    return now + LEASE_S * 1_000_000


def _time(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)
