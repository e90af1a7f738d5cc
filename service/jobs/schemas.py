"""What requests and responses about jobs hold."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints

from indexer.rows.jobs import JobError, JobRecord
from service.http.fields import Schema, Time

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class JobsQuery(Schema):
    """Parameters of GET /jobs."""

    state: list[JobState] = Field([], max_length=64, description="In any of these states.")
    kind: list[Annotated[str, StringConstraints(max_length=64)]] = Field(
        [], max_length=64, description="Of any of these kinds."
    )
    limit: int = Field(50, ge=1, description="How many items a page has at most.")
    cursor: str | None = Field(
        None, max_length=1024, description="The `next_cursor` of the previous page."
    )


class AcceptedJob(Schema):
    """The work will be done; GET /jobs/{job_id} says how far it is."""

    job_id: str
    state: JobState


class Progress(Schema):
    """How far a job is. Apart from the speed, these numbers never go down."""

    done: int = Field(description="Items finished, including those that failed.")
    total: int | None = Field(description="Items in all; null until that is known.")
    failed: int
    rate: float | None = Field(description="Items per second; null before the first.")
    eta_s: float | None = Field(description="Seconds left at that rate, while it runs.")


class Job(Schema):
    """A job. `result` grows while some kinds of job run; `problem` says why one failed."""

    id: str
    kind: str
    state: JobState
    progress: Progress
    result: dict[str, Any] | None
    problem: dict[str, Any] | None
    attempts: int = Field(description="How often it was started; more than 1 after a restart.")
    cancel_requested: bool
    created_at: Time
    started_at: Time | None
    finished_at: Time | None

    @classmethod
    def of(cls, record: JobRecord, **more: Any) -> Self:
        """From its record on disk."""
        return cls(
            id=record.id,
            kind=record.kind,
            state=record.state,
            progress=Progress(
                done=record.done,
                total=record.total,
                failed=record.failed,
                rate=None if record.rate is None else round(record.rate, 3),
                eta_s=None if record.eta_s is None else round(record.eta_s, 1),
            ),
            result=record.result,
            problem=record.problem,
            attempts=record.attempts,
            cancel_requested=record.cancel_requested,
            created_at=record.created_at,
            started_at=record.started_at,
            finished_at=record.finished_at,
            **more,
        )


class FailedItem(Schema):
    """An item that failed while the rest of the job went on."""

    item: str
    problem: dict[str, Any]

    @classmethod
    def of(cls, error: JobError) -> Self:
        """From its record on disk."""
        return cls(item=error.item, problem=dict(error.problem))


class JobWithErrors(Job):
    """A job, and the first 1,000 items of it that failed."""

    errors: list[FailedItem]


class JobPage(Schema):
    """A page of jobs, newest first; next_cursor is null after the last."""

    items: list[Job]
    next_cursor: str | None
